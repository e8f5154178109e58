"""What one policy is worth on the test prompts: BLEU, reward, margins, KL (Tables 2, 5 to 8)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from hps.evaluation.bleu import char_bleu, word_bleu
from hps.evaluation.pairs import PAIRS, find_pairs
from hps.generation.engine import Response
from hps.logprobs.packing import head_rows
from hps.logprobs.scorer import Group, SequenceScorer
from hps.models.reward_model import RewardModel
from hps.training.examples import by_key


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


def read_test_prompts(
    encode_prompt: Callable[[list], list[int]],
    encode_response: Callable[[str], list[int]],
    pairs: Sequence[dict],
    candidates: Sequence[dict],
    scored: Sequence[str],
    reference: Sequence[str],
    usable: set[str],
) -> list[TestPrompt]:
    """Find each test prompt's pairs: the human one, and the best and worst by r_est of its generated responses.

    Prompts whose generated responses all score the same have no annotated pair.
    """
    rewards, log_probs = by_key(scored, "reward"), by_key(reference, "log_prob")
    by_prompt: dict[str, list[dict]] = defaultdict(list)
    for row in candidates:
        by_prompt[row["prompt_id"]].append(row)
    prompts = []
    for pair in pairs:
        rows = {(row["origin"], row["index"]): row for row in by_prompt[pair["prompt_id"]]}
        found = find_pairs(pair["prompt_id"], rows.values(), rewards, usable)
        keys = {key for both in found.values() for key in both}
        prompts.append(
            TestPrompt(
                pair["prompt_id"],
                pair["messages"],
                encode_prompt(pair["messages"]),
                pair["chosen"],
                pair["rejected"],
                {key: encode_response(rows[key]["response"]) for key in sorted(keys)},
                {key: log_probs[(pair["prompt_id"], *key)] for key in sorted(keys)},
                found,
            )
        )
    return prompts


def margins(scorer: SequenceScorer, prompts: Sequence[TestPrompt]) -> list[dict]:
    """rho_1 and rho_1 - rho_2 (nats) and |y_1| - |y_2| (tokens) of each pair; None without a pair.

    rho is log pi_theta(y|x)/pi_ref(y|x), and rho_1 - rho_2 is RM_DPO (Table 1).
    """
    log_probs = scorer.score([Group(p.prompt, list(p.responses.values())) for p in prompts if p.responses])
    remaining = iter(log_probs)
    rows = []
    for prompt in prompts:
        values = dict(zip(prompt.responses, next(remaining) if prompt.responses else (), strict=True))
        rho = {key: value - prompt.reference[key] for key, value in values.items()}
        row = {}
        for name in PAIRS:
            first, second = prompt.pairs.get(name, (None, None))
            row[f"log_ratio_chosen_{name}"] = rho[first] if first else None
            row[f"margin_{name}"] = rho[first] - rho[second] if first else None
            row[f"length_gap_{name}"] = (
                float(len(prompt.responses[first]) - len(prompt.responses[second])) if first else None
            )
        rows.append(row)
    return rows


def winner_groups(prompts: Sequence[TestPrompt]) -> dict[int, Group]:
    """By number of the prompt, the chosen reply of its human pair, on which the KL is measured."""
    return {
        number: Group(prompt.prompt, [prompt.responses["chosen", 0]])
        for number, prompt in enumerate(prompts)
        if "human" in prompt.pairs
    }


@torch.no_grad()
def response_states(scorer: SequenceScorer, groups: Sequence[Group]) -> list[torch.Tensor]:
    """What the output head reads for the tokens of each group's responses, on the CPU: (sum of lengths, hidden size).

    So much, and the head, of a policy is enough for its KL, and is there when the policy no longer is.
    """
    found: list[torch.Tensor] = [torch.empty(0)] * len(groups)
    for positions, states in _states(scorer, groups):
        for position, own in zip(positions, states, strict=True):
            found[position] = own.cpu()
    return found


@torch.no_grad()
def sequence_kl(
    head: torch.nn.Module, states: Sequence[torch.Tensor], reference: SequenceScorer, groups: Sequence[Group]
) -> list[float]:
    """Exact KL(policy || reference) of the next-token distributions, summed over a response's tokens, nats (Table 8).

    Args:
        head: the policy's output head.
        states: the policy's `response_states` of the groups.
        groups: one response each, the winning one.
    """
    results = [0.0] * len(groups)
    for positions, others in _states(reference, groups):
        mine, other = torch.cat([states[position] for position in positions]), torch.cat(list(others))
        size = head_rows(head.weight.shape[0], other.device.type)
        per_token = []
        for rows, other_rows in zip(mine.split(size), other.split(size), strict=True):
            log_p = head(rows.to(other.device)).double().log_softmax(-1)
            log_q = reference.head(other_rows).double().log_softmax(-1)
            per_token.append((log_p.exp() * (log_p - log_q)).sum(-1))
        sums = [part.sum().item() for part in torch.cat(per_token).split([len(states[i]) for i in positions])]
        for position, value in zip(positions, sums, strict=True):
            results[position] = value
    return results


def _states(scorer: SequenceScorer, groups: Sequence[Group]) -> Iterator[tuple[list[int], Sequence[torch.Tensor]]]:
    """Batch by batch: numbers of groups, and the hidden states of each one's responses."""
    for batch in scorer.packed(list(enumerate(groups)), lambda item: item[1]):
        pieces = [group for _, group in batch]
        lengths = [sum(map(len, group.responses)) for group in pieces]
        yield [position for position, _ in batch], scorer.response_hidden(pieces).split(lengths)


def score_samples(
    reward_model: RewardModel,
    prompts: Sequence[TestPrompt],
    samples: Sequence[Sequence[Response]],
    bleu_reference: str,
    score_tokens: int,
    true_reward: Callable[[list, str], float] | None,
) -> list[list[dict]]:
    """Score each prompt's N samples: rows in schema SAMPLES.

    Args:
        bleu_reference: `chosen`, or `best_reward`: whichever of the two human responses the reward model prefers.
    """
    conversations = [(p.messages, s.text) for p, own in zip(prompts, samples, strict=True) for s in own]
    humans = [(p.messages, text) for p in prompts for text in (p.chosen, p.rejected)]
    with_humans = bleu_reference == "best_reward"
    rewards = reward_model.score(conversations + (humans if with_humans else []), batch_tokens=score_tokens)
    remaining, human = iter(rewards), rewards[len(conversations) :]
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
                    "reward": next(remaining),
                    "true_reward": true_reward(prompt.messages, sample.text) if true_reward else None,
                    "bleu_word": word_bleu(sample.text, truth),
                    "bleu_char": char_bleu(sample.text, truth),
                }
                for index, sample in enumerate(own)
            ]
        )
    return scored


def summarize_samples(rows: Sequence[dict], pick: str) -> dict[str, float | None]:
    """One prompt's samples as numbers: the best of N.

    Args:
        pick: `per_metric` ("the highest-scoring one for each metric", Sec. 6), or `by_reward`: the sample with the
            highest reward is the hypothesis of every metric (released code).
    """
    best = max(rows, key=lambda row: row["reward"])

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
        "length": mean("tokens"),
    }
