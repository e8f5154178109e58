"""How many tokens a model can read, and one line for more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hps.support.errors import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def positions(config: PretrainedConfig) -> int | None:
    """Tokens of the longest sequence that a model of this configuration reads; None where it does not say.

    A rotation that changes for all tokens once a sequence is longer than in pretraining (rope types `dynamic` and
    `longrope`) would make a response depend on what shares its batch: such a model is read up to that length.
    """
    config = config.get_text_config()
    lengths = [getattr(config, "max_position_embeddings", None)]
    rope = getattr(config, "rope_parameters", None) or {}
    for parameters in [rope, *(own for own in rope.values() if isinstance(own, dict))]:
        if parameters.get("rope_type") in ("dynamic", "longrope"):
            lengths.append(parameters.get("original_max_position_embeddings"))
    known = [length for length in lengths if isinstance(length, int) and length > 0]
    return min(known, default=None)


def check_length(name: object, tokens: int, limit: int | None) -> None:
    """Raise InputError, naming the model, for a sequence of more `tokens` than the model has positions."""
    if limit is not None and tokens > limit:
        raise InputError(
            name, f"the longest prompt and its response are {tokens} tokens, but the model has {limit} positions"
        )
