"""Scores of conversations under a reward model: a decoder with a linear head on the last token's hidden state."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hps import files
from hps.chat import Message, prompt_ids, response_ids
from hps.errors import InputError
from hps.models import batches
from hps.models.sources import (
    ATTENTION,
    FACTS,
    default_device,
    load_tokenizer,
    quiet_transformers,
    reward_head,
)
from hps.progress import bar

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def conversation_ids(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], response: str, max_length: int
) -> tuple[list[int], bool]:
    """Token ids of a conversation as a reward model reads it, and whether they were truncated.

    More than `max_length` tokens lose the oldest ones after the BOS: what is scored, the response and its EOS, stays.
    """
    ids = prompt_ids(tokenizer, messages) + response_ids(tokenizer, response)
    if len(ids) <= max_length:
        return ids, False
    return [ids[0], *ids[len(ids) - max_length + 1 :]], True


def last_token_scores(model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Scores (B,) float32 of conversations padded on the right, ids and mask (B, T).

    The head reads the hidden state at each row's last real token, found by the mask. transformers' own forward looks
    for the last token that is not the pad token, which loses the final EOS wherever the pad token is the EOS token.
    A head with several outputs (ArmoRM's objectives) counts with their plain mean, as the paper's released code has it.
    """
    decoder = getattr(model, model.base_model_prefix)
    hidden = decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    last = hidden[torch.arange(len(ids), device=hidden.device), mask.sum(1) - 1]
    return model.score(last.float()).mean(-1)


class RewardModel:
    """A reward model that scores conversations.

    Args:
        model: a `...ForSequenceClassification`; its head is turned to float32.
        max_length: tokens of a conversation; longer ones lose the start of their prompt, which is counted in
            `truncated` and logged.
        name: what messages call it.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, name: str = "reward model"
    ):
        self.model = model.eval()
        self.model.score.float()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.name = name
        self.truncated = 0

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str | torch.device | None = None,
        max_length: int | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> RewardModel:
        """The reward model in `folder`.

        Args:
            device: None takes the first GPU where there is one, else the CPU.
            max_length: None takes that of model.json (what the model was trained with), else the model's own limit.
            dtype: of the weights but the head's; None keeps the one they are stored in.

        Raises InputError for a folder without whole safetensors, tokenizer, chat template, or reward head.
        """
        from transformers import AutoModelForSequenceClassification

        outputs = reward_head(folder)
        with quiet_transformers():
            model = AutoModelForSequenceClassification.from_pretrained(
                folder,
                num_labels=outputs,
                key_mapping={r"^regression_layer\.": "score."},
                dtype=dtype or "auto",
                attn_implementation=ATTENTION,
                use_safetensors=True,
                local_files_only=True,
            )
        if max_length is None:
            facts = files.read_json(Path(folder) / FACTS) if (Path(folder) / FACTS).is_file() else {}
            max_length = facts.get("max_length", model.config.max_position_embeddings)
        return cls(model.to(device or default_device()), load_tokenizer(folder), max_length, str(folder))

    @torch.inference_mode()
    def score(self, conversations: Sequence[tuple[Sequence[Message], str]], batch_tokens: int = 8192) -> list[float]:
        """Scores of (messages, response), in the given order; a score does not depend on what else is in its batch.

        Args:
            batch_tokens: padded tokens a batch may hold; it bounds memory.

        Raises InputError naming the prompt of a score that is not finite.
        """
        encoded = [conversation_ids(self.tokenizer, *conversation, self.max_length) for conversation in conversations]
        cut = sum(truncated for _, truncated in encoded)
        if cut:
            self.truncated += cut
            logging.warning(
                "%s: %d of %d conversations exceed %d tokens and lost the start of their prompt",
                *(self.name, cut, len(encoded), self.max_length),
            )
        scores = [math.nan] * len(encoded)
        with bar(total=len(encoded), what="scoring", unit="response") as progress:
            for batch in batches.by_token_budget([len(ids) for ids, _ in encoded], batch_tokens):
                ids, mask = batches.pad([encoded[i][0] for i in batch], self.model.device)
                for i, value in zip(batch, last_token_scores(self.model, ids, mask).tolist(), strict=True):
                    if not math.isfinite(value):
                        prompt = conversations[i][0][-1]["content"]
                        raise InputError(
                            self.name, f"the score of conversation {i}, prompt {prompt[:80]!r}, is {value}"
                        )
                    scores[i] = value
                progress.update(len(batch))
        return scores
