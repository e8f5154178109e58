"""YAML as users write it: what a plain reader would drop, or drown in, is one line with file and row."""

import pytest

from hps.support.errors import InputError
from hps.support.yaml_file import read_yaml

BOMB = "a: &a [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"training: {epochs: 1}\nseeds: [0]\ntraining: {epochs: 2}\n", ":3: key training stands twice in its block"),
        (b"training:\n  epochs: 1\n  epochs: 2\n", ":3: key epochs stands twice"),
        (b"training: {1: 2}\n", ":1: key 1 is no text"),
        (b"? [a, b]\n: c\n", ":1: key .* is no text"),
        (b"seeds: [0\nnext: 1\n", ":2: is not YAML"),
        (b"a: b: c\n", ":1: is not YAML"),
        (b"a: *missing\n", ":1: is not YAML: found undefined alias"),
        (b"a: 1\nname: caf\xe9\n", ":2: is not UTF-8"),
        (b"- 1\n- 2\n", ": is not a mapping"),
        (b"", ": is not a mapping"),
        (b"a: \x00\n", ": is not YAML"),
        (b"a: !!python/object/apply:os.getcwd []\n", ":1: is not YAML"),
        (b"a: 2024-13-45\n", ": is not YAML"),
        (BOMB.encode(), ":5: its aliases stand for too many values"),
        (b"a: &a [*a]\n", ":1: its aliases stand for too many values"),
        (b"a: " + b"[" * 3000 + b"]" * 3000, ":1: is nested more than 100 levels deep"),
        (b"a: " + b"[" * 100_000, ":1: is nested more than 100 levels deep"),  # libyaml's composer would crash
    ],
)
def test_is_refused_with_file_and_row(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_bytes(text)
    with pytest.raises(InputError, match=f"c.yaml{message}") as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_a_folder_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(InputError, match=f"^{path}: "):
            read_yaml(path)


def test_aliases_and_merges_are_read(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\n")
    assert read_yaml(path)["more"] == {"a": 1, "b": 3}
