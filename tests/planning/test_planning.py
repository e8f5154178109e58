"""The plan: its formulas by hand, its memory against what torch keeps, its times against recorded runs."""

import json
import math
from dataclasses import astuple, replace
from pathlib import Path

import plan
import pytest
import torch
import yaml
from conftest import ROOT, snakemake
from transformers import LlamaConfig, LlamaForCausalLM

from hps.planning import rates
from hps.planning.inputs import architectures, configured_prompts, datasets, mean_below, prompt_tokens, uncut
from hps.planning.memory import CONTEXT, saved_bytes
from hps.planning.operations import GPUS, LLAMA3_8B, Architecture, Work
from hps.planning.plan import Planner, responses_used
from hps.planning.rates import Rates
from hps.planning.stages import CostEstimate, Data, Lengths, Stage, Volume
from hps.runs import Run
from hps.support.errors import InputError
from hps.support.files import read_json
from hps.support.yaml_file import read_yaml
from hps.workflow import config

NOWHERE = Path("/nonexistent")


def planner(preset: str, benchmarks: Path = NOWHERE, **given) -> Planner:
    top = read_yaml(ROOT / "config.yaml") | {"preset": preset}
    for key, value in given.items():
        top[key] = {**top[key], **value} if isinstance(top.get(key), dict) else value
    resolved = config.load(ROOT, top)
    device = resolved["plan"]["device"]
    return Planner(
        resolved, datasets(resolved, NOWHERE), architectures(resolved, NOWHERE), rates.load(benchmarks, device)
    )


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch):
    monkeypatch.delenv("HPS_DATA_DIR", raising=False)


# --- lengths -----------------------------------------------------------------------------------------------------


def test_replies_that_a_limit_cuts():
    lengths = Lengths(10, 10, generated=100)
    assert lengths.kept(10**6) == pytest.approx(100)
    assert lengths.kept(100) == pytest.approx(100 * (1 - math.exp(-1)))
    assert uncut(lengths.kept(60), 60) == pytest.approx(100)


def test_generation_together_goes_on_for_the_longest():
    lengths = Lengths(10, 10, generated=100)
    assert lengths.steps(10**6, 1) == 100
    assert lengths.steps(10**6, 100) == pytest.approx(100 * sum(1 / k for k in range(1, 101)), rel=0.01)
    assert lengths.steps(150, 100) == 150


def test_prompts_in_tokens():
    assert prompt_tokens([{"role": "user", "content": "x" * 42}]) == pytest.approx(24 + 5 + 10)


def test_what_remains_is_the_published_number_less_the_other_splits():
    paper = planner("paper").config
    assert configured_prompts(paper, "hh_rlhf")["train"] == 160_800
    paper["data"]["splits"]["sft"] = {"prompts": 800, "from": "train"}
    paper["data"]["train_from_fraction"] = 0.5
    assert configured_prompts(paper, "hh_rlhf")["train"] == 79_600


def test_limits_in_characters_shorten_the_stated_means():
    assert mean_below((0, 10, 20), 10) == pytest.approx(5, rel=0.01)
    assert mean_below((0, 10, 20), 100) == pytest.approx(10, rel=0.01)
    lengths = {name: data.lengths for name, data in planner("smollm2").data.items()}
    # `smollm2` trained on 10,242 and 11,218 tokens in 48 visits to a prompt with two replies of 60 and 89 tokens.
    assert lengths["hh_rlhf"].prompt == pytest.approx(10_242 / 48 - 2 * 60, rel=0.15)
    assert lengths["pku_saferlhf"].prompt == pytest.approx(11_218 / 48 - 2 * 89, rel=0.15)


# --- stages ------------------------------------------------------------------------------------------------------


def test_wall_clock_is_bounded_by_the_longest_job():
    stage = Stage("train", devices=4).with_job(100).with_job(10)
    assert (stage.seconds, stage.longest) == (440, 100)
    assert stage.wall(4) == 110  # one after the other
    assert stage.wall(8) == 100  # side by side


def test_run_times_are_rounded_up_to_ten_minutes():
    estimate = CostEstimate([Stage("a").with_job(1000), Stage("b").with_job(1)], devices=1)
    assert estimate.minutes(safety=2) == {"a": 40, "b": 10}


def test_jobs_are_those_of_the_dry_run():
    alone = planner("paper", compute={"policies_per_job": 1})
    jobs = {stage.rule: stage.jobs for stage in alone.estimate().stages}
    assert {rule: jobs[rule] for rule in ("fetch_model", "augment", "annotate", "reference", "train", "evaluate")} == {
        "fetch_model": 4,
        **dict.fromkeys(("augment", "annotate", "reference"), 2 * (64 + 1)),
        "train": 44 + 2 * 7,
        "evaluate": 44 + 2 * 7 + 1,
    }


