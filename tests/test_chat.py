"""One rendering for all: exactly one BOS first, exactly one EOS last."""

import pytest

from hps import chat
from hps.errors import InputError
from hps.models.sources import load_tokenizer

MESSAGES = [
    {"role": "user", "content": "open my old door"},
    {"role": "assistant", "content": "take a key"},
    {"role": "user", "content": "then wait"},
]


@pytest.fixture
def tokenizer(model_folder):
    return load_tokenizer(model_folder)


def test_prompt_and_response_are_the_templates_own_conversation(tokenizer):
    ours = chat.prompt_ids(tokenizer, MESSAGES) + chat.response_ids(tokenizer, "go home")
    whole = tokenizer.apply_chat_template([*MESSAGES, {"role": "assistant", "content": "go home"}], tokenize=False)
    assert tokenizer.decode(ours) == whole.rstrip("\n")


def test_one_bos_and_one_eos(tokenizer):
    prompt, response = chat.prompt_ids(tokenizer, MESSAGES), chat.response_ids(tokenizer, "go home")
    assert prompt.count(tokenizer.bos_token_id) == 1
    assert prompt[0] == tokenizer.bos_token_id
    assert response.count(tokenizer.eos_token_id) == 1
    assert response[-1] == tokenizer.eos_token_id


def test_a_special_token_spelt_out_in_a_response_ends_nothing(tokenizer):
    response = chat.response_ids(tokenizer, f"go {tokenizer.eos_token} home")
    assert response.count(tokenizer.eos_token_id) == 1
    assert response[-1] == tokenizer.eos_token_id


def test_the_end_of_a_turn_is_the_templates_own(tokenizer):
    """As in Llama-3, where a turn ends in another token than a text."""
    assert chat.end_of_turn(tokenizer) == tokenizer.eos_token_id
    other = tokenizer.pad_token
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + '" + other + "\n' }}{% endfor %}"
    chat.end_of_turn.cache_clear()
    assert chat.end_of_turn(tokenizer) == tokenizer.pad_token_id
    assert chat.response_ids(tokenizer, "go home")[-1] == tokenizer.pad_token_id
    chat.end_of_turn.cache_clear()


def test_a_tokenizer_without_a_template_is_refused(tokenizer):
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        chat.prompt_ids(tokenizer, MESSAGES)
