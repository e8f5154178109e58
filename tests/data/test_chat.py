"""One rendering for all: exactly one BOS first, exactly one EOS last."""

import llama3
import pytest

from hps.data import chat
from hps.models.sources import load_tokenizer
from hps.support.errors import InputError

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


CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nbe kind<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SYSTEM = {"role": "system", "content": "be brief"}


def rendered(tokenizer, messages, system_turn):
    return tokenizer.decode(chat.prompt_ids(tokenizer, messages, system_turn))


@pytest.mark.parametrize("given", [[], [SYSTEM]], ids=["the template's own", "one in the conversation"])
def test_system_turns_can_be_removed(given):
    header = "<|start_header_id|>{}<|end_header_id|>\n\n"
    turns = "".join(header.format(m["role"]) + m["content"] + "<|eot_id|>" for m in MESSAGES)
    tokenizer = llama3.tokenizer(llama3.LLAMA_3_1)
    without = "<|begin_of_text|>" + turns + header.format("assistant")
    own = llama3.SYSTEM.replace("{given}", "be brief" if given else "")
    assert rendered(tokenizer, given + MESSAGES, "remove") == without
    assert rendered(tokenizer, given + MESSAGES, "keep") == without.replace("of_text|>", "of_text|>" + own, 1)


def test_removing_a_system_turn_that_is_not_there_changes_nothing(tokenizer):
    for one in (tokenizer, llama3.tokenizer(llama3.LLAMA_3)):
        assert chat.prompt_ids(one, MESSAGES, "remove") == chat.prompt_ids(one, MESSAGES)


def test_a_bos_that_opens_every_turn_stays(tokenizer):
    """As in SmolLM2's ChatML, where the BOS token is the one that starts a turn."""
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})
    tokenizer.chat_template = CHATML
    assert rendered(tokenizer, MESSAGES[:1], "keep").startswith(
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user"
    )
    assert rendered(tokenizer, MESSAGES[:1], "remove") == (
        "<|im_start|>user\nopen my old door<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_system_turn_inside_the_first_users_turn_is_refused(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '[' + ('be kind: ' if loop.first else '') + m['content'] + ']' }}{% endfor %}"
    )
    with pytest.raises(InputError, match="cannot be told from a user's turn"):
        chat.prompt_ids(tokenizer, MESSAGES, "remove")