def test_policies_that_share_a_job_share_its_start_and_the_reference():
    def stage(policies: int) -> Stage:
        own = planner("smollm2", grid={"datasets": ["hh_rlhf"]}, compute={"policies_per_job": policies})
        return next(stage for stage in own.estimate().stages if stage.rule == "evaluate")

    alone, together = stage(1), stage(8)
    one = planner("smollm2")
    start, (reference, _) = one.start("train", "policy", *one.scorers), one.reference_cost(one.data["hh_rlhf"])
    # SFT's job needs no reference.
    expected = (alone.jobs - together.jobs) * (start + reference)
    assert alone.jobs - together.jobs > 20
    assert alone.seconds - together.seconds == pytest.approx(expected)


def test_policies_of_others_are_fetched_and_evaluated():
    """Each is loaded as a whole model, and otherwise costs what one of ours does on both test sets."""
    given = [{"name": "authors", "repo": "owner/hps"}]
    for policies in (1, 8):
        compute = {"policies_per_job": policies}
        own, more = planner("smollm2", compute=compute), planner("smollm2", compute=compute, published=given)
        before, after = ({stage.rule: stage for stage in one.estimate().stages} for one in (own, more))
        assert after["evaluate"].jobs == before["evaluate"].jobs + 1
        assert after["fetch_model"].jobs == before["fetch_model"].jobs + 1
        assert after["fetch_model"].disk - before["fetch_model"].disk == own.weights("policy")
        assert after["train"] == before["train"]
        run = next(name for name in own.pipeline.runs if len(own.pipeline.test_sets(name)) == 2)
        one_of_ours = own.start("train", "policy", *own.scorers) + sum(
            own.reference_cost(own.data[name])[0] + own.test_cost(own.data[name], trained=True)[0]
            for name in own.pipeline.test_sets(run)
        )
        seconds = after["evaluate"].seconds - before["evaluate"].seconds
        assert seconds == pytest.approx(one_of_ours + own.weights("policy") / 1e9)
        assert "published: counted as whole models; adapters are far smaller" in more.estimate().assumptions


@pytest.mark.parametrize(
    ("measured", "dtype", "share"),
    [("bfloat16", "float32", rates.FLOAT32_SHARE["cpu"]), ("bfloat16", "bfloat16", 1), ("float32", "float32", 1)],
)
def test_float32_takes_its_share_of_a_rate_measured_in_bfloat16(measured, dtype, share):
    entries = [{"work": w, "dtype": measured, "parameters": 1, "flops_per_second": 8.0} for w in ("score", "generate")]
    own, model = Rates("cpu", None, entries), planner("tiny").models["policy"]
    assert own.flops("score", model, dtype) == 8 * share
    work = Work(1.0, 1.0, 1.0)
    seconds = model.forward_flops(work) / (8 * share)
    assert own.generating(model, dtype, work, sequences=1, steps=1, context=1) == pytest.approx(seconds)


def test_losses_use_two_responses_or_all():
    assert [responses_used(loss, 100) for loss in ("bt", "hps", "pl", "hps_full")] == [2, 2, 100, 100]


def test_a_training_by_hand():
    """Rate 1 operation a second, no start-up: seconds are operations. k = 2, one epoch, one prompt."""
    own = planner("smollm2", training={"epochs": 1})
    own = replace(
        own,
        data={name: replace(data, prompts={"train": 1}) for name, data in own.data.items()},
        models=dict.fromkeys(own.models, Architecture(1, 4, 1, 1, 8, 10)),
        rates=Rates(
            "cpu",
            None,
            [{"work": "train", "dtype": "float32", "parameters": 1, "flops_per_second": 1.0}],
            responses=math.inf,
        ),
    )
    start = own.start("train", "policy")
    run = Run("hh_rlhf", "dpo", "bt", 8, 0.1, 0)
    reply = own.usable(own.data["hh_rlhf"], 96)
    fed, prompt = reply - 1, own.data["hh_rlhf"].lengths.prompt
    attended = prompt * (prompt + 1) / 2 + 2 * (prompt * fed + fed * (fed + 1) / 2)
    seconds, paper, _ = own.run_cost(run)
    assert seconds - start == pytest.approx(4 * 160 * (prompt + 2 * fed) + 12 * 4 * attended + 4 * 40 * 2 * reply)
    whole = prompt + fed
    assert paper - start == pytest.approx(
        2 * ((4 + 2) * 160 * whole + (12 + 4) * 4 * whole * (whole + 1) / 2 + (4 + 2) * 40 * whole)
    )


