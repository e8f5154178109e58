"""One rendering for all: exactly one BOS first, exactly one EOS last."""

import re
import subprocess
import sys

import llama3
import pytest
from conftest import ROOT, python_environment

from hps.data import chat
from hps.generation.engine import read_response
from hps.models.scratch import CHAT_TEMPLATE
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
    assert chat.end_of_turn(tokenizer) == tokenizer.pad_token_id
    assert chat.response_ids(tokenizer, "go home")[-1] == tokenizer.pad_token_id


PUBLISHED = [(llama3.LLAMA_3, "first"), (llama3.LLAMA_3, "later"), (llama3.LLAMA_3_1, "later")]


@pytest.mark.parametrize(("template", "form"), PUBLISHED)
def test_llama_3_ends_a_turn_in_its_template_s_token_in_each_published_form(template, form):
    """In the first form no slot of the tokenizer names `<|eot_id|>`, and EOS is `<|end_of_text|>`."""
    tokenizer = llama3.tokenizer(template, first_form=form == "first")
    end = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    assert tokenizer.eos_token == "<|end_of_text|>"
    assert (end in tokenizer.all_special_ids) == (form == "later")
    assert chat.end_of_turn(tokenizer) == end
    assert chat.response_ids(tokenizer, "go home")[-1] == end
    response = read_response(
        tokenizer, [*chat.response_ids(tokenizer, "go home"), *chat.prompt_ids(tokenizer, MESSAGES)]
    )
    assert (response.text, response.status) == ("go home", "ok")


def test_a_token_that_is_added_but_not_special_ends_a_turn_and_cannot_be_spelt_out(tokenizer):
    tokenizer.add_tokens(["<end>"])
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ':' + m['content'] + ' <end>\n' }}{% endfor %}"
    end = tokenizer.convert_tokens_to_ids("<end>")
    assert chat.end_of_turn(tokenizer) == end
    assert chat.response_ids(tokenizer, "go <end> home").count(end) == 1
    turn = [{"role": "user", "content": "a <end> b"}]
    assert chat.prompt_ids(tokenizer, turn).count(end) == 1


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ '### ' + m['role'] + ': ' + m['content'] + '\n\n' }}{% endfor %}", "with nothing"),
        ("{% for m in messages %}{{ m['content'] + '<|im_end|>\n' }}{% endfor %}", "in plain text ('<|im_end|>')"),
    ],
)
def test_a_turn_that_ends_in_plain_text_is_refused(tokenizer, template, message):
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=re.escape(f"the chat template ends an assistant's turn {message};")):
        chat.response_ids(tokenizer, "go home")


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


# --- what is data and what is control --------------------------------------------------------------------------------

TEMPLATES = {
    "llama-3": llama3.LLAMA_3,
    "llama-3.1": llama3.LLAMA_3_1,
    "llama-3.1, dated": llama3.LLAMA_3_1_DATED,
    "chatml": CHATML.replace("<|im_start|>", "<|start_header_id|>").replace("<|im_end|>", "<|eot_id|>"),
    "toy": CHAT_TEMPLATE,
}


@pytest.mark.parametrize("first_form", [False, True], ids=["named", "unnamed"])
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_control_tokens_spelt_out_in_a_prompt_are_text(template, first_form):
    """In every turn; the number of control tokens is that of the same turns without them, and there is one BOS."""
    tokenizer = llama3.tokenizer(template, first_form)
    controls = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    spelt = "".join(llama3.SPECIAL)
    given = [SYSTEM, *MESSAGES]
    for turn in range(len(given)):
        spoilt = [m | {"content": m["content"] + spelt} if i == turn else m for i, m in enumerate(given)]
        plain, ids = (chat.prompt_ids(tokenizer, messages) for messages in (given, spoilt))
        assert [ids.count(i) for i in controls] == [plain.count(i) for i in controls]
        assert ids.count(tokenizer.bos_token_id) == 1
        assert spelt in tokenizer.decode(ids)
    whole = chat.whole_ids(tokenizer, MESSAGES, f"go {spelt}")
    assert [whole.count(i) for i in controls] == [chat.whole_ids(tokenizer, MESSAGES, "go").count(i) for i in controls]


def test_text_without_control_tokens_is_encoded_as_ever(tokenizer):
    for one in (tokenizer, llama3.tokenizer(llama3.LLAMA_3)):
        text = one.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
        assert chat.prompt_ids(one, MESSAGES) == one(text, add_special_tokens=False)["input_ids"]
        assert chat.response_ids(one, "go home")[:-1] == one("go home", add_special_tokens=False)["input_ids"]


