"""Peak memory of one loss on a CPU: a training step in a process of its own, whose largest resident set counts.

    python -m benchmarks.memory --folder models/policy --dtype bfloat16 --loss pl --n 100 --batch 1 \\
        --batch-tokens 1024 --prompt 126 --response 45
"""

import json
from dataclasses import dataclass

from hps.support import cli
from hps.support.cli import argument


@dataclass(kw_only=True)
class Arguments:
    folder: str = argument("model folder")
    dtype: str = argument("of the frozen weights")
    loss: str = argument("preference loss")
    n: int = argument("responses a prompt")
    batch: int = argument("prompts a step")
    batch_tokens: int = argument("tokens of a micro-batch")
    prompt: int = argument("tokens of each prompt")
    response: int = argument("tokens of each response")


def main(arguments: Arguments) -> None:
    import numpy as np
    import psutil
    import torch

    from benchmarks import inputs, measure, ours
    from hps.logprobs.scorer import Group

    draw = np.random.default_rng(0)
    model = ours.policy(arguments.folder, getattr(torch, arguments.dtype), "cpu")
    vocab = model.config.vocab_size
    groups = [
        Group(
            inputs.tokens(draw, arguments.prompt, vocab),
            [inputs.tokens(draw, arguments.response, vocab) for _ in range(arguments.n)],
        )
        for _ in range(2 * arguments.batch)
    ]
    trainer = ours.trainer(model, arguments.loss, ours.examples(groups), arguments.batch, arguments.batch_tokens)
    before = psutil.Process().memory_info().rss
    trainer.step(1)
    print(json.dumps({"before": before, "peak": measure.largest_resident_set()}))


if __name__ == "__main__":
    cli.run(main, Arguments)
