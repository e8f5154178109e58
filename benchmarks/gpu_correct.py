"""What must hold on a GPU before its times mean anything: a CPU's numbers, resumption, and the start of a training.

The models are the size of a thumbnail and in float32, but for the start's, which is the one that is measured.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import torch

from benchmarks import ours
from benchmarks.gpu import RandomWeights
from hps.generation.engine import Request, Sampling
from hps.generation.transformers_engine import TransformersEngine
from hps.logprobs.scorer import Group, SequenceScorer
from hps.models.reward_model import RewardModel
from hps.training.checkpoints import Checkpoints
from hps.training.trainer import Trainer

TOLERANCE = 1e-4
"""Relative, of float32 sums that two devices take in another order."""


class Wrong(AssertionError):
    """What does not hold, and by how much."""


def checks(setting: RandomWeights) -> dict[str, Callable[[], str]]:
    """By name, what raises Wrong where it does not hold, and says what it found where it does."""
    small = replace(RandomWeights.of_a_thumbnail(setting.device, 1), dtype=torch.float32)
    return {
        "log-probs and gradient are a CPU's, in one pass": lambda: log_probs_and_gradient(small, 10**6),
        "log-probs and gradient are a CPU's, in parts": lambda: log_probs_and_gradient(small, 60),
        "rewards are a CPU's": lambda: rewards(small),
        "greedy responses are a CPU's, token by token": lambda: responses(small),
        "a training that was cut off ends as one that was not": lambda: resumed(small),
        "the first step finds policy = reference, in bfloat16": lambda: start(setting),
    }


def on_both(setting: RandomWeights) -> list[RandomWeights]:
    """On a CPU and on the setting's device."""
    return [replace(setting, device="cpu"), setting]


def same_weights(made: Sequence[torch.nn.Module]) -> Sequence[torch.nn.Module]:
    """Models of one kind, all with the first one's weights: each device draws random numbers of its own."""
    for model in made[1:]:
        model.load_state_dict(made[0].state_dict())
    return made


def groups(setting: RandomWeights) -> list[Group]:
    """Ragged prompts with 2, 3 and 17 responses."""
    draw = random.Random(1)

    def tokens(longest: int) -> list[int]:
        return [draw.randrange(setting.architecture.vocab) for _ in range(draw.randint(1, longest))]

    return [Group(tokens(12), [tokens(9) for _ in range(n)]) for n in (2, 3, 17)]


def log_probs_and_gradient(setting: RandomWeights, batch_tokens: int) -> str:
    found = []
    for model in same_weights([one.policy() for one in on_both(setting)]):
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # at its start, where it is zero, the other half gets no gradient
                weight.data.copy_(torch.linspace(-0.5, 0.5, weight.numel()).view_as(weight))
        log_probs = SequenceScorer(model, batch_tokens).backward(groups(setting), lambda values: values.square().mean())
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
        found.append({"log-probs": log_probs.cpu(), "gradient": gradient.cpu()})
    return "; ".join(close(what, found[0][what], found[1][what]) for what in found[0])


def rewards(setting: RandomWeights) -> str:
    pairs, _ = setting.pairs("hh_rlhf", 4)
    tokenizer = setting.tokenizer()
    asked = [
        ([{"role": "user", "content": tokenizer.decode(pair.prompt)}], tokenizer.decode(reply))
        for pair in pairs
        for reply in (pair.chosen, pair.rejected)
    ]
    models = same_weights([one.reward_model() for one in on_both(setting)])
    found = [torch.tensor(RewardModel(model, tokenizer, 2048).score(asked)) for model in models]
    return close("rewards", *found)


