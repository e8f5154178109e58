"""From judgements to win, lose and tie rates, with intervals over prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hps.evidence.statistics import Estimate, estimate

OUTCOMES = ("win", "lose", "tie")


@dataclass
class _Pair:
    """A pair of responses; its readings (method_first, method score, baseline score), and whether one is invalid."""

    readings: list[tuple[bool | None, float, float]] = field(default_factory=list)
    invalid: bool = False

    @property
    def values(self) -> dict[str, float]:
        """Win, lose, tie (percent), and what the order did; NaN where there is no valid judgement."""
        if self.invalid:
            return dict.fromkeys((*OUTCOMES, "position_bias", "orders_agree"), np.nan)
        difference = sum(ours - theirs for _, ours, theirs in self.readings)
        outcome = OUTCOMES[0] if difference > 0 else OUTCOMES[1] if difference < 0 else OUTCOMES[2]
        values = {name: 100.0 * (name == outcome) for name in OUTCOMES}
        first_minus_second = [(a - b) * (1 if first else -1) for first, a, b in self.readings if first is not None]
        signs = {np.sign(ours - theirs) for _, ours, theirs in self.readings}
        both = len(first_minus_second) == 2
        values["position_bias"] = float(np.mean(first_minus_second)) if both else np.nan
        values["orders_agree"] = 100.0 * (len(signs) == 1) if both else np.nan
        return values


@dataclass(frozen=True)
class WinRates:
    """A method against a baseline on a test set. Rates are percent of valid pairs, estimated over seeds and prompts."""

    test_set: str
    method: str
    baseline: str
    estimates: dict[str, Estimate]
    """win, lose, tie; net (win - lose); position_bias: points by which the response read first scores above the
    second, a mean over both orders, in which quality cancels; orders_agree: percent of pairs with the same verdict in
    both orders (both NaN where a pair was not read in both)."""
    pairs: int
    invalid: int  # pairs left out because a reading has no valid scores
    seeds: tuple[int, ...]


def win_rates(judgements: Sequence[dict]) -> list[WinRates]:
    """Rates by test set and baseline, from rows of JUDGEMENTS, in their order.

    A pair's verdict comes from its mean scores over the criteria and over the orders it was read in. A pair with an
    invalid reading has no verdict: neither in one order alone, where the position would count, nor as a tie. A
    prompt's pairs under a seed (its samples) are averaged first.
    """
    comparisons: dict[tuple[str, str, str], list[dict]] = {}
    for row in judgements:
        comparisons.setdefault((row["test_set"], row["method"], row["baseline"]), []).append(row)
    results = []
    for (test_set, method, baseline), rows in comparisons.items():
        pairs: dict[tuple[int, str, int], _Pair] = {}
        for row in rows:
            pair = pairs.setdefault((row["seed"], row["prompt_id"], row["index"]), _Pair())
            if row["method_score"] is None or row["baseline_score"] is None:
                pair.invalid = True
            else:
                pair.readings.append((row["method_first"], row["method_score"], row["baseline_score"]))
        names = list(next(iter(pairs.values())).values)
        seeds = sorted({key[0] for key in pairs})
        prompt_ids = sorted({key[1] for key in pairs})
        of_prompt: dict[tuple[int, str], list[list[float]]] = {}
        for (training_seed, prompt_id, _), pair in pairs.items():
            of_prompt.setdefault((training_seed, prompt_id), []).append([pair.values[name] for name in names])
        by_seed = [
            np.stack([_mean_of_present(np.array(of_prompt[training_seed, prompt_id])) for prompt_id in prompt_ids])
            for training_seed in seeds
        ]
        values = dict(zip(names, np.moveaxis(np.stack(by_seed), 2, 0), strict=True))  # (seeds, prompts) each
        values["net"] = values["win"] - values["lose"]
        estimates = {name: estimate(of_pairs) for name, of_pairs in values.items()}
        invalid = sum(pair.invalid for pair in pairs.values())
        results.append(WinRates(test_set, method, baseline, estimates, len(pairs), invalid, tuple(seeds)))
    return results


def _mean_of_present(values: np.ndarray) -> np.ndarray:
    """Mean over the pairs (pairs, quantities) that have a value; NaN where none has."""
    present = ~np.isnan(values)
    counts = present.sum(axis=0)
    sums = np.where(present, values, 0.0).sum(axis=0)
    return np.divide(sums, counts, out=np.full(values.shape[1], np.nan), where=counts > 0)
