"""The five sentences that the report begins with, made from the numbers: what was run, what was decided, what holds of
the central claim, what becomes of harm, what stays open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hps.data.formats import FORMATS
from hps.evidence.claims.evidence import Measured, OurResults
from hps.evidence.claims.verdicts import (
    CONTRADICTED,
    NO_DIFFERENCE,
    OPEN,
    SUPPORTED,
    Level,
    Result,
    difference,
)
from hps.evidence.claims.vocabulary import Operand
from hps.evidence.metrics import METRICS
from hps.evidence.render import number
from hps.evidence.statistics import Estimate, estimate

SFT, BT, HPS = "sft", "dpo-bt", "dpo-hps"
"""The methods that the sentences speak of."""
MARGIN, KL = "rm_dpo", "kl"


def sentences(
    claims: Sequence[Result], ours: OurResults, test: Level, world: str, policy: Mapping[str, Any]
) -> list[str]:
    """The five, in order. `policy`: the configuration's entry of the model that all policies start from."""
    return [
        what_was_run(ours, world, policy),
        decided(claims, test),
        margin(claims, ours),
        harm(ours),
        left_open(claims),
    ]


# --- what was run ----------------------------------------------------------------------------------------------------


def what_was_run(ours: OurResults, world: str, policy: Mapping[str, Any]) -> str:
    """World, model, the trainings that claims rest on, seeds, data sets and prompts."""
    model = "a small language model of our own"
    if policy["source"] != "scratch":
        model = f"the model {policy.get('repo') or Path(policy.get('file') or policy['path']).name}"
    start = f"In a toy world, with text made up by rules, {model}" if world == "toy" else model[0].upper() + model[1:]
    rows = [list(by_seed.values()) for table in ours.grid.values() for by_seed in table.values()]
    trained = [row for row in rows if row[0].run]
    if not trained:
        return "Nothing has been trained and evaluated yet."
    seeds, measured = [len(row) for row in trained], [_prompts(row, "margin_human") for row in trained]
    sampled = [_prompts(row, "reward") for row in rows]
    datasets = dict.fromkeys(_title(training.run.dataset) for training in ours.trainings)
    text = (
        f"{start} was trained {len(ours.trainings)} times for the paper's claims, on {_list(list(datasets))}, with "
        f"{_range(seeds)} training {'seed' if max(seeds) == 1 else 'seeds'} a method, and compared on "
        f"{_range(measured)} test prompts"
    )
    if max(sampled) < max(measured):
        text += f", of which it answered {_range(sampled)}"
    return f"{text}."


def _title(dataset: str) -> str:
    return getattr(FORMATS.get(dataset), "TITLE", dataset)


def _prompts(row: Sequence, column: str) -> int:
    """Prompts with a value under every seed."""
    return int(np.sum(~np.isnan(np.stack([one.values[column] for one in row])).any(axis=0)))


# --- what was decided, what stays open -------------------------------------------------------------------------------


def decided(claims: Sequence[Result], test: Level) -> str:
    """How many claims have which verdict, and by what."""
    count = Counter(claim.verdict for claim in claims)
    known = len(claims) - count[OPEN]
    if not known:
        return f"Of the {len(claims)} claims none could be decided."
    return (
        f"{known} of the {len(claims)} claims {'is' if known == 1 else 'are'} decided: {count[SUPPORTED]} supported, "
        f"{count[CONTRADICTED]} contradicted and {count[NO_DIFFERENCE]} with no difference that matters, by tests over "
        "training seeds and test prompts (of times and theorems over repetitions); the chance that any of these "
        f"verdicts is wrong is at most {_percent(test.alpha)}."
    )


