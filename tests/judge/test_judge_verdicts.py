"""From judgements to Table 4: rates by hand, laws, and the page."""

import csv
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_results import configuration, report

from hps.evidence import render
from hps.judge.comparisons import JUDGEMENTS, read_facts
from hps.judge.judging import on_scale
from hps.judge.table import direction, to_csv, to_page
from hps.judge.verdicts import win_rates
from hps.support.errors import InputError
from hps.support.files import write_json, write_table

PAPER = Path(__file__).parents[2] / "paper" / "table4_win_rate.csv"
FACTS = {"source": "openai", "model": "judge-1", "orders": "both", "samples": 1, "temperature": 0.0}


def reading(prompt: int, ours, theirs, first: bool | None = True, **changes) -> dict:
    """A row of JUDGEMENTS; `ours` None: invalid."""
    row = {"test_set": "hh_rlhf", "method": "dpo-hps", "baseline": "sft", "seed": 0, "prompt_id": f"p{prompt}"}
    row |= {"index": 0, "method_first": first, "method_score": ours, "baseline_score": theirs, "replies": 1}
    return dict.fromkeys(JUDGEMENTS.names) | row | changes


def both(prompt: int, shown_first: tuple, shown_second: tuple, **changes) -> list[dict]:
    return [reading(prompt, *shown_first, True, **changes), reading(prompt, *shown_second, False, **changes)]


def rates(rows, **options):
    return win_rates(rows, **options)


def test_rates_by_hand():
    rows = [
        *both(0, (4.0, 3.0), (4.0, 3.0)),  # wins in both orders
        *both(1, (4.0, 3.0), (3.0, 4.0)),  # whoever is read first gains a point: a tie
        *both(2, (3.0, 3.0), (2.5, 3.0)),  # a tie and a loss: loses on the mean
        *both(3, (None, None), (5.0, 0.0)),  # one order is invalid: no verdict, though the other says win
    ]
    (found,) = rates(rows)
    values = {name: estimate.mean for name, estimate in found.estimates.items()}
    third = pytest.approx(100 / 3)
    assert [values[name] for name in ("win", "lose", "tie", "net")] == [third, third, third, 0.0]
    assert (found.pairs, found.invalid, found.estimates["win"].prompts) == (4, 1, 3)
    assert values["position_bias"] == pytest.approx((0 + 1 + 0.25) / 3)
    assert values["orders_agree"] == third


def test_samples_of_a_prompt_and_seeds_are_averaged_before_prompts():
    rows = [reading(0, 2.0, 1.0, index=i) for i in range(3)] + [reading(0, 1.0, 2.0, index=3), reading(1, 1.0, 1.0)]
    (found,) = rates(rows)
    assert found.estimates["win"].mean == pytest.approx((75 + 0) / 2)
    (found,) = rates([*rows, *(row | {"seed": 1, "method_score": 0.0} for row in rows)])
    assert found.estimates["win"].mean == pytest.approx((75 + 0) / 4)
    assert (found.seeds, found.pairs) == ((0, 1), 10)


def test_one_reading_has_no_position_bias():
    (found,) = rates([reading(0, 2.0, 1.0), reading(1, 1.0, 2.0, False)])
    assert math.isnan(found.estimates["position_bias"].mean)
    assert math.isnan(found.estimates["orders_agree"].mean)


half = st.integers(0, 40).map(lambda n: n / 8)
readings = st.lists(st.tuples(half, half, half, half), min_size=1, max_size=6)


@given(readings)
def test_laws(scores):
    """Rates add up to 100; swapping the sides swaps win and lose; a judge that only sees position only ties."""
    rows = [row for i, (a, b, c, d) in enumerate(scores) for row in both(i, (a, b), (c, d))]
    (found,) = rates(rows)
    values = {name: estimate.mean for name, estimate in found.estimates.items()}
    assert sum(values[name] for name in ("win", "lose", "tie")) == pytest.approx(100)
    swapped = [
        row
        | {
            "method_score": row["baseline_score"],
            "baseline_score": row["method_score"],
            "method_first": not row["method_first"],
        }
        for row in rows
    ]
    (mirror,) = rates(swapped)
    mirrored = {name: estimate.mean for name, estimate in mirror.estimates.items()}
    assert (values["win"], values["lose"]) == pytest.approx((mirrored["lose"], mirrored["win"]))
    assert values["position_bias"] == pytest.approx(mirrored["position_bias"])
    blind = [row for i, (a, b, _, _) in enumerate(scores) for row in both(i, (a, b), (b, a))]
    (found,) = rates(blind)
    assert found.estimates["tie"].mean == 100
    assert found.estimates["position_bias"].mean == pytest.approx(sum(a - b for a, b, _, _ in scores) / len(scores))


