"""One rendering of a conversation for everyone: generation, reward models, training and evaluation.

The released code of the paper appends the response with a template of its own to a prompt that already ends in the
assistant header, so its reward model sees that header twice; here a response always follows the template's own
generation prompt, exactly one BOS comes first (where the tokenizer has one) and exactly one token ends the response:
the one with which the template ends an assistant's turn.

Nothing that is rendered depends on when or where that happens: a template that asks for the day gets `DAY`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from hps.support.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]
"""`{"role": "user" | "assistant" | "system", "content": text}`."""
DAY = datetime(2024, 7, 26)
"""What a chat template is told the date is: the day that Llama-3.1's template writes where it is told none. Jobs of one
run may be days apart, and a prompt must stay the same tokens."""
MARKS = "\ue000\ue001"
"""Characters for private use, which stand around a control token that a text spells out while it is rendered."""
TURNS = (
    {"role": "user", "content": "Why is the sky blue?"},
    {"role": "assistant", "content": "It scatters light."},
    {"role": "user", "content": "And at dusk?"},
    {"role": "assistant", "content": "It turns red."},
)
"""A conversation to try templates on; none of its texts is likely to stand in a template."""


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], system_turn: str = "keep", prompt_id: str = ""
) -> list[int]:
    """Token ids of `messages` up to and including the header of the assistant's turn that follows.

    Control tokens spelt out in the messages' texts are encoded as plain text, as in responses.

    Args:
        system_turn: `keep` renders the system turn as the template has it; `remove` leaves system turns out, one that
            the template writes by itself among them.
        prompt_id: what messages call the prompt.

    Raises InputError when the tokenizer has no chat template, when the template refuses these turns or leaves the
    system turn out, and as `opening` does.
    """
    ids = _conversation(tokenizer, messages, system_turn, prompt_id, generation_prompt=True)
    bos = tokenizer.bos_token_id
    # Templates differ in whether they write the BOS. A template that opens every turn with the BOS token (SmolLM2,
    # ChatML) has it first already, so nothing is added there.
    if bos is not None and ids[:1] != [bos]:
        ids = [bos, *ids]
    return ids


def check_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], prompt_id: str, system_turn: str = "keep"
) -> None:
    """Raise InputError, naming model and prompt, when the template refuses `messages` as a prompt or with a response.

    The early stages ask, so that a template is not found to refuse what was generated with another.
    """
    if system_turn == "remove":
        messages = [message for message in messages if message["role"] != "system"]
    for turns, asked in ((messages, True), ([*messages, {"role": "assistant", "content": "Yes."}], False)):
        _check_system(tokenizer, turns, _rendered(tokenizer, turns, asked, prompt_id), prompt_id)


def whole_ids(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    response: str,
    system_turn: str = "keep",
    prompt_id: str = "",
) -> list[int]:
    """Token ids of the template's own rendering of the conversation with its response: what published models read.

    It may differ from `prompt_ids` and `response_ids` together, as in a line end after the token that ends the turn.
    Arguments and errors are those of `prompt_ids`.
    """
    return _conversation(tokenizer, [*messages, {"role": "assistant", "content": response}], system_turn, prompt_id)


def _conversation(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    system_turn: str,
    prompt_id: str,
    generation_prompt: bool = False,
) -> list[int]:
    if system_turn == "remove":
        messages = [message for message in messages if message["role"] != "system"]
    given = [dict(message) for message in messages]
    controls = _controls(tokenizer, _template(tokenizer))
    marked = [message | {"content": _marked(message["content"], controls)} for message in given]
    text = _rendered(tokenizer, marked, generation_prompt, prompt_id)
    _check_system(tokenizer, marked, text, prompt_id)
    if system_turn == "remove":
        text = text.removeprefix(opening(tokenizer))
    return _encoded(tokenizer, text, marked != given)


def _check_system(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], text: str, prompt_id: str) -> None:
    for message in messages:
        if message["role"] == "system" and message["content"].strip() not in text:
            raise InputError(_where(tokenizer, prompt_id), "the chat template leaves out the system turn")


def opening(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the chat template writes before the first turn: the BOS, and a system turn if it has one of its own.

    It is read off conversations of one, two and three turns: a user's turn is what the third turn adds, and the opening
    is what comes before it in the first.

    Raises InputError when the template writes a user's first turn unlike a later one.
    """
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    one, two, three = (_rendered(tokenizer, turns[:n]) for n in (1, 2, 3))
    turn = three.removeprefix(two)
    if turn == three or not turn or not one.endswith(turn):
        raise InputError(tokenizer.name_or_path, "the template's own system turn cannot be told from a user's turn")
    return one.removesuffix(turn)


