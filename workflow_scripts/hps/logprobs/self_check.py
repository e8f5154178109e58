"""A short sequence through this package's code and through the model's own `forward`, before any number is used.

This package calls a model's parts by itself: the decoder on prompts that are shared, the output head on the tokens that
count. An architecture that does something else in between would get wrong numbers, the same for policy and reference,
so that no comparison of the two could show it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch

from hps.logprobs.shared_prompts import SharedPrompts
from hps.support.errors import InputError

NATS = 1e-4
"""What a response's number may differ by in float32."""
STEPS = 64
"""What it may differ by where the weights are coarser: steps of their precision a token (bfloat16: half a nat).
What one batch and another make of the same bfloat16 weights is less, another formula for the logits is more."""

Computed = Callable[[Sequence[int], Sequence[list[int]]], torch.Tensor]
Own = Callable[[Sequence[int], list[int]], float]


@torch.no_grad()
def check(part: SharedPrompts, where: str, computed: Computed, own: Own) -> None:
    """Compare the numbers (log-probs, rewards) of two responses of two and three tokens to one prompt.

    Where sharing the prompt gives others than the model, the plain path is taken from then on. Without weights (on the
    meta device) nothing can be compared.

    Args:
        part: of the model; its `shares_prompts` may be set to false.
        where: the model and its architecture, for messages.
        computed: from prompt and R responses to their numbers by this package, (ways of computing them, R).
        own: from prompt and response to its number by the model's own `forward`.

    Raises InputError where the plain path gives other numbers too.
    """
    if part.device.type == "meta":
        return
    vocabulary = part.decoder.config.get_text_config().vocab_size
    prompt, *responses = ([(17 * i + 5) % vocabulary for i in places] for places in ((1, 2, 3), (4, 5), (6, 7, 8)))
    expected = torch.tensor([own(prompt, response) for response in responses], dtype=torch.float64)
    step = torch.finfo(part.decoder.dtype).eps
    bounds = torch.tensor([max(NATS, STEPS * step * len(response)) for response in responses])

    def agrees() -> tuple[bool, str]:
        try:
            found = (computed(prompt, responses).cpu().double() - expected).abs().amax(0)
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            return False, " ".join(f"{type(error).__name__}: {error}".split())
        # A comparison with NaN is false.
        return bool((found <= bounds).all()), f"a difference of {found.max():.2g}"

    if part.shares_prompts:
        part.shares_prompts, found = agrees()
        if part.shares_prompts:
            return
        logging.info("%s: each response is computed with its prompt, which cannot be shared (%s)", where, found)
    right, found = agrees()
    if not right:
        raise InputError(
            where,
            "decoder and output head do not give a short response the number that the model's own forward gives "
            f"({found}); this architecture cannot be used",
        )
