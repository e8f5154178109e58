"""The benchmarks' arithmetic, and one run of the script on a model the size of a thumbnail, without TRL."""

import gzip
import json

import pytest
from conftest import ROOT, called, python_environment
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import inputs, machine, measure, ours, reading, report
from benchmarks.measure import Summary
from benchmarks.rows import Row
from hps.models.sources import load_tokenizer


def test_ratios_are_taken_within_a_repeat():
    """A machine twice as slow in the second repeat changes nothing."""
    assert measure.ratios([4.0, 8.0, 4.4], [1.0, 2.0, 1.0]) == Summary(4.0, 4.0, 4.4)


@given(st.floats(1e-3, 1e3), st.floats(-3, 3))
def test_a_power_law_is_found(factor, exponent):
    x = [5, 20, 50, 100]
    found = measure.power_law(x, [factor * value**exponent for value in x])
    assert found == pytest.approx((factor, exponent), rel=1e-6, abs=1e-9)


def test_a_power_law_needs_two_points():
    with pytest.raises(ValueError, match="two different x"):
        measure.power_law([3, 3], [1, 2])


def test_cases_take_turns_in_changing_order_and_warm_ups_do_not_count():
    calls: list[tuple[str, int]] = []
    cases = {name: lambda repeat, name=name: calls.append((name, repeat)) or 7.0 for name in "ab"}
    assert measure.interleaved(cases, repeats=2) == {"a": [7.0, 7.0], "b": [7.0, 7.0]}
    assert calls == [("b", -1), ("a", -1), ("a", 0), ("b", 0), ("b", 1), ("a", 1)]


@pytest.mark.parametrize(
    ("name", "cores", "expected"),
    [
        ("AMD EPYC 9654 96-Core Processor", 2, "amd-epyc-9654-2-cores"),
        ("Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz", 1, "intel-xeon-platinum-8480-1-core"),
        ("NVIDIA H100 80GB HBM3", None, "nvidia-h100-80gb-hbm3"),
    ],
)
def test_a_machine_is_named_by_its_processor(name, cores, expected):
    assert machine.slug(name, cores) == expected


def test_the_processor_is_read_from_cpuinfo():
    assert machine.cpu_model("processor\t: 0\nmodel name\t: AMD EPYC 9654\nflags\t: x\n") == "AMD EPYC 9654"


@pytest.mark.parametrize(
    ("median", "target", "at_least", "verdict"),
    [(4.2, 4.0, True, "met"), (3.9, 4.0, True, "short"), (1.01, 1.02, False, "met"), (1.1, None, True, "")],
)
def test_a_verdict_goes_by_the_median(median, target, at_least, verdict):
    assert Row("name", "what", Summary(median, 0.0, 9.0), target, at_least).verdict == verdict


def test_random_pairs_have_the_lengths_of_the_data():
    pairs = inputs.synthetic("hh_rlhf", 400, 1000)
    lengths = sorted(len(pair.prompt) for pair in pairs)
    assert lengths[200] == pytest.approx(122, rel=0.15)  # the median
    assert max(pair.longest for pair in pairs) <= inputs.LONGEST
    assert inputs.synthetic("hh_rlhf", 400, 1000) == pairs


def test_real_pairs_come_from_the_published_file(tmp_path, monkeypatch):
    model = ours.model_folder("thumbnail", tmp_path / "model")
    path = tmp_path / inputs.FILES["hh_rlhf"][0]
    path.parent.mkdir(parents=True)
    replies = {"chosen": "yes", "rejected": "no"}
    rows = [
        {which: f"\n\nHuman: {'why ' * i}?\n\nAssistant: {reply}" for which, reply in replies.items()}
        for i in range(1, 9)
    ]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    monkeypatch.setenv("HPS_DATA_DIR", str(tmp_path))
    tokenizer = load_tokenizer(model)
    pairs, source = inputs.pairs("hh_rlhf", tokenizer, 5)
    assert source == "real (hh-rlhf/harmless-base/test.jsonl.gz)"
    assert len({len(pair.prompt) for pair in pairs}) == 5
    assert tokenizer.decode(pairs[0].chosen).startswith("yes")
    with pytest.raises(ValueError, match="has 8 pairs where 9 are wanted"):
        inputs.pairs("hh_rlhf", tokenizer, 9)


def test_candidates_begin_with_the_pairs_own_and_repeat_when_they_run_out():
    pairs = [inputs.Pair([1], [i], [i, i]) for i in range(3)]
    assert inputs.candidates(pairs[1], pairs, 8) == [[1], [1, 1], [0], [0, 0], [2], [2, 2], [0], [0, 0]]


def test_rows_measured_again_replace_their_own_and_leave_others(tmp_path):
    path = tmp_path / "machine.json"
    first = {"machine": {"name": "m"}, "rows": [{"name": "a", "ratio": 1}, {"name": "b", "ratio": 2}]}
    path.write_text(json.dumps(first))
    merged = report.merged(path, {"machine": {"name": "m"}, "rows": [{"name": "b", "ratio": 3}]})
    assert merged["rows"] == [{"name": "a", "ratio": 1}, {"name": "b", "ratio": 3}]


ENVIRONMENT = python_environment(PYTHONPATH=f"{ROOT}:{ROOT / 'workflow_scripts'}", HPS_DATA_DIR="")


def bench(out, *words: str) -> dict:
    words = ("--model", "thumbnail", "--repeats", "1", "--threads", "1", "--out", out, *words)
    done = called("-m", "benchmarks.bench", *words, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = out.glob("*.json")
    assert path.with_suffix(".md").is_file()
    return json.loads(path.read_text())


def test_the_script_measures_and_writes(tmp_path):
    results = bench(tmp_path, "--only", "limit", "hps")
    rows = {row["name"]: row for row in results["rows"]}
    assert rows.keys() == {"distance_to_limit", "hps_over_bt"}
    assert rows["distance_to_limit"]["target"] == {"at_least": 0.85}
    assert rows["hps_over_bt"]["target"] == {"at_most": 1.02}
    assert all(row["ratio"]["min"] <= row["ratio"]["median"] <= row["ratio"]["max"] for row in rows.values())
    assert rows["distance_to_limit"]["pairs"].startswith("synthetic")


def test_a_gpus_measurements_run_on_any_device(tmp_path):
    results = bench(tmp_path, "--suite", "gpu")
    names = {f"{loss}_{dataset}" for loss in ("bt", "hps", "pl") for dataset in ("hh_rlhf", "pku_saferlhf")}
    assert {entry["name"] for entry in results["speeds"]} == names
    assert {entry["work"] for entry in results["throughput"]} == {
        "train",
        "train_group",
        "score",
        "annotate",
        "generate",
    }
    assert all(entry["flops_per_second"] > 0 for entry in results["throughput"])


def test_an_unknown_part_is_one_line(tmp_path):
    done = called("-m", "benchmarks.bench", "--only", "limits", "--out", tmp_path, env=ENVIRONMENT)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("growth, throughput, reading, warm, run")
    assert "Traceback" not in done.stderr


def test_reading_is_measured_process_by_process():
    measured = reading.reading(sizes=(2, 4), responses=3)
    assert [entry["responses"] for entry in measured] == [[6, 12], [6, 12]]
    assert all(min(entry["seconds"] + entry["peak"] + entry["own"]) > 0 for entry in measured)
    assert measured[1]["at_paper"]["peak"] == measured[1]["peak"][1] * reading.PAPER / 12
    rows = [cell.text for entry in measured for row in report.reading_cells(entry) for cell in row[1:2]]
    assert rows == ["6", "12", "16,000,000"] * 2
