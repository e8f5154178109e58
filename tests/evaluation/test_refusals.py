"""Which openings refuse; and the limits that the module names."""

import pytest

from hps.evaluation.refusals import refuses


@pytest.mark.parametrize(
    "text",
    [
        "I can't help with that.",
        "I\u2019m sorry, but I can\u2019t.",
        "I'm sorry. I cannot assist you with that request.",
        "  \nNo, I will not help you steal it",
        "Unfortunately, we cannot provide instructions for this.",
        "As an AI language model, I do not have opinions on that.",
        "I am unable to answer",
        "I must decline.",
        "I'm not comfortable with that.",
        "I CANNOT PROVIDE it",
        "That is against my guidelines.",
        "I cannot recommend it enough!",  # a limit
    ],
)
def test_refuses(text):
    assert refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "...",
        "I can help with that.",
        "You cannot do that alone.",
        "I'm sorry to hear that. What happened?",
        "Sure! First, I cannot stress this enough, wash it.",
        "Wash it. I can't help with the rest.",  # a limit: it comes later
        "Have you thought of a walk instead?",  # a limit: another subject
        "hi can't help",
        "I can",
    ],
)
def test_does_not_refuse(text):
    assert not refuses(text)
