"""Replies of varying quality to the toy world's requests.

Each reply has a quality drawn for it, from 0 to 1, that moves every choice: whether it helps at all, how many steps it
gives and in which order, whether it is polite, takes up the request's details, refuses what it should.
"""

from __future__ import annotations

import random

from hps.toyworld import grammar
from hps.toyworld.prompts import Prompt
from hps.toyworld.topics import Goal, Wordings

MOST_WORDS = 22
"""Optional sentences are left out where a reply would be longer; its steps or its refusal always stay."""


def draw_reply(prompt: Prompt, style: str, rng: random.Random) -> str:
    """A reply at random, of a quality uniform from 0 to 1."""
    quality = rng.random()
    sentences = (_to_unsafe if prompt.goal.topic.unsafe else _to_everyday)(prompt, style, quality, rng)
    return " ".join(f"{sentence}." for sentence in sentences)


def _to_everyday(prompt: Prompt, style: str, quality: float, rng: random.Random) -> list[str]:
    flaw = rng.random() / (1.001 - quality)
    if flaw < 0.08:
        return _rude(rng)
    if flaw < 0.18:
        return _refusal(prompt, quality, rng)
    if flaw < 0.28:
        return _vague(quality, rng)
    goal = prompt.goal
    if flaw < 0.38:  # steps for something else
        goal = rng.choice([other for other in grammar.goals() if not other.topic.unsafe and other.topic != goal.topic])
    extras = [
        (0.1 + 0.4 * quality, _say(goal, goal.topic.tip, rng)),
        (0.1 + 0.5 * quality, _detail(prompt, grammar.DETAIL, quality, rng)),
        (0.1 + 0.4 * quality, rng.choice(grammar.CLOSERS)),
    ]
    before = [*_opening(quality, rng), *_some([(0.3, rng.choice(grammar.INTRO).format(goal=goal.text))], rng)]
    return _fitted(before, _steps(goal, style, quality, quality, rng), _some(extras, rng), rng)


def _to_unsafe(prompt: Prompt, style: str, quality: float, rng: random.Random) -> list[str]:
    kind = rng.random()
    if kind < 0.04:
        return _rude(rng)
    if kind < 0.12:
        return _vague(quality, rng)
    if kind < 0.25 + 0.6 * quality:
        return _refusal(prompt, quality, rng)
    # the rest complies, the better half with a word of warning first
    before = [
        (0.7, rng.choice(grammar.COMPLIANCE).format(goal=prompt.goal.text)),
        (0.4 * quality, _say(prompt.goal, prompt.goal.topic.reason, rng)),
    ]
    after = [(0.4, rng.choice(grammar.ENCOURAGING)), (0.2, rng.choice(grammar.CLOSERS))]
    steps = _steps(prompt.goal, style, 0.8 * (1 - quality), quality, rng)
    return _fitted(_some(before, rng), steps, _some(after, rng), rng)


def _refusal(prompt: Prompt, quality: float, rng: random.Random) -> list[str]:
    goal = prompt.goal
    extras = [
        (0.2 + 0.5 * quality, _say(goal, goal.topic.reason, rng)),
        (0.2 + 0.6 * quality, _say(goal, goal.topic.alternative, rng)),
        (0.1 + 0.5 * quality, _detail(prompt, grammar.CONCERN, quality, rng)),
        (0.1 + 0.4 * quality, rng.choice(grammar.CLOSERS)),
    ]
    return _fitted([], [rng.choice(grammar.REFUSAL).format(goal=goal.text)], _some(extras, rng), rng)


def _rude(rng: random.Random) -> list[str]:
    return rng.sample(grammar.RUDE, rng.choice((1, 2)))


def _vague(quality: float, rng: random.Random) -> list[str]:
    return [*_opening(quality, rng), *rng.sample(grammar.VAGUE, rng.choice((1, 2)))]


def _opening(quality: float, rng: random.Random) -> list[str]:
    return [rng.choice(grammar.OPENERS)] if rng.random() < 0.15 + 0.6 * quality else []


def _steps(goal: Goal, style: str, thoroughness: float, quality: float, rng: random.Random) -> list[str]:
    """Some of the goal's steps as sentences: chatty ones run on, formal ones are numbered or stand alone."""
    steps = goal.topic.steps
    count = 1 + sum(rng.random() < 0.2 + 0.75 * thoroughness for _ in steps[1:])
    chosen = sorted(rng.sample(range(len(steps)), count))
    if rng.random() < 0.4 * (1 - quality):
        rng.shuffle(chosen)
    said = [_say(goal, steps[i], rng) for i in chosen]
    if style == "hh_rlhf":
        later = ("then", "next", "and", "now")
        leads = [rng.choice(("first ", "")), *(f"{rng.choice(later)} " for _ in said[1:])]
        clauses = [lead + step for lead, step in zip(leads, said, strict=True)]
        cut = rng.randint(1, len(clauses))
        return [", ".join(part) for part in (clauses[:cut], clauses[cut:]) if part]
    if rng.random() < 0.5:
        return [f"{number}, {step}" for number, step in zip(grammar.STEP_NUMBERS, said, strict=False)]
    if len(said) > 1 and rng.random() < 0.5:
        said[-1] = f"finally {said[-1]}"
    return said


def _say(goal: Goal, wordings: Wordings, rng: random.Random) -> str:
    return goal.fill(rng.choice(wordings)) if wordings else ""


def _detail(prompt: Prompt, phrases: tuple[str, ...], quality: float, rng: random.Random) -> str:
    """Takes up who and when; at low quality perhaps somebody or some time else."""
    mistaken = rng.random() < 0.4 * (1 - quality)
    person = rng.choice(grammar.PEOPLE) if mistaken else prompt.person
    time = rng.choice(grammar.TIMES) if mistaken else prompt.time
    return rng.choice(phrases).format(person=person, time=time)


def _some(extras: list[tuple[float, str]], rng: random.Random) -> list[str]:
    """Each text with its probability, in the order given; empty ones never."""
    return [text for probability, text in extras if text and rng.random() < probability]


def _fitted(before: list[str], core: list[str], after: list[str], rng: random.Random) -> list[str]:
    """The core with as many of the sentences around it as fit, tried in random order."""
    around = [*before, *after]
    room = MOST_WORDS - sum(len(sentence.split()) for sentence in core)
    kept = set()
    for number in rng.sample(range(len(around)), len(around)):
        length = len(around[number].split())
        if length <= room:
            kept.add(number)
            room -= length
    return [
        *(sentence for number, sentence in enumerate(before) if number in kept),
        *core,
        *(sentence for number, sentence in enumerate(after, len(before)) if number in kept),
    ]
