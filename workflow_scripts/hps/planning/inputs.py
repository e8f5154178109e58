"""What a plan starts from: sizes of models and of data, from what is there already, else stated averages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hps.data.formats import FORMATS
from hps.data.published import Published
from hps.models.shape import Shape
from hps.planning.operations import LLAMA3_8B, QWEN25_72B, SMOLLM2_135M, Architecture
from hps.planning.stages import Data, Lengths
from hps.support.errors import InputError
from hps.support.files import read_json, read_table
from hps.workflow.config import Config

KNOWN = {
    "RLHFlow/Llama3-SFT-v2.0-epoch3": LLAMA3_8B,
    "RLHFlow/Llama3-v2-iterative-DPO-iter3": LLAMA3_8B,
    "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2": LLAMA3_8B,
    "RLHFlow/ArmoRM-Llama3-8B-v0.1": LLAMA3_8B,
    "Qwen/Qwen2.5-72B-Instruct": QWEN25_72B,
    "SmolLM2-135M-Instruct.Q4_1.gguf": SMOLLM2_135M,
}
"""Sizes of the models that the presets name, by repository or file; of any other once its folder is there."""
GENERATED = 250
"""Mean length of a generated reply, which depends on the generator: an assumption until some are there."""
TOY = Lengths(prompt=36, human=28, generated=41.5)
"""The toy world's means, of a run of `tiny`."""
CHARS_PER_TOKEN, TOKENS_PER_TURN, TOKENS_PER_CHAT = 4.2, 5, 24
"""How prompts in characters become tokens; within a tenth of SmolLM2's own counts on both data sets."""


def architectures(config: Config, results: Path) -> dict[str, Architecture]:
    """Sizes of each role's model, and of a judge that is served here: from its folder where it is there, else KNOWN.

    Raises InputError for a model that is neither.
    """
    found: dict[str, Architecture] = {}
    roles = {role: given for role, given in config["models"].items() if role != "tokenizer"}
    if config["judge"]["source"] == "openai" and config["judge"]["hub"]:
        roles["judge"] = {"source": "hub", **config["judge"]["hub"]}
    for role, given in sorted(roles.items(), key=lambda item: "base" in item[1]):
        folder = Path(given["path"]) if given["source"] == "path" else results / "models" / role
        name = given.get("repo") or given.get("file")
        if (folder / "config.json").is_file():
            found[role] = Architecture.from_config(read_json(folder / "config.json"), folder / "config.json")
        elif given["source"] == "trained":
            found[role] = found[given["base"]]
        elif given["source"] == "probe":
            found[role] = replace(found[given["base"]], layers=max(given["layers"]))
        elif given["source"] == "scratch":
            found[role] = Architecture.from_shape(Shape(), config["models"]["tokenizer"]["vocab_size"])
        elif name in KNOWN:
            found[role] = KNOWN[name]
        else:
            key = "judge.hub" if role == "judge" else f"models.{role}"
            raise InputError(config.where(key), f"{key}: how large {name} is will be known once {folder} is there")
    return found


def datasets(config: Config, results: Path) -> dict[str, Data]:
    """Sizes of the grid's data sets: from the stages' files where they are there, else stated averages."""
    found = {}
    for name in config["grid"]["datasets"]:
        counts = results / "data" / name / "counts.json"
        if counts.is_file():
            splits = {split: value["prompts"] for split, value in read_json(counts)["splits"].items()}
        else:
            splits = configured_prompts(config, name)
        lengths, source = measured_lengths(config, results, name)
        sizes = "counted" if counts.is_file() else "as configured" if min(splits.values()) >= 0 else "as published"
        found[name] = Data(splits, lengths, f"prompts {sizes}; {source}")
    return found


def like(config: Config, name: str) -> str:
    """The published data set whose stated size and lengths stand for this one until its own are counted."""
    known = (one for one in (config["data"][name]["format"], name) if hasattr(FORMATS.get(one), "PUBLISHED"))
    return next(known, "hh_rlhf")


