"""Table A: the parts of HPS, their runs, and the effects by hand."""

import csv

import pytest
from synthetic_results import configuration, evaluation, report, run

from hps.evidence import attribution
from hps.evidence.results import read_evaluation
from hps.evidence.table_rows import Choices, build
from hps.evidence.tables import TABLES
from hps.runs import parts_of_hps
from hps.support.errors import InputError

PARTS = parts_of_hps("n_minus_1")
CHOICES, SPEC = Choices(), TABLES["table_attribution"]
MARGINS = dict(zip(PARTS, [2.0, 4.0, 5.0, 8.0, 6.0, 7.0, 1.0, 2.5], strict=True))


def folders(tmp_path, parts=tuple(PARTS)):
    made = [evaluation(tmp_path / "bt", run("dpo-bt"), [{"margin_human": 1.0 + i} for i in range(4)])]
    for part in parts:
        own = run("dpo-hps") | {"settings": dict(PARTS[part])}
        made.append(evaluation(tmp_path / "-".join(part), own, [{"margin_human": MARGINS[part] + i} for i in range(4)]))
    return made


@pytest.mark.parametrize(("multiplicity", "cell"), [("n_minus_1", ("hard", "n")), (1, ("hard", "1"))])
def test_hps_as_configured_is_one_of_the_cells_and_no_cell_is_missing(multiplicity, cell):
    parts = parts_of_hps(multiplicity)
    assert len(set(parts.values())) == 8
    assert [part for part, settings in parts.items() if not settings] == [cell]


def test_effects_by_hand(tmp_path):
    rows = build(SPEC, map(read_evaluation, folders(tmp_path)), CHOICES)
    found = attribution.contrasts(SPEC, rows, CHOICES, "n_minus_1")
    means = {(one.effect, one.given): one.estimates["rm_dpo"].mean for one in found}
    assert means == pytest.approx(
        {
            ("hard instead of uniform", "N = 1"): 3.0,
            ("hard instead of uniform", "N = n - 1"): 4.0,
            ("hardest instead of hard", "N = 1"): 1.0,
            ("hardest instead of hard", "N = n - 1"): -1.0,
            ("mean - 2 sd instead of uniform", "N = 1"): -1.0,
            ("mean - 2 sd instead of uniform", "N = n - 1"): -1.5,
            ("N = n - 1 instead of 1", "uniform negatives"): 2.0,
            ("N = n - 1 instead of 1", "hard negatives"): 3.0,
            ("N = n - 1 instead of 1", "hardest negatives"): 1.0,
            ("N = n - 1 instead of 1", "mean - 2 sd negatives"): 1.5,
        }
    )
    assert all(one.estimates["rm_dpo"].lo == pytest.approx(one.estimates["rm_dpo"].mean) for one in found)  # paired


def test_a_cell_that_was_not_evaluated_is_named(tmp_path):
    rows = build(SPEC, map(read_evaluation, folders(tmp_path, list(PARTS)[:-1])), CHOICES)
    with pytest.raises(InputError, match=r"dpo-hps negative~mean-minus-2sd was not evaluated on hh_rlhf"):
        attribution.contrasts(SPEC, rows, CHOICES, "n_minus_1")


def test_the_command_writes_cells_and_effects_and_names_the_readings(tmp_path):
    words = [
        "table",
        "--name",
        "table_attribution",
        "--config",
        configuration(tmp_path, world="toy"),
        "--out",
        tmp_path,
    ]
    report(*words, "--evaluations", *folders(tmp_path))
    rows = list(csv.DictReader((tmp_path / "table_attribution.csv").read_text().splitlines()))
    assert len(rows) == 10 * 3
    text = (tmp_path / "table_attribution.md").read_text()
    assert "| hh_rlhf | DPO-HPS | hard | n - 1 | Eq. 8 |" in text
    assert "| DPO-HPS multiplicity 1 | hard | 1 | Eq. 10 read literally; released code |" in text
    assert "| DPO-HPS negative mean-minus-2sd | mean - 2 sd | n - 1 | Eq. 8 |" in text
    assert "Margins on either pair" in text
    assert "toy world" in text
