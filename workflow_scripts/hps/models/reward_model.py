"""Scores of conversations under a reward model: a decoder with a linear head on the last token's hidden state.

The responses to one prompt are scored with the prompt computed once, whatever the order they are given in.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from hps.data.chat import Message, end_of_turn, prompt_ids, response_ids, whole_ids
from hps.logprobs import context, self_check
from hps.logprobs.shared_prompts import SharedPrompts
from hps.models import sources
from hps.models.reward_heads import GATE, LM_HEAD, Gate, read_gate, read_head
from hps.support import files, provenance
from hps.support.errors import InputError
from hps.support.progress import bar

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


MADE_HERE = ("trained", "probe")
"""Sources of reward models that learned from the states at the token that ends a response (`conversation_ids`)."""


@dataclass(frozen=True)
class Encoded:
    """A conversation as a reward model reads it, cut in two where the decoder's state is kept for other responses."""

    prompt: tuple[int, ...]
    rest: list[int]  # never empty: at least the token that ends the response


def truncate(prompt: list[int], response: list[int], max_length: int) -> tuple[list[int], list[int]]:
    """Prompt and response without their oldest tokens after the BOS, so that at most `max_length` are left.

    What is scored, the response and its EOS, stays, unless it alone is longer.
    """
    lost = len(prompt) + len(response) - max_length
    if lost <= 0:
        return prompt, response
    return [prompt[0], *prompt[lost + 1 :]], response[max(0, lost + 1 - len(prompt)) :]


def conversation_ids(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    response: str,
    max_length: int,
    system_turn: str = "keep",
) -> tuple[list[int], bool]:
    """Token ids of a conversation as a reward model reads it, and whether they were truncated (see `truncate`)."""
    whole = prompt_ids(tokenizer, messages, system_turn), response_ids(tokenizer, response)
    prompt, rest = truncate(*whole, max_length)
    return prompt + rest, (prompt, rest) != whole


def last_states(hidden: torch.Tensor, lengths: Sequence[int] | torch.Tensor) -> torch.Tensor:
    """States (B, hidden size) at the last real tokens of B sequences padded on the right; `hidden` (B, T, hidden size).

    transformers' own forward looks for the last token that is not the pad token, which loses the final EOS wherever
    the pad token is the EOS token.
    """
    rows = torch.arange(len(hidden), device=hidden.device)
    return hidden[rows, torch.as_tensor(lengths, device=hidden.device) - 1]


