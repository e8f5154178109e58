"""Steps of training for tests that start several processes: every case's gradients go to a file.

    accelerate launch ... tests/train_steps.py CASES.json OUT

With a third argument, the last process then ends with an error while the others wait for it.
"""

import json
import os
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

from hps.data.examples import Examples
from hps.logprobs.recompute import recompute_layers
from hps.method.objectives import Objective
from hps.models.sources import load_causal
from hps.support.errors import InputError
from hps.support.files import write_json
from hps.training import sharding
from hps.training.examples import Pool, TrainingExamples
from hps.training.trainer import Schedule, Trainer, start


def trainer(accelerator, case: dict) -> Trainer:
    """A trainer of one case: model, files, n, loss, batch_tokens, full (or LoRA), recompute, schedule."""
    pool = Pool(case["n"], truncated="drop", human_first=False, max_length=512)
    examples = TrainingExamples(Examples(case["files"]["examples"]), pool)
    model = load_causal(case["model"], dtype=torch.float32, device="cpu")
    if not case["full"]:
        torch.manual_seed(0)
        model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    if case["recompute"]:
        recompute_layers(model)
    objective = Objective(parameterization="dpo", loss=case["loss"], beta=0.1)
    sharded = case["full"] and accelerator.num_processes > 1
    return Trainer(accelerator, model, objective, examples, Schedule(**case["schedule"]), case["batch_tokens"], sharded)


def steps(accelerator, case: dict) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """Log rows and gradients of the first steps of a case."""
    one = trainer(accelerator, case)
    rows, gradients = [], {}
    for step in range(len(one.batches)):
        rows.append(one.step(step))
        gradients |= {f"{step}/{name}": sharding.whole(p.grad).clone() for name, p in one.parameters.items()}
    return rows, gradients


def main(cases: str, out: str, fail: bool) -> None:
    accelerator = start(int(os.environ.get("WORLD_SIZE", "1")))
    if accelerator.is_main_process:
        write_json(Path(out) / "processes.json", accelerator.num_processes)
    for name, case in json.loads(Path(cases).read_text()).items():
        rows, gradients = steps(accelerator, case)
        if accelerator.is_main_process:
            save_file(gradients, Path(out) / f"{name}.safetensors")
            write_json(Path(out) / f"{name}.json", rows)
    if fail and accelerator.process_index == accelerator.num_processes - 1:
        raise InputError("scored.parquet", "cannot be read by this process")
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], fail=len(sys.argv) > 3)
