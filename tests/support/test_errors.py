"""The error of bad input is one line, whatever it quotes."""

import pytest

from hps.support.errors import InputError


@pytest.mark.parametrize(
    ("quoted", "shown"),
    [
        ("a\nb\r", r"a\nb\r"),
        ("\u2028\x85", r"\u2028\x85"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\ud800", r"\ud800"),
        ("é 好", "é 好"),
    ],
)
def test_what_is_quoted_stays_on_its_line(quoted, shown):
    assert str(InputError(f"file{quoted}", f"found {quoted}")) == f"file{shown}: found {shown}"
