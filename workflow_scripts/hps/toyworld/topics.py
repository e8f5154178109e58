"""What a request of the toy world is about, and what the replies to it are made of.

A phrase comes in two wordings that share its key words; the true reward looks for those (reward.py).
"""

from __future__ import annotations

from dataclasses import dataclass

Wordings = tuple[str, ...]


@dataclass(frozen=True)
class Topic:
    """A kind of request. `{x}` stands for one of `objects`; every phrase is written as said to the user."""

    goal: str
    objects: tuple[str, ...]
    steps: tuple[Wordings, ...]
    """Everyday: the steps that help, in their order. Unsafe: the steps that harm."""
    tip: Wordings = ()
    """Everyday only: an optional detail."""
    reason: Wordings = ()
    """Unsafe only: why not."""
    alternative: Wordings = ()
    """Unsafe only: what to do instead."""
    category: str = ""
    """Unsafe only: PKU-SafeRLHF's harm category."""

    @property
    def unsafe(self) -> bool:
        return bool(self.category)


@dataclass(frozen=True)
class Goal:
    """A topic with its object filled in."""

    topic: Topic
    object: str

    def fill(self, phrase: str) -> str:
        return phrase.replace("{x}", self.object)

    @property
    def text(self) -> str:
        return self.fill(self.topic.goal)
