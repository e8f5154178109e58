"""The human study without a browser: blinding, returned files, scores, and Table 3."""

import copy
import csv
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import simulate_ratings
import user_study
from hypothesis import given
from hypothesis import strategies as st
from judge_files import policy
from synthetic_results import configuration, report

from hps.data.schemas import PAIRS
from hps.runs import Run
from hps.support import cli
from hps.support.errors import InputError
from hps.support.files import read_json, write_json, write_table
from hps.user_study.design import CRITERIA, Key, StudyItem, choose, design, read_key
from hps.user_study.page import render
from hps.user_study.ratings import read_ratings, returned_files, simulate
from hps.user_study.scores import agreement, crossed_interval, score

PAPER = Path(__file__).parents[2] / "paper" / "table3_human.csv"
METHODS = ["sft", "dpo-bt", "dpo-pl", "dpo-hps"]
QUALITY = dict(zip(METHODS, (1.25, 2.5, 3.0, 4.75), strict=True))


def items(prompts: int = 3) -> list[StudyItem]:
    return [
        StudyItem(
            test_set,
            f"p{number}",
            [{"role": "user", "content": f"question {number} of {test_set}"}],
            {method: f"answer of {number} worth {quality}" for method, quality in QUALITY.items()},
        )
        for test_set in ("hh_rlhf", "pku_saferlhf")
        for number in range(prompts)
    ]


def returned(key: Key, rater: str, value=lambda method, criterion: QUALITY[method], simulated=False) -> dict:
    """A complete file of a rater."""
    rows = [
        {"item": item, "response": letter, "scores": {criterion: value(method, criterion) for criterion in CRITERIA}}
        for item, shown in key.raters[rater].items()
        for letter, method in shown["responses"].items()
    ]
    head = {"format": 1, "study": key.study, "rater": rater, "simulated": simulated, "exported": "2026-01-01T00:00:00Z"}
    return head | {"ratings": rows}


@pytest.fixture
def study() -> tuple[Key, dict[str, dict]]:
    return design(items(), METHODS, raters=5, seed=0)


# --- design ----------------------------------------------------------------------------------------------------


def test_pages_are_blind_and_the_key_finds_every_response(study):
    key, pages = study
    of = {(item.test_set, item.prompt_id): item.responses for item in items()}
    for rater, page in pages.items():
        names = json.dumps([page, key.study])
        assert not any(name in names for name in ("sft", "dpo", '"hh_rlhf"', "p0", "p1"))
        for shown in page["items"]:
            known = key.raters[rater][shown["item"]]
            texts = {response["letter"]: response["text"] for response in shown["responses"]}
            assert texts == {
                letter: of[known["test_set"], known["prompt_id"]][method]
                for letter, method in known["responses"].items()
            }
        assert sorted(known["prompt_id"] for known in key.raters[rater].values()) == [
            "p0",
            "p0",
            "p1",
            "p1",
            "p2",
            "p2",
        ]


def test_orders_differ_between_raters_and_items_and_favour_no_method():
    key, _ = design(items(15), METHODS, raters=40, seed=0)
    orders = [tuple(item["prompt_id"] for item in known.values()) for known in key.raters.values()]
    assert len(set(orders)) == 40
    letters = [item["responses"] for known in key.raters.values() for item in known.values()]
    assert len({tuple(shown.values()) for shown in letters}) == math.factorial(4)
    first = [shown["A"] for shown in letters]
    for method in METHODS:  # 1200 draws at 1/4: four standard deviations are 60
        assert abs(first.count(method) - 300) < 60


def test_a_study_is_named_by_what_it_shows(study):
    assert design(items(), METHODS, raters=5, seed=0)[0] == study[0]
    other = items()
    other[0].responses["sft"] += "!"
    names = {study[0].study, design(other, METHODS, 5, 0)[0].study, design(items(), METHODS, 5, 1)[0].study}
    assert len(names) == 3


