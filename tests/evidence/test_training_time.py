"""The training-time table: numbers by hand, order, notes, and what is refused."""

import csv
import math
from pathlib import Path

import pytest
from synthetic_results import benchmark, configuration, report, run, training

from hps.evidence import render
from hps.evidence.results import read_benchmark_seconds, read_training
from hps.evidence.training_time import measure, read_paper_hours, read_times, to_csv, to_page
from hps.support.errors import InputError

PAPER = Path(__file__).parents[2] / "paper" / "training_hours.csv"


def trainings(folder: Path) -> list[Path]:
    """Two runs of BT and one each of PL and HPS."""
    made = [("bt", "hh_rlhf", 1.0), ("hps", "hh_rlhf", 2.0), ("pl", "hh_rlhf", 9.0), ("bt", "pku_saferlhf", 3.0)]
    return [training(folder / f"{loss}_{data}", run(f"dpo-{loss}", data), step) for loss, data, step in made]


def test_numbers_by_hand(tmp_path):
    read = [read_training(folder) for folder in trainings(tmp_path)]
    pl, bt, hps = measure(read, [3600.0, 7200.0, 36000.0, 10800.0], ["pl", "bt", "hps"])
    assert (bt.loss, bt.runs, bt.hours_mean, bt.hours_std) == ("bt", 2, 2.0, pytest.approx(math.sqrt(2)))
    assert (bt.step_seconds_mean, bt.step_seconds_std, bt.ratio_to_bt) == (2.0, pytest.approx(math.sqrt(2)), 1.0)
    assert bt.tokens_per_second == 100  # 2000 tokens in 20 seconds
    assert (pl.hours_mean, pl.ratio_to_bt, hps.ratio_to_bt) == (10.0, 9.0, 2.0)  # to BT on the same data set
    assert math.isnan(pl.hours_std)


def test_a_loss_with_more_seeds_than_bt_is_related_to_it_on_those_of_both(tmp_path):
    made = [("bt", 0, 1.0), ("hps", 0, 2.0), ("hps", 1, 9.0)]
    read = [
        read_training(training(tmp_path / f"{loss}{s}", run(f"dpo-{loss}", seed=s), step)) for loss, s, step in made
    ]
    _, hps = measure(read, [1.0] * 3, ["bt", "hps"])
    assert (hps.runs, hps.step_seconds_mean, hps.ratio_to_bt) == (2, 5.5, 2.0)


def test_order_is_the_papers_then_by_name(tmp_path):
    read = [read_training(training(tmp_path / loss, run(f"dpo-{loss}"))) for loss in ("slic", "hps", "lipo", "pl")]
    times = measure(read, [1.0] * 4, ["pl", "bt", "hps"])
    assert [time.loss for time in times] == ["pl", "hps", "lipo", "slic"]
    assert all(math.isnan(time.ratio_to_bt) for time in times)


def test_csv_starts_as_the_papers_and_reads_back(tmp_path):
    read = [read_training(folder) for folder in trainings(tmp_path)]
    text = to_csv(measure(read, [1.0] * 4, ["pl", "bt", "hps"]))
    assert text.startswith(PAPER.read_text(encoding="utf-8").splitlines()[0] + ",runs,n,responses,step_seconds_mean,")
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert to_csv(read_times(tmp_path / "t.csv")) == text
    assert [row["hours_std"] for row in csv.DictReader(text.splitlines())] == ["", "0", ""]


def test_page_has_the_papers_ratio_beside_ours(tmp_path):
    read = [read_training(folder) for folder in trainings(tmp_path)]
    page = to_page(measure(read, [36.0] * 4, ["pl", "bt", "hps"]), read, read_paper_hours(PAPER))
    pl, bt, _ = page.tables[0].rows
    assert [cell.text for cell in pl[:5]] == ["PL", "0.0100", "168.4", "9.00", "2.68"]
    assert bt[2] == render.Cell("62.8", "± 1.1")
    assert "comparable; the ratios are" in page.notes[-1]  # only BT was trained on both data sets
    same = [training for training in read if training.run.dataset == "hh_rlhf"]
    assert len(to_page(measure(same, [1.0] * 3, []), same, {}).notes) == 2


def test_seconds_of_a_benchmark_file(tmp_path):
    assert read_benchmark_seconds(benchmark(tmp_path / "b.tsv", 12.5)) == 12.5
    for text, message in (
        ("s\th:m:s\n", "has no row"),
        ("s\nNA\n", "s is 'NA', not a number"),
        ("x\n1\n", "no column s"),
    ):
        (tmp_path / "bad.tsv").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            read_benchmark_seconds(tmp_path / "bad.tsv")
    with pytest.raises(InputError, match=r"gone\.tsv: missing"):
        read_benchmark_seconds(tmp_path / "gone.tsv")


def test_a_broken_training_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone/training\.json: missing"):
        read_training(tmp_path / "gone")
    with pytest.raises(InputError, match="step_seconds is 0, not a number above 0"):
        read_training(training(tmp_path / "zero", run(), 0))


def test_the_command(tmp_path):
    folders = trainings(tmp_path)
    benchmarks = [benchmark(tmp_path / f"b{i}.tsv", 36.0) for i, _ in enumerate(folders)]
    words = ["table", "--name", "training_time", "--config", configuration(tmp_path), "--paper", PAPER.parent]
    words += ["--out", tmp_path, "--trainings", *folders, "--benchmarks"]
    report(*words, *benchmarks)
    made = (tmp_path / "training_time.md").read_text(encoding="utf-8")
    assert "| BT | 0.0100 ± 0.0000 | 62.8 ± 1.1 | 1.00 | 1.00 |" in made
    with pytest.raises(SystemExit, match="3 files for 4 trainings"):
        report(*words, *benchmarks[1:])


def test_a_loss_that_saw_fewer_responses_says_so(tmp_path):
    read = [read_training(training(tmp_path / loss, run(f"dpo-{loss}"), responses=k)) for loss, k in SEEN.items()]
    times = measure(read, [36.0] * 2, ["pl", "bt"])
    page = to_page(times, read, read_paper_hours(PAPER))
    assert [row[0] for row in page.tables[0].rows] == [render.Cell("PL", "5 of 100 responses"), render.Cell("BT")]
    assert "PL used fewer responses than n" in page.notes[-1]
    other = read_training(training(tmp_path / "other", run("exo-pl"), responses=100))
    with pytest.raises(InputError, match=r"pl with several \(n, responses\)"):
        measure([*read, other], [36.0] * 3, [])


SEEN = {"pl": 5, "bt": 100}
