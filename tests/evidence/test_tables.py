"""Tables: cells by hand, the paper's columns and row order, marks, notes, and what is refused."""

import csv
import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from synthetic_results import SIGNATURE, configuration, evaluation, report, run

from hps.evidence import render
from hps.evidence.figures.style import read_points
from hps.evidence.results import read_evaluation
from hps.evidence.table_page import to_page
from hps.evidence.table_rows import Choices, build, to_csv
from hps.evidence.tables import EVALUATIONS, TABLES, tables
from hps.support.errors import InputError

PAPER = ROOT / "paper"
SPECS = {name: spec for name, spec in TABLES.items() if spec.source == EVALUATIONS and spec.paper}
CHOICES = Choices()


def choices(**changes) -> Choices:
    return Choices(**vars(CHOICES) | changes)


def table(name: str, folders: list[Path], chosen: Choices = CHOICES) -> list[dict[str, str]]:
    rows = build(TABLES[name], map(read_evaluation, folders), chosen)
    return list(csv.DictReader(to_csv(TABLES[name], rows, chosen).splitlines()))


def page(name: str, folders: list[Path], chosen: Choices = CHOICES, world: str = "real"):
    rows = build(TABLES[name], map(read_evaluation, folders), chosen)
    return to_page(TABLES[name], rows, chosen, PAPER, world)


def margins(*values: float) -> list[dict]:
    return [{"margin_human": value} for value in values]


def numbers(row: dict[str, str], name: str) -> tuple[float, ...]:
    return tuple(float(row[f"{name}{end}"]) for end in ("", "_lo", "_hi"))


def test_cells_by_hand(tmp_path):
    prompts = [
        {"bleu_word": 0.1, "reward": 1.0, "margin_human": 4.0, "length_gap_human": 10.0, "margin_annotated": None},
        {"bleu_word": 0.3, "reward": 2.0, "margin_human": 8.0, "length_gap_human": -30.0, "margin_annotated": 3.0},
    ]
    (row,) = table("table2", [evaluation(tmp_path / "e", run(beta=0.25), prompts)])
    assert (row["evaluated_on"], row["method"]) == ("hh_rlhf", "dpo-hps")
    half = 12.7062  # of an interval of two values that are 2 apart: t with one degree of freedom
    assert numbers(row, "bleu") == pytest.approx((0.2, 0.2 - 0.1 * half, 0.2 + 0.1 * half), rel=1e-4)
    assert numbers(row, "reward") == pytest.approx((1.5, 1.5 - 0.5 * half, 1.5 + 0.5 * half), rel=1e-4)
    assert numbers(row, "rm_dpo") == pytest.approx((6, 6 - 2 * half, 6 + 2 * half), rel=1e-4)
    assert numbers(row, "rm_rdpo") == pytest.approx((6.1, 6.1 - 2.2 * half, 6.1 + 2.2 * half), rel=1e-4)  # 3.9, 8.3
    assert (row["implicit_margin"], row["rm_dpo_human"], row["rm_dpo_annotated"]) == ("1.5", "6", "3")
    assert (row["prompts"], row["prompts_human"], row["prompts_annotated"]) == ("2", "2", "1")
    assert row["rm_dpo_annotated_lo"] == row["true_reward"] == row["rm_dpo_minus_bt"] == ""
    assert (row["bleu_char"], row["bleu_word"], row["kl"], row["length"]) == ("0.5", "0.2", "3", "10")
    assert (row["trained_on"], row["tested_on"], row["run_n"], row["run_beta"]) == ("hh_rlhf", "hh_rlhf", "100", "0.25")


def test_the_other_pair_and_bleu(tmp_path):
    folder = evaluation(tmp_path / "e", run(), [{"margin_annotated": None}, {"margin_annotated": 5.0}])
    chosen = choices(pair="annotated", bleu="char")
    (row,) = table("table2", [folder], chosen)
    assert (row["bleu"], row["rm_dpo"], row["rm_rdpo"]) == ("0.5", "5", "5.1")  # one prompt, -10 tokens
    assert (row["margin_pair"], row["bleu_variant"]) == ("annotated", "char")
    text = render.markdown(page("table2", [folder], chosen))
    assert "the annotated pair" in text
    assert SIGNATURE["char"] in text
    assert "RM_DPO, human pair; 1 for Implicit reward margin · Ranking accuracy · " in text