def last_token_scores(model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Scores (B,) float32 of conversations padded on the right, ids and mask (B, T), by a head with one output."""
    decoder = getattr(model, model.base_model_prefix)
    hidden = decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return model.score(last_states(hidden, mask.sum(1)).float()).squeeze(-1)


class RewardModel:
    """A reward model that scores conversations.

    Args:
        model: a `...ForSequenceClassification`; its head is turned to float32.
        max_length: tokens of a conversation; longer ones lose the start of their prompt, which is counted in
            `truncated` and logged.
        name: what messages call it.
        published: the model was made elsewhere, and its scores are what its published use gives: those of the
            template's own rendering of the whole conversation, read where transformers' `forward` reads (at the last
            token that is not the pad token). Otherwise it was trained here, on what `conversation_ids` gives.
        gate: makes one score of the head's outputs; without it their plain mean counts.
        system_turn: `keep` or `remove` (see `chat.prompt_ids`).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        name: str = "reward model",
        gate: Gate | None = None,
        system_turn: str = "keep",
        published: bool = False,
    ):
        self.model = model.eval()
        self.model.score.float()
        self.gate = gate.to(model.device) if gate else None
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.name = name
        self.system_turn = system_turn
        self.truncated = 0
        self.published = published
        self.pad = model.config.pad_token_id if published else None
        self.shared = SharedPrompts(getattr(model, model.base_model_prefix), name)
        self._check()

    def _check(self) -> None:
        """Hold the head's outputs against those of the model's own `forward` (`self_check.py`).

        In units of the head's weight, as a reward has no scale of its own.
        """
        unit = 1.0 if self.model.score.weight.is_meta else max(1.0, self.model.score.weight.norm().item())

        def computed(prompt: Sequence[int], responses: Sequence[list[int]]) -> torch.Tensor:
            ends = np.cumsum([len(response) for response in responses]) - 1
            ways = self.shared.both_ways(prompt, responses)
            return torch.stack([self.model.score(hidden[ends].float()).mean(-1) / unit for _, hidden in ways])

        def own(prompt: Sequence[int], response: list[int]) -> float:
            return _own_outputs(self.model, [*prompt, *response]).mean().item() / unit

        self_check.check(self.shared, f"{self.name}: {type(self.model).__name__}", computed, own)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str | torch.device | None = None,
        max_length: int | None = None,
        dtype: str | torch.dtype | None = None,
        output: str = "gated",
        system_turn: str = "keep",
    ) -> RewardModel:
        """The reward model in `folder`.

        Args:
            device: None takes the first GPU where there is one, else the CPU.
            max_length: None takes that of model.json (what the model was trained with), else the model's own limit.
            dtype: of the weights but the head's; None keeps the one they are stored in.
            output: `gated` or `mean`: whether several objectives become one score by the model's own gate or by their
                plain mean. With one output it makes no difference.
            system_turn: `keep` or `remove` (see `chat.prompt_ids`).

        Raises InputError as `sources.load` and `sources.load_tokenizer` do, for a folder without a reward head, for
        `gated` where several outputs have no gate, and where scores are not the model's own (`_check`).
        """
        from transformers import AutoModelForSequenceClassification

        head = read_head(folder)
        model = sources.load(
            AutoModelForSequenceClassification,
            folder,
            unread=[*LM_HEAD, *GATE],
            num_labels=len(head),
            key_mapping={r"^regression_layer\.": "score."},
            dtype=dtype or "auto",
        )
        # As it is stored: a head in float32 on a decoder in bfloat16 was rounded with the rest.
        model.score.weight.data = head.float()
        gate = None
        if len(head) > 1 and output == "gated":
            gate = read_gate(folder, head.shape[1], len(head))
            if gate is None:
                raise InputError(
                    folder, f"{len(head)} outputs and no gate: a gated score cannot be had, only their mean"
                )
        facts = files.read_json(Path(folder) / sources.FACTS) if (Path(folder) / sources.FACTS).is_file() else {}
        if max_length is None:
            max_length = facts.get("max_length", context.positions(model.config))
        provenance.model_files(folder)
        return cls(
            model.to(device or sources.default_device()),
            sources.load_tokenizer(folder),
            max_length,
            str(folder),
            gate,
            system_turn,
            published=facts.get("source") not in MADE_HERE,
        )

    @torch.inference_mode()
    def score(self, conversations: Sequence[tuple[Sequence[Message], str]], batch_tokens: int = 8192) -> list[float]:
        """Scores of (messages, response), in the given order; a score does not depend on what else is in its batch.

        Args:
            batch_tokens: tokens a batch may hold, each prompt once; it bounds memory.

        Raises InputError naming the prompt of a score that is not finite, or whose gate has nothing to read.
        """
        encoded = self._encode(conversations)
        scores = [math.nan] * len(encoded)
        with bar(total=len(encoded), what="scoring", unit="response") as progress:
            for numbers, values in self._batches(encoded, batch_tokens):
                for i, value in zip(numbers, values.tolist(), strict=True):
                    if not math.isfinite(value):
                        raise InputError(self.name, f"the score of {_quoted(conversations, i)}, is {value}")
                    scores[i] = value
                progress.update(len(numbers))
        return scores

    def _encode(self, conversations: Sequence[tuple[Sequence[Message], str]]) -> list[Encoded]:
        """Token ids, truncated; each prompt is rendered once."""
        prompts: dict[tuple, list[int]] = {}
        encoded = []
        cut = 0
        for number, (messages, response) in enumerate(conversations):
            key = tuple((message["role"], message["content"]) for message in messages)
            where = _quoted(conversations, number)
            if key not in prompts:
                prompts[key] = prompt_ids(self.tokenizer, messages, self.system_turn, where)
            whole = prompts[key], response_ids(self.tokenizer, response)
            if self.published:
                whole = self._as_published(prompts[key], messages, response, where)
            prompt, rest = truncate(*whole, self.max_length)
            cut += (prompt, rest) != whole
            if self.gate:
                at = self._gate_position(prompt)
                if at is None:
                    raise InputError(self.name, f"of {where}, the end of the prompt does not fit: nothing for the gate")
                prompt, rest = prompt[: at + 1], prompt[at + 1 :] + rest
            encoded.append(Encoded(tuple(prompt), rest))
        if cut:
            self.truncated += cut
            logging.warning(
                "%s: %d of %d conversations exceed %d tokens and lost the start of their prompt",
                *(self.name, cut, len(encoded), self.max_length),
            )
        return encoded

    def _as_published(
        self, prompt: list[int], messages: Sequence[Message], response: str, where: str
    ) -> tuple[list[int], list[int]]:
        """The template's own rendering up to where the score is read, cut in two where it leaves `prompt`."""
        ids = whole_ids(self.tokenizer, messages, response, self.system_turn, where)
        while len(ids) > 1 and ids[-1] == self.pad:
            ids.pop()
        shared = prompt if ids[:1] == prompt[:1] else prompt[1:]  # the template may write no BOS
        same = next((at for at, (a, b) in enumerate(zip(shared, ids, strict=False)) if a != b), len(shared))
        at = max(1, min(same, len(ids) - 1))
        return ids[:at], ids[at:]

    def _gate_position(self, prompt: list[int]) -> int | None:
        """Where the gate reads: the token that ends the last turn, right before the assistant's header.

        The published code looks for the last occurrence of that token and the header in the whole conversation; a
        response cannot contain them here.
        """
        end = end_of_turn(self.tokenizer)
        return next((at for at in reversed(range(len(prompt))) if prompt[at] == end), None)

    def _batches(self, encoded: Sequence[Encoded], batch_tokens: int) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Numbers of conversations and their scores, forward pass by forward pass."""
        for one in self.shared.passes([e.prompt for e in encoded], [e.rest for e in encoded], batch_tokens):
            ends = np.cumsum([len(encoded[number].rest) for number in one.numbers]) - 1
            prompts = one.ends.index_select(0, torch.tensor(one.rows, device=one.ends.device))
            yield one.numbers, self._scores(one.hidden[torch.from_numpy(ends).to(one.hidden.device)], prompts)

    def _scores(self, last: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Scores (B,) from the states at the last tokens and at the ends of the prompts, (B, hidden size) each."""
        outputs = self.model.score(last.float())
        return self.gate(prompts, outputs) if self.gate else outputs.mean(-1)


def _own_outputs(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """The head's outputs (K) on a sequence by the model's own `forward`, read at its last token, whatever that is.

    The head is in float32, and gets what it reads in float32, as everywhere here.
    """
    pad, model.config.pad_token_id = model.config.pad_token_id, None
    cast = model.score.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    try:
        return model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0]
    finally:
        model.config.pad_token_id = pad
        cast.remove()


def _quoted(conversations: Sequence[tuple[Sequence[Message], str]], number: int) -> str:
    return f"conversation {number}, prompt {conversations[number][0][-1]['content'][:80]!r}"
