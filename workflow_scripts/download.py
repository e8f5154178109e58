"""Read one preference data set, from files or from the Hugging Face hub, and split it by prompt.

    python workflow_scripts/download.py --dataset hh_rlhf --format hh_rlhf \\
        --train-files data/toy/hh-rlhf/harmless-base/train.jsonl.gz \\
        --test-files data/toy/hh-rlhf/harmless-base/test.jsonl.gz \\
        --test 48 --reward 600 --eval-reward 600 --sft 2500 --train 48 --out results/data/hh_rlhf

    python workflow_scripts/download.py --dataset pku_saferlhf --format pku_saferlhf \\
        --hub PKU-Alignment/PKU-SafeRLHF --test 800 --train -1 --out results/data/pku_saferlhf

writes test, reward, eval_reward, sft and train.parquet (one comparison a prompt, no prompt in two of them) and
counts.json: what was read, dropped and left out, and why.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hps import cli, files
from hps.data import Parser, hub, parser
from hps.data.records import Comparison, read, read_jsonl
from hps.data.splits import SPLITS, Request, split
from hps.errors import InputError
from hps.schemas import PAIRS

PARTS = ("train", "test")
Part = Literal["train", "test"]


@dataclass
class Arguments:
    dataset: str = cli.argument("name of the data set, for the records")
    format: Literal["hh_rlhf", "pku_saferlhf"] = cli.argument("format of its rows")
    out: str = cli.argument("folder to write, whole")
    train_files: list[str] = cli.argument("training files (.jsonl or .jsonl.gz)", [])
    test_files: list[str] = cli.argument("test files", [])
    hub: str = cli.argument("repository on the hub, or a local copy's folder, instead of files", "")
    hub_data_dirs: list[str] = cli.argument("folders of the repository to read; none: its default", [])
    hub_revision: str = cli.argument("commit or branch of the repository", "main")
    label: str = cli.argument("pku_saferlhf: better_response_id (default) or safer_response_id", "")
    seed: int = cli.argument("seed of the order of the prompts, and so of the split", 0)
    max_prompt_chars: int = cli.argument("leave out longer prompts; 0: no limit", 0)
    max_response_chars: int = cli.argument("leave out prompts with a longer reply; 0: no limit", 0)
    train_from_fraction: float = cli.argument("the split train begins at this fraction of the part it draws from", 0.0)
    test: int = cli.argument("prompts of the split test; -1: all that remain", 0)
    test_from: Part = cli.argument("the part it draws from", "test")
    reward: int = cli.argument("prompts to train the reward model", 0)
    reward_from: Part = cli.argument("the part they are drawn from", "train")
    eval_reward: int = cli.argument("prompts to train the evaluation reward model", 0)
    eval_reward_from: Part = cli.argument("the part they are drawn from", "train")
    sft: int = cli.argument("prompts to train policy and generator from scratch", 0)
    sft_from: Part = cli.argument("the part they are drawn from", "train")
    train: int = cli.argument("prompts of the preference training", 0)
    train_from: Part = cli.argument("the part they are drawn from", "train")


def main(arguments: Arguments) -> None:
    requests = {name: _request(arguments, name) for name in SPLITS}
    parse = parser(arguments.format, arguments.label)
    parts: dict[str, list[Comparison]] = {}
    counts: dict[str, dict[str, Any]] = {}
    for part in PARTS:
        if any(request.part == part and request.prompts != 0 for request in requests.values()):
            parts[part], counts[part] = _read_part(arguments, part, parse)
    splits, prompts = split(
        parts,
        requests,
        seed=arguments.seed,
        max_prompt_chars=arguments.max_prompt_chars or None,
        max_response_chars=arguments.max_response_chars or None,
        train_from_fraction=arguments.train_from_fraction,
    )
    for part, counted in prompts.items():
        counts[part]["prompts"] = dict(counted)
        logging.info("%s %s: %s", arguments.dataset, part, counts[part]["rows"] | counts[part]["prompts"])
    record = {
        "dataset": arguments.dataset,
        "format": arguments.format,
        "label": arguments.label,
        "seed": arguments.seed,
        "max_prompt_chars": arguments.max_prompt_chars or None,
        "max_response_chars": arguments.max_response_chars or None,
        "train_from_fraction": arguments.train_from_fraction,
        "parts": counts,
        "splits": {name: {"part": requests[name].part, "prompts": len(splits[name])} for name in SPLITS},
    }
    with files.writing(arguments.out) as folder:
        for name in SPLITS:
            files.write_table(folder / f"{name}.parquet", [_pair(comparison) for comparison in splits[name]], PAIRS)
        files.write_json(folder / "counts.json", record)


def _request(arguments: Arguments, name: str) -> Request:
    prompts = getattr(arguments, name)
    if prompts < -1:
        raise InputError(f"--{name.replace('_', '-')}", f"must be a number of prompts, or -1 for all, not {prompts}")
    return Request(getattr(arguments, f"{name}_from"), None if prompts == -1 else prompts)


def _read_part(arguments: Arguments, part: str, parse: Parser) -> tuple[list[Comparison], dict[str, Any]]:
    """The comparisons of one part in file order; what was read and counted."""
    paths = getattr(arguments, f"{part}_files")
    if bool(arguments.hub) == bool(paths):
        what = "either files or a hub repository, not both" if paths else "files, or a hub repository (--hub)"
        raise InputError(f"--{part}-files", f"{arguments.dataset} needs {what}, since a split draws from them")
    comparisons: list[Comparison] = []
    total: Counter = Counter()
    sources = []
    for rows, source in _from_files(paths) if paths else _from_hub(arguments, part):
        records, counted = read(rows, parse)
        comparisons += records
        total += counted
        sources.append(source | {"rows": counted["rows"]})
    return comparisons, {"sources": sources, "rows": dict(sorted(total.items()))}


def _from_files(paths: list[str]) -> Iterator[tuple[Any, dict[str, Any]]]:
    for path in paths:
        if not Path(path).is_file():
            raise InputError(path, "no such file")
        yield read_jsonl(path), {"path": path, "sha256": files.sha256(path)}


def _from_hub(arguments: Arguments, part: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    for data_dir in arguments.hub_data_dirs or [""]:
        rows, origins = hub.rows(arguments.hub, arguments.hub_revision, data_dir, part)
        yield rows, {"hub": arguments.hub, "revision": arguments.hub_revision, "data_dir": data_dir, "files": origins}


def _pair(comparison: Comparison) -> dict[str, Any]:
    return {
        "prompt_id": comparison.prompt_id,
        "messages": comparison.messages,
        "chosen": comparison.chosen,
        "rejected": comparison.rejected,
    }


if __name__ == "__main__":
    cli.run(main, Arguments)