@pytest.mark.parametrize("name", SPECS)
def test_columns_start_as_in_the_paper(tmp_path, name):
    test_set = "pku_saferlhf" if TABLES[name].transfer else "hh_rlhf"
    (row,) = table(name, [evaluation(tmp_path / "e", run(), [{}, {}], test_set)])
    theirs = (PAPER / SPECS[name].paper).read_text(encoding="utf-8").splitlines()[0].split(",")
    header = list(row)
    assert header[: len(theirs)] == theirs
    intervals = [f"{metric}_{end}" for metric in TABLES[name].metrics for end in ("lo", "hi")]
    assert header[len(theirs) : len(theirs) + len(intervals) + 1] == [*intervals, "prompts"]
    assert len(set(header)) == len(header)


def test_rows_stand_as_in_the_paper(tmp_path):
    methods = ["dpo-hps", "exo-bt", "dpo-pl", "exo-hps", "dpo-bt", "exo-pl"]
    folders = [
        evaluation(tmp_path / dataset / method, None if method == "sft" else run(method, dataset), [{}, {}], dataset)
        for dataset in ("hh_rlhf", "pku_saferlhf")
        for method in (*methods, "sft")
    ]
    ours = [(row["evaluated_on"], row["method"]) for row in table("table2", folders)]
    with open(PAPER / "table2_finetuning.csv", newline="", encoding="utf-8") as stream:
        paper = [(row["evaluated_on"], row["method"]) for row in csv.DictReader(stream)]
    assert ours == [key for key in paper if key in ours]
    assert len(ours) == 14


def test_ablations_are_ordered_by_number(tmp_path):
    sizes = [
        evaluation(tmp_path / f"{n}{m}", run(m, n=n), [{}, {}]) for n in (100, 5, 20) for m in ("dpo-hps", "dpo-bt")
    ]
    assert [(row["n"], row["method"]) for row in table("table6", sizes)] == [
        (n, method) for n in ("5", "20", "100") for method in ("dpo-bt", "dpo-hps")
    ]
    betas = [evaluation(tmp_path / f"b{beta}", run(beta=beta), [{}, {}]) for beta in (1, 0.1, 0.25)]
    assert [row["beta"] for row in table("table8", betas)] == ["0.1", "0.25", "1"]


def test_the_sft_policy_has_no_margins(tmp_path):
    (row,) = table("table2", [evaluation(tmp_path / "e", None, [{}, {}])])
    assert (row["method"], row["bleu"]) == ("sft", "0.2")
    assert row["rm_dpo"] == row["rm_dpo_lo"] == row["rm_rdpo"] == row["trained_on"] == ""
    assert row["seeds"] == "0"
    assert row["prompts_human"] == "0"


def test_a_further_reward_is_a_row_without_a_paper_value(tmp_path):
    folders = [evaluation(tmp_path / method, run(method), [{}, {}]) for method in ("kto-hps", "dpo-hps")]
    assert [row["method"] for row in table("table2", folders)] == ["dpo-hps", "kto-hps"]
    text = render.markdown(page("table2", folders))
    assert "| hh_rlhf | KTO-HPS | 0.200 [0.200, 0.200] | – |" in text
    assert "Not run: 31 of the paper's 32 rows." in text


