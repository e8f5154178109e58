"""Read one preference data set, from files or from the Hugging Face hub, and split it by prompt.

    python workflow_scripts/download.py --dataset hh_rlhf --format hh_rlhf \\
        --train-files data/toy/hh-rlhf/harmless-base/train.jsonl.gz \\
        --test-files data/toy/hh-rlhf/harmless-base/test.jsonl.gz \\
        --test-prompts 48 --test-from test --sft-prompts 2500 --train-prompts 48 --out results/data/hh_rlhf

    python workflow_scripts/download.py --dataset hh_rlhf --format hh_rlhf \\
        --hub Anthropic/hh-rlhf --hub-train-files harmless-base/train.jsonl.gz \\
        --hub-test-files harmless-base/test.jsonl.gz --lock config/hub.lock.yaml --test-prompts 800 \\
        --test-from test --train-prompts -1 --out results/data/hh_rlhf

writes test, reward, eval_reward, sft and train.parquet (one comparison a prompt, no prompt in two of them) and
counts.json: what was read, dropped and left out, and why.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hps.data import stages
from hps.data.formats import Parser, parser
from hps.data.records import Comparison, read, read_rows
from hps.data.schemas import PAIRS
from hps.data.splits import SPLITS, SplitRequest, split
from hps.models import hub
from hps.models.hub_lock import Snapshot, Wanted
from hps.support import cli, files
from hps.support.errors import InputError
from hps.support.settings import taken_by

PARTS = ("train", "test")


@dataclass(kw_only=True)
class Arguments(taken_by("download")):
    dataset: str = cli.argument("name of the data set, for the records")
    out: str = cli.argument("folder to write, whole")
    train_files: list[str] = cli.argument("training files (.jsonl or .json, either also .gz; .parquet; .csv)", [])
    test_files: list[str] = cli.argument("test files", [])
    hub_train_files: list[str] = cli.argument("the repository's training files; * stands for part of a name", [])
    hub_test_files: list[str] = cli.argument("the repository's test files", [])
    lock: str = cli.argument("file of pinned commits (hub.lock.yaml); what it pins is taken and verified", "")
    seed: int = cli.argument("seed of the order of the prompts, and so of the split", 0)


def main(arguments: Arguments) -> None:
    requests = {name: _request(arguments, name) for name in SPLITS}
    parse = parser(arguments.format, arguments.label)
    parts: dict[str, list[Comparison]] = {}
    counts: dict[str, dict[str, Any]] = {}
    needed = [part for part in PARTS if any(r.part == part and r.prompts != 0 for r in requests.values())]
    for part in needed:
        _check_sources(arguments, part)
    with ExitStack() as stack:
        snapshot, folder = None, Path()
        if arguments.hub:
            patterns = [name for part in needed for name in getattr(arguments, f"hub_{part}_files")]
            wanted = Wanted("dataset", arguments.hub, arguments.hub_revision, tuple(patterns))
            snapshot = hub.snapshot(wanted, arguments.lock)
            folder = stack.enter_context(hub.downloaded(snapshot, arguments.out))
        for part in needed:
            if snapshot:
                found = _from_hub(snapshot, folder, getattr(arguments, f"hub_{part}_files"))
            else:
                found = _from_files(getattr(arguments, f"{part}_files"))
            parts[part], counts[part] = _read_part(found, parse)
    splits, prompts = split(
        parts,
        requests,
        seed=arguments.seed,
        max_prompt_chars=arguments.max_prompt_chars,
        max_response_chars=arguments.max_response_chars,
        train_from_fraction=arguments.train_from_fraction,
        read={part: {"rows": 0} | counted["rows"] for part, counted in counts.items()},
    )
    for part, counted in prompts.items():
        counts[part]["prompts"] = dict(counted)
        logging.info("%s %s: %s", arguments.dataset, part, counts[part]["rows"] | counts[part]["prompts"])
    record = {
        "dataset": arguments.dataset,
        "format": arguments.format,
        "label": arguments.label,
        "seed": arguments.seed,
        "max_prompt_chars": arguments.max_prompt_chars,
        "max_response_chars": arguments.max_response_chars,
        "train_from_fraction": arguments.train_from_fraction,
        "parts": counts,
        "splits": {name: {"part": requests[name].part, "prompts": len(splits[name])} for name in SPLITS},
    }
    with files.writing(arguments.out) as folder:
        for name in SPLITS:
            stages.write(folder / f"{name}.parquet", [_pair(comparison) for comparison in splits[name]], PAIRS)
        files.write_json(folder / "counts.json", record)


def _request(arguments: Arguments, name: str) -> SplitRequest:
    prompts = getattr(arguments, f"{name}_prompts")
    if prompts < -1:
        raise InputError(
            f"--{name.replace('_', '-')}-prompts", f"must be a number of prompts, or -1 for all, not {prompts}"
        )
    return SplitRequest(getattr(arguments, f"{name}_from"), None if prompts == -1 else prompts)


def _check_sources(arguments: Arguments, part: str) -> None:
    """A part that a split draws from comes from files here, or from the hub."""
    paths, hub_paths = getattr(arguments, f"{part}_files"), getattr(arguments, f"hub_{part}_files")
    if bool(arguments.hub) == bool(paths):
        what = "either files or a hub repository, not both" if paths else "files, or a hub repository (--hub)"
        raise InputError(f"--{part}-files", f"{arguments.dataset} needs {what}, since a split draws from them")
    if arguments.hub and not hub_paths:
        raise InputError(f"--hub-{part}-files", f"{arguments.dataset} needs some, since a split draws from them")


Source = tuple[Any, dict[str, Any]]
"""The rows of one file, and what is recorded of it."""


def _read_part(found: Iterator[Source], parse: Parser) -> tuple[list[Comparison], dict[str, Any]]:
    """The comparisons of one part in file order; what was read and counted."""
    comparisons: list[Comparison] = []
    total: Counter = Counter()
    sources = []
    for rows, source in found:
        records, counted = read(rows, parse)
        comparisons += records
        total += counted
        sources.append(source | {"rows": counted["rows"]})
    return comparisons, {"sources": sources, "rows": dict(sorted(total.items()))}


def _from_files(paths: list[str]) -> Iterator[Source]:
    for path in paths:
        if not Path(path).is_file():
            raise InputError(path, "no such file")
        yield read_rows(path), {"path": path, "sha256": files.sha256(path)}


def _from_hub(snapshot: Snapshot, folder: Path, patterns: list[str]) -> Iterator[Source]:
    for name in snapshot.only(patterns).files:
        recorded = {"hub": snapshot.repo, "commit": snapshot.commit, "file": name, "listed_by": snapshot.listed_by}
        path = folder / name
        yield read_rows(path, f"{snapshot.repo}/{name}"), recorded | {"sha256": files.sha256(path)}


def _pair(comparison: Comparison) -> dict[str, Any]:
    return {
        "prompt_id": comparison.prompt_id,
        "messages": comparison.messages,
        "chosen": comparison.chosen,
        "rejected": comparison.rejected,
        "chosen_harmful": comparison.chosen_harmful,
        "rejected_harmful": comparison.rejected_harmful,
    }


if __name__ == "__main__":
    cli.run(main, Arguments, network=True)
