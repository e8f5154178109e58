"""The command `reference`: log-probs and token ids of every response that says something."""

import pytest
import reference
import stage_files

from hps.data import chat
from hps.data.schemas import CANDIDATES
from hps.models.sources import load_tokenizer
from hps.support.files import read_table, write_table


def test_log_probs_and_token_ids_of_all_but_empty_responses(tmp_path, model_folder):
    files = stage_files.make(tmp_path, model_folder, prompts=3)
    rows = read_table(files["candidates"])
    rows[4]["status"] = "empty"
    write_table(files["candidates"], rows, CANDIDATES)
    out = tmp_path / "out.parquet"
    reference.main(
        reference.Arguments(
            pairs=files["pairs"],
            candidates=files["candidates"],
            policy=str(model_folder),
            score_tokens=100,
            out=str(out),
        )
    )
    found, expected = read_table(out), read_table(files["reference"])
    del expected[4], rows[4]
    tokenizer = load_tokenizer(model_folder)
    assert [row["ids"] for row in found] == [chat.response_ids(tokenizer, row["response"]) for row in rows]
    for row, other in zip(found, expected, strict=True):
        assert row | {"log_prob": 0} == other | {"log_prob": 0}
        assert row["log_prob"] == pytest.approx(other["log_prob"], abs=1e-4)
