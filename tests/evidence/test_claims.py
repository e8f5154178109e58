"""Claims: what our results say to them, their vocabulary, and the command."""

import csv
import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml
from claim_evidence import CLAIMS, CONFIG, PAPER, SCHEMA, SETTINGS, TEST, Numbers, claim, spread, verdict
from synthetic_results import configuration, evaluation, report, run, training

from hps.evidence.claims.evidence import CsvTables, OurResults
from hps.evidence.claims.page import to_page
from hps.evidence.claims.verdicts import Level, evaluate, judge, judge_as_printed
from hps.evidence.claims.vocabulary import Claim, comparisons, read_claims
from hps.evidence.results import read_evaluation, read_training
from hps.support.errors import InputError

# --- evidence


def folders(tmp_path, margins: dict, test_set="hh_rlhf", **of) -> list:
    made = []
    for method, values in margins.items():
        prompts = [{"margin_human": float(value)} for value in values]
        name = f"{method}-{test_set}-{'-'.join(map(str, of.values()))}"
        made.append(evaluation(tmp_path / name, run(method, **of) if method != "sft" else None, prompts, test_set))
    return made


def results_of(paths, trainings=(), tables=None) -> OurResults:
    others = CsvTables.read(tables or {})
    return OurResults.of(map(read_evaluation, paths), [read_training(folder) for folder in trainings], SETTINGS, others)


def test_our_evaluations_decide_a_claim_of_table_2(tmp_path):
    base = spread(0, 1, seed=9)
    paths = folders(tmp_path, {"sft": base})
    for seed in range(3):
        margins = {"dpo-hps": 20 + base + spread(0, 1, seed=seed), "dpo-bt": base + spread(0, 1, seed=seed + 9)}
        paths += folders(tmp_path, margins, seed=seed)
    of = Claim("it", "", "", "table2", "greater",
               {"metric": "rm_dpo", "first": {"evaluated_on": "hh_rlhf", "method": "dpo-hps"},
                "second": {"evaluated_on": "hh_rlhf", "method": "dpo-bt"}})  # fmt: skip
    (result,) = judge([evaluate(of, results_of(paths), TEST)], TEST)
    assert (result.verdict, result.seeds) == ("supported", 3)
    assert result.decisive.mean == pytest.approx(20.0)
    assert result.decisive.units == 30
    (one_seed,) = judge([evaluate(of, results_of(paths[:3]), TEST)], TEST)
    assert (one_seed.verdict, one_seed.of_policies, one_seed.seeds) == ("open", "supported", 1)


def test_each_run_stands_in_its_tables(tmp_path):
    ones = np.ones(3)
    paths = folders(tmp_path, {"dpo-hps": ones}) + folders(tmp_path, {"dpo-hps": ones}, n=5)
    paths += folders(tmp_path, {"dpo-hps": ones}, "pku_saferlhf", n=20)
    paths += folders(tmp_path, {"dpo-hps": ones}, beta=0.5)
    paths += folders(tmp_path, {"dpo-hps": ones}, "hh_rlhf", dataset="pku_saferlhf")
    ours = results_of(paths)
    assert {table: sorted(rows) for table, rows in ours.grid.items()} == {
        "table2": [("hh_rlhf", "dpo-hps")],
        "table5": [("hh_rlhf", "dpo-hps")],
        "table6": [(5.0, "dpo-hps"), (100.0, "dpo-hps")],
        "table7": [(20.0, "dpo-hps")],
        "table8": [(0.1, "dpo-hps"), (0.5, "dpo-hps")],
    }
    assert ours.values("table6", "n") == [5.0, 100.0]


def test_methods_are_compared_on_the_seeds_that_their_table_has_of_both(tmp_path):
    """BT has the grid's seeds 0 and 1, HPS has 0 to 2, and the ablations, which share their runs, 0 and 2."""
    paths = []
    for seed, ours, bt in ((0, 3.0, 1.0), (1, 5.0, 2.0), (2, 90.0, 60.0)):
        margins = {"dpo-hps": ours + spread(0, 1), "dpo-bt": bt + spread(0, 1)}
        paths += folders(tmp_path, margins, seed=seed)
    settings = replace(
        SETTINGS, config=CONFIG | {"seeds": [0, 1], "seeds_of": {"dpo-hps": [0, 1, 2], "ablations": [0, 2]}}
    )
    ours = OurResults.of(map(read_evaluation, paths), [], settings, CsvTables.read({}))
    effects = {}
    for table, place in (("table2", {"evaluated_on": "hh_rlhf"}), ("table6", {"n": 100})):
        both = {"first": place | {"method": "dpo-hps"}, "second": place | {"method": "dpo-bt"}}
        of = Claim("it", "", "", table, "greater", {"metric": "rm_dpo", **both})
        (result,) = judge([evaluate(of, ours, TEST)], TEST)
        (effects[table],) = result.effects
    assert (effects["table2"].mean, effects["table2"].seeds) == (pytest.approx(2.5), 2)
    assert (effects["table6"].mean, effects["table6"].seeds) == (pytest.approx(16.0), 2)