def test_several_seeds_have_an_interval_over_seeds_and_prompts(tmp_path):
    folders = [
        evaluation(tmp_path / f"s{seed}", run(seed=seed), margins(*values))
        for seed, values in ((1, (10.0, 30.0)), (0, (20.0, 40.0)))
    ]
    (row,) = table("table2", folders)
    # Mean squares of seeds 100, of prompts 400, of the rest 0: variances 25 and 100, each with one degree of freedom.
    half = 12.7062 * 125**0.5
    assert numbers(row, "rm_dpo") == pytest.approx((25, 25 - half, 25 + half), rel=1e-4)
    assert (row["seeds"], row["prompts"]) == ("0 1", "2")
    assert page("table2", folders).tables[0].rows[0][-1] == render.Cell("2", "seed 0, 1")


def test_rows_with_other_seeds_than_bt_are_compared_on_those_that_both_have(tmp_path):
    made = {("bt", 0): (1.0, 2.0), ("bt", 1): (3.0, 6.0), ("hps", 1): (5.0, 7.0), ("hps", 2): (90.0, 91.0)}
    folders = [
        evaluation(tmp_path / f"{loss}{seed}", run(f"dpo-{loss}", seed=seed), margins(*values))
        for (loss, seed), values in made.items()
    ]
    folders += [evaluation(tmp_path / f"sft{seed}", None, [{}, {}], seed=seed) for seed in range(3)]
    sft, bt, hps = table("table2", folders)
    assert [row["seeds"] for row in (sft, bt, hps)] == ["0 1 2", "0 1", "1 2"]
    assert (bt["rm_dpo"], hps["rm_dpo"]) == ("3", "48.25")
    assert hps["rm_dpo_minus_bt"] == "1.5"  # of seed 1: 5 - 3 and 7 - 6
    assert [row[-1].text for row in page("table2", folders).tables[0].rows] == ["3", "2", "2"]


def pair_of_methods(folder: Path, bt: list[float], hps: list[float]) -> list[Path]:
    return [
        evaluation(folder / loss, run(f"dpo-{loss}"), margins(*values)) for loss, values in (("bt", bt), ("hps", hps))
    ]


@pytest.mark.parametrize(
    ("hps", "mark"),
    [([2.0, 3.0, 4.0], ""), ([0.0, 1.0, 2.0], "▼ "), ([0.0, 1.0, 4.0], "▽ ")],
    ids=["as in the paper", "reversed", "reversed within the interval"],
)
def test_direction_of_hps_against_bt(tmp_path, hps, mark):
    folders = pair_of_methods(tmp_path, [1.0, 2.0, 3.0], hps)
    _, row = table("table2", folders)
    difference = sum(hps) / 3 - 2
    assert float(row["rm_dpo_minus_bt"]) == pytest.approx(difference, rel=1e-5)
    shown = page("table2", folders)
    _, cells = shown.tables[0].rows
    assert cells[6].text == f"{mark}{sum(hps) / 3:.3f}"
    assert cells[7].text == "2.723"
    assert f"HPS in RM_DPO {int(not mark)} of 1;" in shown.legend[0]


def test_every_metric_of_every_loss_is_compared_but_not_what_the_paper_has_equal(tmp_path):
    folders = [
        evaluation(tmp_path / loss, run(f"dpo-{loss}"), [{"bleu_word": bleu, "reward": 1.0}] * 3)
        for loss, bleu in (("pl", 0.3), ("bt", 0.2), ("hps", 0.1))
    ]
    shown = page("table2", folders)
    pl, _, hps = shown.tables[0].rows
    assert pl[2].text == "0.300"  # the paper has 0.230 for both PL and BT: no direction
    assert hps[2].text == "▼ 0.100"  # the paper has 0.232 against 0.230
    assert "HPS in BLEU 0 of 1" in shown.legend[0]
    assert "PL in BLEU" not in shown.legend[0]


def test_nothing_is_compared_without_bt(tmp_path):
    shown = page("table2", [evaluation(tmp_path / "e", run(), [{}, {}])])
    assert shown.legend == []


