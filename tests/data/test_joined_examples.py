"""The join of the stages' files: what it holds, and what it refuses in one line."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stage_files

from hps.data import examples, stages
from hps.data.examples import EMPTY, INDEX, TOKENS, Examples
from hps.data.schemas import CANDIDATES, PAIRS, REFERENCE, SCORED
from hps.support.errors import InputError
from hps.support.files import identity, read_table, record


@pytest.fixture
def files(tmp_path, model_folder):
    return stage_files.make(tmp_path, model_folder, prompts=3, n=4)


def again(files: dict[str, str], name: str, rows: list[dict], **made_from: str) -> None:
    """Write one file again, made from the same as before but for `made_from`."""
    before = record(files[name])["made_from"]
    stages.write(files[name], rows, stage_files.SCHEMAS[name], before | made_from)


def test_everything_of_a_response_is_in_its_row(files):
    joined = Examples(files["examples"])
    rows = read_table(files["reference"])
    rewards = [row["reward"] for row in read_table(files["scored"])]
    assert len(joined) == 3
    assert joined.bounds.tolist() == [0, 6, 12, 18]
    assert joined.columns.reward.tolist() == rewards
    assert joined.columns.log_prob.tolist() == [row["log_prob"] for row in rows]
    assert list(joined.responses(np.arange(18))) == [row["ids"] for row in rows]
    prompts = {row["prompt_id"]: row["ids"] for row in read_table(files["prompts"])}
    assert [joined.prompt(i) for i in range(3)] == [prompts[joined.prompt_id(i)] for i in range(3)]


def test_an_empty_response_keeps_its_row(files):
    stage_files.change(files, "candidates", {(0, "generated", 1): {"status": "empty"}})
    columns = Examples(files["examples"]).columns
    assert columns.status.tolist().count(EMPTY) == 1
    assert columns.length[3] == 0
    assert np.isnan(columns.reward[3])


def test_shards_are_joined_as_one_file_would_be(files, tmp_path):
    """The last prompts in one shard, the first in another, and a shard without any: the order is that of the pairs."""
    shards: dict[str, list[str]] = {}
    for number, own in enumerate(({1, 2}, {0}, set())):
        made_from = {}
        for name in ("candidates", "scored", "reference", "prompts"):
            path = str(tmp_path / f"{name}.{number}.parquet")
            rows = [row for row in read_table(files[name]) if int(row["prompt_id"], 16) in own]
            stages.write(path, rows, stage_files.SCHEMAS[name], record(files[name])["made_from"] | made_from)
            made_from = made_from or {"candidates": identity(path)}
            shards.setdefault(name, []).append(path)
    examples.join(tmp_path / "sharded", files["pairs"], *shards.values())
    whole, sharded = Examples(files["examples"]), Examples(tmp_path / "sharded")
    assert [whole.prompt_id(i) for i in range(3)] == [sharded.prompt_id(i) for i in range(3)]
    rows = np.arange(18)
    assert list(whole.responses(rows)) == list(sharded.responses(rows))
    for name in ("origin", "index", "status", "reward", "log_prob", "length", "checksum"):
        assert np.array_equal(getattr(whole.columns, name), getattr(sharded.columns, name)), name


# --- refusals: what is done to the files, and the line ---------------------------------------------------------------


def nan_reward(files):
    path = Path(files["scored"])
    table = pq.read_table(path)
    values = table["reward"].to_pylist()
    values[5] = float("nan")
    foreign(path, table.set_column(3, "reward", pa.array(values)))


def foreign(path, table):
    """As another tool would write it: the record of the stage stays, or goes."""
    pq.write_table(table, path)


def half_of_the_prompts_gone(files):
    again(files, "candidates", [r for r in read_table(files["candidates"]) if r["prompt_id"] != f"{1:016x}"])


def other_prompts(files):
    rows = [r | {"prompt_id": "f" + r["prompt_id"][1:]} for r in read_table(files["candidates"])]
    again(files, "candidates", rows)
    for name in ("scored", "reference", "prompts"):
        rows = [r | {"prompt_id": "f" + r["prompt_id"][1:]} for r in read_table(files[name])]
        again(files, name, rows, candidates=identity(files["candidates"]))


def a_prompt_without_candidates(files):
    keep = f"{1:016x}"
    again(files, "candidates", [r for r in read_table(files["candidates"]) if r["prompt_id"] != keep])
    for name in ("scored", "reference", "prompts"):
        rows = [r for r in read_table(files[name]) if r["prompt_id"] != keep]
        again(files, name, rows, candidates=identity(files["candidates"]))


def a_reference_of_other_candidates(files):
    again(files, "reference", read_table(files["reference"]), candidates="of another day")


def rewards_of_other_candidates(files):
    again(files, "scored", read_table(files["scored"]), candidates="of another day")


def candidates_of_other_pairs(files):
    again(files, "candidates", read_table(files["candidates"]), pairs="of another day")


def a_log_prob_less(files):
    again(files, "reference", read_table(files["reference"])[:-1])


def a_reward_more(files):
    rows = read_table(files["scored"])
    again(files, "scored", [*rows, rows[-1] | {"index": 99}])


def rewards_in_another_order(files):
    rows = read_table(files["scored"])
    again(files, "scored", [rows[1], rows[0], *rows[2:]])


def an_id_out_of_range(files):
    rows = read_table(files["reference"])
    rows[4]["ids"][0] = 10**6
    again(files, "reference", rows)


def a_wrong_number_of_tokens(files):
    rows = read_table(files["reference"])
    rows[4]["tokens"] += 1
    again(files, "reference", rows)


def prompts_of_another_policy(files):
    again(files, "prompts", read_table(files["prompts"]), policy="another")


def changed_log_probs(files):
    table = pq.read_table(files["reference"])
    values = [value - 100 for value in table["log_prob"].to_pylist()]
    foreign(files["reference"], table.set_column(3, table.schema.field("log_prob"), pa.array(values)))


def changed_ids(files):
    table = pq.read_table(files["reference"])
    values = [[*ids[1:], ids[0]] for ids in table["ids"].to_pylist()]
    foreign(files["reference"], table.set_column(5, table.schema.field("ids"), pa.array(values, table["ids"].type)))


def rows_twice(files):
    table = pq.read_table(files["candidates"])
    foreign(files["candidates"], pa.concat_tables([table, table]))


def without_record(files):
    foreign(files["scored"], pq.read_table(files["scored"]).replace_schema_metadata({}))


def a_column_less(files):
    foreign(files["scored"], pq.read_table(files["scored"]).drop_columns("reward"))


@pytest.mark.parametrize(
    ("break_it", "line"),
    [
        (nan_reward, r"scored.parquet: column reward is not what was written there"),
        (half_of_the_prompts_gone, r"scored.parquet: was not made from .*candidates.parquet as it is now"),
        (other_prompts, r"candidates.parquet: row 0: prompt f0+ is not in .*pairs.parquet"),
        (a_prompt_without_candidates, r"pairs.parquet: prompt 0+1 has no candidates"),
        (a_reference_of_other_candidates, r"reference.parquet: was not made from .*candidates.parquet as"),
        (rewards_of_other_candidates, r"scored.parquet: was not made from .*candidates.parquet as"),
        (candidates_of_other_pairs, r"candidates.parquet: was not made from .*pairs.parquet as it is now"),
        (a_log_prob_less, r"reference.parquet: has 17 rows for the 18 responses of .*candidates"),
        (a_reward_more, r"scored.parquet: has 19 rows for the 18 responses of .*candidates"),
        (rewards_in_another_order, r"scored.parquet: row 0: is response 0+/rejected/0, where .* has 0+/chosen/0"),
        (an_id_out_of_range, r"reference.parquet: ids has a token outside the vocabulary of 320"),
        (a_wrong_number_of_tokens, r"reference.parquet: row 4: tokens is \d+, but there are \d+ ids"),
        (prompts_of_another_policy, r"prompts.parquet: was not made together with .*reference.parquet"),
        (changed_log_probs, r"reference.parquet: column log_prob is not what was written there"),
        (changed_ids, r"reference.parquet: column ids is not what was written there"),
        (rows_twice, r"candidates.parquet: column prompt_id is not what was written there"),
        (without_record, r"scored.parquet: does not say what it holds"),
        (a_column_less, r"scored.parquet: has no column reward"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_does_not_belong_together_is_refused(files, tmp_path, break_it, line):
    break_it(files)
    with pytest.raises(InputError, match=line) as error:
        stage_files.join(files, str(tmp_path / "out"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


KEY = {"prompt_id": "a", "origin": "generated", "index": 0}


@pytest.mark.parametrize(
    ("schema", "rows", "line"),
    [
        (SCORED, [KEY | {"reward": float("nan"), "true_reward": None}], "row 0: reward is nan, not a finite number"),
        (
            SCORED,
            [KEY | {"reward": 1.0, "true_reward": float("inf")}],
            "row 0: true_reward is inf, not a finite",
        ),
        (SCORED, [KEY | {"reward": None, "true_reward": None}], "row 0: reward is None, missing"),
        (SCORED, [KEY | {"reward": 1.0, "true_reward": None}] * 2, r"row 1: a/generated/0 occurs twice"),
        (
            SCORED,
            [KEY | {"origin": "mine", "reward": 1.0, "true_reward": None}],
            "row 0: origin is 'mine', none of ch",
        ),
        (CANDIDATES, [KEY | {"response": "", "status": "good", "tokens": 1}], "row 0: status is 'good', none of ok, "),
        (CANDIDATES, [KEY | {"response": "", "status": "ok", "tokens": -1}], "row 0: tokens is -1, less than 0"),
        (REFERENCE, [KEY | {"index": -1, "log_prob": 0.0, "tokens": 1, "ids": [1]}], "row 0: index is -1, less than 0"),
        (PAIRS, [{"prompt_id": "a", "messages": [], "chosen": "x", "rejected": None}], "row 0: rejected is None, miss"),
    ],
)
def test_what_is_written_passes_the_check_of_what_is_read(tmp_path, schema, rows, line):
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}/x.parquet: ") + line):
        stages.write(tmp_path / "x.parquet", rows, schema)
    assert not (tmp_path / "x.parquet").exists()


def test_a_flipped_bit_in_the_tokens_is_found_when_they_are_read(files):
    path = Path(files["examples"]) / TOKENS
    content = bytearray(path.read_bytes())
    content[4] ^= 1  # in the first response
    path.write_bytes(content)
    joined = Examples(files["examples"])
    assert joined.responses(np.array([3]))[0]
    with pytest.raises(InputError, match=r"tokens.bin: the tokens at 0 are not what was written there"):
        joined.responses(np.array([0]))[0]


@pytest.mark.parametrize("name", [INDEX, TOKENS])
def test_half_a_file_is_refused(files, name):
    path = Path(files["examples"]) / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 8 * 4])
    with pytest.raises(InputError, match=str(path.parent)):
        Examples(files["examples"])


def test_a_flipped_bit_of_the_index_is_found(files):
    path = Path(files["examples"]) / INDEX
    content, whole = path.read_bytes(), Examples(files["examples"])
    rows = np.arange(18)
    expected = [whole.prompt(0), whole.columns.reward.tolist(), list(whole.responses(rows))]
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            found = Examples(files["examples"])
        except InputError:
            continue
        assert [found.prompt(0), found.columns.reward.tolist(), list(found.responses(rows))] == expected