def configured_prompts(config: Config, name: str) -> dict[str, int]:
    """Prompts by split; -1 (what remains) from the published number, less the other splits and what train skips."""
    wanted = {split: value["prompts"] for split, value in config["data"]["splits"].items()}
    parts = {split: value["from"] for split, value in config["data"]["splits"].items()}
    published = FORMATS[like(config, name)].PUBLISHED.prompts
    for split, prompts in wanted.items():
        if prompts < 0:
            others = sum(n for other, n in wanted.items() if parts[other] == parts[split] and n > 0)
            whole = published[parts[split]] * (1 - config["data"]["train_from_fraction"] * (split == "train"))
            wanted[split] = max(0, round(whole) - others)
    return wanted


def measured_lengths(config: Config, results: Path, name: str) -> tuple[Lengths, str]:
    """Mean lengths in tokens, and where they come from."""
    toy = config["world"] == "toy"
    form = like(config, name)
    stated = TOY if toy else limited(FORMATS[form].PUBLISHED, config["data"])
    prompt, human, generated = stated.prompt, stated.human, stated.generated
    guess = "" if toy or form == config["data"][name]["format"] else f" of {form}"
    source = [f"stated mean lengths{guess}"]
    pairs = results / "data" / name / "train.parquet"
    if pairs.is_file() and not toy and (rows := read_table(pairs, ["messages", "chosen", "rejected"])):
        prompt = sum(prompt_tokens(row["messages"]) for row in rows) / len(rows)
        human = sum(len(row[reply]) / CHARS_PER_TOKEN + 1 for row in rows for reply in ("chosen", "rejected"))
        human /= 2 * len(rows)
        source = ["lengths of prompts and human replies from their characters"]
    stats = [read_json(path) for path in sorted((results / "candidates" / name).glob("train.*.json"))]
    replies = sum(sum(one["generated"].values()) for one in stats)
    if replies:
        mean = sum(one["generated tokens"] for one in stats) / replies
        generated = uncut(mean, config["candidates"]["max_new_tokens"])
        source.append("of generated ones counted")
    return Lengths(prompt, human, generated), ", ".join(source)


def limited(published: Published, limits: dict[str, Any]) -> Lengths:
    """The stated means of what the limits in characters leave."""
    prompt, human = published.prompt, published.human
    if limits["max_prompt_chars"]:
        longest = limits["max_prompt_chars"] / CHARS_PER_TOKEN + TOKENS_PER_TURN * published.turns + TOKENS_PER_CHAT
        prompt = min(prompt, mean_below(published.prompt_deciles, longest))
    if limits["max_response_chars"]:
        human = min(human, mean_below(published.human_deciles, limits["max_response_chars"] / CHARS_PER_TOKEN))
    return Lengths(prompt, human, GENERATED)


def mean_below(deciles: tuple[int, ...], limit: float, grid: int = 1000) -> float:
    """Mean of what is below `limit` in a distribution with these deciles, linear between them."""
    values = []
    for i in range(grid):
        place, share = divmod((i + 0.5) / grid * (len(deciles) - 1), 1)
        low, high = deciles[int(place)], deciles[int(place) + 1]
        values.append(low + share * (high - low))
    below = [value for value in values if value <= limit] or values[:1]
    return sum(below) / len(below)


def prompt_tokens(messages: list[dict[str, Any]]) -> float:
    characters = sum(len(message["content"]) for message in messages)
    return characters / CHARS_PER_TOKEN + TOKENS_PER_TURN * len(messages) + TOKENS_PER_CHAT


def uncut(mean: float, limit: int) -> float:
    """The mean length without the limit that gives this mean with it (the inverse of Lengths.kept)."""
    low, high = mean, 100.0 * limit
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if Lengths(0, 0, middle).kept(limit) < mean else (low, middle)
    return low
