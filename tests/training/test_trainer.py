"""The training loop: its gradient, its order, its start, and that a killed run ends as one never killed."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import stage_files
import torch
import train as train_command
from accelerate import Accelerator
from conftest import ROOT, SCRIPTS, python_environment
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from hps.data.examples import Examples
from hps.method import ranking
from hps.method.objectives import Objective
from hps.method.sampling import negative_near
from hps.models.sources import load_causal
from hps.support.errors import InputError
from hps.training.checkpoints import Checkpoints
from hps.training.examples import Pool, TrainingExamples
from hps.training.trainer import Schedule, Trainer, plan

SCHEDULE = Schedule(
    epochs=2,
    concatenate_epochs=False,
    batch_size=4,
    learning_rate=1e-2,
    weight_decay=0.0,
    max_grad_norm=1e9,
    negative="drawn",
    gamma_levels=[-5, -2.5, 0, 2.5, 5],
    gamma_follows="step",
    seed=0,
    checkpoint_every=2,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory, model_folder):
    return stage_files.make(tmp_path_factory.mktemp("stages"), model_folder, prompts=6, n=4)


@pytest.fixture(scope="module")
def examples(files):
    pool = Pool(n=4, truncated="drop", human_first=False, max_length=512)
    return TrainingExamples(Examples(files["examples"]), pool)


def trainer(model_folder, examples, loss="hps", parameterization="dpo", batch_tokens=4096, **changes) -> Trainer:
    torch.manual_seed(0)
    model = load_causal(model_folder, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    objective = Objective(parameterization=parameterization, loss=loss, beta=0.1)
    return Trainer(Accelerator(cpu=True), model, objective, examples, replace(SCHEDULE, **changes), batch_tokens)


def adapter(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.parameters.values()])


@pytest.mark.parametrize("loss", ["bt", "pl", "hps"])
def test_micro_batches_do_not_change_a_step(model_folder, examples, loss):
    gradients = []
    for batch_tokens in (10**6, 100, 16):
        one = trainer(model_folder, examples, loss, batch_tokens=batch_tokens)
        row = one.step(0)
        gradients.append(torch.cat([p.grad.flatten() for p in one.parameters.values()]))
        assert math.isfinite(row["loss"])
    assert gradients[0].norm() > 1e-3
    for other in gradients[1:]:
        assert (gradients[0] - other).norm() <= 1e-4 * gradients[0].norm()


def test_micro_batches_sort_a_steps_prompts_and_leave_the_order_of_data_alone(model_folder, examples, monkeypatch):
    """Whatever the budget, a step has the same prompts and draws; in it, prompts of similar length are together."""
    seen: dict[int, list] = {}
    for batch_tokens in (10**6, 60):
        one = trainer(model_folder, examples, "hps", batch_tokens=batch_tokens)
        backward, seen[batch_tokens] = one.backward, []

        def watch(prepared, batch_size, backward=backward, steps=seen[batch_tokens]):
            steps[-1].append(prepared)
            return backward(prepared, batch_size)

        monkeypatch.setattr(one, "backward", watch)
        for step, batch in enumerate(one.batches):
            seen[batch_tokens].append([])
            one.step(step)
            prepared = [p for micro_batch in seen[batch_tokens][step] for p in micro_batch]
            assert sorted(p.item.number for p in prepared) == sorted(item.number for item in batch)
            lengths = [len(p.group.prompt) for p in prepared]
            assert lengths == sorted(lengths)
            for micro_batch in seen[batch_tokens][step]:
                assert len(micro_batch) == 1 or one.scorer.group_cost([p.group for p in micro_batch]) <= batch_tokens
    draws = [[[(p.item.number, p.negative) for m in step for p in m] for step in steps] for steps in seen.values()]
    assert draws[0] == draws[1]
    assert [len(step) for step in seen[10**6]] == [1, 1, 1, 1]
    assert max(len(step) for step in seen[60]) > 1


def test_float32_adapters_on_a_bfloat16_model(model_folder, examples):
    """The frozen weights and what flows between layers are bfloat16; adapter, gradient and moments are float32."""
    torch.manual_seed(0)
    model = load_causal(model_folder, dtype=torch.bfloat16)
    model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    objective = Objective(parameterization="dpo", loss="pl", beta=0.1)
    one = Trainer(Accelerator(cpu=True), model, objective, examples, SCHEDULE, 60)
    hidden = one.scorer.encode_prompts([examples[0].prompt]).ends
    assert hidden.dtype == torch.bfloat16
    one.step(0)
    assert {p.dtype for p in one.parameters.values()} == {torch.float32}
    assert {p.grad.dtype for p in one.parameters.values()} == {torch.float32}
    assert {state["exp_avg"].dtype for state in one.optimizer.state.values()} == {torch.float32}
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)
    exact = trainer(model_folder, examples, "pl", batch_tokens=60)
    exact.step(0)
    mine, theirs = (torch.cat([p.grad.flatten() for p in t.parameters.values()]) for t in (one, exact))
    assert torch.nn.functional.cosine_similarity(mine, theirs, dim=0) > 0.99


@pytest.mark.parametrize("loss", ["pl", "bt", "hps"])
@pytest.mark.parametrize("parameterization", ["dpo", "exo", "ipo", "sppo", "nca"])
def test_every_method_of_the_grid_takes_finite_steps_from_its_reference(model_folder, examples, parameterization, loss):
    one = trainer(model_folder, examples, loss, parameterization, learning_rate=1e-3)
    before = adapter(one)
    rows = [one.step(step) for step in range(len(one.batches))]
    assert rows[0]["margin"] == pytest.approx(0, abs=1e-4)
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)
    assert 0 < (adapter(one) - before).abs().max() < 0.1


def test_a_step_is_the_gradient_of_the_mean_loss_over_its_prompts(model_folder, examples):
    one = trainer(model_folder, examples, "bt")
    batch = one.batches[0]
    one.step(0)
    ours = torch.cat([p.grad.flatten() for p in one.parameters.values()])
    two = trainer(model_folder, examples, "bt")
    losses = []
    for item in batch:
        example = examples[item.number]
        best, worst = int(example.rewards.argmax()), int(example.rewards.argmin())
        rho = []
        for i in (best, worst):
            ids = torch.tensor([example.prompt + example.responses[i]])
            logits = two.model(ids).logits[0].log_softmax(-1)
            start = len(example.prompt)
            log_prob = sum(logits[t - 1, ids[0, t]] for t in range(start, ids.shape[1]))
            rho.append(log_prob - example.reference[i])
        losses.append(-torch.nn.functional.logsigmoid(0.1 * (rho[0] - rho[1])))
    torch.stack(losses).mean().backward()
    expected = torch.cat([p.grad.flatten() for p in two.parameters.values()])
    assert (ours - expected).norm() <= 1e-4 * expected.norm()


def test_training_raises_the_margin(model_folder, examples, tmp_path):
    one = trainer(model_folder, examples, "bt", epochs=8)
    result = one.run(Checkpoints(tmp_path / "work", "same"))
    log = [json.loads(line) for line in (tmp_path / "work" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == list(range(result["steps"]))
    assert log[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert log[-1]["margin"] > 0.05
    assert log[-1]["loss"] < log[0]["loss"]
    assert all(row["gamma"] is None and row["tokens_per_second"] > 0 for row in log)


def test_another_reference_is_caught_before_the_first_step(model_folder, examples):
    moved = [replace(example, reference=example.reference + 0.01) for example in examples]
    with pytest.raises(InputError, match="before the first step, where policy = reference"):
        trainer(model_folder, moved).step(0)


def test_every_prompt_once_an_epoch_and_gamma_rises_over_the_steps(examples):
    batches = plan(len(examples), SCHEDULE)
    for epoch in (0, 1):
        assert sorted(item.number for batch in batches for item in batch if item.epoch == epoch) == list(range(6))
    assert [len(batch) for batch in batches] == [4, 2, 4, 2]
    gammas = [{item.gamma for item in batch} for batch in batches]
    assert gammas == [{-5.0}, {-2.5}, {0.0}, {2.5}]


def test_at_infinite_gamma_the_hardest_negative_is_taken(model_folder, examples):
    row = trainer(model_folder, examples, "hps", gamma_levels=[math.inf]).step(0)
    assert (row["gamma"], row["hardness"]) == (None, 1.0)  # JSON has no infinity


def test_the_negative_may_be_the_one_nearest_to_mean_minus_two_deviations(model_folder, examples):
    own = trainer(model_folder, examples, "hps", negative="mean_minus_2sd")
    items = [item for batch in plan(len(examples), SCHEDULE) for item in batch]
    for item in items:
        assert own.prepare(item).negative == negative_near(own.examples[item.number].rewards)
    row = own.step(0)
    assert (row["gamma"], row["hardness"]) == (None, 0.0)  # of four rewards none but the lowest is so far down


def test_released_code_mixes_passes_and_gammas(examples):
    schedule = replace(SCHEDULE, concatenate_epochs=True, gamma_follows="dataset", gamma_levels=[-5, -3, -1, 1, 3])
    items = [item for batch in plan(len(examples), schedule) for item in batch]
    assert len(items) == 2 * len(examples)
    assert sorted((item.epoch, item.number) for item in items) == [(epoch, i) for epoch in (0, 1) for i in range(6)]
    assert [item.epoch for item in items] != sorted(item.epoch for item in items)
    gammas = [item.gamma for item in items]
    assert set(gammas) == {-5, -3, -1, 1, 3}
    assert gammas != sorted(gammas)


def test_hps_uses_the_best_and_one_negative(model_folder, examples):
    one = trainer(model_folder, examples, "hps")
    for item in one.batches[0]:
        prepared = one.prepare(item)
        assert len(prepared.used) == 2
        assert int(examples[item.number].rewards.argmax()) in prepared.used
        again = one.prepare(item)
        assert (again.negative, again.used, again.group) == (prepared.negative, prepared.used, prepared.group)


def test_the_batch_must_divide_by_the_devices(model_folder, examples, monkeypatch):
    monkeypatch.setattr(Accelerator, "num_processes", 3)
    with pytest.raises(InputError, match=r"training.batch_size: 4 does not divide by 3 devices"):
        trainer(model_folder, examples)


def test_a_checkpoint_of_another_configuration_is_not_used(model_folder, examples, tmp_path, caplog):
    caplog.set_level("INFO")
    work = Checkpoints(tmp_path, "one")
    trainer(model_folder, examples).run(work)  # 4 steps, checkpoint after 2
    resumed = trainer(model_folder, examples)
    assert work.load(resumed.parameters, resumed.optimizer).steps == 2
    assert Checkpoints(tmp_path, "other").load(resumed.parameters, resumed.optimizer).steps == 0
    assert "of another configuration" in caplog.text


# --- the command, as the workflow runs it ---------------------------------------------------------------------------


def command(files: dict, model_folder: Path, out: Path, *more: str, processes: int = 1) -> list[str]:
    # The file's own number of processes gives way to the one asked for.
    config = ROOT / "config" / "accelerate" / f"{1 if processes == 1 else 4}.yaml"
    launch = f"launch --config_file {config} --num_processes {processes}"
    settings = (
        "--dataset hh_rlhf --parameterization dpo --loss hps --n 4 --beta 0.1 --seed 0 --multiplicity n_minus_1 "
        "--gamma-levels -5 -2.5 0 2.5 5 --gamma-follows step --truncated drop --adapter lora --epochs 20 "
        "--learning-rate 0.01 --weight-decay 0 --max-grad-norm 1 --batch-size 2 --max-length 512 "
        f"--checkpoint-every 5 --train-tokens 4096 --processes {processes}"
    )
    return [
        *(sys.executable, "-m", "accelerate.commands.accelerate_cli", *launch.split()),
        *(str(SCRIPTS / "train.py"), *settings.split(), "--policy", str(model_folder)),
        *("--examples", files["examples"]),
        *("--checkpoints", str(out / "work"), "--out-policy", str(out / "policy")),
        *("--out-log", str(out / "log.jsonl"), "--out-summary", str(out / "training.json"), *more),
    ]


def train(files, model_folder, out, *more, processes=1) -> str:
    """Run it to the end; returns what it logged."""
    words = command(files, model_folder, out, *more, processes=processes)
    done = subprocess.run(words, env=python_environment(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


def steps(log: Path) -> list[dict]:
    """The log without what a clock decides."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "tokens_per_second")} for row in rows]


