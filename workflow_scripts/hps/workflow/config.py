"""The configuration: its layers, and its validation before any job runs.

Layers, later ones win: config/protocols/<protocol>.yaml, config/presets/<preset>.yaml, config.yaml, command line.
"""

from __future__ import annotations

import copy
import difflib
import functools
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from hps.data.formats import parser
from hps.method.objectives import Loss, Parameterization, grid_losses, grid_parameterizations
from hps.models.adapters import ALL_LINEAR
from hps.models.shape import LINEAR, Shape
from hps.runs import Run, as_settings
from hps.support.errors import InputError
from hps.support.settings import MODEL_KEYS, resolved, schema, settings
from hps.support.yaml_file import parse_yaml, read_yaml

RENAMED = {"objective.label_smoothing": "objective.hyperparameters, by parameterization: {dpo: {label_smoothing: 0.1}}"}
"""Keys that had another name."""


@dataclass(frozen=True)
class Config:
    """A resolved configuration: its values, and for each leaf (`training.epochs`) the layer that set it."""

    values: dict[str, Any]
    origins: dict[str, str]

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def at(self, key: str) -> Any:
        """The value of a dotted key, such as `training.lora_rank`."""
        return functools.reduce(lambda section, name: section[name], key.split("."), self.values)

    def under(self, run: Run) -> Config:
        """The configuration of a run: this one with the run's beta and settings in place of its own."""
        values = copy.deepcopy(self.values)
        for key, value in {"objective.beta": run.beta, **run.record()["settings"]}.items():
            section, _, name = key.rpartition(".")
            Config(values, {}).at(section)[name] = value
        return Config(values, self.origins)

    def where(self, key: str) -> str:
        """The layer that set `key`, or any part of it; for messages."""
        names = {
            origin
            for leaf, origin in self.origins.items()
            if f"{leaf}.".startswith(f"{key}.") or f"{key}.".startswith(f"{leaf}.")
        }
        return ", ".join(sorted(names)) or "config.yaml"


def load(root: Path, given: Mapping[str, Any], files: Sequence[str | Path] = ()) -> Config:
    """Resolve and validate the configuration of the workflow in `root`.

    Args:
        given: config.yaml with `--configfile` and `--config` merged over it, as Snakemake hands it over.
        files: those of `--configfile`, later ones win.

    Raises:
        InputError: an unknown key, a wrong value, a misspelt method, a missing file; names the layer and the key.
    """
    layers = [(str(path), read_yaml(path)) for path in reversed(files)]
    layers.append(("config.yaml", read_yaml(root / "config.yaml")))

    def origin(key: str) -> str:
        return next((name for name, layer in layers if _at(layer, key) == _at(given, key)), "command line")

    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for folder, key in (("protocols", "protocol"), ("presets", "preset")):
        known = {path.stem: path for path in sorted((root / "config" / folder).glob("*.yaml"))}
        path = known.get(str(given.get(key, "")))
        if path is None:
            raise InputError(origin(key), f"{key}: no {key} {given.get(key)!r}; there are {', '.join(known)}")
        _overlay(values, origins, read_yaml(path), str(path.relative_to(root)))
    if given.keys() & {"seeds", "seeds_of"}:
        values["seeds_of"] = {}  # a preset's are for its own seeds
    _overlay(values, origins, given, origin)
    validator = Draft202012Validator(schema())
    config = Config(_converted(values, schema(), validator), origins)
    _refuse_old_keys(config)
    _validate_schema(config, validator)
    _expand_grid(config)
    _validate_sense(config)
    _validate_ablations(config, validator)
    launcher = accelerate_file(config)
    if not (root / launcher).is_file():
        processes = config["compute"]["processes"]
        raise InputError(
            config.where("compute.processes"), f"compute.processes: {processes} needs {launcher}, which is not there"
        )
    return config


