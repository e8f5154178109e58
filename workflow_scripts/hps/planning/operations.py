"""What a computation costs: floating-point operations of a decoder, and what graphics processors can do at best.

Counted are the matrix products (a product of (a, b) with (b, c) is 2abc operations); norms, activations and softmax are
left out, which for the models here is a few per cent. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hps.models.shape import Shape
from hps.support.errors import InputError


@dataclass(frozen=True)
class Architecture:
    """Sizes of a Llama-like decoder with a gated MLP."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    tied: bool = False
    head_size: int = 0  # 0: hidden / heads

    @classmethod
    def from_shape(cls, shape: Shape, vocab: int) -> Architecture:
        """Of a model that is made here."""
        return cls(shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.intermediate, vocab, tied=True)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: object = "config.json") -> Architecture:
        """From a transformers configuration. Raises InputError naming the first size that it does not have."""
        names = {
            "layers": "num_hidden_layers",
            "hidden": "hidden_size",
            "heads": "num_attention_heads",
            "intermediate": "intermediate_size",
            "vocab": "vocab_size",
        }
        for name in names.values():
            if not isinstance(config.get(name), int):
                raise InputError(where, f"has no {name}, so the model's cost is not known")
        sizes = {own: config[name] for own, name in names.items()}
        return cls(
            **sizes,
            kv_heads=config.get("num_key_value_heads") or sizes["heads"],
            tied=bool(config.get("tie_word_embeddings", False)),
            head_size=config.get("head_dim") or 0,
        )

    @property
    def head_dim(self) -> int:
        return self.head_size or self.hidden // self.heads

    @property
    def layer_weights(self) -> int:
        """Entries of a layer's weight matrices."""
        attention = 2 * self.heads + 2 * self.kv_heads  # queries and output; keys and values
        return self.hidden * (attention * self.head_dim + 3 * self.intermediate)

    @property
    def decoder_weights(self) -> int:
        return self.layers * self.layer_weights

    @property
    def head_weights(self) -> int:
        return self.hidden * self.vocab

    @property
    def parameters(self) -> int:
        norms = (2 * self.layers + 1) * self.hidden
        return self.decoder_weights + norms + self.head_weights * (1 if self.tied else 2)

    def lora_parameters(self, rank: int, targets: Iterable[str]) -> int:
        """Parameters of an adapter of this rank on the named modules of every layer. Raises InputError for others."""
        query, key, hidden = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.hidden
        sizes = {
            "q_proj": hidden + query,
            "k_proj": hidden + key,
            "v_proj": hidden + key,
            "o_proj": query + hidden,
            **dict.fromkeys(("gate_proj", "up_proj", "down_proj"), hidden + self.intermediate),
        }
        total = 0
        for name in sizes if list(targets) == ["all-linear"] else targets:
            if name not in sizes:
                raise InputError("training.lora_targets", f"{name!r} is of unknown size; known are {', '.join(sizes)}")
            total += rank * sizes[name]
        return self.layers * total

    def cache_bytes(self, itemsize: int) -> int:
        """Bytes of one token's keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_dim * itemsize

    def forward_flops(self, work: Work) -> float:
        """Operations of a forward pass."""
        return 2 * self.decoder_weights * work.tokens + self._attention(work) + 2 * self.head_weights * work.counted

    def training_flops(self, work: Work, *, full: bool = False, forwards: int = 1) -> float:
        """Operations of a forward and a backward pass.

        The backward pass goes through each frozen weight once (to the input), through a trained one twice, through
        attention's two products twice each. A trained head's logits are computed again (a frozen one gives its gradient
        while they are there). The adapters' own are left out.

        Args:
            full: all weights are trained; else they are frozen under adapters.
            forwards: forward passes in all: one more where log-probs are computed beforehand without gradient, one more
                where activations are computed again.
        """
        matrices = 2 * self.decoder_weights * work.tokens * (3 if full else 2)
        head = 2 * self.head_weights * work.counted * (4 if full else 2)
        return matrices + 3 * self._attention(work) + head + (forwards - 1) * self.forward_flops(work)

    def _attention(self, work: Work) -> float:
        return 4 * self.layers * self.heads * self.head_dim * work.attended


@dataclass(frozen=True)
class Work:
    """Token counts that a cost depends on; they add up, and scale."""

    tokens: float = 0.0  # through the decoder
    attended: float = 0.0  # sum over the tokens of the positions each attends to, itself included
    counted: float = 0.0  # through the output head

    def __add__(self, other: Work) -> Work:
        return Work(self.tokens + other.tokens, self.attended + other.attended, self.counted + other.counted)

    def __mul__(self, factor: float) -> Work:
        return Work(self.tokens * factor, self.attended * factor, self.counted * factor)

    __rmul__ = __mul__


def shared_work(prompt: float, responses: Iterable[float]) -> Work:
    """A group: the prompt once, then each response after it. Lengths in tokens; a response's last is never fed."""
    responses = list(responses)
    fed = [response - 1 for response in responses]
    return Work(
        prompt + sum(fed),
        prompt * (prompt + 1) / 2 + sum(prompt * r + r * (r + 1) / 2 for r in fed),
        sum(responses),
    )


def plain_work(prompt: float, responses: Iterable[float], *, all_logits: bool = False) -> Work:
    """The same group without sharing: each response with a prompt of its own.

    Args:
        all_logits: the head runs on the prompt's tokens too.
    """
    total = Work()
    for response in responses:
        length = prompt + response - 1
        total += Work(length, length * (length + 1) / 2, length if all_logits else response)
    return total


def sampling_work(prompt: float, steps: float, prompts: float, sequences: float) -> Work:
    """Sampling `steps` tokens for each of `sequences` responses in all: their prompts once, then token by token."""
    return reading_work(prompt, prompts) + decoding_work(prompt, steps, sequences)


def reading_work(prompt: float, prompts: float) -> Work:
    """Reading prompts before sampling, each once."""
    return Work(prompt, prompt * (prompt + 1) / 2, 1) * prompts


def decoding_work(prompt: float, steps: float, sequences: float) -> Work:
    """Sampling `steps` tokens for each of `sequences` responses in all, after prompts that have been read."""
    return Work(steps, steps * (prompt + steps / 2), steps) * sequences


@dataclass(frozen=True)
class Gpu:
    """A graphics processor at its best, by its maker's data sheet."""

    flops: float  # dense bfloat16 operations a second
    bandwidth: float  # bytes a second
    memory: float  # bytes


GPUS = {
    "L40S": Gpu(362e12, 864e9, 48e9),
    "A100": Gpu(312e12, 2039e9, 80e9),  # SXM, 80 GB
    "H100": Gpu(989e12, 3350e9, 80e9),  # SXM
    "H200": Gpu(989e12, 4800e9, 141e9),
}


def gpu_of(name: str) -> str | None:
    """The key of GPUS that a device's name contains, such as L40S in `NVIDIA L40S`; None for any other device."""
    words = name.upper().replace("-", " ").replace("_", " ").split()
    return next((key for key in GPUS if key in words), None)


LLAMA3_8B = Architecture(32, 4096, 32, 8, 14336, 128256)
QWEN25_72B = Architecture(80, 8192, 64, 8, 29568, 152064)
SMOLLM2_135M = Architecture(30, 576, 9, 3, 1536, 49152, tied=True, head_size=64)
