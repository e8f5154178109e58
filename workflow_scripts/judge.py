"""Judge the samples of a method against those of the baselines (Table 4), pair by pair.

    HPS_JUDGE_URL=http://localhost:8000/v1 HPS_JUDGE_MODEL=Qwen/Qwen2.5-72B-Instruct HPS_JUDGE_KEY=none \\
    python workflow_scripts/judge.py --source openai --test-sets hh_rlhf --pairs data/hh_rlhf/test.parquet \\
        --methods evaluations/.../hh_rlhf evaluations/.../hh_rlhf --baselines evaluations/sft/hh_rlhf \\
        evaluations/.../hh_rlhf --samples 1 --max-requests 20000 --cache judge_cache --out judge

--methods and --baselines go together one by one. DIR gets judgements.parquet and judge.json. Answers stay in the cache,
so a run that was interrupted, or ended by a limit, goes on where it stopped and pays for nothing twice. A server that
calls its model owner/name@<commit> of the hub, as slurm/serve_judge.sh does, has this commit recorded in judge.json.
"""

import asyncio
import logging
import os
from dataclasses import asdict, dataclass, fields

from hps.judge.cache import Cache
from hps.judge.client import Client, Limits, endpoint_from
from hps.judge.comparisons import JUDGEMENTS, JudgedPair, pair, read_policy, read_prompts
from hps.judge.judging import by_endpoint, by_true_reward, kept
from hps.judge.served import served_commit
from hps.support import cli, provenance
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.files import write_json, write_table, writing
from hps.support.settings import taken_by


@dataclass(kw_only=True)
class Arguments(taken_by("judge")):
    test_sets: list[str] = argument("data sets that are judged", nargs="+")
    pairs: list[str] = argument("their test prompts (Parquet), one file each", nargs="+")
    methods: list[str] = argument("evaluations of the method, one a comparison", nargs="+")
    baselines: list[str] = argument("evaluations of the baselines, in the same order", nargs="+")
    out: str = argument("folder")
    samples: int = argument("the first so many samples of a prompt are judged", 1)
    seed: int = argument("decides which order of a pair is the drawn one", 0)
    cache: str = argument("folder of answers; kept between runs", "judge_cache")
    lock: str = argument("file of pinned commits (hub.lock.yaml); a server of another commit is refused", "")


def main(arguments: Arguments) -> None:
    items = read_items(arguments)
    if arguments.source == "true_reward":
        rows, facts = by_true_reward(items), {"model": "true reward"}
    else:
        rows, facts = ask(items, arguments)
    invalid = [row for row in rows if row["method_score"] is None]
    if len(invalid) == len(rows):
        why = f"none of {len(rows)} judgements is valid; the first: {invalid[0]['problem']}"
        raise InputError("judge", f"{why}. {kept(arguments.cache)}")
    logging.info("%d pairs, %d judgements, %d of them invalid", len(items), len(rows), len(invalid))
    if invalid:
        logging.info(kept(arguments.cache))
    with writing(arguments.out) as folder:
        folder.mkdir()
        write_table(folder / "judgements.parquet", rows, JUDGEMENTS)
        settings = asdict(arguments)
        counts = {"pairs": len(items), "judgements": len(rows), "invalid": len(invalid)}
        files = [*arguments.pairs, *(f"{path}/samples.parquet" for path in (*arguments.methods, *arguments.baselines))]
        facts = {name: settings[name] for name in ("source", "samples", "orders")} | facts | counts
        write_json(folder / "judge.json", facts | {"provenance": provenance.collect(settings, files)})


def read_items(arguments: Arguments) -> list[JudgedPair]:
    for name, values, others in (
        ("--pairs", arguments.pairs, arguments.test_sets),
        ("--baselines", arguments.baselines, arguments.methods),
    ):
        if len(values) != len(others):
            raise InputError(name, f"{len(values)} where {len(others)} are needed: one each")
    prompts = {name: read_prompts(path) for name, path in zip(arguments.test_sets, arguments.pairs, strict=True)}
    items = []
    for ours, theirs in zip(arguments.methods, arguments.baselines, strict=True):
        method, baseline = read_policy(ours, arguments.samples), read_policy(theirs, arguments.samples)
        if method.test_set not in prompts:
            raise InputError(ours, f"is on {method.test_set}, whose prompts --pairs does not give")
        items += pair(method, baseline, prompts[method.test_set])
    return items


def ask(items: list[JudgedPair], arguments: Arguments) -> tuple[list[dict], dict]:
    """Judgements by the endpoint, and what judge.json says of it (never the key)."""
    variables = (arguments.url_variable, arguments.model_variable, arguments.key_variable)
    endpoint = endpoint_from(os.environ, *variables)
    commit = served_commit(endpoint.model, arguments.lock)
    limits = Limits(**{one.name: getattr(arguments, one.name) for one in fields(Limits)})

    async def judged() -> tuple[list[dict], Client]:
        client = Client(endpoint, Cache(arguments.cache), limits)
        return await by_endpoint(items, client, arguments.orders, arguments.seed), client

    rows, client = asyncio.run(judged())
    logging.info("%d answers asked for now; %d in the cache, %d tokens", client.asked, client.paid, client.paid_tokens)
    served = {"model": endpoint.model, "commit": commit, "host": endpoint.host}
    return rows, served | asdict(client.form) | {"answers": client.paid, "tokens": client.paid_tokens}


if __name__ == "__main__":
    cli.run(main, Arguments)
