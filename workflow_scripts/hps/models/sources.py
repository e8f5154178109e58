"""A model is a folder: config.json, weights as safetensors, a tokenizer with a chat template, and model.json.

`model.json` says what the model is for (`role`), where it comes from (`source`), its size, and what its making
measured. Whoever loads a model does not need to know which of the sources made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hps.models.offline import FETCH
from hps.support import files
from hps.support.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FACTS = "model.json"
INDEX = "model.safetensors.index.json"
ATTENTION = "sdpa"
REWARD_HEADS = ("score.weight", "regression_layer.weight")
"""Names of a reward head's weight: transformers' own, and that of ArmoRM (one row for each of its 19 objectives)."""
_SAFETENSORS_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}


def weight_files(folder: str | Path) -> list[Path]:
    """The safetensors files that hold the folder's weights, sorted by name.

    Raises InputError for a missing folder, one without config.json, one whose index names a missing shard, and one
    whose weights are pickled only (`.bin`, `.pt`): reading a pickle runs whatever code its author put there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, f"there is no such model folder; {FETCH} downloads those of the hub")
    if not (folder / "config.json").is_file():
        raise InputError(folder, "not a model folder: it has no config.json")
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        pickled = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in sorted(folder.glob(pattern))]
        because = f"its weights are pickled ({pickled[0]}), which is refused" if pickled else "it has no weights"
        raise InputError(folder, f"{because}; safetensors are expected")
    if (folder / INDEX).is_file():
        index = files.read_json(folder / INDEX)
        if "weight_map" not in index:
            raise InputError(folder / INDEX, "has no weight_map")
        shards = set(index["weight_map"].values())
        missing = sorted(shards - {path.name for path in found})
        if missing:
            raise InputError(folder, f"{INDEX} names {missing[0]}, which is not there")
        found = [path for path in found if path.name in shards]
    return found


def tensor_shapes(folder: str | Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the folder's tensors, from the files' headers alone.

    Raises InputError as `weight_files` does, and for a damaged or truncated file.
    """
    return {name: shape for name, shape, _ in _headers(folder)}


def size(folder: str | Path) -> dict[str, Any]:
    """`{"parameters": count, "dtype": name}` of the folder's weights, from the files' headers alone.

    The dtype is the one that most parameters have. Tied weights are stored, and so counted, once.
    """
    by_dtype: dict[str, int] = {}
    for _, shape, dtype in _headers(folder):
        by_dtype[dtype] = by_dtype.get(dtype, 0) + prod(shape)
    return {"parameters": sum(by_dtype.values()), "dtype": max(by_dtype, key=by_dtype.__getitem__)}


def reward_head(folder: str | Path) -> int:
    """The number of outputs of the folder's reward head.

    Raises InputError when the weights have none: transformers would give such a model a random head.
    """
    shapes = tensor_shapes(folder)
    for name in REWARD_HEADS:
        if name in shapes:
            return shapes[name][0]
    raise InputError(folder, f"not a reward model: no tensor is named {' or '.join(REWARD_HEADS)}")


def _headers(folder: str | Path) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Name, shape and dtype of each tensor."""
    from safetensors import SafetensorError, safe_open

    for path in weight_files(folder):
        try:
            with safe_open(path, framework="np") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    header = tensors.get_slice(name)
                    dtype = header.get_dtype()
                    yield name, tuple(header.get_shape()), _SAFETENSORS_DTYPES.get(dtype, dtype)
        except SafetensorError as error:
            raise InputError(path, f"not a whole safetensors file ({error})") from error


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The folder's tokenizer. Raises InputError when there is none, or none with a chat template."""
    from transformers import AutoTokenizer

    folder = Path(folder)
    if not (folder / "tokenizer.json").is_file() and not (folder / "tokenizer.model").is_file():
        raise InputError(folder, "has no tokenizer (tokenizer.json)")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.chat_template is None:
        raise InputError(folder, "the tokenizer has no chat template")
    return tokenizer


def load_causal(
    folder: str | Path, dtype: str | torch.dtype | None = None, device: str | torch.device | None = None
) -> PreTrainedModel:
    """The folder's causal language model, in eval mode.

    Args:
        dtype: of the weights in memory; None keeps the one they are stored in.
        device: None takes the first GPU where there is one, else the CPU.

    Raises InputError as `weight_files` and `tensor_shapes` do.
    """
    from transformers import AutoModelForCausalLM

    tensor_shapes(folder)
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype or "auto",
            attn_implementation=ATTENTION,
            use_safetensors=True,
            local_files_only=True,
        )
    return model.to(device or default_device()).eval()


def identity(folder: str | Path) -> dict[str, Any]:
    """What a folder's model.json says about where the model comes from; its path where it has none."""
    if not (Path(folder) / FACTS).is_file():
        return {"path": str(folder)}
    facts = files.read_json(Path(folder) / FACTS)
    return {key: value for key, value in facts.items() if key not in ("metrics", "provenance")}


def default_device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def parameters(model: torch.nn.Module) -> int:
    """Number of parameters, tied ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' own bars and its report of a head that is new on purpose."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.enable_progress_bar()


@contextmanager
def saving(out: str | Path, facts: dict[str, Any]) -> Iterator[Path]:
    """Yield a folder to put a model into; adds `model.json` (`facts`, then the size) and shows it whole as `out`."""
    with files.writing(out) as partial:
        partial.mkdir()
        yield partial
        made_with = {key: value for key, value in facts.items() if key == "provenance"}
        own = {key: value for key, value in facts.items() if key != "provenance"}
        files.write_json(partial / FACTS, own | size(partial) | made_with)


def save(out: str | Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: dict[str, Any]) -> None:
    """Write a model folder, whole or not at all."""
    with saving(out, facts) as folder:
        with quiet_transformers():
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
