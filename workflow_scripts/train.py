"""Train one policy: a reward parameterization with a preference loss on one data set.

    accelerate launch --cpu workflow_scripts/train.py --dataset hh_rlhf --parameterization dpo --loss hps ...

The workflow's rule `train` shows every argument in use (`snakemake -p`). Killed and started again with the same
arguments, it goes on from its last checkpoint and ends with the same policy, bit for bit on a CPU.
"""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from hps.support import cli, provenance
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.files import stable_hash, write_json, write_text, writing
from hps.support.settings import cost_names, taken_by


@dataclass(kw_only=True)
class Arguments(taken_by("train")):
    dataset: str = argument("data set trained on; recorded with the run")
    parameterization: str = argument("of the reward, such as dpo")
    loss: str = argument("preference loss: bt, pl, hps, ...")
    n: int = argument("responses a prompt")
    seed: int = argument("of order, draws and adapter")
    settings: dict = argument(
        "what this run has in place of the configured values, as JSON; recorded with it", {}, type=json.loads
    )
    policy: str = argument("model folder of the policy, which is also the reference")
    examples: str = argument("folder of the training prompts with their candidates, as examples.py writes it")
    checkpoints: str = argument("working folder; at the end links to the outputs remain in it")
    out_policy: str = argument("folder for the trained adapter or model")
    out_log: str = argument("log of the steps (JSON lines)")
    out_summary: str = argument("summary (JSON)")


def main(arguments: Arguments) -> None:
    import torch

    from hps.data.examples import Examples
    from hps.logprobs.recompute import recompute_layers
    from hps.method.losses import pool_size
    from hps.method.objectives import Objective
    from hps.models import adapters
    from hps.training import sharding
    from hps.training.checkpoints import Checkpoints
    from hps.training.examples import Pool, TrainingExamples
    from hps.training.trainer import Schedule, Trainer, start

    if arguments.tensorboard and find_spec("tensorboard") is None:
        raise InputError("tensorboard", "is true, but the package tensorboard is not installed")
    accelerator = start(arguments.processes)
    if arguments.adapter == "lora":
        adapters.check_targets(adapters.skeleton(arguments.policy), arguments.lora_targets)
    settings = asdict(arguments)
    own = [arguments.hyperparameters.get(name, {}) for name in (arguments.parameterization, arguments.loss)]
    try:
        objective = Objective(
            parameterization=arguments.parameterization,
            loss=arguments.loss,
            beta=arguments.beta,
            multiplicity=arguments.multiplicity,
            hyperparameters=own[0] | own[1],
        )
    except ValueError as error:
        raise InputError("objective", str(error)) from error
    joined = Examples(arguments.examples)
    joined.check("policy", provenance.identity(arguments.policy), arguments.policy)
    made_with = provenance.collect(settings, [arguments.policy])
    made_with["inputs"][arguments.examples] = joined.identity
    sharded = arguments.adapter == "full" and accelerator.num_processes > 1
    part = accelerator.process_index if sharded else None
    working = Checkpoints(arguments.checkpoints, fingerprint(made_with), part)
    outputs = {"policy": arguments.out_policy, "log.jsonl": arguments.out_log, "training.json": arguments.out_summary}
    if sharding.from_first(accelerator.is_main_process and working.restore(outputs)):
        return
    responses = pool_size(arguments.loss, arguments.n, arguments.pl_responses)
    examples = TrainingExamples(
        joined,
        Pool(
            responses,
            arguments.truncated,
            arguments.human_first,
            arguments.max_length,
        ),
    )
    # The adapter starts at random (its other half at zero), from a seed of its own.
    torch.manual_seed(stable_hash(arguments.seed, "adapter"))
    # What adapters need is small; all weights with their gradients and moments are shared between the devices.
    model = trainable(arguments, accelerator.device, sharded)
    if arguments.activation_checkpointing:
        recompute_layers(model)
    schedule = Schedule(
        **{name: settings[name] for name in Schedule.__dataclass_fields__ if name != "gamma_levels"},
        gamma_levels=[float(level) for level in arguments.gamma_levels],
    )
    trainer = Trainer(accelerator, model, objective, examples, schedule, arguments.train_tokens, sharded)
    result = trainer.run(working)
    state = sharding.whole_state(model, keep=accelerator.is_main_process) if sharded else None
    if not accelerator.is_main_process:
        return
    # Otherwise peft looks for the base model's configuration, on the hub too, to see whether its vocabulary has grown.
    adapter_only = {"save_embedding_layers": False} if arguments.adapter == "lora" else {}
    with writing(arguments.out_policy) as folder:
        model.save_pretrained(folder, state_dict=state, **adapter_only)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    log = "".join(working.rows)
    write_text(arguments.out_log, log)
    if arguments.tensorboard:
        write_tensorboard(log, Path(arguments.out_log).with_name("tensorboard"))
    write_json(
        arguments.out_summary,
        {
            "run": {
                name: settings[name]
                for name in ("dataset", "parameterization", "loss", "n", "beta", "seed", "settings")
            },
            **result,
            "step_seconds": result["seconds"] / result["steps"],
            "groups": len(examples),
            "responses": responses,
            "counts": dict(examples.counts),
            "trained_parameters": sum(p.numel() for p in trainer.parameters.values()),
            "devices": accelerator.num_processes,
            "policy": provenance.fingerprint(arguments.out_policy),
            "provenance": made_with,
        },
    )
    working.finish(outputs)
    logging.info("%d steps in %.1f s", result["steps"], result["seconds"])


def trainable(arguments: Arguments, device, sharded: bool):
    """The policy with a fresh LoRA adapter, or, for full fine-tuning, all its weights in float32.

    To be sharded, they stay on the CPU as they are stored: `sharding.shard` moves and converts them layer by layer.
    """
    import torch

    from hps.models.adapters import with_adapter
    from hps.models.sources import load_causal

    if sharded:
        return load_causal(arguments.policy, device="cpu")
    if arguments.adapter == "full":
        return load_causal(arguments.policy, dtype=torch.float32, device=device)
    model = load_causal(arguments.policy, dtype=getattr(torch, arguments.dtype), device=device)
    return with_adapter(model, arguments.lora_rank, arguments.lora_alpha, arguments.lora_targets, base=arguments.policy)


def fingerprint(made_with: dict) -> str:
    """What a checkpoint must share with the run that uses it: inputs, and the arguments but those of cost alone."""
    cost = cost_names("train")
    settings = {name: value for name, value in made_with["settings"].items() if name not in cost}
    same = {"settings": settings, "inputs": made_with["inputs"]}
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


def write_tensorboard(log: str, folder: Path) -> None:
    """The log's numbers as TensorBoard scalars."""
    from torch.utils.tensorboard import SummaryWriter

    with writing(folder) as partial, SummaryWriter(str(partial)) as writer:
        for line in log.splitlines():
            row = json.loads(line)
            for name, value in row.items():
                if name not in ("step", "epoch") and value is not None:
                    writer.add_scalar(name, value, row["step"])


if __name__ == "__main__":
    cli.run(main, Arguments)