def test_notes_name_what_the_numbers_are(tmp_path):
    folder = evaluation(tmp_path / "e", run(n=20), [{}, {}])
    toy, setting, scores, prompts, absent = page("table2", [folder], world="toy").notes
    assert "toy world" in toy
    assert "n = 20, β = 0.1; training seeds as each row says" in setting
    assert SIGNATURE["word"] in scores
    assert "95% interval; of a row with several training seeds it holds for the method" in scores
    assert prompts.startswith("Test prompts: 2 for KL · BLEU · Reward · ")
    assert "31 of the paper's 32" in absent
    assert len(page("table2", [folder]).notes) == 4
    transfer = page("table7", [evaluation(tmp_path / "t", run(n=20), [{}, {}], "pku_saferlhf")])
    assert "Trained on hh_rlhf, evaluated on pku_saferlhf" in transfer.notes[0]


def test_cells_show_as_many_decimals_as_the_interval_needs():
    assert render.interval(1.23456, 1.1, 1.4) == render.Cell("1.235", "[1.100, 1.400]")
    assert render.interval(0.00012, 0.00010, 0.00014) == render.Cell("0.000120", "[0.000100, 0.000140]")
    assert render.interval(-0.0001, -0.3, 0.3) == render.Cell("0.000", "[-0.300, 0.300]")
    assert render.interval(2.0, float("nan"), float("nan")) == render.Cell("2.000")
    assert render.interval(2.0, 0.5, float("inf")) == render.Cell("2.000", "[0.500, ∞]")
    assert render.number(float("nan")) == "–"


def test_html_is_one_escaped_page():
    columns = [render.Column("a<b"), render.Column("ours", "M&M", True), render.Column("paper", "M&M", True)]
    rows = [[render.Cell("x"), render.Cell("1", "[0, 2]"), render.Cell("–")]] * 2
    text = render.html(render.Page("T", [render.Table(columns, rows, block=0)], ["note"], ["legend"]))
    assert text.startswith("<!DOCTYPE html>")
    assert '<th class="group" scope="colgroup" colspan="2">M&amp;M</th>' in text
    assert '<th scope="col">a&lt;b</th>' in text
    assert '<td class="number">1<span class="detail">[0, 2]</span></td>' in text
    assert 'class="block"' not in text
    assert "src=" not in text
    assert "href=" not in text


