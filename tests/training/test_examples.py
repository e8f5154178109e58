"""What is trained on: the pool's order, what is left out, and that everything left out is counted."""

import pytest
import stage_files

from hps.data import chat
from hps.data.schemas import CANDIDATES, REFERENCE, SCORED
from hps.models.sources import load_tokenizer
from hps.support.errors import InputError
from hps.support.files import read_table, write_table
from hps.training.examples import Pool, Responses, read_examples

POOL = Pool(n=3, truncated="drop", human_first=False, max_length=512)


@pytest.fixture
def files(tmp_path, model_folder):
    return stage_files.make(tmp_path, model_folder, prompts=3, n=4)


@pytest.fixture
def tokenizer(model_folder):
    return load_tokenizer(model_folder)


def read(tokenizer, files, pool=POOL):
    return read_examples(
        tokenizer, files["pairs"], [files["candidates"]], [files["scored"]], [files["reference"]], pool
    )


def change(path, schema, changes):
    """Rewrite rows of a stage's file: `changes` maps (prompt number, origin, index) to new values."""
    rows = read_table(path)
    for row in rows:
        row.update(changes.get((int(row["prompt_id"], 16), row["origin"], row["index"]), {}))
    write_table(path, rows, schema)


def texts(tokenizer, example):
    return [tokenizer.decode(response[:-1]) for response in example.responses]


def test_the_first_n_generated_responses_with_their_rewards(tokenizer, files):
    examples, counts = read(tokenizer, files)
    rows = [r for r in read_table(files["candidates"]) if r["origin"] == "generated" and r["index"] < 3]
    assert [t for e in examples for t in texts(tokenizer, e)] == [r["response"] for r in rows]
    scored = {
        (r["prompt_id"], r["index"]): r["reward"] for r in read_table(files["scored"]) if r["origin"] == "generated"
    }
    assert examples[1].rewards.tolist() == [scored[examples[1].prompt_id, i] for i in range(3)]
    assert counts["prompts trained on"] == 3
    assert counts["responses trained on"] == 9


def test_the_human_responses_come_first_when_the_protocol_says_so(tokenizer, files):
    examples, _ = read(tokenizer, files, Pool(n=3, truncated="drop", human_first=True, max_length=512))
    pair = read_table(files["pairs"])[0]
    assert texts(tokenizer, examples[0])[:2] == [pair["chosen"], pair["rejected"]]
    assert len(examples[0].responses) == 3


@pytest.mark.parametrize(("truncated", "left_out"), [("drop", 2), ("keep", 1)])
def test_empty_and_truncated_responses(tokenizer, files, truncated, left_out):
    broken = {(0, "generated", 0): {"status": "empty"}, (0, "generated", 1): {"status": "truncated"}}
    change(files["candidates"], CANDIDATES, broken)
    examples, counts = read(tokenizer, files, Pool(n=4, truncated=truncated, human_first=False, max_length=512))
    assert len(examples[0].responses) == 4 - left_out
    assert counts["responses left out: empty"] == 1
    assert counts["responses left out: truncated"] == left_out - 1
    assert counts["prompts with fewer than n responses"] == 1


def test_equal_rewards_compare_nothing(tokenizer, files):
    change(files["scored"], SCORED, {(1, "generated", i): {"reward": 0.5} for i in range(4)})
    examples, counts = read(tokenizer, files)
    assert len(examples) == 2
    assert counts["prompts dropped: all rewards equal"] == 1


def test_too_long_responses_are_left_out(tokenizer, files):
    lengths = sorted(len(e.prompt) + len(r) for e in read(tokenizer, files)[0] for r in e.responses)
    _, counts = read(tokenizer, files, Pool(n=3, truncated="drop", human_first=False, max_length=lengths[-1] - 1))
    assert counts["responses left out: too long"] >= 1


def test_a_reward_that_is_no_number_names_file_and_row(tokenizer, files):
    change(files["scored"], SCORED, {(1, "generated", 2): {"reward": float("nan")}})
    with pytest.raises(InputError, match=r"scored.parquet: row \d+: reward is nan, not a finite number"):
        read(tokenizer, files)


def test_a_missing_log_prob_names_the_response(tokenizer, files):
    write_table(files["reference"], read_table(files["reference"])[:-1], REFERENCE)
    with pytest.raises(InputError, match=r"reference.parquet: no log_prob for response 0+2/generated/3"):
        read(tokenizer, files, Pool(n=4, truncated="drop", human_first=False, max_length=512))


def test_a_response_named_twice_is_refused(tokenizer, files):
    rows = read_table(files["reference"])
    write_table(files["reference"], [*rows, rows[0]], REFERENCE)
    with pytest.raises(InputError, match=r"reference.parquet: names a response twice"):
        read(tokenizer, files)


def test_shards_are_read_as_one_file_would_be(tokenizer, files, tmp_path):
    """The first prompt in one shard, the others in another, and a shard without any."""
    whole, counts = read(tokenizer, files)
    shards = {}
    for name, schema in (("candidates", CANDIDATES), ("scored", SCORED), ("reference", REFERENCE)):
        rows = read_table(files[name])
        parts = [[r for r in rows if (int(r["prompt_id"], 16) > 0) == later] for later in (True, False)]
        shards[name] = [str(tmp_path / f"{name}.{number}.parquet") for number in range(3)]
        for path, part in zip(shards[name], [*parts, []], strict=True):
            write_table(path, part, schema)
    examples, sharded_counts = read_examples(tokenizer, files["pairs"], *shards.values(), POOL)
    assert sharded_counts == counts
    for one, other in zip(whole, examples, strict=True):
        assert (one.prompt_id, one.prompt, list(one.responses)) == (
            other.prompt_id,
            other.prompt,
            list(other.responses),
        )
        assert (one.rewards == other.rewards).all()
        assert (one.reference == other.reference).all()


def test_token_ids_are_those_of_the_text_and_take_four_bytes_each(tokenizer, files):
    examples, _ = read(tokenizer, files)
    rows = [r for r in read_table(files["candidates"]) if r["origin"] == "generated" and r["index"] < 3]
    found = [ids for example in examples for ids in example.responses]
    assert found == [chat.response_ids(tokenizer, row["response"]) for row in rows]
    assert {example.responses.tokens.itemsize for example in examples} == {4}
    assert [len(ids) for ids in examples[1].responses] == examples[1].responses.lengths.tolist()


def test_responses_are_a_sequence():
    responses = Responses.of([[1, 2, 3], [4], [5, 6]])
    assert list(responses) == [[1, 2, 3], [4], [5, 6]]
    assert (len(responses), responses[2], responses.lengths.tolist()) == (3, [5, 6], [3, 1, 2])
    with pytest.raises(IndexError):
        responses[3]


def test_nothing_left_to_train_on(tokenizer, files):
    change(files["scored"], SCORED, {(p, "generated", i): {"reward": 1.0} for p in range(3) for i in range(4)})
    with pytest.raises(InputError, match="no prompt is left to train on"):
        read(tokenizer, files)
