"""Settings as options: what the rules write is what the commands read."""

import shlex

import pytest
from argparse_dataclass import ArgumentParser

from hps.support import settings
from hps.support.settings import TAKES, cost_names, options, taken_by


def test_options():
    section = {"batch_size": 4, "rate": 1e-4, "names": ["a", "b"], "yes": True, "no": False, "none": None, "x": 1}
    expected = "--batch-size 4 --rate 0.0001 --names a b --yes"
    assert options(section, leave_out=("x",)) == expected


@pytest.mark.parametrize("text", ["a b", "$(touch /tmp/x)", "it's", "a;b", "[x]{y}*", "`id`", '"', "-x", "\n"])
def test_whatever_a_value_holds_reaches_the_command_as_it_is(text):
    words = shlex.split(options({"file": text, "files": ["first", text]}))
    assert words[0] == "--file=-x" if text == "-x" else words[:2] == ["--file", text]
    assert words[-1] == text
    assert shlex.split(options({"nested": {"key": text}}))[1] == '{"key": ' + settings.json.dumps(text) + "}"


def example(part: dict) -> object:
    """A value that this part of the schema allows."""
    if "enum" in part:
        return part["enum"][0]
    kind = part.get("type")
    if kind == "array":
        return [example(settings.resolved(part["items"]))] * 2
    of_kind = {"integer": 3, "number": 0.5, "boolean": True, "string": "a b"}
    return of_kind.get(kind[0] if isinstance(kind, list) else kind)


@pytest.mark.parametrize("command", TAKES)
def test_a_command_reads_what_the_rules_write(command):
    values = {
        "beta": 0.1,
        "samples": 2,
        "multiplicity": 1,
        "gamma_levels": [-5, -1e-07, "inf"],
        "hyperparameters": {"a": {"b": 1}},
    }
    given = {}
    for one in settings.settings(*TAKES[command]):
        given[one.name] = values.get(one.name) or example(one.schema)
    read = ArgumentParser(taken_by(command)).parse_args(shlex.split(options(given)))
    assert vars(read) == given


def test_an_unknown_value_of_an_enumeration_is_refused(capsys):
    with pytest.raises(SystemExit):
        ArgumentParser(taken_by("reference")).parse_args(["--score-tokens", "1", "--dtype", "float8"])
    assert "argument --dtype: invalid choice: 'float8'" in capsys.readouterr().err


def test_what_costs_and_changes_no_result():
    assert cost_names("train") == {"train_tokens", "checkpoint_every", "tensorboard", "activation_checkpointing"}
    assert cost_names("evaluate") == {"score_tokens", "sequences"}
    assert cost_names("annotate") == {"score_tokens"}