REFUSED = {
    "an unknown parameterization": (run("npo-hps"), {}, "unknown method npo-hps: 'npo' is not one of dpo, exo"),
    "an unknown loss": (run("dpo-hop"), {}, "unknown method dpo-hop: 'hop' is not one of pl, bt, hps"),
    "other settings": (run() | {"settings": {"training.lora_rank": 4}}, {"second": True}, "settings is"),
    "no count of responses": (run(), {"responses": None}, "responses is None, not how many the loss saw"),
    "transfer": (run(), {"test_set": "pku_saferlhf"}, "is transfer, which is not for Table 2"),
    "no beta": ({"dataset": "hh_rlhf"}, {}, "run must have the fields"),
    "n as text": (run(n="5"), {}, "run.n is '5', not a int"),
    "another BLEU": (run(), {"bleu_signature": {"char": "c"}}, "bleu_signature has no 'word'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_evaluation_that_does_not_belong_is_refused(tmp_path, case):
    of, summary, message = REFUSED[case]
    summary = dict(summary)
    first = [evaluation(tmp_path / "first", run("dpo-bt"), [{}, {}])] if summary.pop("second", False) else []
    folder = evaluation(tmp_path / "e", of, [{}, {}], **summary)
    with pytest.raises(InputError, match=message) as error:
        table("table2", [*first, folder])
    assert str(folder / "evaluation.json") in str(error.value)


DISAGREEING = {
    "n differs": ([run(n=5), run("dpo-bt", n=20)], "n is 20, but 5 elsewhere in the table"),
    "a seed twice": ([run(), run()], "the same row and seed as"),
}


@pytest.mark.parametrize("case", DISAGREEING)
def test_evaluations_that_disagree_are_refused(tmp_path, case):
    runs, message = DISAGREEING[case]
    folders = [evaluation(tmp_path / str(i), of, [{}, {}]) for i, of in enumerate(runs)]
    with pytest.raises(InputError, match=message):
        table("table2", folders)


def test_the_same_prompts_and_scores_throughout(tmp_path):
    first = evaluation(tmp_path / "a", run(), [{}, {}])
    other = evaluation(tmp_path / "b", run("dpo-bt"), [{}, {}, {}])
    with pytest.raises(InputError, match="has other prompts than"):
        table("table2", [first, other])
    other = evaluation(tmp_path / "c", run("dpo-bt"), [{}, {}], bleu_signature=SIGNATURE | {"word": "w2"})
    with pytest.raises(InputError, match="has another bleu_signature than"):
        table("table2", [first, other])


def test_the_sft_policy_is_not_in_transfer_or_ablations(tmp_path):
    folder = evaluation(tmp_path / "e", None, [{}, {}])
    for name in ("table5", "table6"):
        with pytest.raises(InputError, match="the SFT policy has no place in"):
            table(name, [folder])


PUBLISHED = {"name": "authors", "repo": "owner/hps", "commit": "c0ffee"}


@pytest.mark.parametrize("name", ["table2", "table5"])
def test_a_policy_of_others_is_the_last_row_of_each_test_set(tmp_path, name):
    test_sets = ["pku_saferlhf", "hh_rlhf"] if name == "table5" else ["hh_rlhf", "pku_saferlhf"]
    with_margins = {"margin_human": 2.0, "log_ratio_chosen_human": 1.0, "length_gap_human": 0.0}
    folders = [
        evaluation(tmp_path / f"other{i}", None, [with_margins] * 2, test_set, published=PUBLISHED)
        for i, test_set in enumerate(test_sets)
    ]
    folders.append(evaluation(tmp_path / "ours", run("sppo-hps"), [{}, {}], test_sets[0]))
    folders.append(evaluation(tmp_path / "bt", run("sppo-bt"), [{}, {}], test_sets[0]))
    rows = table(name, folders)
    assert [(row["evaluated_on"], row["method"]) for row in rows] == [
        *((test_sets[0], method) for method in ("sppo-bt", "sppo-hps", "authors")),
        (test_sets[1], "authors"),
    ]
    assert (rows[2]["rm_dpo"], rows[2]["trained_on"], rows[2]["rm_dpo_minus_bt"]) == ("2", "", "")
    text = render.markdown(page(name, folders))
    assert "not part of any claim: AUTHORS is owner/hps at commit c0ffee." in text
    assert len(re.findall(r"^\| \w+ \| AUTHORS \|", text, re.MULTILINE)) == 2 * text.count("\n## ") + 2


def test_a_policy_of_others_has_no_place_among_n_and_parts_of_hps(tmp_path):
    folder = evaluation(tmp_path / "e", None, [{}, {}], published=PUBLISHED)
    for name in ("table6", "table8", "table_attribution"):
        with pytest.raises(InputError, match="a policy that others trained has no place in"):
            table(name, [folder])


def test_figures_leave_policies_of_others_out(tmp_path):
    folders = [evaluation(tmp_path / "ours", run(), [{}, {}])]
    folders.append(evaluation(tmp_path / "other", None, [{}, {}], published=PUBLISHED | {"name": "their-own-hps"}))
    rows = build(TABLES["table2"], map(read_evaluation, folders), CHOICES)
    (path := tmp_path / "table2.csv").write_text(to_csv(TABLES["table2"], rows, CHOICES))
    assert {(point.parameterization, point.loss) for point in read_points(TABLES["table2"], path).points} == {
        ("dpo", "hps")
    }


def test_what_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone/evaluation\.json: missing: this evaluation has not been run"):
        read_evaluation(tmp_path / "gone")
    folder = evaluation(tmp_path / "half", run(), [{}])
    (folder / "per_prompt.parquet").unlink()
    with pytest.raises(InputError, match=r"half/per_prompt\.parquet: missing"):
        read_evaluation(folder)
    with pytest.raises(InputError, match="prompt p0001: reward is nan"):
        read_evaluation(evaluation(tmp_path / "nan", run(), [{}, {"reward": float("nan")}]))
    with pytest.raises(InputError, match="prompt p7 occurs twice"):
        read_evaluation(evaluation(tmp_path / "twice", run(), [{"prompt_id": "p7"}] * 2))
    with pytest.raises(InputError, match="has no prompts"):
        read_evaluation(evaluation(tmp_path / "empty", run(), []))


def test_values_of_another_evaluation_are_refused(tmp_path):
    """The right columns and prompts, of a run with another result."""
    mine, other = (evaluation(tmp_path / name, run(), [{"reward": value}]) for name, value in (("a", 1.0), ("b", 2.0)))
    shutil.copy(other / "per_prompt.parquet", mine)
    with pytest.raises(InputError, match=r"a/per_prompt\.parquet: is not what was written together with"):
        read_evaluation(mine)


def test_the_command_writes_the_same_files_each_time(tmp_path):
    folders = pair_of_methods(tmp_path, [1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    words = ["table", "--name", "table2", "--config", configuration(tmp_path), "--paper", PAPER, "--out", tmp_path]
    written = []
    for _ in range(2):
        report(*words, "--evaluations", *folders)
        written.append([(tmp_path / f"table2.{kind}").read_bytes() for kind in ("csv", "md", "tex", "html")])
    assert written[0] == written[1]
    assert b"| hh_rlhf | DPO-HPS |" in written[0][1]
    assert b"hh\\_rlhf & DPO-HPS &" in written[0][2]
    assert b"Fine-tuning: each policy on the test prompts" in written[0][2]


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("table2", ["gone"], r"gone/evaluation\.json: missing"),
        ("table2", [], "--evaluations: table2 needs it"),
        ("table9", [], "--name: table9: no such table; there are table2, table3"),
    ],
)
def test_the_command_ends_in_one_line_and_writes_nothing(tmp_path, name, folder, message):
    words = ["table", "--name", name, "--config", configuration(tmp_path), "--out", tmp_path / "out"]
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        report(*words, "--evaluations", *(tmp_path / one for one in folder))
    assert not (tmp_path / "out").exists()


def test_a_part_that_is_none_is_refused_and_help_lists_them(capsys):
    with pytest.raises(SystemExit, match="error: no part 'tables'"):
        report("tables")
    with pytest.raises(SystemExit, match="0"):
        report("--help")
    assert "One table, ours beside the paper's" in capsys.readouterr().out


def test_both_pairs_stand_on_every_page_the_configured_one_first(tmp_path):
    folder = evaluation(tmp_path / "e", run(), [{"margin_human": 1.5, "margin_annotated": 4.5}] * 2)
    for pair, values in (("human", ["1.500", "4.500"]), ("annotated", ["4.500", "1.500"])):
        _, margins, _ = page("table2", [folder], choices(pair=pair)).tables
        assert margins.title == "Margins on either pair"
        assert [column.name.split(", ")[1] for column in margins.columns[2:4]] == sorted(
            ["human pair", "annotated pair"], key=lambda name: pair not in name
        )
        assert [cell.text for cell in margins.rows[0][2:4]] == values


def test_a_table_says_on_how_many_prompts_each_metric_rests(tmp_path):
    answers = ("bleu_word", "bleu_char", "reward", "reward_mean", "length")
    prompts = [{}, {"margin_annotated": None}, dict.fromkeys(answers)]
    folders = [evaluation(tmp_path / "hps", run(), prompts), evaluation(tmp_path / "bt", run("dpo-bt"), [{}] * 3)]
    _, row = table("table2", folders)
    assert (row["method"], row["prompts"], row["prompts_sampled"]) == ("dpo-hps", "3", "2")
    assert (row["prompts_human"], row["prompts_annotated"], row["reward"], row["rm_dpo"]) == ("3", "2", "1", "1")
    said = next(note for note in page("table2", folders).notes if note.startswith("Test prompts"))
    assert said.startswith("Test prompts: 3 for KL · ")
    assert (
        "RM_DPO, human pair; 2 to 3 for BLEU · Reward · Reward, mean of samples · Response length · RM_DPO, ann" in said
    )


def test_further_metrics_have_no_paper_column_and_those_without_a_value_are_left_out(tmp_path):
    _, _, further = page("table2", [evaluation(tmp_path / "e", run(), [{}, {}])]).tables
    names = [column.name for column in further.columns]
    assert {"Ranking accuracy", "Implicit reward margin (nats)", "Response length (tokens)", "KL (nats)"} <= set(names)
    assert "True reward" not in names
    assert all(not column.group for column in further.columns)


def test_a_row_of_pl_says_how_many_responses_it_used(tmp_path):
    folders = [
        evaluation(tmp_path / "pl", run("dpo-pl"), [{}, {}], responses=5),
        evaluation(tmp_path / "hps", run(), [{}, {}]),
    ]
    shown = page("table2", folders)
    assert [row[1] for row in shown.tables[0].rows] == [
        render.Cell("DPO-PL", "5 of 100 responses"),
        render.Cell("DPO-HPS"),
    ]
    assert "DPO-PL used fewer responses than n" in shown.notes[0]
    assert [row["responses"] for row in table("table2", folders)] == ["5", "100"]


def test_an_ablation_over_any_key_is_a_table(tmp_path):
    specs = tables({"rank": {"key": "training.lora_rank", "values": [4, 8]}})
    settings = ({"training.lora_rank": 16}, {"training.lora_rank": 4}, {})
    folders = [
        evaluation(tmp_path / str(number), run() | {"settings": own}, [{}, {}]) for number, own in enumerate(settings)
    ]
    spec, chosen = specs["ablation_rank"], choices(configured=8)
    rows = build(spec, map(read_evaluation, folders), chosen)
    made = list(csv.DictReader(to_csv(spec, rows, chosen).splitlines()))
    assert [(row["lora_rank"], row["method"]) for row in made] == [(n, "dpo-hps") for n in ("4", "8", "16")]
    shown = to_page(spec, rows, chosen, PAPER).tables[0]
    assert [column.name for column in shown.columns[:3]] == ["lora_rank", "Method", "ours"]
    assert "paper" not in [column.name for column in shown.columns]


def test_the_true_reward_is_shown_where_it_is_known(tmp_path):
    known = [{"true_reward": 1.0}, {"true_reward": 3.0}]
    with_truth = render.markdown(page("table2", [evaluation(tmp_path / "a", run(), known)], world="toy"))
    without = render.markdown(page("table2", [evaluation(tmp_path / "b", run(), [{}, {}])]))
    assert "True reward" in with_truth
    assert "2.000 [-10.706, 14.706]" in with_truth
    assert "True reward (needs the toy world)" in without
    assert "| True reward" not in without


def test_who_says_what_is_harmful_and_how_well_stands_beside_the_shares(tmp_path):
    measured = {"held_out_accuracy": 0.8, "held_out_accuracy_lo": 0.7, "held_out_accuracy_hi": 0.9, "base_rate": 0.56}
    probe = {"source": "probe", "metrics": measured | {"held_out_responses": 300}}
    prompts = [{"harm": 0.25}, {"harm": 0.75}]
    texts = [
        render.markdown(page("table2", [evaluation(tmp_path / str(i), run(), prompts, harm=harm)]))
        for i, harm in enumerate((probe, {"source": "toy"}, {"source": "hub", "repo": "a/b", "metrics": {}}))
    ]
    assert all("| Harmful answers (share)" in text for text in texts)
    assert "a model of source probe scores above 0; it is right about 0.800 [0.700, 0.900] of 300 held-out" in texts[0]
    assert "of which 0.560 have the more frequent label" in texts[0]
    assert "the toy world's own rules" in texts[1]
    assert "those that a/b scores above 0." in texts[2]
    without = render.markdown(page("table2", [evaluation(tmp_path / "none", run(), [{}, {}])]))
    assert "Harmful answers (needs the toy world, or a model in role harm)" in without