def test_prompts_are_drawn_without_looking_at_order():
    ids = [f"p{number}" for number in range(50)]
    assert choose(ids, 15, 0, "hh_rlhf") == choose(ids[::-1], 15, 0, "hh_rlhf")
    assert choose(ids, 15, 0, "hh_rlhf") != choose(ids, 15, 0, "pku_saferlhf")
    with pytest.raises(InputError, match=r"user_study\.prompts: 15, but hh_rlhf was evaluated on 3"):
        choose(ids[:3], 15, 0, "hh_rlhf")


@given(st.text(alphabet=st.sampled_from("<>&/!-\"'\u2028\\script@DATA\n"), max_size=60))
def test_no_text_leaves_its_place_in_the_page(text):
    nasty = f"</script>{text}<script>"
    one = StudyItem("hh_rlhf", "p0", [{"role": "user", "content": text}], {"sft": nasty, "dpo-hps": text})
    _, pages = design([one], ["sft", "dpo-hps"], raters=1, seed=0)
    page = render(pages["rater-01"])
    assert page.count("<script") == page.count("</script>") == 2
    data = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    assert {r["text"] for r in json.loads(data)["items"][0]["responses"]} == {nasty, text}


def test_a_page_needs_nothing_from_anywhere(study):
    page = render(study[1]["rater-01"])
    assert not any(word in page for word in ("http:", "https:", "src=", "@import", "url("))
    assert "default-src 'none'" in page


# --- returned files --------------------------------------------------------------------------------------------


def write(folder: Path, name: str, content: dict) -> Path:
    write_json(folder / name, content)
    return folder / name


def test_ratings_are_unblinded(tmp_path, study):
    key, _ = study
    paths = [write(tmp_path, f"{rater}.json", returned(key, rater)) for rater in ("rater-02", "rater-05")]
    ratings = read_ratings(paths, key)
    assert ratings.raters == ("rater-02", "rater-05")
    assert ratings.values.shape == (2, 6, 4, 4)
    for number, method in enumerate(METHODS):
        assert (ratings.values[:, :, number] == QUALITY[method]).all()


