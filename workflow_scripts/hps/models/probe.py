"""A reward model without training: a linear head on a frozen language model's hidden states.

What a response is worth is read at its last token after k of the decoder's layers. The head is a ridge logistic
regression: on the differences between the two responses of a pair, which is the Bradley-Terry model, or on responses
with a label, negated where it is false. It is convex, so the same data give the same head. The result is a stock
sequence classifier: the base's first k layers, its final norm, and the head. It scores faster than the whole model, and
nothing that scores needs to know where it came from. It has no intercept: the mean of the states, a hundred times their
deviation, serves as one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from hps.logprobs import batches
from hps.models import sources
from hps.models.reward_heads import LM_HEAD, NEW_HEAD
from hps.support.errors import InputError
from hps.support.progress import bar

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Penalties that cross-validation chooses from, on features of unit variance; the loss is a mean over examples."""
FOLDS = 5


@dataclass(frozen=True)
class ProbeChoice:
    """What cross-validation inside the training pairs chose, and the mean loss (nats an example) that it expects."""

    layers: int
    ridge: float
    loss: float


def decoder_layers(folder: str | Path) -> int:
    """How many layers the decoder of a model folder has."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, local_files_only=True).num_hidden_layers


def classifier(
    base: str | Path, layers: int, dtype: str | torch.dtype, device: str | torch.device | None = None
) -> PreTrainedModel:
    """The first `layers` layers of a causal model folder as a sequence classifier with one output, whose head is 0.

    Raises InputError naming the folder when it has fewer layers, and as `sources.load` does.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(base, local_files_only=True)
    depth = config.num_hidden_layers
    if not 1 <= layers <= depth:
        raise InputError(base, f"{layers} layers asked for, but the model has {depth}")
    config.num_hidden_layers, config.num_labels = layers, 1
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    above = rf".*\.({'|'.join(map(str, range(layers, depth)))})\..*"
    model = sources.load(
        AutoModelForSequenceClassification,
        base,
        new=NEW_HEAD,
        unread=[*LM_HEAD, *([above] if layers < depth else [])],
        config=config,
        dtype=dtype,
    )
    model.score.float().weight.data.zero_()
    return model.to(device or sources.default_device()).eval()


@torch.inference_mode()
def features(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], layers: Sequence[int], batch_tokens: int
) -> np.ndarray:
    """States at the sequences' last tokens after each number of layers, under the final norm: (layers, N, hidden).

    Args:
        model: a `classifier` with as many layers as the largest of `layers`.
        batch_tokens: padded tokens of a forward pass; bounds memory.
    """
    decoder = getattr(model, model.base_model_prefix)
    top = model.config.num_hidden_layers
    found = np.empty((len(layers), len(sequences), model.config.hidden_size), dtype=np.float32)
    with bar(total=len(sequences), what="features", unit="response") as progress:
        for part in batches.by_token_budget([len(ids) for ids in sequences], batch_tokens):
            ids, mask = batches.pad([list(sequences[i]) for i in part], model.device)
            states = decoder(input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True)
            rows, ends = torch.arange(len(part), device=model.device), mask.sum(1) - 1
            for number, k in enumerate(layers):
                # Of the last layer transformers gives the state with the norm already on it.
                last = states.hidden_states[k][rows, ends]
                last = last if k == top else final_norm(decoder)(last)
                found[number, part] = last.float().cpu().numpy()
            progress.update(len(part))
    return found


def final_norm(decoder: torch.nn.Module) -> torch.nn.Module:
    """The norm after a decoder's last layer, by the names that transformers' decoders give it.

    Raises InputError when the decoder has none of them.
    """
    for name in ("norm", "final_layernorm", "final_layer_norm", "ln_f", "final_norm"):
        if isinstance(module := getattr(decoder, name, None), torch.nn.Module):
            return module
    raise InputError(type(decoder).__name__, "has no final norm by a known name")


def fit(differences: np.ndarray, ridge: float) -> np.ndarray:
    """The head w (hidden) that minimizes `mean log(1 + exp(-w . d)) + ridge / 2 |w|^2` over differences d (N, hidden).

    Or over states of labelled responses, negated where the label is false.

    By L-BFGS in float64 from 0; the minimum is unique.
    """
    d = torch.from_numpy(np.asarray(differences, dtype=np.float64))
    w = torch.zeros(d.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [w], max_iter=500, tolerance_grad=1e-8, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = F.softplus(-d @ w).mean() + 0.5 * ridge * w.square().sum()
        value.backward()
        return value

    solver.step(loss)
    return w.detach().numpy()


def mean_loss(differences: np.ndarray, w: np.ndarray) -> float:
    """Mean logistic loss of differences, or of signed responses, under a head, nats."""
    return float(np.logaddexp(0, -(differences @ w)).mean())


def choose(
    differences: dict[int, np.ndarray], prompts: Sequence[str], seed: int, ridges: Sequence[float] = RIDGES
) -> ProbeChoice:
    """The layer and the ridge with the least loss under cross-validation over prompts.

    Args:
        differences: (N, hidden), as for `fit`, for each number of layers.
        prompts: (N) the prompt of each; all of a prompt are in one fold.
    """
    names = sorted(set(prompts))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[i]: place % FOLDS for place, i in enumerate(order)}
    folds = np.array([fold_of[prompt] for prompt in prompts])
    best = ProbeChoice(0, math.nan, math.inf)
    for layers, d in differences.items():
        for ridge in ridges:
            losses = [
                mean_loss(d[folds == fold], fit(d[folds != fold], ridge)) * (folds == fold).sum()
                for fold in range(FOLDS)
                if (folds == fold).any()
            ]
            loss = sum(losses) / len(folds)
            if loss < best.loss:
                best = ProbeChoice(layers, ridge, loss)
    return best