def response_ids(tokenizer: PreTrainedTokenizerBase, response: str) -> list[int]:
    """Token ids of a response as it follows `prompt_ids`: its text, then the token that ends its turn.

    Control tokens spelt out in the response's text are encoded as plain text, so that a data file cannot end a turn.
    """
    return responses_ids(tokenizer, [response])[0]


def responses_ids(tokenizer: PreTrainedTokenizerBase, responses: Sequence[str]) -> list[list[int]]:
    """Those of many responses at once, which a fast tokenizer encodes in parallel."""
    end, controls = _turn(tokenizer, _template(tokenizer))
    spelt_out = [controls.search(response) is not None for response in responses]
    plain = [response for response, spelt in zip(responses, spelt_out, strict=True) if not spelt]
    encoded = iter(tokenizer(plain, add_special_tokens=False)["input_ids"] if plain else ())
    return [
        [*(_encoded(tokenizer, _marked(response, controls), True) if spelt else next(encoded)), end]
        for response, spelt in zip(responses, spelt_out, strict=True)
    ]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an assistant's turn: the one the chat template writes, which generation stops at.

    It is not always the tokenizer's EOS token: Llama-3 has one for the end of a turn and one for the end of a text, and
    in its first published form no named slot of the tokenizer tells which.
    Raises InputError when the template ends a turn in plain text or not at all.
    """
    return _turn(tokenizer, _template(tokenizer))[0]


@lru_cache(maxsize=8)
def _turn(tokenizer: PreTrainedTokenizerBase, template: str) -> tuple[int, re.Pattern]:
    """The token that ends an assistant's turn, and the control tokens that may not come out of a response's text."""
    text = _rendered(tokenizer, TURNS)
    answer = TURNS[-1]["content"]
    if answer not in text:
        raise InputError(tokenizer.name_or_path, "the chat template leaves out the assistant's turn")
    after = text[text.rindex(answer) + len(answer) :].strip()
    ids = tokenizer(after, add_special_tokens=False)["input_ids"] if after else []
    if not ids or ids[0] not in tokenizer.added_tokens_decoder:
        how = f"in plain text ({after[:40]!r})" if after else "with nothing"
        raise InputError(
            tokenizer.name_or_path,
            f"the chat template ends an assistant's turn {how}; a token of its own is needed that ends a response",
        )
    return ids[0], _controls(tokenizer, tokenizer.added_tokens_decoder[ids[0]].content)


@lru_cache(maxsize=16)
def _controls(tokenizer: PreTrainedTokenizerBase, written: str) -> re.Pattern:
    """Any of the tokenizer's control tokens: its special ones, and those added tokens that stand in the text `written`.

    The longest first, as one may contain another.
    """
    added = tokenizer.added_tokens_decoder.values()
    found = {token.content for token in added if token.special or (token.content.strip() and token.content in written)}
    return re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True))) or "(?!)")


def _marked(text: str, controls: re.Pattern) -> str:
    """The text with control tokens that it spells out between MARKS, which then stand nowhere else in it."""
    return controls.sub(rf"{MARKS[0]}\g<0>{MARKS[1]}", re.sub(f"[{MARKS}]", "", text))


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str, marked: bool) -> list[int]:
    """Token ids of a text, in which control tokens that are marked count as text."""

    def tokens(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def inside(encode: Callable[[str], list[int]], piece: str) -> list[int]:
        """Ids of a piece that does not begin the text: tokenizers of the SentencePiece kind put a space before one."""
        line_end, ids = tokens("\n"), encode(f"\n{piece}")
        return ids[len(line_end) :] if ids[: len(line_end)] == line_end else encode(piece)

    if not marked:
        return tokens(text)
    first, *pieces = re.split(f"{MARKS[0]}([^{MARKS[1]}]*){MARKS[1]}|[{MARKS}]", text)
    ids = tokens(first)
    for number, piece in enumerate(pieces):  # by turns a marked one (None at a mark that has lost its other), and text
        if piece and number % 2:
            ids += inside(tokens, piece)
        elif piece:
            spelt = inside(_without_added_tokens(tokenizer), piece)
            if tokenizer.convert_tokens_to_ids(piece) in spelt:
                raise InputError(tokenizer.name_or_path, f"the text {piece!r} cannot be told from the control token")
            ids += spelt
    return ids


@lru_cache(maxsize=8)
def _without_added_tokens(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
    """The tokenizer's own encoding of text, by a copy that knows none of the tokens added to its vocabulary."""
    if not tokenizer.is_fast:
        return lambda text: tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    from tokenizers import Tokenizer

    bare = json.loads(tokenizer.backend_tokenizer.to_str()) | {"added_tokens": [], "post_processor": None}
    copy = Tokenizer.from_str(json.dumps(bare))
    return lambda text: copy.encode(text, add_special_tokens=False).ids


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's template for conversations. Raises InputError when it has none."""
    if tokenizer.chat_template is None:
        raise InputError(tokenizer.name_or_path, "the tokenizer has no chat template")
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:  # several templates, and none of them the default
        raise InputError(tokenizer.name_or_path, _one_line(error)) from error


