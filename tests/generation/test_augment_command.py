"""What would be refused after the generation is refused before it."""

import shutil

import augment
import pytest
from conftest import sentence, without_hashes

from hps.data.schemas import PAIRS
from hps.support.errors import InputError
from hps.support.files import write_table

NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{{ m['content'] + eos_token }}{% endfor %}"
)


@pytest.fixture
def arguments(model_folder, tmp_path, monkeypatch):
    """One prompt with a system turn; loading the generator's weights is an error."""
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": sentence(1, 5)}]
    row = {"prompt_id": "hh-7", "messages": turns, "chosen": "go", "rejected": "wait"}
    write_table(tmp_path / "pairs.parquet", [row], PAIRS)
    reader = without_hashes(shutil.copytree(model_folder, tmp_path / "reader"))
    (reader / "chat_template.jinja").write_text(NO_SYSTEM)
    monkeypatch.setattr("hps.models.sources.load_causal", None)

    def made(**changes) -> augment.Arguments:
        given = {"generator": str(model_folder), "shard": "1-of-1", "n": 2, "temperature": 1.0, "top_p": 1.0, "seed": 0}
        given |= {"max_new_tokens": 4, "sequences": 2, "dtype": "float32", "generation": "transformers"}
        files = {name: str(tmp_path / name) for name in ("out", "stats")}
        pairs = str(tmp_path / "pairs.parquet")
        return augment.Arguments(**given | files | {"pairs": pairs, "tensor_parallel": 1} | changes)

    return made


@pytest.mark.parametrize("kind", ["generator", "readers", "reward_readers"])
def test_a_template_that_refuses_a_prompt_is_met_before_anything_is_generated(arguments, tmp_path, kind):
    folder = str(tmp_path / "reader")
    told = "reader: prompt hh-7: the chat template refuses the turns system, user .*no system role"
    with pytest.raises(InputError, match=told):
        augment.main(arguments(**{kind: folder if kind == "generator" else [folder]}))


def test_what_reward_models_read_without_the_system_turn_is_not_refused(arguments, tmp_path):
    with pytest.raises(TypeError, match="NoneType"):  # as far as the generator's weights
        augment.main(arguments(reward_readers=[str(tmp_path / "reader")], reward_system_turn="remove"))