def test_methods_without_a_common_seed_are_not_compared(tmp_path):
    paths = folders(tmp_path, {"dpo-hps": spread(9, 1)}, seed=1) + folders(tmp_path, {"dpo-bt": spread(0, 1)}, seed=0)
    both = {
        side: {"evaluated_on": "hh_rlhf", "method": name} for side, name in (("first", "dpo-hps"), ("second", "dpo-bt"))
    }
    of = Claim("it", "", "", "table2", "greater", {"metric": "rm_dpo", **both})
    (result,) = judge([evaluate(of, results_of(paths), TEST)], TEST)
    assert (result.verdict, result.missing, result.effects) == ("open", 1, ())


def test_the_same_row_and_seed_twice_is_refused(tmp_path):
    paths = folders(tmp_path / "a", {"dpo-hps": np.ones(2)}) + folders(tmp_path / "b", {"dpo-hps": np.ones(2)})
    with pytest.raises(InputError, match="the same row and seed as"):
        results_of(paths)


def test_training_times_are_paired_by_run(tmp_path):
    seconds = {"bt": 1.0, "hps": 1.02, "pl": 3.0}
    runs = [
        training(tmp_path / f"{reward}{dataset}{loss}", run(f"{reward}-{loss}", dataset), step_seconds=value * speed)
        for (reward, speed), dataset in itertools.product(
            (("dpo", 1.0), ("exo", 2.0), ("ipo", 1.5), ("sppo", 1.2), ("nca", 1.1)), ("hh_rlhf", "pku_saferlhf")
        )
        for loss, value in seconds.items()
    ]
    runs.append(training(tmp_path / "other_n", run("dpo-hps", n=5), step_seconds=99.0))  # not of the grid
    ours = results_of([], runs)
    chosen = [c for c in read_claims(CLAIMS, SCHEMA) if c.table == "training_time"]
    verdicts = {r.claim.id: r for r in judge([evaluate(c, ours, Level()) for c in chosen], Level())}
    assert verdicts["time_near_bt"].verdict == "supported"
    assert verdicts["time_near_bt"].decisive.mean == pytest.approx(1.02)
    assert verdicts["time_near_bt"].decisive.units == 10
    assert verdicts["pl_slower_than_bt"].verdict == "supported"
    assert verdicts["time_saved_against_pl"].verdict == "supported"


def test_a_loss_that_saw_fewer_responses_is_not_compared(tmp_path):
    base = spread(0, 0.1, seed=9)
    margins = {"dpo-hps": 20 + base, "dpo-bt": base, "dpo-pl": base}
    paths = [path for seed in (0, 1, 2) for path in folders(tmp_path, margins, seed=seed)]
    claims = {c.id: c for c in read_claims(CLAIMS, SCHEMA)}
    of = replace(claims["rm_dpo_over_pl"], each={"data": ["hh_rlhf"], "reward": ["dpo"]})

    def found(claim: Claim, pl_responses: int):
        trainings = [
            training(tmp_path / f"{pl_responses}-{loss}-{seed}", run(f"dpo-{loss}", seed=seed), responses=responses)
            for loss, responses in (("bt", 100), ("pl", pl_responses))
            for seed in range(3)
        ]
        tables = {"table4": write_table4(tmp_path / f"{pl_responses}.csv", 60, 10, 5)}
        (result,) = judge([evaluate(claim, results_of(paths, trainings, tables), TEST)], TEST)
        return result

    assert found(of, 100).verdict == "supported"
    fewer = found(of, 10)
    assert (fewer.verdict, fewer.reason, fewer.missing) == ("open", "PL used 10 of 100 responses", 1)
    of_bt = replace(of, details=claims["rm_dpo_over_bt"].details)
    assert found(of_bt, 11).verdict == "supported"
    assert found(claims["pl_slower_than_bt"], 12).reason == "PL used 12 of 100 responses"
    theorem = comparisons(claims["theorem1_pl_in_responses"], lambda column: [])
    assert not results_of([], [training(tmp_path / "pl", run("dpo-pl"), responses=9)]).why_unequal(theorem[0].terms[0])
    judged = found(claims["judge_win_rate"], 13)
    assert (judged.verdict, judged.missing) == ("open", 2)
    assert "PL used 13 of 100 responses" in judged.reason