BAD = [
    (lambda file: file.pop("rater"), "'rater' is a required property"),
    (lambda file: file.update(extra=1), "'extra' was unexpected"),
    (lambda file: file.update(study="0" * 12), "is of study 000000000000, and the key is of"),
    (lambda file: file.update(rater="rater-99"), "rater 'rater-99' is not in the key"),
    (lambda file: file.update(ratings=[]), "ratings: "),
    (lambda file: file["ratings"].append(file["ratings"][0]), "item-01, response .: rated twice"),
    (lambda file: file["ratings"][0].update(item="item-99"), "item-99, response .: not in the key"),
    (lambda file: file["ratings"][0].update(response="E"), "item-01, response E: not in the key"),
    (lambda file: file["ratings"][0]["scores"].update(safety=5.5), "safety: 5.5 is greater than the maximum of 5"),
    (lambda file: file["ratings"][0]["scores"].update(safety=0), "safety: 0 is less than the minimum of 1"),
    (lambda file: file["ratings"][0]["scores"].update(safety="3"), "'3' is not of type 'number'"),
    (lambda file: file["ratings"][0]["scores"].update(style=3), "'style' was unexpected"),
    (lambda file: file["ratings"][0]["scores"].update(safety=3.333), "safety is 3.333, not in steps of 0.01"),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_a_bad_file_is_named_and_refused(tmp_path, study, change, says):
    key, _ = study
    good, bad = returned(key, "rater-01"), copy.deepcopy(returned(key, "rater-02"))
    change(bad)
    paths = [write(tmp_path, "good.json", good), write(tmp_path, "wrong.json", bad)]
    with pytest.raises(InputError, match=says) as caught:
        read_ratings(paths, key)
    assert str(tmp_path / "wrong.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_bad_files(tmp_path, study):
    key, _ = study
    path = write(tmp_path, "one.json", returned(key, "rater-01"))
    with pytest.raises(InputError, match=r"two\.json: is of rater-01, as one\.json is"):
        read_ratings([path, write(tmp_path, "two.json", returned(key, "rater-01"))], key)
    made_up = write(tmp_path, "three.json", returned(key, "rater-02", simulated=True))
    with pytest.raises(InputError, match=r"three\.json: is of a simulated rater, and other files are not"):
        read_ratings([path, made_up], key)
    text = path.read_text()
    for number in ("NaN", "1e999", "7" * 400, "7" * 5000, "[" * 100_000, '"\\ud800"', '1.25, "safety": 5'):
        path.write_text(text.replace("1.25", number))
        with pytest.raises(InputError, match=r"one\.json: not valid JSON"):
            read_ratings([path], key)
    for content in (b"{", b"\xff", b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"one\.json: not valid JSON"):
            read_ratings([path], key)


def test_the_folder_of_returned_files_holds_nothing_else(tmp_path):
    with pytest.raises(InputError, match=f"^{tmp_path}: holds no returned files"):
        returned_files(tmp_path)
    for name in ("key.json", ".DS_Store"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=f"^{tmp_path}: holds no returned files"):
        returned_files(tmp_path)
    for name in ("b.json", "a.json"):
        (tmp_path / name).write_text("{}")
    assert returned_files(tmp_path) == [tmp_path / "a.json", tmp_path / "b.json"]
    for name in ("RATINGS.JSON", "ratings.json.txt", "ratings", "KEY.JSON"):
        (tmp_path / name).write_text("{}")
        with pytest.raises(InputError, match=f"^{tmp_path}/{name}: is no returned file: those end in .json"):
            returned_files(tmp_path)
        (tmp_path / name).unlink()
    (tmp_path / "c.json").mkdir()
    with pytest.raises(InputError, match=r"c\.json: is no returned file"):
        returned_files(tmp_path)


ITEM = {"test_set": "hh_rlhf", "prompt_id": "p0", "responses": {"A": "sft", "B": "dpo-hps"}}
KEY = {"format": 1, "study": "0" * 12, "methods": ["sft", "dpo-hps"], "raters": {"rater-01": {"item-01": ITEM}}}


def rated(**changes) -> dict:
    return {"raters": {"rater-01": {"item-01": ITEM | changes}}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, ""),
        ({"format": 2}, "format: 1 was expected"),
        ({"methods": "sft"}, "methods: 'sft' is not of type 'array'"),
        ({"methods": ["sft", 3]}, "methods.1: 3 is not of type 'string'"),
        ({"methods": ["sft", "dpo-bt"]}, "raters.rater-01.item-01.responses: not one of each of the methods"),
        ({"study": None}, "study: None is not of type 'string'"),
        ({"raters": []}, "raters: [] is not of type 'object'"),
        ({"raters": {}}, "raters: {} should be non-empty"),
        ({"raters": {"../x": {"item-01": ITEM}}}, "raters: '../x' does not match"),
        ({"raters": {"rater-01": None}}, "raters.rater-01: None is not of type 'object'"),
        ({"raters": {"rater-01": {"item-01": {}}}}, "raters.rater-01.item-01: 'test_set' is a required property"),
        (rated(prompt_id=0), "raters.rater-01.item-01.prompt_id: 0 is not of type 'string'"),
        (rated(responses={"A": "sft"}), "raters.rater-01.item-01.responses: not one of each of the methods"),
        (rated(responses=["sft"]), "raters.rater-01.item-01.responses: ['sft'] is not of type 'object'"),
    ],
)
def test_a_key_with_parts_missing_or_wrong_is_named(tmp_path, change, says):
    path = write(tmp_path, "key.json", KEY | change)
    if not says:
        assert read_key(path).as_json() == KEY
        return
    with pytest.raises(InputError) as caught:
        read_key(path)
    assert str(caught.value).startswith(f"{path}: is no key of a user study ({says}")
    for name in KEY:
        with pytest.raises(InputError, match=f"'{name}' is a required property"):
            read_key(write(tmp_path, "key.json", {key: value for key, value in KEY.items() if key != name}))


@given(st.integers(100, 500))
def test_every_score_of_two_decimals_is_taken(tmp_path_factory, hundredths):
    key, _ = design(items(1), METHODS, raters=1, seed=0)
    path = tmp_path_factory.mktemp("r") / "r.json"
    write_json(path, returned(key, "rater-01", lambda method, criterion: hundredths / 100))
    assert (read_ratings([path], key).values == hundredths / 100).all()


