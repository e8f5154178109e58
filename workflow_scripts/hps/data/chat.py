"""One rendering of a conversation for everyone: generation, reward models, training and evaluation.

The released code of the paper appends the response with a template of its own to a prompt that already ends in the
assistant header, so its reward model sees that header twice; here a response always follows the template's own
generation prompt, exactly one BOS comes first (where the tokenizer has one) and exactly one EOS ends the response.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from hps.support.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]
"""`{"role": "user" | "assistant" | "system", "content": text}`."""


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], system_turn: str = "keep") -> list[int]:
    """Token ids of `messages` up to and including the header of the assistant's turn that follows.

    Args:
        system_turn: `keep` renders the system turn as the template has it; `remove` leaves system turns out, one that
            the template writes by itself among them.

    Raises InputError when the tokenizer has no chat template, and as `opening` does.
    """
    if tokenizer.chat_template is None:
        raise InputError(tokenizer.name_or_path, "the tokenizer has no chat template")
    if system_turn == "remove":
        messages = [message for message in messages if message["role"] != "system"]
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    if system_turn == "remove":
        text = text.removeprefix(opening(tokenizer))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    # Templates differ in whether they write the BOS. A template that opens every turn with the BOS token (SmolLM2,
    # ChatML) has it first already, so nothing is added there.
    if bos is not None and ids[:1] != [bos]:
        ids = [bos, *ids]
    return ids


def opening(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the chat template writes before the first turn: the BOS, and a system turn if it has one of its own.

    It is read off conversations of one, two and three turns: a user's turn is what the third turn adds, and the opening
    is what comes before it in the first. Not cached, as Llama's later templates write the day's date.

    Raises InputError when the template writes a user's first turn unlike a later one.
    """
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    one, two, three = (tokenizer.apply_chat_template(turns[:n], tokenize=False) for n in (1, 2, 3))
    turn = three.removeprefix(two)
    if turn == three or not turn or not one.endswith(turn):
        raise InputError(tokenizer.name_or_path, "the template's own system turn cannot be told from a user's turn")
    return one.removesuffix(turn)


def response_ids(tokenizer: PreTrainedTokenizerBase, response: str) -> list[int]:
    """Token ids of a response as it follows `prompt_ids`: its text, then one EOS.

    Special tokens spelt out in the response's text are encoded as plain text, so that a data file cannot end a turn.
    """
    return responses_ids(tokenizer, [response])[0]


def responses_ids(tokenizer: PreTrainedTokenizerBase, responses: Sequence[str]) -> list[list[int]]:
    """Those of many responses at once, which a fast tokenizer encodes in parallel."""
    if not responses:
        return []
    encoded = tokenizer(list(responses), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [[*ids, end_of_turn(tokenizer)] for ids in encoded]


@lru_cache(maxsize=8)
def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an assistant's turn: the one the chat template writes, which generation stops at.

    It is not always the tokenizer's EOS token: Llama-3 has one for the end of a turn and one for the end of a text.
    Raises InputError when the template ends a turn with no token of its own and the tokenizer has no EOS token.
    """
    conversation = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
    text = tokenizer.apply_chat_template(conversation, tokenize=False)
    after = tokenizer(text[text.rindex("answer") + len("answer") :].strip(), add_special_tokens=False)["input_ids"]
    if after and after[0] in tokenizer.all_special_ids:
        return after[0]
    if tokenizer.eos_token_id is None:
        raise InputError(tokenizer.name_or_path, "the chat template ends no turn, and there is no EOS token")
    return tokenizer.eos_token_id