def check_command_line(words: Sequence[str]) -> None:
    """Refuse what Snakemake drops without a word: the first of two values of a key, the first of two such options.

    Raises InputError naming the key or the option, also where a value in brackets is not YAML.
    """
    for names in (("--config", "-C"), ("--configfile", "--configfiles")):
        if sum(word in names for word in words) > 1:
            raise InputError("command line", f"{names[0]} stands twice, and its first values would be dropped")
    seen = set()
    start = next((number for number, word in enumerate(words, 1) if word in ("--config", "-C")), len(words))
    for word in itertools.takewhile(lambda word: not word.startswith("-"), words[start:]):
        key, _, text = word.partition("=")
        if key in seen:
            raise InputError("command line", f"{key} stands twice in --config")
        seen.add(key)
        if text.strip()[:1] in ("{", "["):
            parse_yaml(f"{key}: {text}", f"command line: {key}")


def accelerate_file(config: Config) -> str:
    """The configuration of accelerate for this number of processes, from the repository's root."""
    return f"config/accelerate/{config['compute']['processes']}.yaml"


def data_dir(config: Config) -> str:
    """Where the real data files lie; empty means the hub."""
    return config["data_dir"] or os.environ.get("HPS_DATA_DIR", "")


# --- layers and checks -----------------------------------------------------------------------------------------


def _overlay(values: dict, origins: dict[str, str], layer: Mapping, origin, prefix: str = "") -> None:
    """Write `layer` over `values`; mappings merge, everything else replaces. `origin`: a name, or key -> name."""
    for key, value in layer.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping):
            below = values.get(key)
            values[key] = dict(below) if isinstance(below, Mapping) else {}
            _overlay(values[key], origins, value, origin, f"{dotted}.")
        else:
            values[key] = value
            origins[dotted] = origin if isinstance(origin, str) else origin(dotted)


def _converted(value: Any, part: Mapping[str, Any], validator: Draft202012Validator) -> Any:
    """What stands as text where this part of the schema takes none, as the number, boolean or null that it spells.

    Snakemake reads what is nested in `--config` as text alone, and YAML takes `1e2` for text. A whole number such as
    1.0 becomes an integer where one is wanted; nothing, which `--config key=` gives, becomes empty text.
    """
    part = resolved(part)
    below = [part, *map(resolved, part.get("anyOf", []))]
    types = [one.get("type") for one in below]
    kinds = [kind for one in types for kind in (one if isinstance(one, list) else [one])]
    if isinstance(value, Mapping):
        known, rest = part.get("properties", {}), part.get("additionalProperties") or {}
        return {key: _converted(one, known.get(key, rest), validator) for key, one in value.items()}
    if isinstance(value, list):
        items = next((one["items"] for one in below if "items" in one), {})
        return [_converted(one, items, validator) for one in value]
    if value is None and kinds == ["string"]:
        return ""
    if isinstance(value, str) and not validator.evolve(schema=part).is_valid(value):
        readings = []
        for read in (int, float, {"true": True, "false": False, "null": None}.__getitem__):
            with suppress(ValueError, KeyError):
                readings.append(read(value))
        fitting = [reading for reading in readings if validator.evolve(schema=part).is_valid(reading)]
        if fitting or {"number", "integer"} & set(kinds):  # a number out of bounds is refused as that number
            value = next(iter(fitting or readings), value)
    if isinstance(value, float) and value.is_integer() and "integer" in kinds:
        return int(value)
    return value


def _at(layer: Any, key: str) -> Any:
    """The value of a dotted key; an object of its own where there is none."""
    for part in key.split("."):
        if not isinstance(layer, Mapping) or part not in layer:
            return object()
        layer = layer[part]
    return layer


def _refuse_old_keys(config: Config) -> None:
    for key, new in RENAMED.items():
        section, _, leaf = key.rpartition(".")
        if isinstance(below := config.values.get(section), Mapping) and leaf in below:
            raise InputError(config.where(key), f"{key}: is now {new}")