def test_simulated_raters_say_so_and_follow_the_true_reward(tmp_path, study):
    key, _ = study
    rewards = dict(zip(METHODS, (-4.0, -1.0, 1.0, 4.0), strict=True))
    true = {(i.test_set, i.prompt_id, m): reward for i in items() for m, reward in rewards.items()}
    files = simulate(key, true, seed=0)
    paths = [write(tmp_path, f"{rater}.json", content) for rater, content in files.items()]
    ratings = read_ratings(paths, key)
    assert ratings.simulated
    found = [score(ratings, resamples=200, seed=0).estimates[method]["quality"].mean for method in METHODS]
    assert found == sorted(found)
    assert simulate(key, true, seed=0) == files


# --- scores ----------------------------------------------------------------------------------------------------


def test_scores_by_hand(tmp_path, study):
    key, _ = study

    def strict(method: str, criterion: str) -> float:
        return QUALITY[method] - (0.25 if criterion == "safety" else 0.0)

    paths = [
        write(tmp_path, "1.json", returned(key, "rater-01")),
        write(tmp_path, "2.json", returned(key, "rater-02", strict)),
    ]
    found = score(read_ratings(paths, key), resamples=200, seed=0)
    bt = found.estimates["dpo-bt"]
    assert (bt["quality"].mean, bt["safety"].mean, bt["clarity"].mean) == (2.5 - 0.25 / 8, 2.5 - 0.125, 2.5)
    assert (bt["quality"].lo, bt["quality"].hi, bt["quality"].prompts) == (2.5 - 0.25 / 4, 2.5, 6)
    assert (bt["difference"].mean, bt["difference"].lo, bt["difference"].hi) == (2.25, 2.25, 2.25)
    assert "difference" not in found.estimates["dpo-hps"]
    assert found.alpha["clarity"] == 1.0
    assert 0.9 < found.alpha["safety"] < 1.0


def test_a_response_without_all_criteria_has_no_quality(tmp_path, study):
    key, _ = study
    file = returned(key, "rater-01")
    del file["ratings"][0]["scores"]["clarity"]
    del file["ratings"][1]
    ratings = read_ratings([write(tmp_path, "1.json", file)], key)
    assert np.isnan(ratings.values).sum() == 5
    found = score(ratings, resamples=200, seed=0)
    assert sum(found.estimates[method]["quality"].prompts for method in METHODS) == 6 * 4 - 2


def test_intervals_are_over_raters_and_prompts():
    rng = np.random.default_rng(0)
    prompts_differ = np.tile(rng.normal(size=(1, 40)), (8, 1))
    raters_differ = np.tile(rng.normal(size=(8, 1)), (1, 40))
    for values, single, size in (
        (prompts_differ, prompts_differ[:1], 40),
        (raters_differ, raters_differ[:, :1], 8),
    ):
        whole = crossed_interval(values, resamples=2000, seed=0)
        alone = crossed_interval(single, resamples=2000, seed=1)
        assert whole.mean == pytest.approx(values.mean())
        assert whole.hi - whole.lo == pytest.approx(alone.hi - alone.lo, rel=0.15)
        expected = 2 * 1.96 * single.std() / math.sqrt(size)
        assert whole.hi - whole.lo == pytest.approx(expected, rel=0.2)
    missing = np.where(rng.random((8, 40)) < 0.3, np.nan, prompts_differ)
    assert crossed_interval(missing, resamples=200, seed=0).mean == pytest.approx(prompts_differ[0].mean())
    assert math.isnan(crossed_interval(np.full((2, 3), np.nan), resamples=200, seed=0).mean)
    one = crossed_interval(np.array([[3.0]]), resamples=200, seed=0)
    assert (one.mean, one.prompts, math.isnan(one.lo)) == (3.0, 1, True)


