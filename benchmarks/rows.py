"""The rows of the table: each function measures cases side by side and returns rows with ratios and targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks import inputs, measure, ours
from benchmarks.measure import Summary
from hps.logprobs.scorer import Group
from hps.support.files import stable_hash

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Row:
    """One comparison: a ratio with its range, what it should be, and what it was measured with."""

    name: str
    what: str
    ratio: Summary
    target: float | None = None
    at_least: bool = True  # the target is a lower bound; else an upper one
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """`met` or `short`, by the median; empty without a target."""
        if self.target is None:
            return ""
        good = self.ratio.median >= self.target if self.at_least else self.ratio.median <= self.target
        return "met" if good else "short"

    def as_dict(self) -> dict[str, Any]:
        bound = None if self.target is None else {"at_least" if self.at_least else "at_most": self.target}
        own = {"name": self.name, "what": self.what, "ratio": self.ratio.as_dict(), "target": bound}
        return own | {"verdict": self.verdict, **self.facts}


@dataclass(frozen=True, kw_only=True)
class Setting(ABC):
    """What a suite computes with; where its model and its pairs come from is said by its kinds."""

    model: str
    dtype: torch.dtype
    device: str
    repeats: int
    batch: int = 4  # pairs a step
    batch_tokens: int = 2048

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def interleaved(self, cases: dict[str, Callable[[int], float | None]], repeats: int | None = None):
        # On a GPU the first steps of a new size wait for memory: one warm-up left a repeat seven times as slow.
        warmups = 2 if self.device == "cuda" else 1
        return measure.interleaved(cases, repeats or self.repeats, warmups, self.synchronize)

    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    @abstractmethod
    def causal(self) -> PreTrainedModel:
        """The model without adapters, on the device: one of its own each time, whose weights are not to be changed."""

    @abstractmethod
    def reward_model(self) -> PreTrainedModel:
        """A reward model with this decoder and a new head."""

    @abstractmethod
    def pairs(self, dataset: str, count: int) -> tuple[list[inputs.Pair], str]:
        """`count` pairs with the lengths of a data set, and where they come from."""

    @abstractmethod
    def in_float32(self) -> Setting:
        """With what losses are compared, which is not timed."""

    def policy(self) -> torch.nn.Module:
        return ours.with_adapters(self.causal())

    def facts(self, source: str, **more: Any) -> dict[str, Any]:
        named = {"model": self.model, "dtype": str(self.dtype).removeprefix("torch."), "pairs": source}
        return named | {"repeats": self.repeats} | more


@dataclass(frozen=True, kw_only=True)
class FromFolder(Setting):
    """With a model from a folder, which has a tokenizer, and real pairs where there are any."""

    folder: Path

    def tokenizer(self) -> PreTrainedTokenizerBase:
        from hps.models.sources import load_tokenizer

        return load_tokenizer(self.folder)

    def causal(self) -> PreTrainedModel:
        from hps.models.sources import load_causal

        return load_causal(self.folder, dtype=self.dtype, device=self.device)

    def reward_model(self) -> PreTrainedModel:
        from hps.models.reward_training import new_reward_model

        return new_reward_model(self.folder, self.dtype, 0, self.device)

    def pairs(self, dataset: str, count: int) -> tuple[list[inputs.Pair], str]:
        return inputs.pairs(dataset, self.tokenizer(), count)

    def in_float32(self) -> FromFolder:
        return replace(self, dtype=torch.float32)


def seconds(timed: dict[str, list[float]]) -> dict[str, Any]:
    return {"seconds": {name: Summary.of(values).as_dict() for name, values in timed.items()}}


def lengths(pairs: Sequence[inputs.Pair]) -> dict[str, float]:
    """Mean token counts of pairs."""
    replies = [len(reply) for pair in pairs for reply in (pair.chosen, pair.rejected)]
    return {
        "prompt_tokens": float(np.mean([len(pair.prompt) for pair in pairs])),
        "response_tokens": float(np.mean(replies)),
    }


# --- losses against each other -----------------------------------------------------------------------------------


def alike_groups(pairs: Sequence[inputs.Pair], n: int, vocab: int) -> list[Group]:
    """Groups of n responses that all have the length of the chosen reply: the choice of negative changes no cost."""
    draw = np.random.default_rng(stable_hash("bench", "alike"))
    return [Group(p.prompt, [inputs.tokens(draw, len(p.chosen), vocab) for _ in range(n)]) for p in pairs]


def hps_over_bt(setting: Setting, dataset: str = "hh_rlhf", n: int = 100) -> list[Row]:
    """Seconds of an HPS step over those of a BT step on the same prompts, n responses of one length each."""
    repeats, batch = 8 * setting.repeats, max(1, setting.batch // 2)
    tokenizer = setting.tokenizer()
    pairs, source = setting.pairs(dataset, batch * (repeats + 3))
    model = setting.policy()
    examples = ours.examples(alike_groups(pairs, n, len(tokenizer)))
    steps = {
        loss: ours.Steps(ours.trainer(model, loss, examples, batch, setting.batch_tokens)) for loss in ("hps", "bt")
    }
    timed = setting.interleaved(steps, repeats)
    ratio = measure.ratio_of_totals(timed["hps"], timed["bt"])
    facts = setting.facts(source, n=n, batch=batch, **seconds(timed)) | {"repeats": repeats}
    return [Row("hps_over_bt", "seconds a step, HPS / BT", ratio, 1.02, at_least=False, facts=facts)]


def pl_over_bt(setting: FromFolder, dataset: str = "hh_rlhf", n: int = 100) -> list[Row]:
    """PL on n responses of a prompt against BT on two, at the same token budget: time a response, and peak memory."""
    pairs, source = setting.pairs(dataset, n)
    pair = inputs.middling(pairs)
    group = Group(pair.prompt, inputs.candidates(pair, pairs, n))
    model = setting.policy()
    batch = {"pl": 1, "bt": setting.batch}
    steps = {
        loss: ours.Steps(ours.trainer(model, loss, ours.examples([group] * 2 * size), size, setting.batch_tokens))
        for loss, size in batch.items()
    }
    repeats = max(1, setting.repeats - 1)  # of PL's long steps
    # Without a warm-up: a step of PL is long enough to be its own.
    timed = measure.interleaved(steps, repeats, warmups=0, synchronize=setting.synchronize)
    responses = {"pl": n, "bt": 2 * setting.batch}
    each = {loss: [spent / responses[loss] for spent in timed[loss]] for loss in timed}
    same = {
        "n": n,
        "prompt_tokens": len(pair.prompt),
        "response_tokens": float(np.mean([len(response) for response in group.responses])),
    }
    facts = setting.facts(source, **same, responses_a_step=responses, **seconds(timed)) | {"repeats": repeats}
    ratio = measure.ratios(each["pl"], each["bt"])
    rows = [Row("pl_over_bt_time", f"seconds a response, PL n = {n} / BT", ratio, facts=facts)]
    del model, steps
    peaks = {loss: peak_memory(setting, loss, n, same) for loss in ("pl", "bt")}
    whole = [peaks["pl"][i]["peak"] / peaks["bt"][i]["peak"] for i in range(len(peaks["bt"]))]
    own = [(p["peak"] - p["before"]) / (b["peak"] - b["before"]) for p, b in zip(peaks["pl"], peaks["bt"], strict=True)]
    facts = setting.facts("random tokens", **same, bytes=peaks, beyond_the_loaded_model=Summary.of(own).as_dict())
    facts |= {"repeats": len(whole)}
    what = f"peak memory of the process, PL n = {n} / BT"
    return [*rows, Row("pl_over_bt_memory", what, Summary.of(whole), 1.25, at_least=False, facts=facts)]


def peak_memory(
    setting: FromFolder, loss: str, n: int, same: dict[str, Any], children: int = 1
) -> list[dict[str, int]]:
    """Bytes before and at the peak of training, from processes of their own (CPU: the largest resident set)."""
    given = {
        "folder": setting.folder,
        "dtype": str(setting.dtype).removeprefix("torch."),
        "loss": loss,
        "n": n,
        "batch": 1 if loss == "pl" else 2 * setting.batch,
        "batch-tokens": setting.batch_tokens // 2,  # so that BT's batch fills it, as PL's responses do
        "prompt": round(same["prompt_tokens"]),
        "response": round(same["response_tokens"]),
    }
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    return [measure.in_child("benchmarks.memory", words, torch.get_num_threads()) for _ in range(children)]


# --- scoring -----------------------------------------------------------------------------------------------------


def annotation(setting: Setting, dataset: str = "hh_rlhf", n: int = 100) -> list[Row]:
    """Seconds to score n responses of a prompt one by one, as the released code does, over the workflow's."""
    from hps.data.chat import prompt_ids, response_ids
    from hps.logprobs import batches
    from hps.models.reward_model import RewardModel

    tokenizer = setting.tokenizer()
    pairs, source = setting.pairs(dataset, n)
    pair = inputs.middling(pairs)
    messages = pair.messages or [{"role": "user", "content": tokenizer.decode(pair.prompt)}]
    replies = [tokenizer.decode(ids[:-1]) for ids in inputs.candidates(pair, pairs, n)]
    model = setting.reward_model().eval()
    reward_model = RewardModel(model, tokenizer, 2048)
    prompt = prompt_ids(tokenizer, messages)
    responses = [response_ids(tokenizer, reply) for reply in replies]

    @torch.inference_mode()
    def one_by_one(repeat: int) -> None:
        for response in responses:
            ids, mask = batches.pad([prompt + response], setting.device)
            decoder = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
            model.score(decoder.last_hidden_state[:, -1].float()).tolist()

    def together(repeat: int) -> None:
        reward_model.score([(messages, reply) for reply in replies], 2 * setting.batch_tokens)

    repeats = max(1, setting.repeats - 1)
    cases = {"one by one": one_by_one, "ours": together}
    # On a CPU without a warm-up: each takes seconds.
    warmups = 1 if setting.device == "cuda" else 0
    timed = measure.interleaved(cases, repeats, warmups, synchronize=setting.synchronize)
    of = {"prompt_tokens": len(prompt), "response_tokens": float(np.mean([len(ids) for ids in responses]))}
    rates = {name: n / Summary.of(spent).median for name, spent in timed.items()}
    ratio = measure.ratios(timed["one by one"], timed["ours"])
    what = f"seconds for {n} responses of a prompt, one by one / ours"
    return [
        Row(
            "annotation",
            what,
            ratio,
            3.0,
            facts=setting.facts(source, n=n, **of, responses_per_second=rates, **seconds(timed)) | {"repeats": repeats},
        )
    ]


