"""What is trained on: the pool's order, what is left out, and that everything left out is counted."""

import pytest
import stage_files

from hps.data import chat
from hps.data.examples import Examples
from hps.method.sampling import draw_negative
from hps.models.sources import load_tokenizer
from hps.support.errors import InputError
from hps.support.files import read_table
from hps.training.examples import Pool, Responses, TrainingExamples

POOL = Pool(n=3, truncated="drop", human_first=False, max_length=512)


@pytest.fixture
def files(tmp_path, model_folder):
    return stage_files.make(tmp_path, model_folder, prompts=3, n=4)


@pytest.fixture
def tokenizer(model_folder):
    return load_tokenizer(model_folder)


def read(files, pool=POOL):
    return TrainingExamples(Examples(files["examples"]), pool)


def texts(tokenizer, example):
    return [tokenizer.decode(response[:-1]) for response in example.responses]


def test_the_first_n_generated_responses_with_their_rewards(tokenizer, files):
    examples = read(files)
    rows = [r for r in read_table(files["candidates"]) if r["origin"] == "generated" and r["index"] < 3]
    assert [t for e in examples for t in texts(tokenizer, e)] == [r["response"] for r in rows]
    scored = {
        (r["prompt_id"], r["index"]): r["reward"] for r in read_table(files["scored"]) if r["origin"] == "generated"
    }
    assert examples[1].rewards.tolist() == [scored[examples[1].prompt_id, i] for i in range(3)]
    assert examples.counts["prompts trained on"] == 3
    assert examples.counts["responses trained on"] == 9


def test_the_human_responses_come_first_when_the_protocol_says_so(tokenizer, files):
    examples = read(files, Pool(n=3, truncated="drop", human_first=True, max_length=512))
    pair = read_table(files["pairs"])[0]
    assert texts(tokenizer, examples[0])[:2] == [pair["chosen"], pair["rejected"]]
    assert len(examples[0].responses) == 3


@pytest.mark.parametrize(("truncated", "left_out"), [("drop", 2), ("keep", 1)])
def test_empty_and_truncated_responses(files, truncated, left_out):
    broken = {(0, "generated", 0): {"status": "empty"}, (0, "generated", 1): {"status": "truncated"}}
    stage_files.change(files, "candidates", broken)
    examples = read(files, Pool(n=4, truncated=truncated, human_first=False, max_length=512))
    assert len(examples[0].responses) == 4 - left_out
    assert examples.counts["responses left out: empty"] == 1
    assert examples.counts["responses left out: truncated"] == left_out - 1
    assert examples.counts["prompts with fewer than n responses"] == 1


def test_equal_rewards_compare_nothing(files):
    stage_files.change(files, "scored", {(1, "generated", i): {"reward": 0.5} for i in range(4)})
    examples = read(files)
    assert len(examples) == 2
    assert examples.counts["prompts dropped: all rewards equal"] == 1


def test_a_copy_of_the_best_response_is_never_drawn(files):
    """A, A, B with rewards that rounding has put apart: A ties with itself, and B is the negative."""
    text = read_table(files["candidates"])[2]["response"]
    rewards = [1.0, 1 - 4.8e-7, 0.63]
    stage_files.change(
        files,
        "scored",
        {(0, "generated", i): {"reward": reward} for i, reward in enumerate(rewards)},
    )
    stage_files.change(files, "candidates", {(0, "generated", i): {"response": text} for i in range(2)})
    ids = read_table(files["reference"])[2]["ids"]
    stage_files.change(files, "reference", {(0, "generated", i): {"ids": ids, "tokens": len(ids)} for i in range(2)})
    example = read(files)[0]
    assert example.rewards.tolist() == [1.0, 1.0, 0.63]
    for seed in range(50):
        assert draw_negative(example.rewards, 5.0, seed=seed, epoch=0, prompt_id=example.prompt_id) == 2


def test_too_long_responses_are_left_out(files):
    lengths = sorted(len(e.prompt) + len(r) for e in read(files) for r in e.responses)
    examples = read(files, Pool(n=3, truncated="drop", human_first=False, max_length=lengths[-1] - 1))
    assert examples.counts["responses left out: too long"] >= 1


def test_token_ids_are_those_of_the_text_and_take_four_bytes_each(tokenizer, files):
    examples = read(files)
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


def test_nothing_left_to_train_on(files):
    stage_files.change(files, "scored", {(p, "generated", i): {"reward": 1.0} for p in range(3) for i in range(4)})
    with pytest.raises(InputError, match="no prompt is left to train on"):
        read(files)
