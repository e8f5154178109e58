"""Write n responses to each prompt of one shard, beside the two human ones: the candidates.

    python workflow_scripts/augment.py --pairs train.parquet --generator models/generator --shard 1-of-4 --n 100 \\
        --temperature 0.9 --top-p 1 --max-new-tokens 40 --seed 0 --sequences 512 --dtype float32 \\
        --out candidates.parquet --stats candidates.json
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

from hps.data import chat, stages
from hps.data.schemas import CANDIDATES, PAIRS
from hps.generation.engine import EMPTY, OK, Engine, Request, Sampling, generate, longest
from hps.support import cli, progress, provenance
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.files import identity, write_json
from hps.support.settings import taken_by


@dataclass(kw_only=True)
class Arguments(taken_by("augment")):
    pairs: str = argument("prompts with their human pair (Parquet)")
    generator: str = argument("model folder")
    readers: list[str] = argument("folders of models that read the prompts later: their templates must take them", [])
    reward_readers: list[str] = argument("the same of reward models", [])
    reward_system_turn: Literal["keep", "remove"] = argument("of what reward models read", "keep")
    shard: str = argument("which of how many, such as 1-of-4")
    n: int = argument("responses a prompt")
    seed: int = argument("with prompt and number, decides each response")
    out: str = argument("candidates (Parquet)")
    stats: str = argument("counts (JSON)")


def main(arguments: Arguments) -> None:
    from hps.models.sources import load_tokenizer

    pairs = shard(stages.rows(arguments.pairs, PAIRS), arguments.shard)
    tokenizer = load_tokenizer(arguments.generator)
    readers = [(load_tokenizer(folder), "keep") for folder in arguments.readers]
    readers += [(load_tokenizer(folder), arguments.reward_system_turn) for folder in arguments.reward_readers]
    requests = []
    for pair in pairs:
        prompt_id, messages = pair["prompt_id"], pair["messages"]
        requests.append(Request(prompt_id, chat.prompt_ids(tokenizer, messages, prompt_id=prompt_id)))
        for reader, system_turn in readers:
            chat.check_conversation(reader, messages, prompt_id, system_turn)
    sampling = Sampling(arguments.n, arguments.temperature, arguments.top_p, arguments.max_new_tokens, arguments.seed)
    human = [(pair["prompt_id"], origin, pair[origin]) for pair in pairs for origin in ("chosen", "rejected")]
    encoded = chat.responses_ids(tokenizer, [text for *_, text in human])
    rows = [
        candidate(prompt_id, origin, 0, text, OK if text.strip() else EMPTY, len(ids))
        for (prompt_id, origin, text), ids in zip(human, encoded, strict=True)
    ]
    with (
        engine(arguments, longest(requests, sampling)) as generator,
        progress.bar(total=len(requests) * arguments.n, what="augment", unit="response") as bar,
    ):
        for batch in generate(generator, tokenizer, requests, sampling):
            for request, responses in batch:
                for number, response in enumerate(responses):
                    rows.append(
                        candidate(
                            request.prompt_id, "generated", number, response.text, response.status, response.tokens
                        )
                    )
                bar.update(len(responses))
    rows.sort(key=lambda row: (row["prompt_id"], row["origin"], row["index"]))
    made_from = {"pairs": identity(arguments.pairs), "generator": provenance.identity(arguments.generator)}
    stages.write(arguments.out, rows, CANDIDATES, made_from)
    generated = [row for row in rows if row["origin"] == "generated"]
    write_json(
        arguments.stats,
        {
            "prompts": len(pairs),
            "generated": dict(Counter(row["status"] for row in generated)),
            "generated tokens": sum(row["tokens"] for row in generated),
            "distinct generated": len({(row["prompt_id"], row["response"]) for row in generated}),
            "provenance": provenance.collect(asdict(arguments), [arguments.pairs, arguments.generator]),
        },
    )


@contextmanager
def engine(arguments: Arguments, max_length: int) -> Iterator[Engine]:
    """The generator, for prompts and responses of together at most `max_length` tokens."""
    if arguments.generation == "vllm":
        from hps.generation import vllm_engine

        with vllm_engine.opened(
            arguments.generator,
            arguments.generator,
            dtype=arguments.dtype,
            sequences=arguments.sequences,
            tensor_parallel=arguments.tensor_parallel,
            max_length=max_length,
        ) as generator:
            yield generator
    else:
        import torch

        from hps.generation.transformers_engine import TransformersEngine
        from hps.models.sources import load_causal

        model = load_causal(arguments.generator, dtype=getattr(torch, arguments.dtype))
        yield TransformersEngine(model, arguments.sequences)


def candidate(prompt_id: str, origin: str, index: int, response: str, status: str, tokens: int) -> dict:
    return {
        "prompt_id": prompt_id,
        "origin": origin,
        "index": index,
        "response": response,
        "status": status,
        "tokens": tokens,
    }


def shard(rows: list[dict], name: str) -> list[dict]:
    """Every k-th row for shard `i-of-k`, i from 1."""
    try:
        number, total = map(int, name.split("-of-"))
    except ValueError as error:
        raise InputError("--shard", f"{name!r} is not of the form 1-of-4") from error
    return rows[number - 1 :: total]


if __name__ == "__main__":
    cli.run(main, Arguments)