def test_agreement_is_krippendorffs_alpha():
    """The published example of the package, as one method on fifteen prompts."""
    nan = math.nan
    values = [
        [nan, nan, nan, nan, nan, 3, 4, 1, 2, 1, 1, 3, 3, nan, 3],
        [1, nan, 2, 1, 3, 3, 4, 3, nan, nan, nan, nan, nan, nan, nan],
        [nan, nan, 2, 1, 3, 4, 4, nan, 2, 1, 1, 3, 3, nan, 4],
    ]
    assert agreement(np.array(values)[:, :, None]) == pytest.approx(0.810845, abs=1e-6)
    assert math.isnan(agreement(np.array([[1.0, 2.0]])[:, :, None]))  # a single rater
    assert math.isnan(agreement(np.full((2, 3, 1), 4.0)))  # no variation


# --- the commands ----------------------------------------------------------------------------------------------


def run(monkeypatch, command, words) -> None:
    monkeypatch.setattr(sys, "argv", ["x", *map(str, words)])
    cli.run(command.main, command.Arguments)


def evaluations(folder: Path, prompts: int = 4) -> list[Path]:
    """Made-up evaluations of all methods on both data sets; the true reward of an answer is its length."""
    paths = []
    for test_set, (number, method) in itertools.product(("hh_rlhf", "pku_saferlhf"), enumerate(METHODS)):
        parameterization, _, loss = method.partition("-")
        of = Run(test_set, parameterization, loss, n=8, beta=0.1, seed=0).record() if loss else None
        texts = [["x" * (number + 1)] for _ in range(prompts)]
        paths.append(policy(folder / test_set / method, of, texts, test_set))
    for test_set in ("hh_rlhf", "pku_saferlhf"):
        pairs = [
            {"prompt_id": f"p{i}", "messages": [{"role": "user", "content": "q"}], "chosen": "a", "rejected": "b"}
            for i in range(prompts)
        ]
        write_table(folder / test_set / "test.parquet", pairs, PAIRS)
    return paths


def test_the_commands(tmp_path, monkeypatch):
    found = evaluations(tmp_path)
    words = ["--test-sets", "hh_rlhf", "pku_saferlhf", "--methods", *METHODS, "--evaluations", *found]
    words += ["--pairs", *(tmp_path / name / "test.parquet" for name in ("hh_rlhf", "pku_saferlhf"))]
    words += ["--prompts", 3, "--raters", 2, "--out", tmp_path / "study"]
    run(monkeypatch, user_study, words)
    assert sorted(path.name for path in (tmp_path / "study/pages").iterdir()) == ["rater-01.html", "rater-02.html"]
    key = tmp_path / "study/key.json"
    assert read_json(key)["provenance"]["inputs"]
    with pytest.raises(SystemExit, match="is sft on hh_rlhf, not dpo-hps on hh_rlhf"):
        run(monkeypatch, user_study, [*words, "--methods", *METHODS[::-1]])

    table = ["table", "--name", "table3", "--config", configuration(tmp_path, world="toy"), "--key", key]
    table += ["--paper", PAPER.parent, "--out", tmp_path]
    report(*table)
    text = (tmp_path / "table3.csv").read_text()
    assert text.startswith(PAPER.read_text(encoding="utf-8").splitlines()[0] + ",")
    assert [row["quality_score"] for row in csv.DictReader(text.splitlines())] == [""] * 4
    assert "No ratings have been returned" in (tmp_path / "table3.md").read_text()
    assert "| DPO-HPS | – | 3.93 |" in (tmp_path / "table3.md").read_text()

    run(monkeypatch, simulate_ratings, ["--key", key, "--evaluations", *found, "--out", tmp_path / "simulated"])
    files = sorted((tmp_path / "simulated").iterdir())
    report(*table, "--ratings", *files)
    text = (tmp_path / "table3.md").read_text()
    assert "SIMULATED" in text
    assert "toy world" in text
    assert "2 raters, 6 prompts, 4 methods, 4 criteria from 1.00 to 5.00 (App. D.2): 192 of 192 ratings" in text
    rows = list(csv.DictReader((tmp_path / "table3.csv").read_text().splitlines()))
    assert {row["simulated"] for row in rows} == {"yes"}
    assert all(1 <= float(row["quality_score"]) <= 5 for row in rows)
