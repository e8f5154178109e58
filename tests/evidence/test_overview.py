"""The report's pages on data, models, configuration and versions, and its captions."""

import json
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
from docutils.core import publish_parts
from synthetic_results import benchmark, configuration, report, run, training

from hps.evidence import overview, render
from hps.evidence.needs import NEEDS, needed, read_config
from hps.evidence.results import read_training
from hps.evidence.tables import TABLES, figure_caption, tables
from hps.support.errors import InputError

REPORT = Path(__file__).parents[2] / "report"


def texts(table: render.Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_nested_facts_become_dotted_keys():
    facts = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": [{"f": 3}, {"f": 4}], "g": {}}
    assert overview.flatten(facts) == {"a.b": 1, "a.c.d": [1, 2], "e.1.f": 3, "e.2.f": 4}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (True, "yes"), (0.1234567, "0.123457"), ([1, "x"], "1, x"), (0, "0"), ("", "–")],
)
def test_leaves_for_readers(value, shown):
    assert overview.text(value) == shown


def test_facts_side_by_side():
    table = overview.side_by_side("", {"hh": {"read": 5, "left_out": {"empty": 1}}, "pku": {"read": 7}})
    assert [column.name for column in table.columns] == ["", "hh", "pku"]
    assert [column.numeric for column in table.columns] == [False, True, True]
    assert texts(table) == [["read", "5", "7"], ["left out › empty", "1", "–"]]


def test_shards_are_added_up():
    shards = [
        ("a", {"ok": {"n": 1}, "model": "m"}),
        ("b", {"ok": {"n": 9}}),
        ("a", {"ok": {"n": 2}, "bad": 1, "model": "k"}),
    ]
    assert overview.add_up(shards) == {"a": {"ok.n": 3, "model": "varies", "bad": 1}, "b": {"ok.n": 9}}


def test_trainings_with_the_same_numbers_share_a_row(tmp_path):
    counts = {"hps": {"equal": 2}, "bt": {"equal": 2}, "pl": {"equal": 3}}
    made = [training(tmp_path / loss, run(f"dpo-{loss}"), counts=own) for loss, own in counts.items()]
    table = overview.data_page({}, {}, [read_training(folder) for folder in made]).tables[0]
    assert [column.name for column in table.columns] == ["Data set", "n", "Prompts", "equal", "Trainings"]
    assert texts(table) == [["hh_rlhf", "100", "5", "2", "2"], ["hh_rlhf", "100", "5", "3", "1"]]


def test_configuration_names_the_layer_of_each_key():
    values = {"grid": {"n": 8, "rewards": ["dpo"]}, "models": [{"repo": "r"}]}
    origins = {"grid.n": "command line", "grid.rewards": "config.yaml", "models": "config/presets/tiny.yaml"}
    page = overview.configuration_page({"values": values, "origins": origins})
    assert texts(page.tables[0]) == [
        ["grid", "grid.n", "8", "command line"],
        ["grid", "grid.rewards", "dpo", "config.yaml"],
        ["models", "models.1.repo", "r", "config/presets/tiny.yaml"],
    ]


def test_a_file_that_is_no_resolved_configuration_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"c\.json: missing"):
        read_config(tmp_path / "c.json")
    (tmp_path / "c.json").write_text('{"values": {}}')
    with pytest.raises(InputError, match=r"c\.json: is no resolved configuration"):
        read_config(tmp_path / "c.json")


def test_a_part_gets_the_keys_that_it_needs_and_no_others(tmp_path):
    config = read_config(configuration(tmp_path))
    for part in NEEDS:
        assert set(needed(config, part)) == set(NEEDS[part])
    assert needed(config, "table", ["objective.multiplicity"])["objective.multiplicity"] == "n_minus_1"
    assert read_config('{"theory": {"seed": 0}}') == {"theory": {"seed": 0}}


def test_versions_part_what_all_share_from_what_differs():
    results = [
        {"packages": {"torch": "2"}, "time": f"12:0{i}", "host": "a" if i < 4 else "b", "inputs": {f"x/{i}": "1"}}
        for i in range(6)
    ]
    same, different = overview.versions_page(results).tables
    assert texts(same) == [["packages › torch", "2"]]
    assert texts(different) == [["time", "6 values, from 12:00 to 12:05"], ["host", "a (4); b (2)"]]


