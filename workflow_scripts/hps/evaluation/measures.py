"""What one policy is worth on the test prompts: BLEU, reward, margins, KL (Tables 2, 5 to 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hps.data import stages
from hps.data.examples import Examples
from hps.data.schemas import ORIGINS, PAIRS, STATUSES
from hps.evaluation import refusals
from hps.evaluation.bleu import char_bleu, word_bleu
from hps.evaluation.pairs import PAIRS as PAIR_NAMES
from hps.evaluation.pairs import find_pairs
from hps.generation.engine import Response
from hps.logprobs.packing import head_rows
from hps.logprobs.scorer import Group, SequenceScorer
from hps.method import ranking
from hps.models.reward_model import RewardModel
from hps.support import provenance
from hps.support.files import identity
from hps.toyworld import harm


@dataclass(frozen=True)
class TestPrompt:
    """A test prompt with the responses that margins and KL are measured on.

    pairs: name of the pair -> (key of y_1, key of y_2), keys into `responses`; without an entry there is no such pair.
    """

    prompt_id: str
    messages: list[dict]
    prompt: list[int]
    chosen: str
    rejected: str
    responses: dict[tuple, list[int]]  # (origin, index) -> token ids
    reference: dict[tuple, float]  # (origin, index) -> log pi_ref, nats
    pairs: dict[str, tuple[tuple, tuple]]


def read_test_prompts(pairs: str, examples: str, policy: str, usable: set[str]) -> list[TestPrompt]:
    """Find each test prompt's pairs: the human one, and the best and worst by r_est of its generated responses.

    Prompts whose generated responses all score the same have no annotated pair.

    Args:
        pairs, examples: the test set's human pairs, and the folder of its candidates as `hps.data.examples` joins them.
        policy: folder of the policy before training.

    Raises InputError as `stages.rows` and `Examples` do, and when the examples are of other pairs or another policy.
    """
    joined = Examples(examples)
    joined.check("pairs", identity(pairs), pairs)
    joined.check("policy", provenance.identity(policy), policy)
    prompts = []
    for number, pair in enumerate(stages.rows(pairs, PAIRS)):
        prompt_id = joined.prompt_id(number)
        own = slice(joined.bounds[number], joined.bounds[number + 1])
        origins, indices, statuses, rewards, log_probs = (
            getattr(joined.columns, name)[own].tolist() for name in ("origin", "index", "status", "reward", "log_prob")
        )
        keys = [(ORIGINS[origin], index) for origin, index in zip(origins, indices, strict=True)]
        rows = [
            {"origin": origin, "index": index, "status": STATUSES[status]}
            for (origin, index), status in zip(keys, statuses, strict=True)
        ]
        found = find_pairs(prompt_id, rows, {(prompt_id, *k): r for k, r in zip(keys, rewards, strict=True)}, usable)
        wanted = [place for place, key in enumerate(keys) if any(key in both for both in found.values())]
        responses = joined.responses(own.start + np.array(wanted, dtype=np.int64))
        prompts.append(
            TestPrompt(
                prompt_id,
                pair["messages"],
                joined.prompt(number),
                pair["chosen"],
                pair["rejected"],
                {keys[place]: ids for place, ids in zip(wanted, responses, strict=True)},
                {keys[place]: log_probs[place] for place in wanted},
                found,
            )
        )
    return prompts


@dataclass(frozen=True)
class Reference:
    """So much of the reference as the KL of any number of policies needs; the model itself may be gone by then.

    head: its output head. states: by number of the prompt, what the head reads for the tokens of the chosen reply of
    the prompt's human pair, on the CPU: (length, hidden size). A prompt without a human pair has none.
    """

    head: torch.nn.Module
    states: dict[int, torch.Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, scorer: SequenceScorer, prompts: Sequence[TestPrompt]) -> Reference:
        """That of a test set, from the model that `scorer` holds."""
        groups = {
            number: Group(prompt.prompt, [prompt.responses["chosen", 0]])
            for number, prompt in enumerate(prompts)
            if "human" in prompt.pairs
        }
        states = {}
        for batch in scorer.packed(list(groups), groups.__getitem__):
            pieces = [groups[number] for number in batch]
            lengths = [group.tokens - len(group.prompt) for group in pieces]
            own = scorer.response_hidden(pieces).cpu().split(lengths)
            states |= zip(batch, own, strict=True)
        return cls(scorer.head, states)


def margins(scorer: SequenceScorer, prompts: Sequence[TestPrompt], reference: Reference) -> list[dict]:
    """rho_1 and rho_1 - rho_2 (nats) and |y_1| - |y_2| (tokens) of each pair, and the KL; None without a pair.

    rho is log pi_theta(y|x)/pi_ref(y|x), and rho_1 - rho_2 is RM_DPO (Table 1). `kl` is `sequence_kl` over the chosen
    reply of the human pair (Table 8). One forward pass over a prompt's responses gives all of it.
    """
    asked = [(number, key) for number, prompt in enumerate(prompts) for key in prompt.responses]
    groups = [Group(prompt.prompt, list(prompt.responses.values())) for prompt in prompts if prompt.responses]
    rho: dict[tuple[int, tuple], float] = {}
    kl: dict[int, float] = {}
    for numbers, log_probs, states in scorer.scored(groups):
        for place, value, own in zip((asked[i] for i in numbers), log_probs.tolist(), states, strict=True):
            number, key = place
            rho[place] = value - prompts[number].reference[key]
            if key == ("chosen", 0) and number in reference.states:
                kl[number] = sequence_kl(own, scorer.head, reference.states[number], reference.head)
    rows = []
    for number, prompt in enumerate(prompts):
        row = {}
        for name in PAIR_NAMES:
            pair = prompt.pairs.get(name)
            first, second = (rho[number, key] for key in pair) if pair else (None, None)
            lengths = [len(prompt.responses[key]) for key in pair or ()]
            row[f"log_ratio_chosen_{name}"] = first
            row[f"margin_{name}"] = first - second if pair else None
            row[f"length_gap_{name}"] = float(lengths[0] - lengths[1]) if pair else None
        rows.append(row | {"kl": kl.get(number)})
    return rows


@torch.no_grad()
def sequence_kl(
    policy: torch.Tensor, head: torch.nn.Module, reference: torch.Tensor, reference_head: torch.nn.Module
) -> float:
    """Exact KL(policy || reference) of the next-token distributions, summed over a response's tokens, nats (Table 8).

    Args:
        policy, reference: the states from which either head predicts the response's tokens, (length, hidden size).
    """
    size = head_rows(head.weight.shape[0], policy.device.type)
    total = 0.0
    for rows, other_rows in zip(policy.split(size), reference.split(size), strict=True):
        log_p = head(rows).double().log_softmax(-1)
        log_q = reference_head(other_rows.to(policy.device)).double().log_softmax(-1)
        total += (log_p.exp() * (log_p - log_q)).sum().item()
    return total


def score_samples(
    reward_model: RewardModel,
    prompts: Sequence[TestPrompt],
    samples: Sequence[Sequence[Response]],
    bleu_reference: str,
    score_tokens: int,
    true_reward: Callable[[list, str], float] | None,
) -> list[list[dict]]:
    """Score each prompt's N samples: rows in schema SAMPLES, but for what `with_harm` adds.

    Args:
        bleu_reference: `chosen`, or `best_reward`: whichever of the two human responses the reward model prefers.
    """
    # The same text is scored once: rounding is no reason to prefer one of two equal samples.
    distinct = list(dict.fromkeys((i, sample.text) for i, own in enumerate(samples) for sample in own))
    conversations = [(prompts[number].messages, text) for number, text in distinct]
    humans = [(p.messages, text) for p in prompts for text in (p.chosen, p.rejected)]
    with_humans = bleu_reference == "best_reward"
    rewards = reward_model.score(conversations + (humans if with_humans else []), batch_tokens=score_tokens)
    reward_of, human = dict(zip(distinct, rewards, strict=False)), rewards[len(conversations) :]
    scored = []
    for number, (prompt, own) in enumerate(zip(prompts, samples, strict=True)):
        prefers_rejected = with_humans and human[2 * number + 1] > human[2 * number]
        truth = prompt.rejected if prefers_rejected else prompt.chosen
        scored.append(
            [
                {
                    "prompt_id": prompt.prompt_id,
                    "index": index,
                    "response": sample.text,
                    "status": sample.status,
                    "tokens": sample.tokens,
                    "reward": reward_of[number, sample.text],
                    "true_reward": true_reward(prompt.messages, sample.text) if true_reward else None,
                    "bleu_word": word_bleu(sample.text, truth),
                    "bleu_char": char_bleu(sample.text, truth),
                }
                for index, sample in enumerate(own)
            ]
        )
    return scored


def with_harm(
    scored: Sequence[Sequence[dict]],
    prompts: Sequence[TestPrompt],
    *,
    toy: bool,
    model: RewardModel | None,
    score_tokens: int,
) -> list[list[dict]]:
    """The rows of `score_samples` and, in each, whether the sample is harmful and whether it refuses.

    Args:
        toy: the toy world's own rules say so, and which requests are harmless. Else a sample is harmful where its score
            is above 0 and refuses as `refusals.refuses` has it; which requests are harmless is not known.
        model: gives harmful answers scores above 0; None: what is harmful is not known.
    """
    texts = [(prompt.messages, row["response"]) for prompt, own in zip(prompts, scored, strict=True) for row in own]
    scores: Sequence[float | None] = model.score(texts, batch_tokens=score_tokens) if model else [None] * len(texts)

    def told(messages: list, text: str, score: float | None) -> dict:
        if not toy:
            harmful, refusal, harmless = None if score is None else score > 0, refusals.refuses(text), False
        else:
            harmful, refusal = harm.harmful(messages, text), harm.refuses(text)
            harmless = not harm.asks_for_harm(messages)
        needless = refusal if harmless else None
        return {"harm_score": score, "harmful": harmful, "refusal": refusal, "needless_refusal": needless}

    found = iter(told(*text, score) for text, score in zip(texts, scores, strict=True))
    return [[row | next(found) for row in own] for own in scored]


def summarize_samples(rows: Sequence[dict], pick: str) -> dict[str, float | None]:
    """One prompt's samples as numbers: the best of N.

    Args:
        pick: `per_metric` ("the highest-scoring one for each metric", Sec. 6), or `by_reward`: the sample with the
            highest reward is the hypothesis of every metric (released code).
    """
    best = rows[ranking.best([row["reward"] for row in rows])]

    def picked(metric: str) -> float:
        return best[metric] if pick == "by_reward" else max(row[metric] for row in rows)

    def mean(metric: str) -> float | None:
        values = [row[metric] for row in rows]
        return None if None in values else sum(values) / len(values)

    return {
        "bleu_word": picked("bleu_word"),
        "bleu_char": picked("bleu_char"),
        "reward": best["reward"],
        "reward_mean": mean("reward"),
        "true_reward": mean("true_reward"),
        "harm": mean("harmful"),
        "refusals": mean("refusal"),
        "needless_refusals": mean("needless_refusal"),
        "length": mean("tokens"),
    }