def _validate_schema(config: Config, validator: Draft202012Validator) -> None:
    for key, value in leaves(config.values):
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(config.where(key), f"{key}: {value} is not a finite number")
    error = best_match(validator.iter_errors(config.values))
    if error is None:
        return
    key = ".".join(map(str, error.absolute_path))
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = error.schema["properties"]
        unknown = next(name for name in error.instance if name not in known)
        key = f"{key}.{unknown}" if key else unknown
        what = f"unknown key{_suggest(unknown, known)}"
    elif error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        key, what = (f"{key}.{missing}" if key else missing), "is missing"
    else:
        what = error.message
    raise InputError(config.where(key), f"{key}: {' '.join(what.split())}")


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that holds no others, with its dotted key."""
    if isinstance(value, Mapping | list):
        for name, below in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from leaves(below, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _suggest(name: str, known) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _expand_grid(config: Config) -> None:
    grid = config["grid"]
    grid["rewards"] = [
        str(name) for name in (grid_parameterizations() if grid["rewards"] == "all" else grid["rewards"])
    ]
    grid["losses"] = [str(name) for name in (grid_losses() if grid["losses"] == "all" else grid["losses"])]
    named = {"all": grid["datasets"], "ablations": [config["ablations"]["dataset"]]}
    attribution = config["attribution"]
    if isinstance(attribution["datasets"], str):
        attribution["datasets"] = named[attribution["datasets"]]
    config["ablations"]["beta"] = [float(beta) for beta in config["ablations"]["beta"]]


def _validate_sense(config: Config) -> None:
    """What a schema cannot say: values that must fit each other, and files that must exist."""

    def refuse(key: str, what: str) -> None:
        raise InputError(config.where(key), f"{key}: {what}")

    def check_names(key: str, names: list[str], known: list[str]) -> None:
        for name in names:
            if name not in known:
                refuse(key, f"unknown {name!r}{_suggest(name, known)}; there are {', '.join(known)}")

    check_names("grid.rewards", config["grid"]["rewards"], [reward.value for reward in Parameterization])
    check_names("grid.losses", config["grid"]["losses"], [loss.value for loss in Loss])
    methods = [f"{reward}-{loss}" for reward in Parameterization for loss in Loss if loss.takes(reward)]
    for reward, loss in itertools.product(config["grid"]["rewards"], config["grid"]["losses"]):
        if f"{reward}-{loss}" not in methods:
            refuse("grid.losses", f"{loss} scores its stages itself and does not combine with {reward}")
    check_names("seeds_of", list(config["seeds_of"]), ["ablations", "attribution", *methods])
    if not set(config["seeds"]).intersection(*config["seeds_of"].values()):
        refuse("seeds_of", "no seed stands in `seeds` and in each of its lists; runs are compared seed by seed")
    check_names("ablations.methods", config["ablations"]["methods"], methods)
    for name, given in config["ablations"]["over"].items():
        check_names(f"ablations.over.{name}.methods", given.get("methods", []), methods)
        own = [given["dataset"]] if "dataset" in given else []
        check_names(f"ablations.over.{name}.dataset", own, config["grid"]["datasets"])
    check_names("judge.method", [config["judge"]["method"]], methods)
    check_names("judge.baselines", config["judge"]["baselines"], ["sft", *methods])
    judge = config["judge"]
    if judge["method"] in judge["baselines"]:
        refuse("judge.baselines", f"{judge['method']} is judge.method itself")
    study = config["user_study"]
    check_names("user_study.methods", study["methods"], ["sft", *methods])
    if study["prompts"] > config["data"]["splits"]["test"]["prompts"] >= 0:
        refuse("user_study.prompts", f"{study['prompts']}, but data.splits.test has fewer")
    if study["prompts"] > config["evaluation"]["sampled_prompts"] > 0:
        refuse("user_study.prompts", f"{study['prompts']}, but evaluation.sampled_prompts are fewer")
    if study["simulate"] and config["world"] != "toy":
        refuse("user_study.simulate", "needs the true reward, which is known in the toy world only")
    if study["ratings"] and not os.path.isdir(study["ratings"]):
        refuse("user_study.ratings", f"no folder {study['ratings']}")
    samples = config["evaluation"]["samples"]
    if judge["samples"] == "all":
        judge["samples"] = samples
    if judge["samples"] > samples:
        refuse("judge.samples", f"{judge['samples']}, but evaluation.samples gives {samples}")
    if judge["source"] == "true_reward" and config["world"] != "toy":
        refuse("judge.source", "true_reward is known in the toy world only")
    if judge["source"] == "true_reward" and judge["hub"]:
        refuse("judge.hub", "is a model, but with source true_reward none judges; null")

    check_names("attribution.reward", [config["attribution"]["reward"]], [reward.value for reward in Parameterization])

    names = [one["name"] for one in config["published"]]
    for number, name in enumerate(names):
        if name in names[:number] or name in ("sft", *methods):
            refuse("published", f"{name} is the name of other rows already")

    known_data = [key for key, value in config["data"].items() if isinstance(value, dict) and "format" in value]
    check_names("grid.datasets", config["grid"]["datasets"], known_data)
    for dataset in config["grid"]["datasets"]:
        source = config["data"][dataset]
        try:
            parser(source["format"], source.get("label", ""))
        except InputError as error:
            field, _, what = str(error).partition(": ")
            refuse(f"data.{dataset}.{field}", what)
    check_names("ablations.dataset", [config["ablations"]["dataset"]], config["grid"]["datasets"])
    check_names("attribution.datasets", config["attribution"]["datasets"], config["grid"]["datasets"])
    generated = config["candidates"]["n"] or math.inf
    pool = generated + 2 * config["candidates"]["human_first"]
    for key, values in (("grid.n", [config["grid"]["n"]]), ("ablations.n", config["ablations"]["n"])):
        for n in values:
            if n > pool:
                refuse(key, f"{n} responses a prompt, but candidates.n gives {pool}")
    for owner, values in config["objective"]["hyperparameters"].items():
        check_names("objective.hyperparameters", [owner], [*Parameterization, *Loss])
        declared = (Parameterization if owner in [*Parameterization] else Loss)(owner).hyperparameters
        for name, value in values.items():
            key = f"objective.hyperparameters.{owner}"
            check_names(key, [name], list(declared))
            try:
                declared[name].check(name, value)
            except ValueError as error:
                refuse(f"{key}.{name}", str(error))
    pairs = config["evaluation"]["transfer"]
    for pair in pairs if isinstance(pairs, list) else []:
        check_names("evaluation.transfer", pair, config["grid"]["datasets"])
    used = [*config["grid"]["losses"], *(method.partition("-")[2] for method in config["ablations"]["methods"])]
    weighing = [loss for loss in used if Loss(loss).needs_gamma]
    if weighing and "inf" in config["objective"]["gamma_levels"]:
        refuse("objective.gamma_levels", f"inf is for a drawn negative; {weighing[0]} weighs all of them with numbers")
    if weighing and config["objective"]["negative"] != "drawn":
        refuse("objective.negative", f"there is no one negative in {weighing[0]}, which weighs all of them")
    batch_size, processes = config["training"]["batch_size"], config["compute"]["processes"]
    if batch_size % processes:
        refuse("training.batch_size", f"{batch_size} does not divide by compute.processes = {processes}")
    if config["compute"]["tensor_parallel"] > 1 and config["compute"]["generation"] != "vllm":
        refuse("compute.tensor_parallel", "GPUs share a model in vllm alone, and compute.generation is not vllm")
    for role, model in config["models"].items():
        _check_model(config, refuse, role, model)
    if config["world"] == "toy":
        if "toy" not in config.values:
            refuse("toy", "is missing, and world is toy")
    else:
        _check_data(config, refuse)


def _validate_ablations(config: Config, validator: Draft202012Validator) -> None:
    """Each value of `ablations.over` must be one that its key may have."""
    for name, given in config["ablations"]["over"].items():
        where, key = f"ablations.over.{name}", given["key"]
        section, _, leaf = key.rpartition(".")
        if leaf not in config[section]:
            raise InputError(config.where(where), f"{where}.key: no key {key}{_suggest(leaf, config[section])}")
        setting = next(settings(key))
        if setting.cost or key == "training.adapter":
            raise InputError(config.where(where), f"{where}.key: {key} is the same for all runs")
        given["values"] = [_converted(value, setting.schema, validator) for value in given["values"]]
        for value in given["values"]:
            varied = config.under(Run("", "", "", 0, config["objective"]["beta"], 0, as_settings({key: value})))
            try:
                _validate_schema(varied, validator)
                _validate_sense(varied)
            except InputError as error:
                raise InputError(config.where(where), f"{where}.values: {str(error).partition(': ')[2]}") from None


def pair_splits(model: Mapping[str, Any]) -> list[str]:
    """The splits whose human pairs a reward model is made from."""
    return [model["split"]] if isinstance(model["split"], str) else model["split"]


def _check_model(config: Config, refuse, role: str, model: dict) -> None:
    if role == "tokenizer":
        return
    needed = MODEL_KEYS[model["source"]]
    for key in sorted(set(needed) - model.keys()):
        refuse(f"models.{role}.{key}", f"is missing; source {model['source']} needs it")
    if model["source"] == "scratch" and "tokenizer" not in config["models"]:
        refuse("models.tokenizer", f"is missing; models.{role} is made from scratch")
    if role == "harm" and (config["world"] == "toy" or model["source"] not in ("hub", "path", "probe")):
        why = "the toy world knows what is harmful" if config["world"] == "toy" else "a classifier is expected"
        refuse("models.harm.source", f"{model['source']}, but {why}")
    if "split" in needed:
        if role in ("policy", "generator"):
            refuse(f"models.{role}.source", f"{model['source']} is for reward models")
        if role != "harm" and len(pair_splits(model)) > 1:
            refuse(f"models.{role}.split", "takes one split: only models.harm, which annotates nothing, takes several")
        for split in pair_splits(model):
            if config["data"]["splits"][split]["prompts"] == 0:
                refuse(f"data.splits.{split}.prompts", f"is 0, but models.{role} is trained on that split")
    training = config["training"]
    if role == "policy" and model["source"] == "scratch" and training["adapter"] == "lora":
        for target in training["lora_targets"] if training["lora_targets"] != [ALL_LINEAR] else ():
            if not any(f".{name}".endswith(f".{target}") for name in Shape().linear_layers):
                known = ", ".join(name.partition(".")[2] for name in LINEAR)
                refuse("training.lora_targets", f"{target!r} is no linear layer of a model from scratch: {known}")
    if model["source"] == "path" and not os.path.isdir(model["path"]):
        refuse(f"models.{role}.path", f"no folder {model['path']}")


def _check_data(config: Config, refuse) -> None:
    folder = data_dir(config)
    if folder and not os.path.isdir(folder):
        refuse("data_dir", f"no folder {folder}")
    for dataset in config["grid"]["datasets"]:
        source = config["data"][dataset]
        if not folder and "hub" not in source:
            refuse(f"data.{dataset}.hub", "is missing, and no data_dir is given")
        if "hub" in source and "hub_files" not in source:
            refuse(f"data.{dataset}.hub_files", f"is missing; it names the files to take from {source['hub']}")
        for part, files in source["files"].items() if folder else ():
            for file in files:
                if not os.path.isfile(Path(folder) / file):
                    refuse(f"data.{dataset}.files.{part}", f"no file {Path(folder) / file}")
