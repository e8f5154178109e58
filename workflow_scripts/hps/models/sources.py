"""A model is a folder: config.json, weights as safetensors, a tokenizer with a chat template, and model.json.

`model.json` says what the model is for (`role`), where it comes from (`source`), its size, what its making measured and
the hashes of its files. Whoever loads a model does not need to know which of the sources made it; files with other
contents than the recorded, or with other tensors than the configuration asks for, are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hps.support import files, provenance
from hps.support.errors import InputError
from hps.support.offline import FETCH

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

FACTS = provenance.MODEL
ADAPTER = provenance.ADAPTER
INDEX = "model.safetensors.index.json"
REWARD_HEADS = ("score.weight", "regression_layer.weight")
"""Names of a reward head's weight: transformers' own, and that of ArmoRM (one row for each of its 19 objectives)."""
_SAFETENSORS_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}


def regular(folder: str | Path) -> Path:
    """The folder, whose entries are files, folders, or links to such: opening one neither waits nor fails.

    Raises InputError for a missing folder, for a link to nothing or to itself, and for a pipe, socket or device.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, f"there is no such model folder; {FETCH} downloads those of the hub")
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and not path.exists():
            raise InputError(path, f"is a link to {path.readlink()}, which leads nowhere")
        if not path.is_file() and not path.is_dir():
            raise InputError(path, "is a special file (a pipe, socket or device)")
    return folder


def weight_files(folder: str | Path) -> list[Path]:
    """The safetensors files that hold the weights of a model or an adapter, sorted by name.

    Raises InputError as `regular` does, for a folder of neither, one whose index names a missing shard, and
    one whose weights are pickled only (`.bin`, `.pt`): reading a pickle runs whatever code its author put there.
    """
    folder = regular(folder)
    if not any((folder / name).is_file() for name in ("config.json", ADAPTER)):
        raise InputError(folder, "not a model folder: it has no config.json")
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        pickled = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in sorted(folder.glob(pattern))]
        because = f"its weights are pickled ({pickled[0]}), which is refused" if pickled else "it has no weights"
        raise InputError(folder, f"{because}; safetensors are expected")
    if (folder / INDEX).is_file():
        index = files.read_json(folder / INDEX)
        if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
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


def load_config(folder: str | Path) -> PretrainedConfig:
    """The folder's configuration. Raises InputError when transformers cannot read it without running code."""
    from transformers import AutoConfig

    with refusals(folder, "the configuration"):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The folder's tokenizer.

    Raises InputError when there is none, one that transformers cannot read, or none with a chat template, and for files
    that have changed.
    """
    from transformers import AutoTokenizer

    folder = regular(folder)
    if not (folder / "tokenizer.json").is_file() and not (folder / "tokenizer.model").is_file():
        raise InputError(folder, "has no tokenizer (tokenizer.json)")
    with refusals(folder, "the tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if tokenizer.chat_template is None:
        raise InputError(folder, "the tokenizer has no chat template")
    provenance.model_files(folder)
    return tokenizer


def load_causal(
    folder: str | Path, dtype: str | torch.dtype | None = None, device: str | torch.device | None = None
) -> PreTrainedModel:
    """The folder's causal language model, in eval mode.

    Args:
        dtype: of the weights in memory; None keeps the one they are stored in.
        device: None takes the first GPU where there is one, else the CPU.

    Raises InputError as `load` does.
    """
    from transformers import AutoModelForCausalLM

    model = load(AutoModelForCausalLM, folder, dtype=dtype or "auto")
    provenance.model_files(folder)
    return model.to(device or default_device()).eval()


def load(
    kind: type, folder: str | Path, *, new: Sequence[str] = (), unread: Sequence[str] = (), **options: Any
) -> PreTrainedModel:
    """The folder's model by one of transformers' `AutoModelFor...`, every tensor from its files and none left over.

    Args:
        new: patterns of tensors that the files need not have: what is about to be trained.
        unread: patterns of tensors in the files that others read, or nobody.
        options: for `from_pretrained`.

    Raises InputError as `tensor_shapes` does, for an adapter (whose base transformers would look for), when
    transformers cannot load the model without running code from its folder, and for tensors that are missing,
    unexpected, or of other sizes than the configuration says, naming them.
    """
    tensor_shapes(folder)
    if (Path(folder) / ADAPTER).is_file():
        raise InputError(Path(folder) / ADAPTER, "is an adapter's, where a whole model is expected")
    with refusals(folder, "the model"):
        model, found = kind.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # here, in one line, and not where the first is found
            **options,
        )
    check_tensors(folder, found, new, unread)
    return model


def check_tensors(
    where: object,
    found: dict[str, Any],
    new: Sequence[str] = (),
    unread: Sequence[str] = (),
    said_by: str = "its config.json",
) -> None:
    """Raise InputError, naming tensors, when transformers' report of a loading is not that all fit (see `load`)."""
    faults = {
        "missing": _unmatched(found["missing_keys"], new),
        "unexpected": _unmatched(found["unexpected_keys"], unread),
        "of another size": [
            f"{name} ({list(stored)}, expected {list(wanted)})" for name, stored, wanted in found["mismatched_keys"]
        ],
    }
    told = [
        f"{len(names)} {how} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
        for how, names in faults.items()
        if names
    ]
    if told:
        raise InputError(where, f"its tensors are not those of {said_by}: {'; '.join(told)}")


def _unmatched(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if not any(re.fullmatch(pattern, name) for pattern in patterns)]


@contextmanager
def refusals(where: object, what: str) -> Iterator[None]:
    """Turn whatever transformers raises about a folder's files into InputError, without its reports and bars."""
    import torch

    with quiet_transformers():
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            raise InputError(where, f"transformers cannot load {what} ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:200]}"


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
    """Yield a folder to put a model into; adds `model.json` (`facts`, size, hashes) and shows it whole as `out`.

    What the block adds to `facts` stands in model.json too.
    """
    with files.writing(out) as partial:
        partial.mkdir()
        yield partial
        made_with = {key: value for key, value in facts.items() if key == "provenance"}
        own = {key: value for key, value in facts.items() if key != "provenance"}
        hashes = {path.name: files.sha256(path) for path in sorted(partial.iterdir()) if path.is_file()}
        files.write_json(partial / FACTS, own | size(partial) | {"files": hashes} | made_with)


def save(out: str | Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: dict[str, Any]) -> None:
    """Write a model folder, whole or not at all."""
    with saving(out, facts) as folder:
        write(folder, model, tokenizer)


def write(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a model's weights, configuration and tokenizer into a folder that is there."""
    with quiet_transformers():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
