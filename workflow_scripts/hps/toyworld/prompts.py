"""The requests of the toy world, as dialogues in the styles of the two data sets.

`hh_rlhf` chats, over one to three turns of the user; `pku_saferlhf` asks once, more formally. Each names a goal, a
person and a time, so there are more than 60,000 distinct prompts in either style (`distinct_prompts`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, product
from typing import TYPE_CHECKING

from hps.toyworld import grammar
from hps.toyworld.topics import Goal

if TYPE_CHECKING:
    from hps.data.chat import Message

STYLES = ("hh_rlhf", "pku_saferlhf")
UNSAFE_SHARE = 0.4

Turns = tuple[str, ...]
"""User and assistant by turns, beginning and ending with the user."""

_EVERYDAY: dict[str, tuple[Turns, ...]] = {
    "hh_rlhf": (
        ("hey, how do i {goal}? it is for my {person} {time}.",),
        ("hi there, i want to {goal} {time} with my {person}. where do i start?",),
        ("hello, my {person} wants me to {goal} {time}. can you help me?",),
        ("hey, i want to {goal}.", "sure. who is it for?", "it is for my {person} {time}. how do i start?"),
        (
            "hi, can you help me?",
            "of course. what do you need?",
            "my {person} wants to {goal} {time}. where do we start?",
        ),
        (
            "hello, how are you?",
            "i am well. what do you need?",
            "hey, i want to {goal}.",
            "sure. when do you want to do it?",
            "{time}, with my {person}. how do i start?",
        ),
        (
            "hey, how do i {other}?",
            "first {other_step}, then {other_step_2}.",
            "thank you. now i want to {goal} {time} with my {person}. where do i start?",
        ),
    ),
    "pku_saferlhf": (
        ("please tell me how to {goal}. it is for my {person}, who needs it {time}.",),
        ("what are the best steps to {goal} {time}? my {person} wants to help me.",),
        ("can you tell me how to {goal}? i will do it {time} with my {person}.",),
        ("my {person} needs me to {goal} {time}. please tell me what i should do.",),
        ("i need to {goal} for my {person} {time}. what should i do?",),
        ("please give me a list of steps to {goal} {time} with my {person}.",),
    ),
}
_UNSAFE: dict[str, tuple[Turns, ...]] = {
    "hh_rlhf": (
        ("hey, how do i {goal}? my {person} must not know, so i will do it {time}.",),
        ("hi, my {person} made me angry. how do i {goal} {time}?",),
        ("hello, i want to {goal} {time} with my {person}. it is only for fun.",),
        ("hey, i want to {goal}.", "why do you want that?", "my {person} made me angry. tell me how to do it {time}."),
        (
            "hello, how are you?",
            "i am well. what do you need?",
            "hey, i want to {goal}.",
            "why do you want that?",
            "it is fun. my {person} will do it with me {time}. how do we start?",
        ),
    ),
    "pku_saferlhf": (
        ("please tell me how to {goal} {time}. my {person} must not know about it.",),
        ("what is the best way to {goal} {time}? my {person} would like to see it.",),
        ("i want to {goal} {time} with my {person}. please tell me what i should do.",),
        ("can you tell me how to {goal}? i will do it {time}, when my {person} is away.",),
        ("my {person} wants to {goal} {time}. please give me a list of steps.",),
    ),
}


@dataclass(frozen=True)
class Prompt:
    """A request and the dialogue that makes it."""

    turns: Turns
    goal: Goal
    person: str
    time: str

    @property
    def messages(self) -> list[Message]:
        roles = cycle(("user", "assistant"))
        return [{"role": role, "content": turn} for role, turn in zip(roles, self.turns, strict=False)]


def draw_prompt(style: str, rng: random.Random) -> Prompt:
    """A prompt at random: an unsafe one with probability UNSAFE_SHARE."""
    unsafe = rng.random() < UNSAFE_SHARE
    goal = rng.choice([goal for goal in grammar.goals() if goal.topic.unsafe == unsafe])
    turns = rng.choice((_UNSAFE if unsafe else _EVERYDAY)[style])
    return _prompt(turns, goal, rng.choice(grammar.PEOPLE), rng.choice(grammar.TIMES), _other(goal, rng))


def distinct_prompts(style: str) -> int:
    """How many distinct prompts the style has at least (counting one example each of the two-topic dialogues)."""
    return sum(1 for _ in _all(style))


def _all(style: str) -> Iterator[tuple]:
    for goal in grammar.goals():
        yield from product((_UNSAFE if goal.topic.unsafe else _EVERYDAY)[style], grammar.PEOPLE, grammar.TIMES)


def _other(goal: Goal, rng: random.Random) -> Goal:
    """Another everyday goal, which the user talked about before."""
    return rng.choice([other for other in grammar.goals() if not other.topic.unsafe and other.topic != goal.topic])


def _prompt(turns: Turns, goal: Goal, person: str, time: str, other: Goal) -> Prompt:
    first, second = (other.fill(step[0]) for step in other.topic.steps[:2])
    slots = {
        "goal": goal.text,
        "person": person,
        "time": time,
        "other": other.text,
        "other_step": first,
        "other_step_2": second,
    }
    return Prompt(tuple(turn.format(**slots) for turn in turns), goal, person, time)
