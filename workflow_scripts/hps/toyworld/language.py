"""How the toy world writes: its words, and how much of a text is not its language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise

from hps.toyworld import grammar

STOP_WORDS = frozenset(
    """a after again all an and are as at away be best by can do each every first for from get give go good her him his
    how i if in inside into is it its keep like make must my need needs not of off on one or out over put should so
    some take that the them then there they this to until till up use well what when where why will with would you
    your""".split()  # noqa: SIM905
)
"""Words that do not tell one phrase from another."""

_WORD = re.compile(r"[a-z]+")
_TOKEN = re.compile(r"[a-z]+|[^\sa-z]")
_BREAKS = (".", ",")
_START, _END = "<start>", "<end>"


def words(text: str) -> list[str]:
    """The words of a text, lower case."""
    return _WORD.findall(text.lower())


def tokens(text: str) -> list[str]:
    """The words and the marks of a text, lower case."""
    return _TOKEN.findall(text.lower())


def junk(tokens: Sequence[str]) -> float:
    """Share of neighbouring pairs, the text's start and end included, that no reply of the grammar contains."""
    if not tokens:
        return 1.0
    legal = legal_pairs()
    pairs = list(pairwise((_START, *tokens, _END)))
    return sum(pair not in legal for pair in pairs) / len(pairs)


def repetition(words: Sequence[str]) -> float:
    """Share of word triples that stand earlier in the text too."""
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


@lru_cache(maxsize=1)
def legal_pairs() -> frozenset[tuple[str, str]]:
    """Every pair of neighbouring words or marks that a reply of the grammar can contain."""
    leads = [tokens(lead) for lead in (*grammar.CONNECTORS, *grammar.STEP_NUMBERS)]
    pairs: set[tuple[str, str]] = {(".", _END)}
    for lead in leads:
        pairs |= _around(lead)
    for phrase in phrases():
        pieces = tokens(phrase)
        pairs |= _around(pieces)
        pairs |= {(lead[-1], pieces[0]) for lead in leads}
    return frozenset(pairs)


def _around(pieces: list[str]) -> set[tuple[str, str]]:
    """The pairs within a phrase, and those where a text or a clause begins or ends with it."""
    inside = set(pairwise(pieces))
    return (
        inside
        | {(_START, pieces[0])}
        | {(mark, pieces[0]) for mark in _BREAKS}
        | {(pieces[-1], mark) for mark in _BREAKS}
    )


def phrases() -> Iterable[str]:
    """Every phrase a reply can be made of, with its slots filled."""
    yield from (*grammar.POLITE, *grammar.RUDE, *grammar.ENCOURAGING, *grammar.VAGUE)
    for person in grammar.PEOPLE:
        for time in grammar.TIMES:
            yield from (phrase.format(person=person, time=time) for phrase in (*grammar.DETAIL, *grammar.CONCERN))
    for goal in grammar.goals():
        topic = goal.topic
        yield from (phrase.format(goal=goal.text) for phrase in (*grammar.REFUSAL, *grammar.INTRO, *grammar.COMPLIANCE))
        for wordings in (*topic.steps, topic.tip, topic.reason, topic.alternative):
            yield from map(goal.fill, wordings)
