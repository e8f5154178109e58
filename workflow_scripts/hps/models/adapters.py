"""LoRA adapters: which modules get one, and what a saved adapter says it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hps.models.hub_lock import is_commit
from hps.models.sources import ADAPTER, FACTS, check_tensors, tensor_shapes
from hps.support.errors import InputError
from hps.support.files import read_json

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

ALL_LINEAR = "all-linear"
"""As a target: every linear layer of the decoder."""
SETTING = "training.lora_targets"


def skeleton(folder: str | Path) -> torch.nn.Module:
    """The modules of a folder's model, without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))


def check_targets(model: torch.nn.Module, targets: Sequence[str]) -> None:
    """Refuse targets that adapters cannot go to.

    A target is a module's name or the end of it, such as `q_proj` or `layers.3.mlp.up_proj`; or the only one is
    `all-linear`.

    Raises InputError naming the setting and the target: for one that is no linear layer of the model, and for the
    embeddings and the output head, which log-probs are computed with directly.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    if not targets or (ALL_LINEAR in targets and len(targets) > 1):
        raise InputError(SETTING, f"{list(targets)} where names of modules are expected, or {ALL_LINEAR} alone")
    if ALL_LINEAR in targets:
        return
    outside = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    modules = dict(model.named_modules())
    for target in targets:
        found = {name: module for name, module in modules.items() if f".{name}".endswith(f".{target}") and target}
        if not found:
            linear = {name.rpartition(".")[2] for name, one in modules.items() if isinstance(one, torch.nn.Linear)}
            raise InputError(SETTING, f"{target!r} is no module of {type(model).__name__}; linear are {sorted(linear)}")
        for name, module in found.items():
            if id(module) in outside:
                raise InputError(SETTING, f"{target!r} is the embeddings or the output head, which take no adapter")
            if not isinstance(module, torch.nn.Linear | Conv1D):
                raise InputError(SETTING, f"{target!r} is no linear layer: {name} is a {type(module).__name__}")


def with_adapter(model: torch.nn.Module, rank: int, alpha: int, targets: Sequence[str], base: str | Path) -> PeftModel:
    """The model with a fresh adapter, at random in one half and at zero in the other.

    Args:
        base: the model's folder. What `model.json` says of it becomes the name of the base model in the saved adapter:
            repository and revision for a model of the hub, otherwise source and role.

    Raises InputError as `check_targets` does.
    """
    from peft import LoraConfig, get_peft_model

    check_targets(model, targets)
    adapted = get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=rank,
            lora_alpha=alpha,
            lora_dropout=0.0,
            target_modules=ALL_LINEAR if ALL_LINEAR in targets else list(targets),
        ),
    )
    name, revision = base_name(base)
    config = adapted.peft_config["default"]
    config.base_model_name_or_path, config.revision = name, revision
    # peft keeps a set, whose order in the saved file would differ between processes.
    config.target_modules = sorted(config.target_modules)
    return adapted


def base_name(folder: str | Path) -> tuple[str, str | None]:
    """What a model is called wherever its folder lies, and its revision on the hub."""
    facts = read_json(Path(folder) / FACTS) if (Path(folder) / FACTS).is_file() else {}
    if facts.get("source") == "hub":
        return facts["repo"], facts.get("commit")
    return f"{facts.get('source', 'folder')}:{facts.get('role', Path(folder).name)}", None


def check_saved(folder: str | Path, base: str | Path) -> None:
    """Check that a saved LoRA adapter is one of the model in folder `base`, and of its linear layers alone.

    Raises InputError, one line: an adapter of another kind, on another base or another commit of it, one that replaces
    whole modules, tensors that do not fit, and as `check_targets` does.
    """
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    where = Path(folder) / ADAPTER
    given = read_json(where)
    if not isinstance(given, dict) or given.get("peft_type") != "LORA":
        raise InputError(where, "not of a LoRA adapter: peft_type is not LORA")
    (own, commit), named, revision = base_name(base), given.get("base_model_name_or_path"), given.get("revision")
    if named != own:
        raise InputError(where, f"is an adapter on {named!r}, and the policy is {own!r}")
    if is_commit(revision) and revision != commit:
        raise InputError(where, f"is an adapter on commit {revision} of {own}, and the policy is at {commit}")
    for key in ("modules_to_save", "trainable_token_indices"):
        if given.get(key):
            raise InputError(where, f"{key} is {given[key]}: only adapters of linear layers are evaluated")
    try:
        # Without the name of its base: peft would warn that the model here has another.
        config = LoraConfig.from_pretrained(folder, base_model_name_or_path=None)
        adapted = get_peft_model(skeleton(base), config, low_cpu_mem_usage=True)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(where, f"not an adapter of this model ({' '.join(str(error).split())[:200]})") from error
    state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    expected, stored = {name: tuple(tensor.shape) for name, tensor in state.items()}, tensor_shapes(folder)
    found = {
        "missing_keys": expected.keys() - stored.keys(),
        "unexpected_keys": stored.keys() - expected.keys(),
        "mismatched_keys": [
            (name, stored[name], shape) for name, shape in expected.items() if stored.get(name, shape) != shape
        ],
    }
    check_tensors(folder, found, said_by=f"an adapter of {own}")
    check_targets(skeleton(base), sorted(adapted.base_model.targeted_module_names))


def load_adapter(model: torch.nn.Module, folder: str | Path) -> PeftModel:
    """The model with a saved adapter, in eval mode. Raises InputError when the folder is not a whole adapter."""
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        return PeftModel.from_pretrained(model, folder, local_files_only=True).eval()
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise InputError(folder, f"not an adapter of this model ({' '.join(str(error).split())[:200]})") from error