def write_table4(path, win, lose, half, seeds="0 1 2") -> str:
    columns = ["evaluated_on", "opponent", *(f"{name}{end}" for name in ("win", "lose") for end in ("", "_lo", "_hi"))]
    columns += ["prompts", "seeds"]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for data, other in itertools.product(("hh_rlhf", "pku_saferlhf"), ("sft", "dpo-bt", "dpo-pl")):
            values = (
                (win, win - half, win + half, lose, lose - half, lose + half) if half else (win, "", "", lose, "", "")
            )
            writer.writerow([data, other, *values, 200, seeds])
    return str(path)


@pytest.mark.parametrize(
    ("win", "lose", "half", "found"),
    [(60, 10, 1, "supported"), (10, 60, 1, "contradicted"), (40, 35, 20, "open"), (60, 10, 0, "open")],
)
def test_tables_with_intervals_decide_and_without_do_not(tmp_path, win, lose, half, found):
    (of,) = [c for c in read_claims(CLAIMS, SCHEMA) if c.id == "judge_win_rate"]
    ours = results_of([], tables={"table4": write_table4(tmp_path / "table4.csv", win, lose, half)})
    assert verdict(of, ours) == found


def test_a_table_of_one_seed_speaks_of_its_policies(tmp_path):
    (of,) = [c for c in read_claims(CLAIMS, SCHEMA) if c.id == "judge_win_rate"]
    ours = results_of([], tables={"table4": write_table4(tmp_path / "table4.csv", 60, 10, 5, seeds="0")})
    (result,) = judge([evaluate(of, ours, TEST)], TEST)
    assert (result.verdict, result.of_policies) == ("open", "supported")


def write_table(path, rows: list[dict]) -> str:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def table3(path, simulated="no", prompts=30, difference=True) -> str:
    score = {"sft": 3.0, "dpo-bt": 3.4, "dpo-pl": 3.3, "dpo-hps": 3.8}
    rows = []
    for method, mean in score.items():
        row = {"method": method, "quality_score": mean, "quality_score_lo": mean - 0.5, "quality_score_hi": mean + 0.5}
        row |= {"prompts": prompts, "simulated": simulated}
        gap = 3.8 - mean
        if difference:
            known = {"difference": gap, "difference_lo": gap - 0.1, "difference_hi": gap + 0.1}
            row |= known if gap else dict.fromkeys(known, "")
        rows.append(row)
    return write_table(path, rows)


def human(path):
    (of,) = [c for c in read_claims(CLAIMS, SCHEMA) if c.id == "human_quality"]
    (result,) = judge([evaluate(of, results_of([], tables={"table3": path}), TEST)], TEST)
    return result


def test_a_paired_difference_decides_where_two_intervals_do_not(tmp_path):
    # Raters see one trained policy of each method.
    assert human(table3(tmp_path / "table3.csv")).of_policies == "supported"
    assert human(table3(tmp_path / "apart.csv", difference=False)).of_policies == "open"


def test_simulated_raters_and_few_prompts_never_decide(tmp_path):
    simulated = human(table3(tmp_path / "simulated.csv", simulated="yes"))
    assert (simulated.verdict, simulated.reason) == ("open", "the ratings are simulated")
    assert human(table3(tmp_path / "few.csv", prompts=4)).of_policies == "open"


# --- vocabulary


def test_each_and_average_are_expanded():
    of = claim(first="$reward-a", second="$reward-$loss", each={"loss": ["b", "c"]})
    of = replace(of, average={"reward": ["x", "y"]})
    found = comparisons(of, lambda column: [])
    assert [comparison.label for comparison in found] == ["b, mean over reward", "c, mean over reward"]
    assert [[o.cell["method"] for o in term] for term in found[1].terms] == [["x-a", "x-c"], ["y-a", "y-c"]]


