"""Table 1 of the paper by hand: from the log-probs of two responses to the cells of the tables."""

import csv
from types import SimpleNamespace

import pytest
import torch
from synthetic_results import evaluation, run

from hps.evaluation import measures as measured
from hps.evidence.metrics import METRICS, VARIANTS, measures
from hps.evidence.results import read_evaluation
from hps.evidence.table_rows import Choices, build, to_csv
from hps.evidence.tables import TABLES

CHOSEN, REJECTED = ("chosen", 0), ("rejected", 0)
POLICY = [-10.0, -9.0]  # log pi_theta of y_1 and of y_2
REFERENCE = {CHOSEN: -12.0, REJECTED: -8.5}
TOKENS = {CHOSEN: [1] * 7, REJECTED: [1] * 12}


@pytest.mark.parametrize("beta", [0.1, 0.75])
@pytest.mark.parametrize("name", ["table2", "table8"])
def test_margin_from_log_probs_to_cells(tmp_path, name, beta):
    prompt = measured.TestPrompt("p", [], [1], "", "", TOKENS, REFERENCE, {"human": (CHOSEN, REJECTED)})
    scorer = SimpleNamespace(scored=lambda groups: [([0, 1], torch.tensor(POLICY), [None, None])])
    (row,) = measured.margins(scorer, [prompt], measured.Reference(None, {}))
    folder = evaluation(tmp_path / "e", run(beta=beta), [row, row])
    choices = Choices()
    rows = build(TABLES[name], [read_evaluation(folder)], choices)
    (cells,) = csv.DictReader(to_csv(TABLES[name], rows, choices).splitlines())
    # rho_1 = -10 + 12 = 2 and rho_2 = -9 + 8.5 = -0.5: RM_DPO = 2.5, whatever beta is.
    # RM_R-DPO = 2.5 - 0.01 (7 - 12) = 2.55.
    by_hand = {"rm_dpo": 2.5, "rm_rdpo": 2.55, "implicit_margin": 2.5 * beta, "length_gap": -5}
    by_hand |= {"log_ratio_chosen": 2, "log_ratio_rejected": -0.5, "ranking_accuracy": 1}
    for metric, value in by_hand.items():
        assert float(cells[metric]) == float(cells[f"{metric}_human"]) == pytest.approx(value)
        assert cells[f"{metric}_annotated"] == ""


def test_ranking_accuracy_is_the_share_of_prompts_with_a_positive_margin(tmp_path):
    of = [{"margin_human": value} for value in (0.5, -0.1, 2.0, 0.0)] + [{"margin_human": None}]
    shown = read_evaluation(evaluation(tmp_path / "e", run(), of))
    values = METRICS["ranking_accuracy"].of(shown, "human")
    assert values[:4].tolist() == [1, 0, 1, 0]
    assert values[4] != values[4]  # no pair, no value


def test_each_metric_and_variant_has_one_name():
    names = [name for name, _ in measures({key: variants[0] for key, variants in VARIANTS.items()})]
    assert len(names) == len(set(names))
    assert {"rm_dpo", "rm_dpo_human", "rm_dpo_annotated", "bleu_word", "kl"} <= set(names)
