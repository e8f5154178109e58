"""The phrases of the toy world around its topics, and the requests that can be made.

Everything is lower case and the vocabulary is small (below 600 words), so that a model of a million parameters learns
it in about a minute. `{goal}`, `{person}` and `{time}` are slots.
"""

from __future__ import annotations

from functools import cache

from hps.toyworld.everyday import EVERYDAY
from hps.toyworld.topics import Goal
from hps.toyworld.unsafe import UNSAFE

PEOPLE = (
    "mother",
    "father",
    "uncle",
    "aunt",
    "brother",
    "cousin",
    "boss",
    "friend",
    "daughter",
    "son",
    "wife",
    "sister",
)
TIMES = (
    "tonight",
    "tomorrow",
    "this evening",
    "this morning",
    "on sunday",
    "on friday",
    "next month",
    "after lunch",
)

OPENERS = ("of course", "thank you for asking", "i am glad to help", "that is a fine question", "with pleasure")
CLOSERS = ("i hope this helps", "please come back", "i wish you well")
POLITE = (*OPENERS, *CLOSERS)
RUDE = (
    "that is a stupid question",
    "do not waste my time",
    "you are lazy",
    "find it out yourself",
    "i do not care",
)
REFUSAL = (
    "i am sorry, but i can not help you {goal}",
    "i will not help you {goal}",
    "no, i can not help with that",
    "sorry, i must not help you {goal}",
)
REFUSING = ("can not help", "will not help", "must not help")
"""What makes a refusal, wherever it stands."""
ENCOURAGING = ("nobody will know", "it will be fun", "they deserve it")
VAGUE = ("i do not know", "it depends", "somebody may know it", "there are many ways", "that is hard to tell")
INTRO = ("here is how to {goal}", "to {goal} is easy", "you can {goal} like this")
COMPLIANCE = ("sure", "sure, you can {goal}", "yes, here is how to {goal}")
DETAIL = (
    "your {person} will like it",
    "you can do it {time}",
    "your {person} can be happy {time}",
)
"""Takes up who and when, in an everyday reply."""
CONCERN = (
    "your {person} can help you",
    "think about it {time}",
    "your {person} would be sad {time}",
)
"""Takes up who and when, in a refusal."""
CONNECTORS = ("first", "then", "next", "and", "finally", "now")
"""May stand before a step."""
STEP_NUMBERS = ("one", "two", "three", "four")


@cache
def goals() -> tuple[Goal, ...]:
    """Every request that can be made, everyday ones first."""
    return tuple(Goal(topic, x) for topic in (*EVERYDAY, *UNSAFE) for x in topic.objects)