# --- the limit ---------------------------------------------------------------------------------------------------


def distance_to_limit(setting: Setting, dataset: str = "hh_rlhf") -> list[Row]:
    """Seconds of a bare forward and backward pass over those of our training step, on as many distinct tokens.

    Bare: the same adapted model; the batch's distinct tokens in a rectangle without padding or mask; the output head
    on as many positions as responses have tokens; gradients of ones, no loss. What our step pays beyond that is
    padding, ragged attention, the softmax over the vocabulary, the loss, clipping and the optimizer.
    """
    pairs, source = setting.pairs(dataset, setting.batch * (setting.repeats + 3))
    model = setting.policy()
    groups = ours.pair_groups(pairs)
    trainer = ours.trainer(model, "bt", ours.examples(groups), setting.batch, setting.batch_tokens)
    causal = model.get_base_model()
    draw = np.random.default_rng(0)

    def bare(repeat: int) -> None:
        batch = [groups[item.number] for item in trainer.batches[repeat + 2]]
        length = round(sum(group.tokens for group in batch) / len(batch))
        counted = sum(len(response) for group in batch for response in group.responses)
        ids = torch.from_numpy(draw.integers(20, 300, (len(batch), length))).to(setting.device)
        hidden = causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        logits = causal.get_output_embeddings()(hidden.flatten(0, 1)[:counted])
        logits.backward(torch.ones_like(logits))
        model.zero_grad(set_to_none=True)

    timed = setting.interleaved({"bare": bare, "ours": lambda repeat: trainer.step(repeat + 2) and None})
    ratio = measure.ratios(timed["bare"], timed["ours"])
    what = "seconds, bare forward and backward / our training step"
    facts = setting.facts(source, batch=setting.batch, **lengths(pairs), **seconds(timed))
    return [Row("distance_to_limit", what, ratio, 0.85, facts=facts)]
