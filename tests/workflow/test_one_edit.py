"""One edit each: what a stranger adds in one place, in a copy of the workflow, is planned everywhere."""

import pytest
from conftest import ONCE, called, planned_jobs, snakemake

from hps.support.files import read_table

pytestmark = pytest.mark.workflow

SCORE = '''
def score_power(stages: Stages) -> Tensor:
    """`(1 - sigmoid(m))^sharpness`."""
    return (-stages.log_odds).sigmoid() ** stages.hyperparameters["sharpness"]


class Choice(StrEnum):'''
STAGES = '''
def every_near_pair(ranking: Ranking) -> Tensor:
    """Every j against every k that is worse by less than `width`."""
    gaps = ranking.rewards[:, :, None] - ranking.rewards[:, None, :]
    return ranking.log_weights((gaps > 0) & (gaps < ranking.hyperparameters["width"]))


def hinge('''
THIRD = """
data:
  third:
    format: hh_rlhf
    files: {train: [hh-rlhf/harmless-base/train.jsonl.gz], test: [hh-rlhf/harmless-base/test.jsonl.gz]}
grid: {datasets: [hh_rlhf, pku_saferlhf, third], rewards: [dpo]}
"""
FOURTH_FORM = '''"""Two columns: the better answer and the worse one, to one question for all rows."""

from hps.data.records import Comparison, text_field


def parse(row, source, counts):
    asked = [{"role": "user", "content": "Tell me something."}]
    return Comparison(asked, text_field(row, "better", source), text_field(row, "worse", source), source)
'''


def edit(path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text)


@pytest.fixture
def extended(checkout):
    """A checkout with a sixth parameterization and a fourth loss, each a function and a line."""
    method = checkout / "workflow_scripts" / "hps" / "method"
    line = '    NCA = "nca", ParameterizationTraits(score_nca)\n'
    own = 'ParameterizationTraits(score_power, {"sharpness": Hyperparameter(2.0, above=0)})'
    edit(
        method / "parameterizations.py",
        ("\nclass Choice(StrEnum):", SCORE),
        (line, f'{line}    POWER = "power", {own}\n'),
    )
    line = '    HPS = "hps", PreferenceModel(best_and_drawn, samples_negative=True)\n'
    own = 'PreferenceModel(every_near_pair, hyperparameters={"width": Hyperparameter(1.0, above=0)})'
    edit(method / "losses.py", ("\ndef hinge(", STAGES), (line, f'{line}    NEAR = "near", {own}\n'))
    return checkout


def test_a_parameterization_and_a_loss_are_in_every_table_of_the_grid(extended):
    targets = ("table2", "table5", "training_time")
    planned = planned_jobs(snakemake("--dry-run", *targets, *ONCE, folder=extended))
    assert planned["train"] == 6 * 4 * 2
    given = "objective={hyperparameters: {power: {sharpness: 3}, near: {width: 0.5}}}"
    shown = snakemake("--dry-run", "--printshellcmds", "table2", *ONCE, "--config", given, folder=extended).stdout
    lines = [one for one in shown.splitlines() if "--parameterization power --loss near" in one]
    assert len(lines) == 2
    assert all('"power": {"sharpness": 3}, "near": {"width": 0.5}' in one for one in lines)


def test_their_hyperparameters_have_the_bounds_that_they_declare(extended):
    given = "objective={hyperparameters: {power: {sharpness: 0}}}"
    done = snakemake("--dry-run", "table2", "--config", given, folder=extended)
    assert "hyperparameters.power.sharpness: sharpness is 0 where more than 0 is expected" in done.stdout + done.stderr


def test_a_third_data_set_is_an_entry_and_is_transferred_to_and_from(checkout):
    (checkout / "third.yaml").write_text(THIRD)
    planned = planned_jobs(snakemake("--dry-run", "all", *ONCE, "third.yaml", folder=checkout))
    assert planned["download"] == 3
    assert planned["train"] == 3 * 3 + 3 * 2 + 4 * 2 + 3 * 7
    given = ["--config", "evaluation={transfer: [[hh_rlhf, third]]}", "--printshellcmds"]
    done = snakemake("--dry-run", "table5", *ONCE, "third.yaml", *given, folder=checkout)
    assert planned_jobs(done)["train"] == 3
    assert "--test-sets hh_rlhf third " in done.stdout


def test_a_format_is_a_module(checkout, tmp_path):
    scripts = checkout / "workflow_scripts"
    (scripts / "hps" / "data" / "formats" / "two_columns.py").write_text(FOURTH_FORM)
    config = THIRD.replace("format: hh_rlhf", "format: two_columns")
    (checkout / "third.yaml").write_text(config)
    words = ("--dry-run", "--printshellcmds", "table2", "--configfile", "third.yaml")
    assert "--format two_columns" in snakemake(*words, folder=checkout).stdout
    (tmp_path / "rows.csv").write_text("better,worse\nyes,no\n")
    out = tmp_path / "out"
    given = ["--dataset", "third", "--format", "two_columns", "--test-files", tmp_path / "rows.csv"]
    done = called(scripts / "download.py", *given, "--test-prompts", "1", "--test-from", "test", "--out", out)
    assert done.returncode == 0, done.stderr
    (row,) = read_table(out / "test.parquet")
    assert (row["chosen"], row["rejected"]) == ("yes", "no")
    (checkout / "third.yaml").write_text(config.replace("two_columns", "two_colums"))
    done = snakemake(*words, folder=checkout)
    assert "data.third.format: 'two_colums' is none of " in done.stdout + done.stderr


def test_an_ablation_over_any_key_is_configuration_alone(checkout):
    over = "{rank: {key: training.lora_rank, values: [4, 8, 16], methods: [dpo-hps]}}"
    words = ["--dry-run", "--printshellcmds", "ablation_rank", *ONCE, "--config", f"ablations={{over: {over}}}"]
    done = snakemake(*words, folder=checkout)
    assert planned_jobs(done)["train"] == 3
    assert planned_jobs(snakemake(*words[:2], "table2", *words[2:], folder=checkout))["train"] == 30 + 2
    ranks = [line.split("--lora-rank ")[1].split()[0] for line in done.stdout.splitlines() if "/train.py" in line]
    assert sorted(ranks) == ["16", "4", "8"]


def test_a_named_run_stands_beside_the_others(checkout):
    words = ["--dry-run", "--printshellcmds", "table2", "--config", "name=strong", "objective={beta: 1}"]
    shown = snakemake(*words, folder=checkout).stdout
    assert "--out-summary results/strong/runs/" in shown
    assert "results/tiny" not in shown