def _rendered(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    generation_prompt: bool = False,
    prompt_id: str = "",
) -> str:
    """The template's text of a conversation. Raises InputError when it refuses it, whatever error that is to jinja."""
    from transformers.utils import chat_template_utils

    template = _template(tokenizer)
    try:
        # Arguments of a template are data, and its functions are found here only. transformers keeps what it compiled.
        compiled = chat_template_utils._compile_jinja_template(template)
        compiled.environment.globals["strftime_now"] = DAY.strftime
        return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=generation_prompt)
    except Exception as error:
        roles = ", ".join(str(message.get("role")) for message in messages)
        raise InputError(
            _where(tokenizer, prompt_id), f"the chat template refuses the turns {roles} ({_one_line(error)})"
        ) from error


def _where(tokenizer: PreTrainedTokenizerBase, prompt_id: str) -> str:
    return f"{tokenizer.name_or_path}: prompt {prompt_id}" if prompt_id else tokenizer.name_or_path


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


# --- what is known of a template ------------------------------------------------------------------------------------


def described(tokenizer: PreTrainedTokenizerBase, writes: bool) -> dict[str, str]:
    """What the chat template does with a conversation, for the record beside a model.

    Keys: `end_of_turn`; `system_turn` (`accepted`, or why not); `whole_conversation` (`same` where prompt and response,
    rendered one after the other, are the template's own rendering of both together; else where the two part).

    Args:
        writes: the model continues prompts, so the template must have a generation prompt.

    Raises InputError as `prompt_ids` and `end_of_turn` do; when the template leaves out turns, or renders the same
    conversation differently when asked again; and for a model that writes, when the template begins an assistant's turn
    with a header that it does not write as a generation prompt.
    """
    name = tokenizer.name_or_path
    *prompt, answer = TURNS
    whole, before = _rendered(tokenizer, TURNS), _rendered(tokenizer, prompt)
    if any(_rendered(tokenizer, TURNS) != whole for _ in range(8)):
        raise InputError(name, "the chat template renders the same conversation differently each time")
    for message in TURNS:
        if message["content"] not in whole:
            raise InputError(name, f"the chat template leaves out a turn of the {message['role']}")
    if writes and _rendered(tokenizer, prompt, generation_prompt=True) == before and whole.startswith(before):
        header = whole[len(before) : whole.rindex(answer["content"])]
        if header.strip():
            raise InputError(name, f"the chat template writes {header!r} before a response, but no generation prompt")
    ours = prompt_ids(tokenizer, prompt) + response_ids(tokenizer, answer["content"])
    theirs = whole_ids(tokenizer, prompt, answer["content"])
    return {
        "end_of_turn": tokenizer.decode([end_of_turn(tokenizer)]),
        "system_turn": system_turn_of(tokenizer),
        "whole_conversation": _difference(tokenizer, ours, theirs),
    }


def system_turn_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """`accepted` where the template renders a system turn; else why it does not."""
    try:
        prompt_ids(tokenizer, [{"role": "system", "content": "Answer in one sentence."}, TURNS[0]])
    except InputError as error:
        return str(error).removeprefix(f"{tokenizer.name_or_path}: ")
    return "accepted"


def _difference(tokenizer: PreTrainedTokenizerBase, ours: list[int], theirs: list[int]) -> str:
    """Where a rendering of this package and the template's own part; `same` where they do not."""
    if ours == theirs:
        return "same"
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    mine, other = (tokenizer.decode(ids[at:])[:40] for ids in (ours, theirs))
    return f"from token {at} on {mine!r}, where the template has {other!r}"
