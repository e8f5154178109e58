"""The shape of a model made here, which is known before there is one."""

from dataclasses import dataclass

from hps.support.cli import argument

LINEAR = (
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
)
"""The linear layers of one of a Llama's layers."""


@dataclass(kw_only=True)
class Shape:
    """Sizes of a Llama; `heads` must be a multiple of `kv_heads` and divide `hidden`."""

    hidden: int = argument("width", 128)
    layers: int = argument("layers", 4)
    heads: int = argument("attention heads", 4)
    kv_heads: int = argument("key and value heads", 2)
    intermediate: int = argument("width inside the feed-forward layers", 384)
    positions: int = argument("longest sequence", 512)
    # At this width it learns to copy words from the prompt sooner than with 0.02.
    initializer_range: float = argument("standard deviation of the initial weights", 0.05)

    @property
    def linear_layers(self) -> list[str]:
        """Names of the linear layers, which an adapter can go to; not of the embeddings and the output head."""
        return [f"model.layers.{layer}.{name}" for layer in range(self.layers) for name in LINEAR]