@pytest.fixture(scope="module")
def whole(files, model_folder, tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    train(files, model_folder, folder)
    return folder


def test_a_killed_run_ends_as_one_never_killed(files, model_folder, whole, tmp_path):
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        command(files, model_folder, killed), env=python_environment(), cwd=ROOT, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not (killed / "work" / "checkpoint").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "policy").exists()
    train(files, model_folder, killed)
    name = "policy/adapter_model.safetensors"
    assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert steps(killed / "log.jsonl") == steps(whole / "log.jsonl")
    summary = json.loads((killed / "training.json").read_text())
    assert summary["run"]["loss"] == "hps"
    assert summary["steps"] == 60
    assert [path.name for path in (killed / "work").iterdir()] == ["finished"]


def test_two_jobs_on_one_run_end_with_the_same_policy(files, model_folder, whole, tmp_path):
    """As after a lost scheduler: the second starts from the first's checkpoint while the first goes on."""
    shared = tmp_path / "shared"
    words = command(files, model_folder, shared, "--checkpoint-every", "1")
    first = subprocess.Popen(words, env=python_environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (shared / "work" / "checkpoint").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    second = subprocess.Popen(words, env=python_environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    for process in (first, second):
        said = process.communicate()[1]
        assert process.returncode == 0, said
    name = "policy/adapter_model.safetensors"
    assert (shared / name).read_bytes() == (whole / name).read_bytes()
    assert steps(shared / "log.jsonl") == steps(whole / "log.jsonl")
    assert json.loads((shared / "training.json").read_text())["steps"] == 60
    assert sorted(path.name for path in shared.iterdir()) == ["log.jsonl", "policy", "training.json", "work"]
    assert [path.name for path in (shared / "work").iterdir()] == ["finished"]


def test_two_processes_train_as_one(files, model_folder, tmp_path):
    """The same batches, the same draws; only the order of the sums differs."""
    for processes in (1, 2):
        train(files, model_folder, tmp_path / str(processes), "--epochs", "2", processes=processes)
    one, two = (steps(tmp_path / str(processes) / "log.jsonl") for processes in (1, 2))
    assert len(one) == len(two) == 6
    for mine, theirs in zip(one, two, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    adapters = [load_file(tmp_path / str(p) / "policy" / "adapter_model.safetensors") for p in (1, 2)]
    for name, tensor in adapters[0].items():
        assert torch.allclose(tensor, adapters[1][name], atol=1e-4)
    assert json.loads((tmp_path / "2" / "training.json").read_text())["devices"] == 2


def test_pl_trains_on_the_first_k_responses(files, model_folder, tmp_path):
    train(files, model_folder, tmp_path, "--loss", "pl", "--pl-responses", "2", "--epochs", "1")
    summary = json.loads((tmp_path / "training.json").read_text())
    assert summary["counts"]["responses trained on"] == 2 * summary["groups"]


def test_full_fine_tuning_trains_and_saves_every_weight(files, model_folder, tmp_path):
    train(files, model_folder, tmp_path, "--adapter", "full", "--epochs", "1", "--learning-rate", "1e-4")
    before, after = load_causal(model_folder), load_causal(tmp_path / "policy")
    moved = [not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    assert all(moved)
    assert json.loads((tmp_path / "training.json").read_text())["trained_parameters"] == sum(
        p.numel() for p in before.parameters()
    )


def test_tensorboard_without_its_package_is_refused_before_training(files, model_folder, tmp_path):
    if find_spec("tensorboard"):
        pytest.skip("tensorboard is installed")
    words = command(files, model_folder, tmp_path, "--tensorboard")
    done = subprocess.run(words, env=python_environment(), cwd=ROOT, capture_output=True, text=True)
    assert "error: tensorboard: is true, but the package tensorboard is not installed" in done.stderr
    assert not (tmp_path / "work").exists()


def refused(files, model_folder, out, *more: str, **environment: str) -> str:
    """The last line of a training that must fail with one; run without a launcher, as with one process."""
    words = command(files, model_folder, out, *more)
    words = [sys.executable, *words[words.index(str(SCRIPTS / "train.py")) :]]
    done = subprocess.run(
        words, env=python_environment(**environment), cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stderr[-4000:]
    assert "Traceback" not in done.stderr
    assert not (out / "policy").exists()
    return done.stderr.splitlines()[-1]


def test_a_shells_launcher_variables_are_not_this_trainings(files, model_folder, tmp_path):
    """One process, started without a launcher, trains alone; a launcher of another number is refused at once."""
    inherited = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "29500"}
    inherited |= {"PMI_SIZE": "2", "PMI_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4", "ACCELERATE_USE_FSDP": "true"}
    words = command(files, model_folder, tmp_path, "--epochs", "1")
    words = [sys.executable, *words[words.index(str(SCRIPTS / "train.py")) :]]
    subprocess.run(words, env=python_environment(**inherited), cwd=ROOT, check=True, timeout=120)
    assert json.loads((tmp_path / "training.json").read_text())["devices"] == 1
    inherited |= {"TORCHELASTIC_RUN_ID": "none"}
    said = refused(files, model_folder, tmp_path / "other", **inherited)
    assert said == "error: compute.processes: 1 asked for, but 2 were started"


def test_a_training_that_diverges_says_where_and_which_setting(files, model_folder, tmp_path):
    said = refused(files, model_folder, tmp_path, "--learning-rate", "1e30", "--max-grad-norm", "1e30")
    line = (
        r"error: training.learning_rate: 1e\+30: the training diverged: at step \d+ the loss is [\d.naif]+ and the "
        r"norm of its gradient (nan|inf); the last finite loss was [\d.]+"
    )
    assert re.fullmatch(line, said), said


def test_a_finished_training_is_not_begun_again(files, model_folder, whole, tmp_path):
    """Its outputs are gone, as when Snakemake is killed before it has seen the job's end, and its checkpoint too."""
    shutil.copytree(whole, tmp_path / "run")
    run = tmp_path / "run"
    words = ("--checkpoints", str(whole / "work"))
    summary = (run / "training.json").read_bytes()
    for name in ("log.jsonl", "training.json"):
        (whole / name).rename(tmp_path / name)
    (whole / "policy").rename(tmp_path / "policy")
    said = train(files, model_folder, whole, *words)
    assert "this run has finished before" in said
    assert "resuming" not in said
    assert (whole / "training.json").read_bytes() == summary
    name = "policy/adapter_model.safetensors"
    assert (whole / name).read_bytes() == (run / name).read_bytes()
    assert (whole / "log.jsonl").read_bytes() == (run / "log.jsonl").read_bytes()


def test_what_a_training_costs_may_change_on_the_way():
    made_with = {
        "settings": {"train_tokens": 1, "checkpoint_every": 2, "tensorboard": False, "beta": 0.1},
        "inputs": {},
    }
    same = made_with | {"settings": {"train_tokens": 9, "checkpoint_every": 7, "tensorboard": True, "beta": 0.1}}
    other = made_with | {"settings": made_with["settings"] | {"beta": 0.2}}
    assert train_command.fingerprint(made_with) == train_command.fingerprint(same)
    assert train_command.fingerprint(made_with) != train_command.fingerprint(other)


def test_adapters_on_all_linear_layers_train(files, model_folder, tmp_path):
    train(files, model_folder, tmp_path, "--lora-targets", "all-linear", "--epochs", "1")
    saved = load_file(tmp_path / "policy" / "adapter_model.safetensors")
    assert len(saved) == 2 * 2 * 7
    assert all(tensor.abs().max() > 0 for tensor in saved.values())
    assert json.loads((tmp_path / "policy/adapter_config.json").read_text())["base_model_name_or_path"] == (
        "scratch:policy"
    )


def test_a_target_that_matches_nothing_is_refused_before_data_are_read(files, model_folder, tmp_path):
    more = ("--lora-targets", "q_proj", "qproj_misspelt", "--examples", str(tmp_path / "none"))
    said = refused(files, model_folder, tmp_path / "out", *more)
    assert said.startswith("error: training.lora_targets: 'qproj_misspelt' is no module of LlamaForCausalLM")


def test_examples_of_another_policy_are_refused(files, model_folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    (other / "model.json").write_text('{"role": "policy", "source": "another"}')
    said = refused(files, model_folder, tmp_path / "out", "--policy", str(other))
    assert said == f"error: {files['examples']}: was not made from {other} as it is now: make it again"


def test_loss_log_and_pairs_rank_ties_alike(model_folder, examples):
    """The last of the tied worst and the first of the tied best, in the loss and in the margin that is logged."""
    rewards = np.array([0.5, 2.0, -1.0, 2.0])
    tied = replace(examples[0], rewards=rewards)
    assert (ranking.best(rewards), ranking.worst(rewards)) == (1, 2)
    tied = replace(tied, rewards=np.array([2.0, 2.0, -1.0, -1.0]))
    one = trainer(model_folder, [tied], "bt", batch_size=1)
    with torch.no_grad():
        for parameter in one.parameters.values():
            parameter += 0.05 * torch.randn_like(parameter)
    prepared = one.prepare(one.batches[0][0])
    assert prepared.used == [0, 3]
    loss, margin, *_ = one.backward([prepared], 1).tolist()
    assert loss == pytest.approx(math.log1p(math.exp(-margin)), rel=1e-6)
    assert abs(margin) > 1e-4


def test_a_misspelt_parameterization_is_one_line_and_leaves_nothing(files, model_folder, tmp_path):
    words = command(files, model_folder, tmp_path / "out", "--loss", "hpss")
    done = subprocess.run(words, env=python_environment(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "error: objective: 'hpss' is not a loss: did you mean 'hps'?" in done.stderr
    assert not (tmp_path / "out" / "policy").exists()
