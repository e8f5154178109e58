"""Table A: the parts of HPS, their runs, and the effects by hand."""

import csv
import math

import make_attribution
import pytest
import torch
from synthetic_results import evaluation, run

from hps.evidence import attribution
from hps.evidence.results import read_evaluation
from hps.evidence.tables import Choices
from hps.method.losses import parts_of_hps
from hps.method.objectives import Loss, Objective
from hps.support.errors import InputError

LOSSES = ["bt", "uniform_1", "uniform_n", "hard_1", "hps", "hardest_1", "hardest_n"]
CHOICES = Choices(["hh_rlhf"], ["dpo"], LOSSES)
MARGINS = dict(zip(LOSSES, [1.0, 2.0, 4.0, 5.0, 8.0, 6.0, 7.0], strict=True))


def folders(tmp_path, losses=LOSSES):
    return [
        evaluation(tmp_path / loss, run(f"dpo-{loss}"), [{"margin_human": MARGINS[loss] + i} for i in range(4)])
        for loss in losses
    ]


@pytest.mark.parametrize(("multiplicity", "cell"), [("n_minus_1", ("hard", "n")), (1, ("hard", "1"))])
def test_hps_as_configured_is_one_of_the_cells_and_no_cell_is_missing(multiplicity, cell):
    parts = parts_of_hps(multiplicity)
    assert len(set(parts.values())) == 6
    assert [part for part, name in parts.items() if name == "hps"] == [cell]


@pytest.mark.parametrize("multiplicity", ["n_minus_1", 1])
def test_a_part_has_its_own_multiplicity_and_hps_the_configured_one(multiplicity):
    log_ratios, rewards = torch.tensor([[0.3, -0.2, 0.1, 0.4]]), torch.tensor([[2.0, 1.0, 0.5, 0.0]])

    def loss(name):
        return Objective("dpo", name, multiplicity=multiplicity)(log_ratios, rewards, negatives=torch.tensor([1]))

    m = 0.1 * (0.3 - -0.2)
    for sampling in ("uniform", "hard", "hardest"):
        assert loss(f"{sampling}_1").item() == pytest.approx(math.log1p(math.exp(-m)))
        assert loss(f"{sampling}_n").item() == pytest.approx(math.log1p(3 * math.exp(-m)))
    assert loss("hps").item() == loss(f"hard_{'n' if multiplicity == 'n_minus_1' else '1'}").item()


def test_gamma_of_a_part_is_its_own():
    assert [Loss(name).gamma for name in ("uniform_1", "hard_n", "hardest_n", "hps")] == [0, None, math.inf, None]


def test_effects_by_hand(tmp_path):
    rows = attribution.rows_of(map(read_evaluation, folders(tmp_path)), CHOICES)
    found = attribution.contrasts(rows, CHOICES, "n_minus_1")
    means = {(one.effect, one.given): one.estimates["rm_dpo"].mean for one in found}
    assert means == pytest.approx(
        {
            ("hard instead of uniform", "N = 1"): 3.0,
            ("hard instead of uniform", "N = n - 1"): 4.0,
            ("hardest instead of hard", "N = 1"): 1.0,
            ("hardest instead of hard", "N = n - 1"): -1.0,
            ("N = n - 1 instead of 1", "uniform negatives"): 2.0,
            ("N = n - 1 instead of 1", "hard negatives"): 3.0,
            ("N = n - 1 instead of 1", "hardest negatives"): 1.0,
        }
    )
    assert all(one.estimates["rm_dpo"].lo == pytest.approx(one.estimates["rm_dpo"].mean) for one in found)  # paired


def test_a_cell_that_was_not_evaluated_is_named(tmp_path):
    rows = attribution.rows_of(map(read_evaluation, folders(tmp_path, LOSSES[:-1])), CHOICES)
    with pytest.raises(InputError, match=r"dpo-hardest_n was not evaluated on hh_rlhf"):
        attribution.contrasts(rows, CHOICES, "n_minus_1")


def test_command_writes_cells_and_effects(tmp_path):
    made = [str(folder) for folder in folders(tmp_path)]
    out = {name: str(tmp_path / f"a.{name}") for name in ("csv", "markdown", "html")}
    make_attribution.main(
        make_attribution.Arguments(
            evaluations=made,
            datasets=["hh_rlhf"],
            reward="dpo",
            multiplicity="n_minus_1",
            world="toy",
            **out,
        )
    )
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert len(rows) == 7 * 3
    text = (tmp_path / "a.markdown").read_text()
    assert "| hh_rlhf | DPO-HPS | hard | n - 1 |" in text
    assert "toy world" in text