def test_what_each_stage_processes_by_hand():
    """Prompts of 10 tokens, human replies of 6, generated ones of 20, all cut; a reply's last token is never fed."""
    lengths, prompts = Lengths(10, 6, 1e9), {"train": 4, "test": 2, "reward": 5, "eval_reward": 6, "sft": 0}

    def volumes(policies: int) -> dict[str, Volume]:  # rounded, since few replies end before the limit
        own = planner(
            "smollm2",
            grid={"datasets": ["hh_rlhf"], "rewards": ["dpo"], "losses": ["bt", "pl"], "n": 8},
            ablations={"n": [], "beta": []},
            attribution={"datasets": []},
            candidates={"n_test": 4, "max_new_tokens": 20},
            evaluation={"samples": 2, "sampled_prompts": 1, "max_new_tokens": 20},
            training={"epochs": 3},
            user_study={"prompts": 1},
            compute={"policies_per_job": policies},
        )
        small = replace(own, data={"hh_rlhf": Data(prompts, lengths, "")})
        found = {stage.rule: stage.volumes for stage in small.estimate().stages}
        assert found.pop("fetch_model") == found.pop("tables, figures, report") == {}
        return {rule: Volume(*(round(count, 3) for count in astuple(own["hh_rlhf"]))) for rule, own in found.items()}

    found = volumes(policies=1)
    assert found["download"] == Volume(1, 17, 34)
    # Probes: of the rewards, and of harm on the prompts of both. Two conversations of 10 + 5 tokens a prompt.
    assert found["reward_model"] == Volume(3, 2 * (5 + 6), 2 * 22, read=22 * 2 * 15)
    assert found["augment"] == Volume(2, 4 + 2, 4 * 8 + 2 * 4, read=(4 + 2) * 10, generated=(4 * 8 + 2 * 4) * 20)
    # A prompt once, then its replies: 8 or 4 of 19 and the human ones of 5.
    scored = Volume(2, 4 + 2, 4 * 10 + 2 * 6, read=4 * (10 + 8 * 19 + 2 * 5) + 2 * (10 + 4 * 19 + 2 * 5))
    assert found["annotate"] == found["reference"] == scored
    # BT sees two replies, PL eight, in each of three epochs.
    assert found["train"] == Volume(2, 2 * 4, 4 * (2 + 8), trained=3 * 4 * ((10 + 2 * 19) + (10 + 8 * 19)))
    # Three policies sample twice for one prompt, which two models score. Those that are trained have margins on both
    # pairs of two prompts, and the KL reads the reference.
    samples, pairs, reference = 10 + 2 * (10 + 2 * 19), 2 * (10 + 2 * 5 + 2 * 19), 2 * (10 + 5)
    read = 3 * samples + 2 * (pairs + reference)
    assert found["evaluate"] == Volume(3, 3 * 2, 3 * 2, read=read, generated=3 * 2 * 20)
    together = volumes(policies=2)["evaluate"]  # both trained ones, and the policy before training by itself
    assert together == replace(found["evaluate"], jobs=2, read=read - reference)


def test_sharing_and_a_stored_reference_cost_less_than_the_papers_style():
    for preset in ("tiny", "smollm2", "paper"):
        estimate = planner(preset).estimate()
        assert estimate.seconds < estimate.paper_style


def test_more_responses_cost_more_only_where_they_are_used():
    own = planner("paper")
    seconds = {
        (loss, n): own.run_cost(Run("hh_rlhf", "dpo", loss, n, 0.1, 0))[0] for loss in ("bt", "pl") for n in (5, 100)
    }
    assert seconds["bt", 5] == seconds["bt", 100]
    assert seconds["pl", 100] > 10 * seconds["pl", 5]


def judge_of(own: Planner) -> tuple[list[Stage], str]:
    estimate = own.estimate()
    (said,) = (line for line in estimate.assumptions if line.startswith("judge: "))
    return [stage for stage in estimate.stages if stage.rule == "judge"], said