# --- what a template refuses, and what it depends on -----------------------------------------------------------------


def test_what_a_template_refuses_is_one_line_with_model_and_prompt(tokenizer):
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{{ m['content'] + eos_token }}{% endfor %}"
    )
    where = f"{tokenizer.name_or_path}: prompt hh-7: the chat template refuses the turns "
    for messages, why in (
        ([SYSTEM, *MESSAGES], "system, user, assistant, user (System role not supported)"),
        ([MESSAGES[0], MESSAGES[0]], "user, user (roles must alternate)"),
    ):
        with pytest.raises(InputError, match=re.escape(where + why)):
            chat.prompt_ids(tokenizer, messages, prompt_id="hh-7")
    assert chat.prompt_ids(tokenizer, [SYSTEM, *MESSAGES], "remove") == chat.prompt_ids(tokenizer, MESSAGES)
    assert chat.described(tokenizer, writes=True)["system_turn"] == (
        "the chat template refuses the turns system, user (System role not supported)"
    )


@pytest.mark.parametrize(
    "template", ["{{ nothing.there }}", "{% for m in %}", "{{ 1 / 0 }}", "{{ messages[9]['role'] }}"]
)
def test_a_broken_template_is_one_line(tokenizer, template):
    tokenizer.chat_template = template
    with pytest.raises(InputError, match="the chat template refuses the turns user, assistant, user") as error:
        chat.prompt_ids(tokenizer, MESSAGES)
    assert "\n" not in str(error.value)


def test_a_template_that_leaves_out_the_system_turn_is_refused(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages if m['role'] != 'system' %}{{ m['content'] + eos_token }}{% endfor %}"
    )
    with pytest.raises(InputError, match="prompt 3: the chat template leaves out the system turn"):
        chat.prompt_ids(tokenizer, [SYSTEM, *MESSAGES], prompt_id="3")


def test_the_date_of_a_prompt_is_the_same_on_any_day_and_under_any_locale():
    """Two processes, in time zones 26 hours apart and with another language each."""
    program = (
        "import locale, llama3, sys; from hps.data import chat\n"
        "chat_template = llama3.tokenizer(llama3.LLAMA_3_1_DATED)\n"
        "print(chat.prompt_ids(chat_template, [{'role': 'user', 'content': 'go'}]))"
    )
    found = set()
    for zone, language in (("Etc/GMT+12", "C"), ("Etc/GMT-14", "de_DE.UTF-8")):
        environment = python_environment(TZ=zone, LC_ALL=language, PYTHONPATH=f"{ROOT}/workflow_scripts:{ROOT}/tests")
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        found.add(done.stdout)
    undated = llama3.tokenizer(llama3.LLAMA_3_1)
    assert found == {f"{chat.prompt_ids(undated, [{'role': 'user', 'content': 'go'}])}\n"}


# --- what is recorded of a template ----------------------------------------------------------------------------------


def test_what_is_recorded_of_a_template(tokenizer):
    expected = {"end_of_turn": "<|end|>", "system_turn": "accepted", "whole_conversation": "same"}
    assert chat.described(tokenizer, writes=True) == expected
    first = llama3.tokenizer(llama3.LLAMA_3, first_form=True)
    assert chat.described(first, writes=True) == expected | {"end_of_turn": "<|eot_id|>"}


def test_a_line_end_after_the_turn_is_recorded(tokenizer):
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "<|end|>").replace("<|im_start|>", "<|begin|>")
    found = chat.described(tokenizer, writes=True)["whole_conversation"]
    assert re.fullmatch(r"from token \d+ on '', where the template has '\\n'", found)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages[:3] %}{{ m['content'] + eos_token }}{% endfor %}", "leaves out a turn of the assistant"),
        (
            "{% for m in messages %}{{ [m['content'], m['content'] + '!'] | random + eos_token }}{% endfor %}",
            "renders the same conversation differently each time",
        ),
        (
            "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}{% endfor %}",
            "writes '<|assistant|>' before a response, but no generation prompt",
        ),
    ],
)
def test_a_template_that_cannot_be_relied_on_is_refused(tokenizer, template, message):
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=re.escape(message)):
        chat.described(tokenizer, writes=True)