WRONG = {
    "an unknown kind": ({"kind": "bigger"}, "claim it: "),
    "an unknown key": ({"threshold": 1}, "claim it: "),
    "no operand": ({"second": None}, "claim it: "),
    "no such name": ({"first": {"method": "$reward-hps"}}, r"'\$reward-hps' names something that is not given"),
    "no metric": ({"metric": None}, "claim it: no metric"),
    "code": ({"margin": "__import__('os')"}, "claim it: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_claim_that_is_wrong_is_named(tmp_path, case):
    changes, message = WRONG[case]
    good = {"id": "it", "group": "margin", "section": "s", "says": "x", "table": "table2", "kind": "greater"}
    good |= {"metric": "bleu", "first": {"method": "a"}, "second": {"method": "b"}}
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [good]}))
    assert read_claims(path, SCHEMA)[0].id == "it"
    wrong = {key: value for key, value in (good | changes).items() if value is not None}
    path.write_text(yaml.safe_dump({"claims": [wrong]}))
    with pytest.raises(InputError, match=message) as error:
        read_claims(path, SCHEMA)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_claim_twice_is_refused(tmp_path):
    path = tmp_path / "claims.yaml"
    given_twice = yaml.safe_load(CLAIMS.read_text())["claims"][:1] * 2
    path.write_text(yaml.safe_dump({"claims": given_twice}))
    with pytest.raises(InputError, match="stands twice"):
        read_claims(path, SCHEMA)


# --- page and command


def command(tmp_path, *more: object, paper=PAPER, **config) -> dict[str, bytes]:
    out = tmp_path / "out"
    report("claims", "--config", configuration(tmp_path, **config), "--paper", paper, "--out", out, *more)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_the_command_writes_the_same_each_time(tmp_path):
    base = spread(0, 1, seed=9)
    paths = folders(tmp_path, {"dpo-hps": 20 + base, "dpo-bt": base})
    written = command(tmp_path, "--evaluations", *paths, world="toy")
    assert written == command(tmp_path, "--evaluations", *paths, world="toy")
    rows = list(csv.DictReader(written["claims.csv"].decode().splitlines()))
    assert len(rows) == len(read_claims(CLAIMS, SCHEMA))
    by_id = {row["id"]: row for row in rows}
    assert by_id["rm_dpo_over_bt"]["verdict"] == "open"
    assert by_id["rm_dpo_over_bt"]["missing"] == "9"
    assert by_id["human_quality"]["reason"] == "table3 has not been made"
    record = json.loads(written["claims.json"])
    assert record["world"] == "toy"
    found = record["claims"][1]["ours"]["comparisons"]
    assert [(one["label"], round(one["mean"], 6)) for one in found] == [("hh_rlhf, dpo", 20.0)]
    for name in ("claims.html", "claims.md", "list.html"):
        assert (b"results of a toy world" in written[name]) == (name != "list.html")  # its page says so
        assert "✗\N{NO-BREAK SPACE}contradicted".encode() in written[name]
    assert b"<html" not in written["list.html"]


def test_the_list_has_a_row_a_claim_with_words_beside_marks():
    theirs = CsvTables.of_the_paper(PAPER)
    claims = read_claims(CLAIMS, SCHEMA)
    pairs = [(judge_as_printed(evaluate(c, theirs, TEST)), evaluate(c, Numbers(), TEST)) for c in claims]
    page = to_page(pairs, TEST, "real")
    groups = page.tables[:-1]
    titles = ["Margin", "Transfer", "Quality", "Cost", "Ablations", "Theory", "Beyond the paper"]
    assert [table.title for table in groups] == titles
    rows = [row for table in groups for row in table.rows]
    assert len(rows) == len(claims)
    assert {row[-1].text for row in rows} == {"○\N{NO-BREAK SPACE}open"}
    assert f"{len(claims)} claims" in page.notes[0]


def test_a_wrong_file_ends_in_one_line_and_writes_nothing(tmp_path):
    shutil.copytree(PAPER, tmp_path / "paper")
    (tmp_path / "paper" / "claims.yaml").write_text("claims: [{id: it}]")
    with pytest.raises(SystemExit, match=r"^error: .*claims\.yaml: claim it: "):
        command(tmp_path, paper=tmp_path / "paper")
    assert not (tmp_path / "out").exists()


def test_a_claim_about_what_is_not_known_says_what_it_would_take(tmp_path):
    (claim,) = [c for c in read_claims(CLAIMS, SCHEMA) if c.id == "harm_below_bt"]
    for name, harm, reason in (("a", None, "Harmful answers: needs the toy world, or a model"), ("b", 0.5, "")):
        folders = [
            evaluation(tmp_path / name / f"{method}-{data}", run(method, data), [{"harm": harm}, {"harm": harm}], data)
            for method in ("dpo-bt", "dpo-hps")
            for data in ("hh_rlhf", "pku_saferlhf")
        ]
        found = evaluate(claim, results_of(folders), TEST)
        assert found.absent.startswith(reason)
        assert bool(reason) == bool(found.missing)