def test_the_judges_requests_are_those_of_table_4():
    """3 baselines x 2 data sets x 800 prompts x 2 orders of 400 + prompt + 2 replies and 120 tokens."""
    own = planner("paper")
    (stage,), said = judge_of(own)
    lengths = {name: data.lengths for name, data in own.data.items()}
    tokens = sum(4800 * (520 + each.prompt + 2 * each.kept(2048)) for each in lengths.values())
    assert said == f"judge: 9,600 requests, {tokens / 1e6:.1f} million tokens, to slurm/serve_judge.sh"
    assert stage.devices == 4
    assert sum(volume.read + volume.generated for volume in stage.volumes.values()) == pytest.approx(tokens)
    assert [volume.prompts for volume in stage.volumes.values()] == [4800, 4800]
    assert stage.disk == pytest.approx(145e9, rel=0.01)
    assert 145e9 / 4 < stage.memory < 48e9
    _, said = judge_of(planner("paper", seeds=[0, 1], seeds_of={"dpo-pl": [0]}))
    assert said.startswith("judge: 16,000 requests")  # 5 pairs of policies a data set
    drawn = planner("paper", judge={"orders": "drawn", "max_requests": 4000})
    (half,), said = judge_of(drawn)
    assert said.startswith("judge: 4,800 requests")
    assert "more than judge.max_requests (4,000)" in said
    loading = stage.disk / 1e9
    assert half.longest - loading == pytest.approx((stage.longest - loading) / 2)


def test_a_judge_that_someone_else_serves_costs_tokens_and_no_gpu():
    stages, said = judge_of(planner("paper", judge={"hub": None}))
    assert stages == []
    assert said.endswith("to an endpoint that is not counted below")


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("full", [False, True])
def test_kept_activations_are_those_torch_keeps(dtype, full):
    from peft import LoraConfig, get_peft_model

    def kept(layers: int) -> int:
        small = LlamaConfig(
            vocab_size=64,
            hidden_size=128,
            intermediate_size=320,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            attn_implementation="sdpa",
        )
        model = LlamaForCausalLM(small).to(getattr(torch, dtype)).eval()
        if not full:
            model = get_peft_model(model, LoraConfig(r=1, target_modules=["q_proj", "v_proj"])).get_base_model()
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        storages: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                storages[storage.data_ptr()] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.get_decoder()(input_ids=torch.zeros(2, 64, dtype=torch.long), use_cache=False)
        return sum(storage.nbytes() for storage in storages.values())

    shape = Architecture(1, 128, 4, 2, 320, 64)
    assert (kept(3) - kept(2)) / 128 == pytest.approx(saved_bytes(shape, dtype, full), rel=0.03)


def test_full_fine_tuning_in_shards_takes_what_was_counted():
    """docs/replication.md, 11: 39.6 GiB of one of four processes, allocation by allocation, without a GPU's context."""
    own = planner("paper", protocol="released_code")
    memory = own.memory.training(LLAMA3_8B, 4096, LLAMA3_8B.parameters) - CONTEXT
    assert memory / 2**30 == pytest.approx(39.6, rel=0.1)


def test_vllm_takes_its_share_of_the_gpu_or_what_one_response_needs():
    def augmenting(own: Planner) -> float:
        (stage,) = (stage for stage in own.estimate().stages if stage.rule == "augment")
        return stage.memory

    own = planner("paper")
    assert augmenting(own) == pytest.approx(0.9 * GPUS["L40S"].memory)
    large = replace(LLAMA3_8B, layers=10 * LLAMA3_8B.layers)
    too_large = replace(own, models=own.models | {"generator": large})
    assert augmenting(too_large) > 2 * large.decoder_weights > GPUS["L40S"].memory


@pytest.mark.parametrize("protocol", ["paper", "released_code"])
def test_each_stage_of_preset_paper_fits_its_gpu(protocol):
    """Full fine-tuning, as the released code does it, keeps weights in float32: 32 GB of 48."""
    estimate = planner("paper", protocol=protocol).estimate()
    assert {stage.rule: stage.memory for stage in estimate.stages if stage.memory > 0.92 * GPUS["L40S"].memory} == {}


# --- rates -------------------------------------------------------------------------------------------------------


def benchmark(folder: Path, name: str, **machine) -> None:
    entries = [{"work": "train", "parameters": 8e9, "dtype": "bfloat16", "flops_per_second": 4e14}]
    facts = {"name": name, "code": "abc", "time": "2026", "device": "cuda"} | machine
    (folder / f"{name}.json").write_text(json.dumps({"machine": facts, "throughput": entries}))


def test_rates_of_another_gpu_are_scaled_by_peak_and_said_so(tmp_path):
    benchmark(tmp_path, "h100", gpu="NVIDIA H100 80GB HBM3")
    found = rates.load(tmp_path, "L40S")
    assert found.flops("train", LLAMA3_8B, "bfloat16") == pytest.approx(4e14 * 362 / 989)
    assert "NVIDIA H100" in found.assumptions[0]
    assert "scaled" in found.assumptions[0]
    assert rates.load(tmp_path, "H100").flops("train", LLAMA3_8B, "bfloat16") == 4e14