@pytest.mark.parametrize(
    ("reward", "score"), [(-9.0, 0.0), (-5.0, 0.0), (0.0, 2.5), (0.4, 2.5), (0.6, 3.0), (7.0, 5.0)]
)
def test_a_true_reward_on_the_judges_scale(reward, score):
    assert on_scale(reward) == score


def test_csv_begins_as_the_papers():
    text = to_csv(rates([*both(0, (4.0, 3.0), (4.0, 3.0)), *both(1, (4.0, 3.0), (4.0, 3.0))]), "judge-1")
    assert text.startswith(PAPER.read_text(encoding="utf-8").splitlines()[0] + ",win_lo,win_hi,")
    (row,) = csv.DictReader(text.splitlines())
    assert (row["evaluated_on"], row["opponent"], row["win"], row["lose"], row["tie"]) == (
        "hh_rlhf",
        "sft",
        "100",
        "0",
        "0",
    )
    assert (row["prompts"], row["net"], row["judge"], row["position_bias"]) == ("2", "100", "judge-1", "0")


def test_a_direction_that_differs_from_the_papers_is_marked():
    paper = {"win": 60.0, "lose": 10.0, "tie": 30.0}
    wins, losses = ([reading(i, a, b) for i in range(4)] for a, b in ((2.0, 1.0), (1.0, 2.0)))
    mixed = [reading(0, 2.0, 1.0), reading(1, 1.0, 2.0), reading(2, 1.0, 2.0)]
    marks = [direction(rates(rows)[0], paper) for rows in (wins, losses, mixed)]
    assert marks == ["", "▼", "▽"]
    assert direction(rates(wins)[0], None) is None


def test_the_page_says_who_judged_and_what_is_missing():
    rows = [*both(0, (4.0, 3.0), (4.0, 3.0)), *both(1, (None, None), (4.0, 3.0))]
    page = to_page(rates(rows), str(PAPER), FACTS, "real")
    text = render.markdown(page)
    assert "Judge: judge-1, temperature 0, blind, each pair in both orders" in text
    assert "Not run: 5 of the paper's 6 rows" in text
    assert "| hh_rlhf | SFT | 100.0 | 63.9 | 0.0 | 13.2 | 0.0 | 22.9 | 100.0 | 1 invalid: 1 |" in text
    toy = to_page(rates(rows), str(PAPER), FACTS | {"source": "true_reward"}, "toy")
    assert "toy world" in toy.notes[0]
    assert "no language model" in render.markdown(toy)


def test_the_command(tmp_path):
    write_table(tmp_path / "judge/judgements.parquet", both(0, (4.0, 3.0), (4.0, 3.0)), JUDGEMENTS)
    write_json(tmp_path / "judge/judge.json", FACTS)
    words = ["table", "--name", "table4", "--config", configuration(tmp_path), "--paper", PAPER.parent]
    report(*words, "--judge", tmp_path / "judge", "--out", tmp_path)
    assert "Win (%)" in (tmp_path / "table4.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("change", [{}, {"model": 5}, {"source": "me"}, {"samples": True}, {"temperature": "0"}])
def test_a_record_of_a_judge_that_is_none_is_named(tmp_path, change):
    path = tmp_path / "judge.json"
    write_json(path, FACTS | change)
    if not change:
        assert read_facts(path) == FACTS
        return
    ((name, value),) = change.items()
    with pytest.raises(InputError, match=f"^{path}: is no record of a judge: {name} is {value!r}$"):
        read_facts(path)


def test_a_judge_without_a_temperature_of_ours_is_shown_as_such():
    page = to_page(rates(both(0, (4.0, 3.0), (4.0, 3.0))), str(PAPER), FACTS | {"temperature": None}, "real")
    assert "Judge: judge-1, temperature of its own, blind" in render.markdown(page)