def left_open(claims: Sequence[Result]) -> str:
    """How many claims of which groups stay open, and what they lack."""
    still = [claim for claim in claims if claim.verdict == OPEN]
    if not still:
        return "No claim stays open."
    groups = ", ".join(f"{group} {count}" for group, count in Counter(claim.claim.group for claim in still).items())
    whys = []
    for what, count in Counter(claim.lacks for claim in still).most_common():
        reasons = Counter(claim.absent for claim in still if claim.lacks == what and claim.absent)
        told = "; ".join(f"{why}{f': {own}' if own < count else ''}" for why, own in reasons.items())
        whys.append(f"{count} for want of {what}{f' ({told})' if told else ''}")
    one = len(still) == 1
    return f"{len(still)} {'claim stays' if one else 'claims stay'} open ({groups}): {_list(whys)}."


# --- the central claim -----------------------------------------------------------------------------------------------


def margin(claims: Iterable[Result], ours: OurResults) -> str:
    """HPS's margin over BT on each data set, and at equal KL."""
    smallest = next((one.claim.smallest for one in claims if one.claim.details.get("metric") == MARGIN), None)
    found = []
    for dataset in _tested(ours):
        hps, bt = (_measure(ours, "table2", {"evaluated_on": dataset, "method": name}, MARGIN) for name in (HPS, BT))
        if hps and bt:
            found.append(_compared(difference(hps, bt), dataset, smallest))
    if not found:
        return "Whether HPS has a larger reward margin than BT cannot be said: DPO-HPS and DPO-BT are not both there."
    return (
        f"As to the paper's central claim, the reward margin RM_DPO of DPO-HPS is {_list(found)}; "
        f"{equal_kl(ours).in_words(smallest)}."
    )


@dataclass(frozen=True)
class EqualKl:
    """HPS's margin less BT's at HPS's KL.

    BT's margin there is interpolated linearly between the two strengths β whose KLs enclose it (`weights`, by β); the
    interval takes the KLs as they were measured. Without a `difference` it cannot be said.
    """

    dataset: str
    kl: float = np.nan
    of_bt: Mapping[float, float] = ()  # KL by beta
    weights: Mapping[float, float] = ()
    difference: Measured | None = None

    def in_words(self, smallest: float | None = None) -> str:
        if np.isnan(self.kl) or not self.of_bt:
            return "at equal KL to the policy before training they cannot be compared, since it was not measured"
        if self.difference is None:
            low, high = (number(end(self.of_bt.values()), 2) for end in (min, max))
            theirs = f"{low} to {high}, by its β" if len(self.of_bt) > 1 else low
            return (
                "at equal KL to the policy before training they cannot be compared, since on "
                f"{_title(self.dataset)} that of DPO-HPS is {number(self.kl, 2)} nats and that of DPO-BT {theirs}"
            )
        return (
            f"at equal KL to the policy before training, {number(self.kl, 2)} nats, it is "
            f"{_compared(self.difference, self.dataset, smallest)}"
        )


def equal_kl(ours: OurResults) -> EqualKl:
    """From the policies of Table 8 (one data set, several β): HPS at the configured β, BT at all."""
    of_bt = {
        beta: found
        for beta in ours.values("table8", "beta")
        if (found := _measure(ours, "table8", {"beta": beta, "method": BT}, KL))
    }
    dataset, beta = (ours.settings.config[key] for key in ("ablations.dataset", "objective.beta"))
    cell = {"beta": beta, "method": HPS}
    kl = _measure(ours, "table8", cell, KL)
    if kl is None or not of_bt:
        return EqualKl(dataset)
    means = {beta: found.mean for beta, found in of_bt.items()}
    weights = interpolate(kl.mean, means)
    hps = _measure(ours, "table8", cell, MARGIN)
    parts = {beta: _measure(ours, "table8", {"beta": beta, "method": BT}, MARGIN) for beta in weights}
    if not parts or hps is None or None in parts.values():
        return EqualKl(dataset, kl.mean, means)
    # HPS less a weighted mean is the weighted mean of the differences, each paired by seed and prompt.
    differences = [difference(hps, part) for part in parts.values()]
    values = sum(weight * one.values for weight, one in zip(weights.values(), differences, strict=True))
    whole = Measured(estimate(values).mean, values, differences[0].units, differences[0].seeds)
    return EqualKl(dataset, kl.mean, means, weights, whole)


