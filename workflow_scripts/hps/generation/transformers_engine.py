"""Sampling with transformers: a response is a function of its own seed, whatever batch or shard it is computed in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from hps.generation.engine import Request, Sampling, longest
from hps.logprobs import context
from hps.support.errors import InputError


class _Finite(LogitsProcessor):
    """Stops at logits that no token can be drawn by: one NaN or +inf, or nothing but -inf."""

    def __init__(self, where: str, what: str):
        self.where = where
        self.what = what

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not scores.amax(-1).isfinite().all():  # the largest of a row with a NaN is NaN
            raise InputError(self.where, self.what)
        return scores


class _SeededDraw(LogitsProcessor):
    """Turns sampling into a function of given uniform numbers: step t of row i takes the token where the cumulative
    probability passes `uniforms[i, t]`. All other tokens get -inf, so that greedy search takes the drawn one.
    """

    def __init__(self, uniforms: torch.Tensor, prompt_length: int):
        self.uniforms = uniforms  # (rows, steps) float64 in [0, 1)
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        cumulative = scores.double().softmax(-1).cumsum(-1)
        # The sum ends within rounding of 1; scaling by it keeps a draw near 1 inside the vocabulary.
        draw = self.uniforms[:, input_ids.shape[1] - self.prompt_length, None] * cumulative[:, -1:]
        token = torch.searchsorted(cumulative, draw, right=True).clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


def uniforms(request: Request, sampling: Sampling) -> np.ndarray:
    """The numbers that decide the responses to one request: (n, max_new_tokens) float64 in [0, 1)."""
    return np.stack(
        [
            np.random.default_rng(sampling.seed_of(request.prompt_id, number)).random(sampling.max_new_tokens)
            for number in range(sampling.n)
        ]
    )


class TransformersEngine:
    """Engine around a loaded causal model, or a PEFT model: the adapters that are active count.

    The prompt is computed once for its n responses. At most `batch_sequences` responses are in memory together; a
    prompt with more of them is done in several rounds.
    """

    def __init__(self, model: torch.nn.Module, batch_sequences: int):
        self.model = model
        self.batch_sequences = batch_sequences

    @torch.no_grad()
    def sample(
        self, requests: Sequence[Request], sampling: Sampling, eos: int
    ) -> Iterator[list[tuple[Request, list[list[int]]]]]:
        """As `hps.generation.engine.Engine` says; prompts of similar length share a batch.

        Raises InputError naming the model, or the temperature, when logits are not finite; and before the first batch
        when the model has too few positions for the longest prompt and a response.
        """
        config = self.model.config
        context.check_length(config.name_or_path, longest(requests, sampling), context.positions(config))
        per_round = min(sampling.n, self.batch_sequences)
        prompts_a_batch = max(1, self.batch_sequences // per_round)
        ordered = sorted(requests, key=lambda request: len(request.prompt))
        for start in range(0, len(ordered), prompts_a_batch):
            batch = ordered[start : start + prompts_a_batch]
            draws = np.stack([uniforms(request, sampling) for request in batch])  # (prompts, n, steps)
            drawn: list[list[list[int]]] = [[] for _ in batch]
            for first in range(0, sampling.n, per_round):
                part = draws[:, first : first + per_round]
                generated = self._generate_batch([request.prompt for request in batch], part, sampling, eos)
                for mine, new in zip(drawn, generated, strict=True):
                    mine += new
            yield list(zip(batch, drawn, strict=True))

    def _generate_batch(
        self, prompts: list[list[int]], draws: np.ndarray, sampling: Sampling, eos: int
    ) -> list[list[list[int]]]:
        device = self.model.device
        copies = draws.shape[1]
        longest = max(map(len, prompts))
        # Left padding, as generation needs it; masked, so the id does not matter.
        ids = torch.tensor([[eos] * (longest - len(p)) + p for p in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)

        cache = DynamicCache(config=self.model.config)
        if longest > 1:
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            self.model(
                input_ids=ids[:, :-1],
                attention_mask=mask[:, :-1],
                position_ids=positions[:, :-1],
                past_key_values=cache,
                logits_to_keep=1,
            )
            cache.batch_repeat_interleave(copies)
        ids = ids.repeat_interleave(copies, 0)
        numbers = torch.from_numpy(draws.reshape(len(prompts) * copies, -1)).to(device)
        name = self.model.config.name_or_path
        processors: list[LogitsProcessor] = [
            _Finite(name, "its logits are not finite: a weight may be NaN or infinite, or its type too small"),
            TemperatureLogitsWarper(sampling.temperature),
            _Finite("temperature", f"{sampling.temperature:g} is too small for the logits of {name}: they overflow"),
        ]
        if sampling.top_p < 1:
            processors.append(TopPLogitsWarper(sampling.top_p))
        processors.append(_SeededDraw(numbers, longest))
        out = self.model.generate(
            ids,
            attention_mask=mask.repeat_interleave(copies, 0),
            past_key_values=cache,
            logits_processor=LogitsProcessorList(processors),
            # A configuration of our own: a model folder's (temperature, penalties) must not add to it.
            generation_config=GenerationConfig(
                do_sample=False, max_new_tokens=sampling.max_new_tokens, eos_token_id=eos, pad_token_id=eos
            ),
        )
        rows = out[:, longest:].tolist()
        return [rows[i * copies : (i + 1) * copies] for i in range(len(prompts))]
