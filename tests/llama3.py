"""A tokenizer with the special tokens and the turns of Llama-3, for tests: its forms as they were published."""

from conftest import WORDS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|pad|>"]
SYSTEM = "<|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n{given}<|eot_id|>"
TURNS = (
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA_3 = "{{ bos_token }}" + TURNS
# As in Llama-3.1, there is always a system turn; a given one is added to it.
LLAMA_3_1 = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set given = messages[0]['content'] %}{% set messages = messages[1:] %}"
    "{% else %}{% set given = '' %}{% endif %}"
    "{{ '" + SYSTEM.replace("{given}", "' + given + '") + "' }}" + TURNS
)
# The date of the system turn is the day's where the renderer tells it, as in the published template.
LLAMA_3_1_DATED = (
    "{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% else %}{% set day = '26 Jul 2024' %}"
    "{% endif %}" + LLAMA_3_1.replace("26 Jul 2024", "' + day + '")
)


def tokenizer(template: str, first_form: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 320 tokens; the token that ends a turn is not the one that ends a text.

    Args:
        first_form: as Llama-3's was first published: nothing but its kind of token tells that `<|eot_id|>` is special.
    """
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([WORDS, "assistant user system"], trainer)
    named = {} if first_form else {"pad_token": SPECIAL[-1], "extra_special_tokens": SPECIAL[2:5]}
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        chat_template=template,
        **named,
    )