def test_the_command(tmp_path, monkeypatch):
    def written(name: str, value: object) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
        return str(path)

    provenance = {"provenance": {"code": "abc"}}
    folder = training(tmp_path / "run", run(), provenance={"code": "abc"})
    config = {"values": {"a": 1, "world": "real"}, "origins": {"a": "config.yaml"}}
    words = ["overview", "--config", written("c.json", config), "--out", tmp_path]
    words += ["--counts", written("data/hh_rlhf/counts.json", {"read": 41})]
    words += ["--candidates", *(written(f"made/hh_rlhf/train.{i}-of-2.json", {"ok": 4} | provenance) for i in (1, 2))]
    words += ["--models", written("models/policy/model.json", {"source": "scratch"})]
    words += ["--trainings", str(folder / "training.json")]
    pages = ["data", "models", "configuration", "versions"]
    report(*words)
    data, models, configuration, versions = ((tmp_path / f"{page}.html").read_text(encoding="utf-8") for page in pages)
    assert ">41<" in data
    assert '<th scope="col" class="number">hh_rlhf, train</th>' in data
    assert ">8<" in data
    assert ">scratch<" in models
    assert ">config.yaml<" in configuration
    assert ">abc<" in versions
    assert "From 3 result files" in versions

    with pytest.raises(SystemExit, match=r"models/none\.json: missing"):
        report(*words, "--models", "models/none.json")


def rendered(name: str, config: dict, **snakemake) -> str:
    template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(
        (REPORT / f"{name}.rst").read_text(encoding="utf-8")
    )
    caption = template.render(snakemake=SimpleNamespace(config=config, **snakemake), files=[])
    html = publish_parts(caption, writer="html", settings_overrides={"halt_level": 2})["html_body"]
    return " ".join(html.split())


@pytest.mark.parametrize("spec", [*TABLES.values(), *tables({"rank": {"key": "training.lora_rank"}}).values()])
def test_captions_of_tables_and_figures_render(spec):
    for text in (spec.caption, figure_caption("", [spec])):
        assert "<p>" in rendered("caption", {}, params=SimpleNamespace(caption=text))


def test_the_first_page_says_what_the_world_is_and_what_is_left_out():
    config = {
        "preset": "tiny",
        "protocol": "paper",
        "world": "toy",
        "seeds": [0],
        "tables": ["Table 2: fine-tuning"],
        "left_out": {"Table 4": "no judge"},
    }
    page = rendered("workflow", config)
    assert "Table 4: left out.</strong> no judge" in page
    assert "Table 2: fine-tuning" in page
    assert "toy world" in page


def test_the_first_page_holds_the_list_of_claims(tmp_path):
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "list.html").write_text("<table><tr><td>✓ supported</td></tr></table>")
    (tmp_path / "claims" / "sentences.html").write_text("<p>What was run.</p>")
    template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string((REPORT / "workflow.rst").read_text())
    config = {"preset": "paper", "protocol": "paper", "world": "real", "seeds": [0], "tables": ["A"], "left_out": {}}
    claims = SimpleNamespace(path=tmp_path / "claims" / "claims.html")
    page = template.render(snakemake=SimpleNamespace(config=config), files=[claims])
    html = publish_parts(page, writer="html", settings_overrides={"halt_level": 2})["html_body"]
    assert html.index("What was run.") < html.index("Preset") < html.index("✓ supported") < html.index("What was done")
    assert "toy world" not in html


def test_cost_by_stage(tmp_path):
    benchmark(tmp_path / "train" / "a" / "x.tsv", 100.0)
    benchmark(tmp_path / "train" / "a" / "y.tsv", 50.0)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "policy.tsv").write_text("s\th:m:s\tmax_rss\tcpu_time\n30.5\t0:00:30\t2048.0\tNA\n")
    words = ["cost", "--config", configuration(tmp_path, world="toy"), "--out", tmp_path, "--benchmarks"]
    report(*words, tmp_path)
    page = (tmp_path / "cost.html").read_text()
    for shown in (">train<", ">2<", ">150<", ">100<", ">2.00<", ">180<", "toy world"):
        assert shown in page
    with pytest.raises(SystemExit, match="has no benchmark files"):
        report(*words, tmp_path / "no")
