"""How the time of a training step grows with responses, prompt length and model size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks import inputs, measure, ours
from benchmarks.measure import Summary
from benchmarks.rows import Setting
from hps.logprobs.scorer import Group
from hps.planning.operations import Architecture

SIZES = ((192, 6), (320, 10), (448, 18), (576, 30))
"""Hidden size and layers of the models of one family that step time is followed over."""


def growth(setting: Setting, ns: Sequence[int] = (5, 20, 50, 100)) -> list[dict[str, Any]]:
    """Seconds of a training step over n, prompt length and model size, with the exponent of the fitted power law."""
    vocab = len(setting.tokenizer())
    draw = np.random.default_rng(1)
    repeats = max(2, setting.repeats - 1)
    adapted = setting.policy()

    def group(prompt: int, n: int, vocab: int = vocab) -> Group:
        made = [inputs.tokens(draw, 45, vocab) for _ in range(n + 1)]
        return Group(inputs.tokens(draw, prompt, vocab), made[:n])

    def steps(model: torch.nn.Module, loss: str, groups: list[Group]) -> ours.Steps:
        return ours.Steps(ours.trainer(model, loss, ours.examples(groups * 2), len(groups), setting.batch_tokens))

    by_n = {n: steps(adapted, "pl", [group(126, n)]) for n in ns}
    by_prompt = {p: steps(adapted, "bt", [group(p, 2) for _ in range(2)]) for p in (64, 128, 256, 512, 1024)}
    by_size = {}
    for hidden, layers in SIZES:
        shape = Architecture(layers, hidden, hidden // 64, hidden // 64, hidden * 8 // 3, 8192, tied=True)
        model = ours.with_adapters(ours.random_model(shape, setting.dtype, setting.device))
        by_size[shape.decoder_weights] = steps(model, "bt", [group(126, 2, 8192) for _ in range(setting.batch)])
    curves = []
    for over, what, cases in (
        ("n", "responses a prompt (PL, one prompt of 126 tokens, responses of 45)", by_n),
        ("prompt", "tokens of the prompt (BT, two responses of 45)", by_prompt),
        ("size", "entries of the decoder's weight matrices (BT, 126 and 2 x 45 tokens)", by_size),
    ):
        named = {str(x): case for x, case in cases.items()}
        timed = measure.interleaved(named, repeats, warmups=0, synchronize=setting.synchronize)
        medians = [Summary.of(timed[str(x)]).median for x in cases]
        factor, exponent = measure.power_law(list(cases), medians)
        _, last = measure.power_law(list(cases)[-2:], medians[-2:])
        curves.append(
            {
                "over": over,
                "what": what,
                "x": list(cases),
                "seconds": [Summary.of(timed[str(x)]).as_dict() for x in cases],
                "factor": factor,
                "exponent": exponent,
                "exponent_of_the_last_two": last,
                "repeats": repeats,
            }
        )
    return curves
