"""Training of reward models on preference pairs with the Bradley-Terry loss."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from hps.logprobs import batches
from hps.models import sources
from hps.models.reward_heads import LM_HEAD, NEW_HEAD
from hps.models.reward_model import last_token_scores
from hps.support import provenance
from hps.support.progress import bar

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from hps.data.chat import Message

Pair = tuple[list[int], list[int]]
"""Token ids of the conversation with the chosen and with the rejected reply."""


def bradley_terry_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(r_chosen - r_rejected): (B,) from two (B,), nats."""
    return -F.logsigmoid(chosen - rejected)


def new_reward_model(
    base: str | Path, dtype: str | torch.dtype, seed: int, device: str | torch.device | None = None
) -> PreTrainedModel:
    """The decoder of a causal model folder under a random float32 head with one output.

    Raises InputError as `hps.models.sources.load` does, for all tensors but the head's.
    """
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    model = sources.load(
        AutoModelForSequenceClassification, base, new=NEW_HEAD, unread=LM_HEAD, num_labels=1, dtype=dtype
    )
    provenance.model_files(base)
    model.score.float()
    return model.to(device or sources.default_device())


def with_adapters(model: PreTrainedModel, rank: int, top_layers: int, seed: int) -> PeftModel:
    """LoRA (alpha = 2 rank, no dropout) on q_proj and v_proj; the head is trained whole. All that trains is float32.

    Args:
        top_layers: how many of the upper layers get adapters; 0 means all. The backward pass ends below the lowest
            adapter, so few upper layers cost little more than the forward pass.
    """
    from peft import LoraConfig, get_peft_model

    layers = model.config.num_hidden_layers
    torch.manual_seed(seed)
    return get_peft_model(
        model,
        LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            lora_dropout=0.0,
            target_modules=["q_proj", "v_proj"],
            modules_to_save=["score"],
            layers_to_transform=list(range(layers - top_layers, layers)) if top_layers else None,
        ),
    )


def merged(model: PeftModel, dtype: torch.dtype) -> PreTrainedModel:
    """The model with its adapters added into the weights, in float32, then all of it cast to `dtype`."""
    return model.float().merge_and_unload().to(dtype)


def accumulate_gradient(
    model: PreTrainedModel, pairs: Sequence[Pair], batch_tokens: int, done: Callable[[int], object] = int
) -> float:
    """Add the gradient of the pairs' mean loss to the parameters' `grad`; returns the summed loss, nats.

    Args:
        batch_tokens: padded tokens of a forward pass (one pair always fits); parts add up to the same gradient.
        done: told how many pairs each pass has done.
    """
    total = 0.0
    lengths = [max(map(len, pair)) for pair in pairs]
    for part in batches.by_token_budget(lengths, batch_tokens // 2):
        own = [pairs[i] for i in part]
        ids, mask = batches.pad([chosen for chosen, _ in own] + [rejected for _, rejected in own], model.device)
        loss = bradley_terry_loss(*last_token_scores(model, ids, mask).chunk(2)).sum()
        (loss / len(pairs)).backward()
        total += loss.item()
        done(len(part))
    return total


def train(
    model: PreTrainedModel | PeftModel,
    pairs: Sequence[Pair],
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    batch_tokens: int,
    seed: int,
    warmup: float = 0.1,
    weight_decay: float = 0.01,
) -> float:
    """Train what of `model` requires gradients, in place; returns the mean loss of the last epoch, nats a pair.

    AdamW, cosine schedule, gradient norm clipped at 1. The same seed, data and number of threads give the same weights.

    Args:
        batch_size: pairs of an optimizer step.
        batch_tokens: padded tokens of a forward pass (see `accumulate_gradient`); it bounds memory.
    """
    classifier = model.get_base_model() if hasattr(model, "get_base_model") else model
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    generator = torch.Generator().manual_seed(seed)
    lengths = [max(map(len, pair)) for pair in pairs]
    plan = [batches.epoch_by_count(lengths, batch_size, generator) for _ in range(epochs)]
    optimizer = torch.optim.AdamW(trainable, lr=learning_rate, weight_decay=weight_decay, fused=True)
    schedule = batches.cosine(optimizer, sum(map(len, plan)), warmup)
    model.train()
    epoch_loss = math.nan
    with bar(total=epochs * len(pairs), what="reward model", unit="pair") as progress:
        for epoch, epoch_batches in enumerate(plan, start=1):
            total = 0.0
            for batch in epoch_batches:
                total += accumulate_gradient(classifier, [pairs[i] for i in batch], batch_tokens, progress.update)
                torch.nn.utils.clip_grad_norm_(trainable, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            epoch_loss = total / len(pairs)
            logging.info("epoch %d of %d: training loss %.4f", epoch, epochs, epoch_loss)
    model.eval()
    return epoch_loss


def wilson_interval(successes: float, trials: float, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a binomial proportion; 95 % with the given z."""
    p = successes / trials
    centre = p + z**2 / (2 * trials)
    half = z * math.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    low, high = (centre - half) / (1 + z**2 / trials), (centre + half) / (1 + z**2 / trials)
    return min(low, p), max(high, p)  # for p = 0 and p = 1 rounding could leave the proportion outside


def accuracy(right: Sequence[bool], prompts: Sequence[str], what: str = "pairs") -> dict[str, float | int]:
    """Share of held-out examples that a model is right about, with its 95 % interval.

    Args:
        prompts: the prompt of each. Those of one prompt are not independent: the interval is that of as many
            independent examples as would give the same variance.
        what: what an example is, in the plural.
    """
    trials, share = len(right), float(np.mean(right))
    _, groups = np.unique(prompts, return_inverse=True)
    squares = float((np.bincount(groups, np.asarray(right) - share) ** 2).sum())
    effective = trials**2 * share * (1 - share) / squares if squares else trials
    low, high = wilson_interval(share * effective, effective)
    return {
        "held_out_accuracy": share,
        "held_out_accuracy_lo": low,
        "held_out_accuracy_hi": high,
        f"held_out_{what}": trials,
    }


def spearman_true_reward(scores: Sequence[float], conversations: Sequence[tuple[Sequence[Message], str]]) -> float:
    """Rank correlation of scores with the toy world's true reward of the conversations (messages, response)."""
    import pandas as pd

    from hps.toyworld import true_reward

    both = pd.DataFrame({"score": scores, "true": [true_reward(*conversation) for conversation in conversations]})
    return float(both.corr(method="spearman").loc["score", "true"])