def test_without_a_benchmark_the_share_of_the_peak_is_an_assumption_and_said_so(tmp_path):
    found = rates.load(tmp_path, "NVIDIA L40S")
    assert found.flops("train", LLAMA3_8B, "bfloat16") == 0.35 * GPUS["L40S"].flops
    assert found.assumptions[0].startswith("assumed: nothing was measured on a GPU")


def test_an_unknown_device_is_refused(tmp_path):
    with pytest.raises(InputError, match="'T4' is unknown"):
        rates.load(tmp_path, "T4")


def test_a_model_of_unknown_size_is_refused():
    own = planner("paper").config
    own["models"]["policy"]["repo"] = "some/model"
    with pytest.raises(InputError, match="how large some/model is"):
        architectures(own, NOWHERE)


# --- recorded runs -----------------------------------------------------------------------------------------------

RECORDED = {"tiny": {}}
STAGES = {
    "models": ("scratch_model", "reward_model"),
    **{name: (name,) for name in ("augment", "annotate", "reference")},
}
STAGES |= {name: (name,) for name in ("train", "evaluate")}


def recorded(preset: str, column: str) -> dict[str, float]:
    newest = max((ROOT / "results" / preset / "measured").glob("2026-??-??/summary.json"))
    return read_json(newest)[column]


def estimated(preset: str) -> dict[str, list[Stage]]:
    """The stages that the recorded run had, by what its record calls them."""
    own = planner(preset, ROOT / "benchmarks/results", **RECORDED[preset])
    stages = {stage.rule: stage for stage in own.estimate().stages}
    return {name: [stages[rule] for rule in rules if rule in stages] for name, rules in STAGES.items()}


@pytest.mark.parametrize("preset", RECORDED)
def test_the_estimate_is_within_a_factor_of_the_recorded_run(preset):
    measured = recorded(preset, "core seconds by stage (sum over jobs)")
    seconds = {name: sum(stage.seconds for stage in stages) for name, stages in estimated(preset).items()}
    ratios = {name: seconds[name] / measured[name] for name in STAGES}
    assert 1 / 1.5 < sum(seconds.values()) / sum(measured.values()) < 1.5, ratios
    assert all(1 / 1.5 < ratio < 1.5 for ratio in ratios.values()), ratios


@pytest.mark.parametrize("preset", RECORDED)
def test_the_memory_is_within_a_factor_of_the_recorded_run(preset):
    """That of processes on a CPU, as the kernel knows it."""
    measured = recorded(preset, "MiB by stage (largest job)")
    memory = {name: max(stage.memory for stage in stages) / 2**20 for name, stages in estimated(preset).items()}
    ratios = {name: memory[name] / measured[name] for name in STAGES}
    assert all(1 / 1.5 < ratio < 1.5 for ratio in ratios.values()), ratios


# --- the command -------------------------------------------------------------------------------------------------


def test_run_times_of_a_profile_are_replaced_and_nothing_else():
    rules = "  train: {gres: 'gpu:4', runtime: 3d}\n  judge: {runtime: 1d}\n"
    profile = f"default-resources: {{runtime: 1h}}\nset-resources:\n{rules}"
    assert yaml.safe_load(plan.with_run_times(profile, {"train": 480, "evaluate": 30})) == {
        "default-resources": {"runtime": "1h"},
        "set-resources": {"train": {"gres": "gpu:4", "runtime": 480}, "judge": {"runtime": "1d"}},
    }


@pytest.mark.workflow
def test_the_target_prints_the_plan_and_runs_nothing_else(checkout):
    done = snakemake("plan", "--quiet", "all", "--config", "preset=paper", folder=checkout)
    assert done.returncode == 0, done.stderr
    assert "| train | 58 |" in done.stdout
    assert "| train | hh_rlhf | 36 | 5,788,800 |" in done.stdout
    assert "8 x L40S" in done.stdout
    assert [path.name for path in (checkout / "results/paper").iterdir()] in (["plan", "logs"], ["logs", "plan"])
    written = read_json(checkout / "results/paper/plan/plan.json")
    assert written["devices"] == 8
    (train,) = [stage for stage in written["stages"] if stage["rule"] == "train"]
    assert train["volumes"]["hh_rlhf"]["jobs"] + train["volumes"]["pku_saferlhf"]["jobs"] == train["jobs"] == 58