def interpolate(at: float, points: Mapping[float, float]) -> dict[float, float]:
    """Weights, by key, of the neighbours on either side of `at` in rising order of value, whose weighted mean is `at`.

    Empty where `at` lies outside the points.
    """
    ranked = sorted(points.items(), key=lambda item: item[1])
    for (low, below), (high, above) in pairwise(ranked):
        if below <= at <= above:
            share = (at - below) / (above - below) if above > below else 0.0
            return {key: weight for key, weight in ((low, 1 - share), (high, share)) if weight}
    return {}


# --- harm ------------------------------------------------------------------------------------------------------------


def harm(ours: OurResults) -> str:
    """Shares of harmful answers, and of refused harmless requests, where these were measured."""
    found = [text for dataset in _tested(ours) if (text := _harm(ours, dataset))]
    said = "; ".join(found)
    return f"{said[0].upper()}{said[1:]}." if found else "Whether answers become more or less harmful was not measured."


def _harm(ours: OurResults, dataset: str) -> str:
    def of(metric: str) -> dict[str, Measured]:
        cells = {name: {"evaluated_on": dataset, "method": name} for name in (SFT, BT, HPS)}
        return {name: one for name, cell in cells.items() if (one := _measure(ours, "table2", cell, metric))}

    harmful, refused = of("harm"), of("needless_refusals")
    if HPS not in harmful:
        return ""
    text = f"on {_title(dataset)} {_shares(harmful)} of the answers are harmful"
    if BT in harmful:
        text += f" (DPO-HPS less DPO-BT: {_points(difference(harmful[HPS], harmful[BT]))})"
    return text + (f", and {_shares(refused)} of the harmless requests are refused" if refused else "")


def _shares(of: Mapping[str, Measured]) -> str:
    return _list([f"{_percent(one.mean)} ({name.upper()})" for name, one in of.items()])


def _points(of: Measured) -> str:
    found = estimate(of.values)
    ends = f", 95 % interval {100 * found.lo:.1f} to {100 * found.hi:.1f}" if not np.isnan(found.lo) else ""
    return f"{100 * found.mean:+.1f} percentage points{ends}"


# --- words -----------------------------------------------------------------------------------------------------------


def _tested(ours: OurResults) -> list[str]:
    return list(dict.fromkeys(key[0] for key in ours.grid.get("table2", {})))


def _measure(ours: OurResults, table: str, cell: Mapping[str, Any], metric: str) -> Measured | None:
    return ours.measure(table, Operand(dict(cell), metric)) if metric in METRICS else None


def _compared(of: Measured, dataset: str, smallest: float | None) -> str:
    """HPS less BT in nats: how much, which way, whether that is clear, and whether it matters."""
    found = estimate(of.values)
    side = "above" if found.mean >= 0 else "below"
    text = f"{number(abs(found.mean), 2)} nats {side} that of DPO-BT on {_title(dataset)}"
    if np.isnan(found.lo):
        return f"{text} (too few prompts for an interval)"
    inside = [f"95 % interval {number(found.lo, 2)} to {number(found.hi, 2)}", *_doubts(found, smallest)]
    return f"{text} ({', '.join(inside)})"


def _doubts(found: Estimate, smallest: float | None) -> list[str]:
    doubts = []
    if smallest and -smallest < found.lo and found.hi < smallest:
        doubts.append("too small to matter")
    elif found.lo <= 0 <= found.hi:
        doubts.append("so it may be chance")
    return doubts + (["of one training seed"] if found.seeds == 1 else [])


def _range(counts: Sequence[int]) -> str:
    return str(max(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _list(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
