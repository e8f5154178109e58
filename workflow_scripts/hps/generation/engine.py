"""Sampling responses: what is asked of an engine, and what is made of the tokens it returns.

An engine is in `transformers_engine.py` or `vllm_engine.py` (key `compute.generation`). Prompts reach it as token ids,
rendered by hps/data/chat.py, and every response has a seed of its own, whatever batch it is drawn in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hps.data.chat import end_of_turn
from hps.support.files import stable_hash

OK, EMPTY, TRUNCATED = "ok", "empty", "truncated"


@dataclass(frozen=True)
class Response:
    """A sampled response: its text, how it ended (`ok`, `empty`, `truncated`), its tokens (EOS included)."""

    text: str
    status: str
    tokens: int


@dataclass(frozen=True)
class Request:
    """n responses wanted to one prompt, whose draws depend on `seed`, `prompt_id` and the response's number only."""

    prompt_id: str
    prompt: list[int]  # token ids, up to the assistant's header


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn (Sec. 6: temperature 0.9; gene.sh: top_p 1)."""

    n: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int

    def seed_of(self, prompt_id: str, number: int) -> int:
        """The seed, of 63 bits, that a prompt's response with this number is drawn with."""
        return stable_hash(self.seed, prompt_id, number)


class Engine(Protocol):
    """A model that continues prompts."""

    def sample(
        self, requests: Sequence[Request], sampling: Sampling, eos: int
    ) -> Iterator[list[tuple[Request, list[list[int]]]]]:
        """Yield, batch by batch and each request once, its `sampling.n` continuations as token ids.

        A continuation ends after its first `eos` or after `sampling.max_new_tokens`; what follows an `eos` is ignored.
        """
        ...


def generate(
    engine: Engine, tokenizer, requests: Sequence[Request], sampling: Sampling
) -> Iterator[list[tuple[Request, list[Response]]]]:
    """Sample `sampling.n` responses to each request; yields them batch by batch, not in the order of the requests."""
    for batch in engine.sample(requests, sampling, end_of_turn(tokenizer)):
        yield [(request, [read_response(tokenizer, ids) for ids in drawn]) for request, drawn in batch]


def longest(requests: Sequence[Request], sampling: Sampling) -> int:
    """Tokens of the longest prompt with a response of full length."""
    return max((len(request.prompt) for request in requests), default=0) + sampling.max_new_tokens


def read_response(tokenizer, ids: list[int]) -> Response:
    """Cut generated ids at the end of the turn and name their end: without one `truncated`, without text `empty`."""
    eos = end_of_turn(tokenizer)
    ended = eos in ids
    if ended:
        ids = ids[: ids.index(eos)]
    text = tokenizer.decode(ids, skip_special_tokens=True).strip()
    status = TRUNCATED if not ended else OK if text else EMPTY
    return Response(text, status, len(ids) + ended)
