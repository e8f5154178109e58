"""The toy world's data files: rows in the formats of HH-RLHF and PKU-SafeRLHF, labelled by Bradley-Terry on r*.

The quirks of the real files (empty replies, dialogues that disagree, repeated prompts) stand in every file, at the
counts of HH_QUIRKS and PKU_QUIRKS; otherwise no prompt repeats within a data set.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass
from typing import Any

from hps.data.formats.hh_rlhf import render
from hps.support.errors import InputError
from hps.support.files import stable_hash
from hps.toyworld import grammar
from hps.toyworld.harm import severity
from hps.toyworld.prompts import Prompt, draw_prompt
from hps.toyworld.replies import draw_reply
from hps.toyworld.reward import Attributes, attributes, reward_of

Row = dict[str, Any]

HH_QUIRKS = {"prompts differ": 2, "empty chosen": 2, "Human: in reply": 2, "consecutive turns": 1, "repeated prompt": 3}
PKU_QUIRKS = {"empty rejected": 2, "repeated prompt": 4}
TEST_PROMPTS_IN_TRAIN = 2
"""So many rows of a training file have a prompt of the test file."""
ROWS = range(25, 20_001)
"""How many rows a file may have: more than its quirks, well below the number of distinct prompts."""

HARM_CATEGORIES = (
    "Endangering National Security",
    "Insulting Behavior",
    "Discriminatory Behavior",
    "Endangering Public Health",
    "Copyright Issues",
    "Violence",
    "Drugs",
    "Privacy Violation",
    "Economic Crime",
    "Mental Manipulation",
    "Human Trafficking",
    "Physical Harm",
    "Sexual Content",
    "Cybercrime",
    "Disrupting Public Order",
    "Environmental Damage",
    "Psychological Harm",
    "White-Collar Crime",
    "Animal Abuse",
)


@dataclass(frozen=True)
class ToyComparison:
    """A prompt, two replies with their attributes, and the label drawn for them."""

    prompt: Prompt
    replies: tuple[str, str]
    found: tuple[Attributes, Attributes]
    better: int
    quirk: str


def make_rows(style: str, seed: int, rows_train: int, rows_test: int) -> dict[str, list[Row]]:
    """The rows of a data set's `train` and `test` file, in the format of `style` (one of `prompts.STYLES`).

    Raises:
        InputError: a number of rows outside ROWS.
    """
    for name, count in (("rows_train", rows_train), ("rows_test", rows_test)):
        if count not in ROWS:
            raise InputError(name, f"must be from {ROWS[0]} to {ROWS[-1]}, not {count}")
    seen: set[tuple[str, ...]] = set()
    test = _comparisons(style, rows_test, seen, [], random.Random(stable_hash("toy", seed, style, "test")))
    shared = [comparison.prompt for comparison in test if not comparison.quirk][:TEST_PROMPTS_IN_TRAIN]
    train = _comparisons(style, rows_train, seen, shared, random.Random(stable_hash("toy", seed, style, "train")))
    row = _hh_row if style == "hh_rlhf" else _pku_row
    return {"train": [row(comparison) for comparison in train], "test": [row(comparison) for comparison in test]}


def prefers_first(rewards: tuple[float, float], rng: random.Random) -> bool:
    """A Bradley-Terry draw: True with probability sigmoid(r_0 - r_1)."""
    return rng.random() < 1 / (1 + math.exp(rewards[1] - rewards[0]))


def _comparisons(
    style: str, count: int, seen: set[tuple[str, ...]], shared: list[Prompt], rng: random.Random
) -> list[ToyComparison]:
    prompts = [_new_prompt(style, seen, rng) for _ in range(count)]
    quirks = _place_quirks(style, prompts, shared, rng)
    return [_compare(prompt, style, quirk, rng) for prompt, quirk in zip(prompts, quirks, strict=True)]


def _new_prompt(style: str, seen: set[tuple[str, ...]], rng: random.Random) -> Prompt:
    while (prompt := draw_prompt(style, rng)).turns in seen:
        pass
    seen.add(prompt.turns)
    return prompt


def _place_quirks(style: str, prompts: list[Prompt], shared: list[Prompt], rng: random.Random) -> list[str]:
    """The quirk of each row, mostly none; prompts that repeat are written over `prompts`."""
    kinds = [kind for kind, count in (HH_QUIRKS if style == "hh_rlhf" else PKU_QUIRKS).items() for _ in range(count)]
    places = rng.sample(range(len(prompts)), len(kinds) + len(shared))
    plain = [prompts[number] for number in sorted(set(range(len(prompts))) - set(places))]
    quirks = [""] * len(prompts)
    for place, kind in zip(places, [*kinds, *("test prompt" for _ in shared)], strict=True):
        quirks[place] = kind
    repeats = [place for place in places if quirks[place] == "repeated prompt"]
    tests = [place for place in places if quirks[place] == "test prompt"]
    for place, prompt in zip(repeats + tests, rng.sample(plain, len(repeats)) + shared, strict=True):
        prompts[place] = prompt
    return quirks


def _compare(prompt: Prompt, style: str, quirk: str, rng: random.Random) -> ToyComparison:
    first = second = draw_reply(prompt, style, rng)
    while second == first:
        second = draw_reply(prompt, style, rng)
    found = (attributes(prompt.messages, first), attributes(prompt.messages, second))
    better = 0 if prefers_first((reward_of(found[0]), reward_of(found[1])), rng) else 1
    return ToyComparison(prompt, (first, second), found, better, quirk)


# --- HH-RLHF ---------------------------------------------------------------------------------------------------


def _hh_row(comparison: ToyComparison) -> Row:
    prompt = render(comparison.prompt.messages)
    chosen, rejected = comparison.replies[comparison.better], comparison.replies[1 - comparison.better]
    rejected_prompt = prompt
    if comparison.quirk == "prompts differ":
        rejected_prompt += f"\n\nAssistant: {grammar.VAGUE[0]}."
    elif comparison.quirk == "consecutive turns":
        prompt = rejected_prompt = f"\n\nHuman: hello.{prompt}"
    elif comparison.quirk == "empty chosen":
        chosen = ""
    elif comparison.quirk == "Human: in reply":
        rejected += " Human: i do not know."
    return {"chosen": f"{prompt}\n\nAssistant: {chosen}", "rejected": f"{rejected_prompt}\n\nAssistant: {rejected}"}


# --- PKU-SafeRLHF ----------------------------------------------------------------------------------------------


def _pku_row(comparison: ToyComparison) -> Row:
    prompt = comparison.prompt.messages[-1]["content"]
    better, responses = comparison.better, list(comparison.replies)
    levels = [severity(found) for found in comparison.found]
    categories = [_categories(comparison.prompt, found) for found in comparison.found]
    harms = [found.harm + found.rudeness / 2 for found in comparison.found]
    if comparison.quirk == "empty rejected":
        responses[1 - better], levels[1 - better], harms[1 - better] = "", 0, 0.0
        categories[1 - better] = dict.fromkeys(HARM_CATEGORIES, False)
    safer = better if harms[0] == harms[1] else int(harms[1] < harms[0])
    return {
        "prompt": prompt,
        "response_0": responses[0],
        "response_1": responses[1],
        "prompt_source": "toyworld",
        "response_0_source": "toyworld",
        "response_1_source": "toyworld",
        "is_response_0_safe": levels[0] == 0,
        "is_response_1_safe": levels[1] == 0,
        "response_0_harm_category": categories[0],
        "response_1_harm_category": categories[1],
        "response_0_severity_level": levels[0],
        "response_1_severity_level": levels[1],
        "better_response_id": better,
        "safer_response_id": safer,
        "response_0_sha256": _sha256(prompt + responses[0]),
        "response_1_sha256": _sha256(prompt + responses[1]),
    }


def _categories(prompt: Prompt, found: Attributes) -> dict[str, bool]:
    named = {prompt.goal.topic.category} if found.harm > 0 else set()
    named |= {"Insulting Behavior"} if found.rudeness > 0 else set()
    return {category: category in named for category in HARM_CATEGORIES}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
