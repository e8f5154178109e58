"""The audit: the paper's numbers by hand, that repaired numbers pass, the pairs, and what is refused."""

import csv
import shutil
from pathlib import Path

import measure_lengths
import pytest
from conftest import ROOT
from synthetic_results import configuration, report

from hps.data.schemas import CANDIDATES, LENGTHS, PAIRS, REFERENCE, SCORED
from hps.evaluation.pairs import annotated_gaps, find_pairs, human_gaps
from hps.evidence.audit import VERDICTS, check, commonest_gap, distinct, gain, mean_gains
from hps.evidence.figures.gaps import implied_gaps
from hps.evidence.paper import read_rows
from hps.evidence.statistics import Estimate
from hps.models.sources import load_tokenizer
from hps.support.errors import InputError
from hps.support.files import write_table

PAPER = ROOT / "paper"
NAMES = {"hh_rlhf": "HH-RLHF"}


@pytest.fixture
def paper(tmp_path) -> Path:
    """A copy of the paper's numbers, to change."""
    return Path(shutil.copytree(PAPER, tmp_path / "paper"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def found(folder: Path, measured=None, world="real") -> dict:
    return {one.number: one for one in check(folder, measured or {}, world, NAMES)}


def test_the_papers_verdicts():
    verdicts = {number: one.verdict for number, one in found(PAPER).items()}
    assert verdicts == {
        **{"1a": "inconsistent", "1b": "inconsistent", "2a": "consistent", "2b": "consistent", "2c": "consistent"},
        **{"2d": "unexplained", "2e": "unexplained", "3": "inconsistent", "4": "doubtful", "4b": "consistent"},
        **{"5": "doubtful", "6": "doubtful", "7a": "open", "7b": "open"},
    }
    assert set(verdicts.values()) <= set(VERDICTS)


def test_what_the_checks_quote():
    checks = found(PAPER)
    assert "11 of 44 rows agree on 68.3 tokens" in checks["1a"].recomputes
    assert "4.4 (Table 2, HH-RLHF, SPPO-PL) to 193.3 (Table 5, HH-RLHF, SPPO-HPS)" in checks["1a"].recomputes
    assert "19 of 36 rows agree on 60.8 tokens" in checks["1b"].recomputes
    assert "-89.1 (Table 2, pku_saferlhf, DPO-PL)" in checks["1b"].recomputes
    assert checks["2a"].recomputes.startswith("442.52 %")
    assert checks["2b"].recomputes.startswith("240.88 %")
    assert checks["2c"].recomputes.startswith("61.76 %")
    assert "156 % on HH-RLHF" in checks["2d"].recomputes
    assert "90 % on pku_saferlhf" in checks["2e"].recomputes
    assert "EXO-HPS below EXO-PL in RM_DPO (-5.495 against -5.455)" in checks["3"].recomputes
    assert "NCA-HPS below NCA-BT in RM_DPO (-5.378 against -4.673)" in checks["3"].recomputes
    assert "Table 7, n = 50, DPO-HPS: bleu 0.230" in checks["4"].recomputes
    assert "2.7 times" in checks["5"].recomputes


def test_a_gap_by_hand():
    (row,) = [row for row in read_rows(PAPER) if (row.table, row.block, row.method) == ("table2", "hh_rlhf", "dpo-hps")]
    assert row.gap == pytest.approx(68.3)  # 100 * (2.723 - 2.040)


def test_repeated_rows_count_once():
    rows = [row for row in read_rows(PAPER) if row.test_set == "hh_rlhf"]
    assert len(rows) == 15 + 15 + 8 + 10
    assert len(distinct(rows)) == 15 + 15 + 6 + 8
    assert commonest_gap(distinct(rows)) == (pytest.approx(68.3), 11)


def test_margins_that_belong_together_are_consistent(paper):
    for path in paper.glob("table[25678]*.csv"):
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        for row in rows:
            if row["rm_dpo"]:
                row["rm_rdpo"] = f"{float(row['rm_dpo']) - 0.5:.3f}"
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    checks = found(paper)
    assert (checks["1a"].verdict, checks["1b"].verdict) == ("consistent", "consistent")
    assert "all 44 rows agree on 50.0 tokens" in checks["1a"].recomputes


def test_repaired_cells_pass(paper):
    edit(paper / "table2_finetuning.csv", "exo-hps,0.314,0.425,-5.495,", "exo-hps,0.314,0.425,-5.395,")
    edit(paper / "table5_transfer.csv", "nca-hps,0.224,0.436,-5.378,-5.562", "nca-hps,0.224,0.436,-4.378,-5.462")
    edit(paper / "table8_beta_finetuning.csv", "1,dpo-hps,2.015,0.225,0.429,-0.316", "1,dpo-hps,2.0,0.225,0.429,-0.3")
    edit(paper / "table7_responses_transfer.csv", "50,dpo-hps,0.230,0.307", "50,dpo-hps,0.309,0.407")
    checks = found(paper)
    assert checks["3"].verdict == checks["4"].verdict == "consistent"


def test_a_changed_number_is_found(paper):
    edit(paper / "training_hours.csv", "hps,64.4", "hps,74.4")
    edit(paper / "table6_responses_finetuning.csv", "100,dpo-hps,0.232", "100,dpo-hps,0.233")
    checks = found(paper)
    assert checks["2c"].verdict == "inconsistent"
    assert checks["4b"].verdict == "inconsistent"
    assert "Table 6, n = 100, DPO-HPS" in checks["4b"].recomputes


def test_an_average_that_can_be_recomputed_is_found(paper):
    edit(paper / "quoted.csv", "Abstract,89,", "Abstract,156,")
    assert found(paper)["2d"].verdict == "consistent"


def test_gains_by_hand():
    assert gain(1.0, -2.0) == 1.5
    rows = [row for row in read_rows(PAPER) if row.table == "table2"]
    theirs = {"dpo": (2.723, 0.349), "exo": (1.079, 0.816), "ipo": (-0.321, -0.382)}
    theirs |= {"sppo": (-0.969, -0.978), "nca": (-0.822, -1.702)}
    expected = 100 * sum((a - b) / abs(b) for a, b in theirs.values()) / 5
    assert mean_gains(rows)["RM_DPO over BT, hh_rlhf, mean of relative gains"] == pytest.approx(expected)


def test_which_pair_the_paper_can_have_used():
    measured = {
        "hh_rlhf": {"human": Estimate(-10.0, -14.0, -6.0, 800), "annotated": Estimate(70.0, 60.0, 80.0, 790)},
        "pku_saferlhf": {"human": Estimate(11.0, 5.0, 17.0, 800), "annotated": Estimate(20.0, 10.0, 30.0, 790)},
    }
    checks = found(PAPER, measured)
    assert checks["7a"].verdict == "consistent"
    assert "human pairs -10.0 [-14.0, -6.0] tokens (800 prompts)" in checks["7a"].recomputes
    assert checks["7a"].recomputes.endswith("the paper can have used annotated pairs")
    assert checks["7b"].verdict == "unexplained"
    assert "; neither fits" in checks["7b"].recomputes
    assert {found(PAPER, measured, "toy")[number].verdict for number in ("7a", "7b")} == {"open"}
    one = {"hh_rlhf": {"human": Estimate(5.0, float("nan"), float("nan"), 1)}}
    assert found(PAPER, one)["7a"].verdict == "open"


def test_human_pairs_alone_are_ruled_out_and_the_question_stays_open():
    check7 = found(PAPER, {"hh_rlhf": {"human": Estimate(-10.0, -14.0, -6.0, 2300)}})["7a"]
    assert check7.verdict == "open"
    assert "(2,300 prompts); not these human pairs, then; annotated pairs have not been made" in check7.recomputes


def stage_files(folder: Path, rewards: dict[tuple, float], tokens: dict[tuple, int], status=None) -> list[list[str]]:
    """Candidates, scored and reference of prompt p with the responses of `tokens`."""
    keys = [{"prompt_id": "p", "origin": origin, "index": index} for origin, index in tokens]
    of = [(key["origin"], key["index"]) for key in keys]
    rows = [
        key | {"response": "x", "status": (status or {}).get(name, "ok"), "tokens": 1}
        for key, name in zip(keys, of, strict=True)
    ]
    write_table(folder / "candidates.parquet", rows, CANDIDATES)
    scored = [key | {"reward": rewards[name], "true_reward": None} for key, name in zip(keys, of, strict=True)]
    write_table(
        folder / "scored.parquet", [row for row, name in zip(scored, of, strict=True) if name in rewards], SCORED
    )
    lengths = [
        key | {"log_prob": -1.0, "tokens": tokens[name], "ids": [0] * tokens[name]}
        for key, name in zip(keys, of, strict=True)
    ]
    write_table(folder / "reference.parquet", lengths, REFERENCE)
    return [[str(folder / f"{name}.parquet")] for name in ("candidates", "scored", "reference")]


TOKENS = {("chosen", 0): 9, ("rejected", 0): 4, ("generated", 0): 20, ("generated", 1): 7, ("generated", 2): 30}
REWARDS = {
    ("chosen", 0): 5.0,
    ("rejected", 0): 4.0,
    ("generated", 0): 1.0,
    ("generated", 1): 2.0,
    ("generated", 2): 3.0,
}


def test_annotated_gaps_by_hand(tmp_path):
    assert annotated_gaps(*stage_files(tmp_path, REWARDS, TOKENS), {"ok"}).tolist() == [10.0]


def test_human_gaps_from_text(tmp_path, model_folder):
    pairs, lengths = str(tmp_path / "pairs.parquet"), str(tmp_path / "lengths.parquet")
    turn = [{"role": "user", "content": "a question"}]
    texts = [("one and the same", "one and the same"), ("a reply of some length", "a reply"), ("no", "no no no no no")]
    rows = [
        {"prompt_id": str(number), "messages": turn, "chosen": chosen, "rejected": rejected}
        for number, (chosen, rejected) in enumerate(texts)
    ]
    write_table(pairs, rows, PAIRS)
    measure_lengths.main(measure_lengths.Arguments(pairs=pairs, policy=str(model_folder), out=lengths))
    same, longer, shorter = human_gaps(lengths)
    assert same == 0
    assert longer > 0 > shorter
    tokenizer = load_tokenizer(str(model_folder))
    # The one EOS of either reply cancels, so what is left are the tokens of the text.
    assert longer == len(tokenizer(texts[1][0], add_special_tokens=False)["input_ids"]) - len(
        tokenizer(texts[1][1], add_special_tokens=False)["input_ids"]
    )


def test_a_response_that_may_not_be_used_is_in_no_pair(tmp_path):
    status = {("generated", 2): "truncated"}
    assert annotated_gaps(*stage_files(tmp_path, REWARDS, TOKENS, status), {"ok"}).tolist() == [-13.0]


def test_without_one_of_its_replies_there_is_no_human_pair():
    rows = [{"origin": origin, "index": 0, "status": "ok"} for origin in ("chosen", "rejected")]
    assert find_pairs("p", rows, {}, {"ok"}) == {"human": (("chosen", 0), ("rejected", 0))}
    assert find_pairs("p", [rows[0], rows[1] | {"status": "empty"}], {}, {"ok"}) == {}


def test_a_response_without_a_reward_is_named(tmp_path):
    rewards = {key: value for key, value in REWARDS.items() if key != ("generated", 1)}
    files = stage_files(tmp_path, dict.fromkeys(TOKENS, 0.0) | rewards, TOKENS)
    stage_files(tmp_path / "less", REWARDS, dict(list(TOKENS.items())[:3]))
    with pytest.raises(InputError, match=r"candidates\.parquet: response p/generated/1 has no reward"):
        annotated_gaps(files[0], [str(tmp_path / "less" / "scored.parquet")], files[2], {"ok"})


def test_the_figure_shows_every_row_of_the_paper():
    figure = implied_gaps(read_rows(PAPER), {"hh_rlhf": {"human": Estimate(5.0, 1.0, 9.0, 20)}}, "toy")
    assert [axes.get_title() for axes in figure.axes] == ["HH-RLHF", "PKU-SafeRLHF"]
    drawn = [len(line.get_xdata()) for line in figure.axes[0].lines if line.get_marker() in "osD"]
    assert sum(drawn) == 48
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels == [*(f"Table {number}, paper" for number in (2, 5, 6, 8)), "human pairs,\ntoy world"]
    assert "5.0" in [text.get_text() for text in figure.axes[0].texts]


def audit_of(tmp_path: Path, *words: object, paper: Path = PAPER, **config) -> dict[str, bytes]:
    out = tmp_path / "out"
    report("audit", "--config", configuration(tmp_path, **config), "--paper", paper, "--out", out, *words)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_the_command_writes_everything_the_same_each_time(tmp_path):
    files = stage_files(tmp_path, REWARDS, TOKENS)
    lengths = str(tmp_path / "lengths.parquet")
    write_table(lengths, [{"prompt_id": "p", "chosen": 9, "rejected": 4}], LENGTHS)
    words = [word for name, paths in zip(("candidates", "scored", "reference"), files, strict=True)
             for word in (f"--{name}", *paths)]  # fmt: skip
    words += ["--test-sets", "hh_rlhf", "--human", lengths, "--annotated-sets", "hh_rlhf"]
    written = audit_of(tmp_path, *words, world="toy")
    assert written == audit_of(tmp_path, *words, world="toy")
    assert set(written) == {*(f"audit.{kind}" for kind in ("csv", "md", "html")),
                            *(f"length_gaps.{kind}" for kind in ("csv", "png", "svg"))}  # fmt: skip
    assert b"toy world" in written["audit.html"]
    gaps = list(csv.DictReader(written["length_gaps.csv"].decode().splitlines()))
    assert len([row for row in gaps if row["source"] == "paper"]) == 15 * 4 + 8 * 2 + 10
    assert {row["block"]: row["length_gap"] for row in gaps if row["source"] == "ours"} == {
        "human pair": "5",
        "annotated pair": "10",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--test-sets", "a", "b", "--human", "a.parquet"], "--human: 1 files for 2 test sets"),
        (["--annotated-sets", "b"], "--annotated-sets: b: not in --test-sets"),
        (["--candidates", "a.parquet"], "--annotated-sets: 1, 0, 0 files for 0 test sets"),
    ],
)
def test_files_that_do_not_match_the_test_sets_are_refused(tmp_path, words, message):
    with pytest.raises(SystemExit, match=message):
        audit_of(tmp_path, *words)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("quoted.csv", "time_saved", "time_spent", r"quoted\.csv: has no row time_saved"),
        ("table2_finetuning.csv", "dpo-bt,0.230,0.431,0.349", "dpo-bt,0.230,0.431,x", r"rm_dpo is 'x', not a number"),
        ("table5_transfer.csv", "rm_rdpo", "rm_r", r"table5_transfer\.csv: has no column rm_rdpo"),
        ("table5_transfer.csv", "0.219,0.438,-4.816", "0.219,0.438,", r"hh_rlhf, dpo-hps: a value is missing"),
    ],
)
def test_broken_numbers_end_in_one_line_and_no_files(paper, tmp_path, file, old, new, message):
    edit(paper / file, old, new)
    with pytest.raises(SystemExit, match=message):
        audit_of(tmp_path, paper=paper)
    assert not (tmp_path / "out").exists()
