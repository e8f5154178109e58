"""A tokenizer with the special tokens and the turns of Llama-3, for tests."""

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


def tokenizer(template: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 320 tokens; the token that ends a turn is not the one that ends a text."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([WORDS, "assistant user system"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        pad_token=SPECIAL[-1],
        extra_special_tokens=SPECIAL[2:5],
        chat_template=template,
    )
