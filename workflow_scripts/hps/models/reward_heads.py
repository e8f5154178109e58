"""What stands on a reward model's decoder: one linear output, or ArmoRM's objectives and the gate that weighs them.

ArmoRM (Wang et al. 2024, 2406.12845) publishes its head under names of its own, together with code that transformers
would run on loading. Here the stock decoder is loaded, and the head is read from the safetensors by those names.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch.nn import functional as F

from hps.models import sources
from hps.support import files
from hps.support.errors import InputError

TEMPERATURE = 10.0
"""Of the gate's softmax where config.json does not say (`gating_temperature`): the default of the published code."""

NEW_HEAD = (r"score\.weight",)
"""Patterns of the tensors that a reward model trained here begins without."""
LM_HEAD = (r"lm_head\..*",)
"""Patterns of a causal model's tensors that a reward model does not read."""
GATE = (r"gating\..*", r"reward_transform_matrix")
"""Patterns of the tensors that `read_gate` reads."""


class Gate(torch.nn.Module):
    """The gate of a reward model with K objectives: what each counts for depends on the prompt. All in float32.

    With x (hidden size) the decoder's state at the token that ends the prompt's last turn, and r (K) the objectives:

        w = scale softmax(f(x) / temperature),    score = w . (r T)

    f: linear layers with ReLU between them. T (K, K): takes what verbosity explains out of the other objectives.

    Args:
        layers: weight (out, in) and bias (out) of each layer of f.
        scale: (1,).
        transform: T.
    """

    def __init__(
        self,
        layers: list[tuple[torch.Tensor, torch.Tensor]],
        scale: torch.Tensor,
        transform: torch.Tensor,
        temperature: float,
    ):
        super().__init__()
        self.depth = len(layers)
        for number, (weight, bias) in enumerate(layers):
            self.register_buffer(f"weight{number}", weight.float())
            self.register_buffer(f"bias{number}", bias.float())
        self.register_buffer("scale", scale.float())
        self.register_buffer("transform", transform.float())
        self.temperature = temperature

    def weights(self, prompts: torch.Tensor) -> torch.Tensor:
        """w (B, K) for the states (B, hidden size) at the ends of B prompts."""
        x = prompts.float()
        for number in range(self.depth):
            x = F.linear(x, self.get_buffer(f"weight{number}"), self.get_buffer(f"bias{number}"))
            if number < self.depth - 1:
                x = x.relu()
        return self.scale * (x / self.temperature).softmax(-1)

    def forward(self, prompts: torch.Tensor, objectives: torch.Tensor) -> torch.Tensor:
        """Scores (B,) of responses with objectives (B, K) to prompts with the states (B, hidden size)."""
        return (self.weights(prompts) * (objectives @ self.transform)).sum(-1)


def read_head(folder: str | Path) -> torch.Tensor:
    """The weight (outputs, hidden size) of the folder's reward head, as it is stored.

    Raises InputError as `sources.reward_head` does.
    """
    sources.reward_head(folder)
    return next(iter(_read(folder, sources.REWARD_HEADS).values()))


def read_gate(folder: str | Path, hidden: int, objectives: int) -> Gate | None:
    """The folder's gate; None when its weights have none.

    Args:
        hidden: size of the decoder's states.
        objectives: outputs of the reward head.

    Raises InputError for a gate that lacks a tensor, or whose shapes fit neither each other nor decoder and head.
    """
    shapes = {name: shape for name, shape in sources.tensor_shapes(folder).items() if name.startswith("gating.")}
    if not shapes:
        return None
    depth = sum(name.endswith(".weight") for name in shapes)
    expected = {"gating.logit_scale": (1,), "reward_transform_matrix": (objectives, objectives)}
    below = hidden
    for number in range(depth):
        name = f"gating.layers.{number}"
        above = objectives if number == depth - 1 else shapes.get(f"{name}.bias", (0,))[0]
        expected |= {f"{name}.weight": (above, below), f"{name}.bias": (above,)}
        below = above
    tensors = _read(folder, expected)
    for name, shape in expected.items():
        if name not in tensors:
            raise InputError(folder, f"the reward model has a gate, but no tensor {name}")
        if tensors[name].shape != shape:
            raise InputError(folder, f"{name} is {tuple(tensors[name].shape)}, expected {shape}")
    temperature = files.read_json(Path(folder) / "config.json").get("gating_temperature", TEMPERATURE)
    return Gate(
        [(tensors[f"gating.layers.{i}.weight"], tensors[f"gating.layers.{i}.bias"]) for i in range(depth)],
        tensors["gating.logit_scale"],
        tensors["reward_transform_matrix"],
        float(temperature),
    )


def _read(folder: str | Path, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Those of the named tensors that the folder's safetensors hold."""
    from safetensors import safe_open

    found = {}
    for path in sources.weight_files(folder):
        with safe_open(path, framework="pt") as tensors:
            found |= {name: tensors.get_tensor(name) for name in set(names) & set(tensors.keys())}
    return found