def responses(setting: RandomWeights) -> str:
    pairs, _ = setting.pairs("hh_rlhf", 3)
    asked = [Request(str(number), pair.prompt) for number, pair in enumerate(pairs)]
    greedy = Sampling(n=1, temperature=1.0, top_p=1e-6, max_new_tokens=24, seed=0)
    found = []
    for model in same_weights([one.causal() for one in on_both(setting)]):
        batches = TransformersEngine(model, 8).sample(asked, greedy, setting.tokenizer().eos_token_id)
        found.append({request.prompt_id: drawn for batch in batches for request, drawn in batch})
    if found[0] != found[1]:
        raise Wrong(f"{found[0]} on a CPU, {found[1]} on the device")
    return f"{sum(len(ids) for drawn in found[0].values() for ids in drawn)} tokens"


class CutOff(Exception):
    """What stands for a kill in the middle of a training."""


def resumed(setting: RandomWeights) -> str:
    """Adapters of a training that went on from a checkpoint, held against those of one that was never cut off.

    On a GPU some sums have no fixed order, so that two whole trainings may differ as well: that much is no fault.
    """
    pairs, _ = setting.pairs("hh_rlhf", 12)
    examples = ours.examples(ours.pair_groups(pairs), SequenceScorer(setting.policy(), setting.batch_tokens))

    def trainer() -> Trainer:
        made = ours.trainer(setting.policy(), "bt", examples, 2, setting.batch_tokens, 1e-3)
        made.schedule = replace(made.schedule, checkpoint_every=2)
        return made

    def cut_off(trainer: Trainer, at: int) -> Trainer:
        step = trainer.step

        def until(number: int) -> dict:
            if number == at:
                raise CutOff
            return step(number)

        trainer.step = until
        return trainer

    whole, again, second = trainer(), trainer(), trainer()
    with tempfile.TemporaryDirectory() as folder:
        whole.run(Checkpoints(f"{folder}/whole", "same"))
        again.run(Checkpoints(f"{folder}/again", "same"))
        with suppress(CutOff):
            cut_off(trainer(), 3).run(Checkpoints(f"{folder}/cut", "same"))
        begun = Checkpoints(f"{folder}/cut", "same")
        second.run(begun)
    if len(begun.rows) != len(whole.batches):
        raise Wrong(f"its log has {len(begun.rows)} steps of {len(whole.batches)}")
    expected, other, found = (
        torch.cat([p.detach().cpu().flatten() for p in one.parameters.values()]) for one in (whole, again, second)
    )
    noise = difference(expected, other)
    return f"{close('adapters', expected, found, max(TOLERANCE, 4 * noise))}; two whole ones: {noise:.2g}"


def start(setting: RandomWeights) -> str:
    """As every training checks it, with reference log-probs from batches of another size."""
    model = setting.policy()
    pairs, source = setting.pairs("hh_rlhf", 2 * setting.batch)
    examples = ours.examples(ours.pair_groups(pairs), SequenceScorer(model, setting.batch_tokens // 4))
    trainer = ours.trainer(model, "bt", examples, setting.batch, setting.batch_tokens)
    distances: list[float] = []
    check = trainer.check_start

    def noted(distance: float) -> None:
        distances.append(distance)
        check(distance)  # raises where it is beyond rounding

    trainer.check_start = noted
    row = trainer.step(0)
    return f"{distances[0]:.2g} nats a response, {setting.model}, {source}; norm of the gradient {row['grad_norm']:.2g}"


def difference(expected: torch.Tensor, found: torch.Tensor) -> float:
    """The largest, over the largest entry; NaN where an entry is not finite."""
    return ((expected - found).abs().max() / expected.abs().max()).item()


def close(what: str, expected: torch.Tensor, found: torch.Tensor, tolerance: float = TOLERANCE) -> str:
    """What is said of two tensors that agree. Raises Wrong where `difference` is above `tolerance`, or NaN."""
    off = difference(expected, found)
    if not off <= tolerance:
        raise Wrong(f"{what}: a relative difference of {off:.2g}, where {tolerance:.2g} are allowed")
    return f"{what}: a relative difference of {off:.2g}" if off else f"{what}: bit for bit"
