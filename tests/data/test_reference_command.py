"""The command `reference`: log-probs and token ids of every response that says something."""

import shutil

import pytest
import reference
import stage_files

from hps.data import chat, stages
from hps.data.examples import Examples
from hps.data.schemas import CANDIDATES, PAIRS
from hps.models.sources import load_tokenizer
from hps.support.errors import InputError
from hps.support.files import identity, read_table, record


def test_log_probs_and_token_ids_of_all_but_empty_responses(tmp_path, model_folder):
    files = stage_files.make(tmp_path, model_folder, prompts=3)
    stage_files.change(files, "candidates", {(0, "generated", 2): {"status": "empty"}})
    rows = read_table(files["candidates"])
    out, prompts = tmp_path / "out.parquet", tmp_path / "out_prompts.parquet"
    reference.main(
        reference.Arguments(
            pairs=files["pairs"],
            candidates=files["candidates"],
            policy=str(model_folder),
            score_tokens=100,
            out=str(out),
            out_prompts=str(prompts),
        )
    )
    found, expected = read_table(out), read_table(files["reference"])
    del rows[4]
    tokenizer = load_tokenizer(model_folder)
    assert [row["ids"] for row in found] == [chat.response_ids(tokenizer, row["response"]) for row in rows]
    for row, other in zip(found, expected, strict=True):
        assert row | {"log_prob": 0} == other | {"log_prob": 0}
        assert row["log_prob"] == pytest.approx(other["log_prob"], abs=1e-4)
    assert read_table(prompts) == read_table(files["prompts"])
    assert record(out)["made_from"] == record(files["reference"])["made_from"] == record(prompts)["made_from"]


def test_a_prompt_is_rendered_once_whatever_the_day(tmp_path, model_folder, dated_folder):
    """A template that writes the date: what training and evaluation read is what the reference was computed with."""
    files = stage_files.make(tmp_path, dated_folder("26 Nov 2026"), prompts=2)
    yesterday = [row["ids"] for row in read_table(files["prompts"])]
    joined = Examples(files["examples"])
    assert [joined.prompt(number) for number in range(2)] == yesterday
    tomorrow = load_tokenizer(dated_folder("27 Nov 2026"))
    messages = [row["messages"] for row in read_table(files["pairs"])]
    assert [chat.prompt_ids(tomorrow, own) for own in messages] != yesterday


@pytest.fixture
def dated_folder(tmp_path, model_folder):
    """The policy with a chat template that opens with the day."""

    def of(day: str):
        folder = tmp_path / day.replace(" ", "-")
        shutil.copytree(model_folder, folder)
        (folder / "model.json").unlink()  # which would refuse the changed template
        tokenizer = load_tokenizer(folder)
        tokenizer.chat_template = f"Today is {day}. " + tokenizer.chat_template
        tokenizer.save_pretrained(folder)
        return folder

    return of


def test_a_candidate_of_no_prompt_and_stale_candidates_are_refused(tmp_path, model_folder):
    files = stage_files.make(tmp_path, model_folder, prompts=2)
    arguments = reference.Arguments(
        pairs=files["pairs"],
        candidates=files["candidates"],
        policy=str(model_folder),
        score_tokens=100,
        out=str(tmp_path / "out.parquet"),
        out_prompts=str(tmp_path / "out_prompts.parquet"),
    )
    stages.write(files["pairs"], read_table(files["pairs"])[:1], PAIRS)
    with pytest.raises(InputError, match=r"candidates.parquet: was not made from .*pairs.parquet as it is now"):
        reference.main(arguments)
    made_from = {"pairs": identity(files["pairs"])}
    stages.write(files["candidates"], read_table(files["candidates"]), CANDIDATES, made_from)
    with pytest.raises(InputError, match=r"candidates.parquet: prompt 0+1 is not in .*pairs.parquet"):
        reference.main(arguments)
