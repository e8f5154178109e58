"""What the report's rules ask of a configuration."""

import json
import shlex

import pytest
from conftest import ROOT

from hps.evidence.tables import TABLES
from hps.workflow.config import load, read_yaml
from hps.workflow.pipeline import Pipeline
from hps.workflow.reported import Reported

RANK = {"over": {"rank": {"key": "training.lora_rank", "values": [4]}}}


@pytest.fixture
def reported():
    """A function from changes to sections of config.yaml to the questions."""

    def make(**changes) -> Reported:
        given = read_yaml(ROOT / "config.yaml")
        for key, value in changes.items():
            given[key] = given[key] | value if isinstance(value, dict) else value
        return Reported(Pipeline(load(ROOT, given)))

    return make


def test_tables_without_runs_or_without_transfer_are_none(reported):
    assert list(reported().tables) == list(TABLES)
    assert reported().without_runs == {}
    (said,) = reported(attribution={"datasets": []}).without_runs.items()
    title = TABLES["table_attribution"].title
    assert said == ("table_attribution", f"{title}: left out of the report. The configuration asks for no runs of it")
    alone = reported(evaluation={"transfer": False})
    assert set(TABLES) - set(alone.tables) == set(alone.without_runs) == {"table5", "table7"}
    assert all(why.endswith("evaluation.transfer is false") for why in alone.without_runs.values())
    assert (
        "ablation_rank" in reported(ablations={"over": {"rank": {"key": "training.lora_rank", "values": [4]}}}).tables
    )


def test_a_table_is_made_from_the_test_sets_that_it_is_about(reported):
    of = reported(seeds=[0, 1])
    table2 = of.evaluations(of.tables["table2"])
    assert len(table2) == 2 * (2 + 30)  # each seed: the SFT policy on both test sets, and every method on its own
    assert [folder.split("/")[-2:] for folder in table2[:2]] == [
        ["sft_seed~0", "hh_rlhf"],
        ["sft_seed~0", "pku_saferlhf"],
    ]
    table7 = of.evaluations(of.tables["table7"])
    assert {folder.split("/")[-1] for folder in table7} == {"pku_saferlhf"}


def test_tables_2_and_5_have_the_policies_of_others_on_every_test_set_and_no_claim_has(reported):
    of = reported(published=[{"name": "authors", "repo": "owner/hps"}])
    own = {name: [f for f in of.evaluations(spec) if "/published~" in f] for name, spec in of.tables.items()}
    seeds = len(of.pipeline.sft)
    assert {name: len(folders) for name, folders in own.items() if folders} == {
        "table2": 2 * seeds,
        "table5": 2 * seeds,
    }
    assert own["table2"][0] == "results/tiny/evaluations/published~authors_seed~0/hh_rlhf"
    assert not [name for name in of.claimed if "authors" in name]


def test_claims_are_about_runs_and_no_sft_policy_is_one(reported):
    claimed = reported(seeds=[0, 1]).claimed
    assert len(claimed) == len(set(claimed)) == 2 * 44
    assert not [name for name in claimed if name.startswith("sft")]


def test_a_part_reads_its_own_keys(reported):
    def read(of: Reported, *arguments) -> dict:
        return json.loads(*shlex.split(of.config(*arguments)))

    of = reported(ablations=RANK)
    assert set(read(of, "table")) == {"world", "evaluation.bleu", "evaluation.margin_pair"}
    own = read(of, "table", [of.tables["ablation_rank"]])
    assert own["training.lora_rank"] == 8
    assert own["ablations.over.rank"]["values"] == [4]
    assert "toy world" in of.caption("Text.")
