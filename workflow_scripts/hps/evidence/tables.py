"""Tables 2, 5, 6, 7 and 8 from evaluations: means over prompts with intervals, in the paper's columns and row order."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hps.evidence.metrics import VARIANTS, measures
from hps.evidence.results import Evaluation
from hps.evidence.statistics import Estimate, estimate, paired_difference
from hps.support.errors import InputError

PAIRS = VARIANTS["margin_pair"]
DIFFERENCE = "{}_minus_bt"
"""A metric minus that of the BT policy of the same block and reward, paired by prompt."""


@dataclass(frozen=True)
class Layout:
    """A table of the paper: what names its rows, what it reports, and what all its runs have in common."""

    title: str
    varies: str  # the first column: evaluated_on, n or beta
    metrics: tuple[str, ...]
    transfer: bool
    common: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, str]:
        """The columns that name a row."""
        return self.varies, "method"


_METRICS = ("bleu", "reward", "rm_dpo", "rm_rdpo")
_SETS = ("trained_on", "evaluated_on")
LAYOUTS = {
    "table2": Layout("Table 2: fine-tuning", "evaluated_on", _METRICS, False, ("n", "beta")),
    "table5": Layout("Table 5: transfer", "evaluated_on", _METRICS, True, ("n", "beta")),
    "table6": Layout("Table 6: number of responses, fine-tuning", "n", _METRICS, False, (*_SETS, "beta")),
    "table7": Layout("Table 7: number of responses, transfer", "n", _METRICS, True, (*_SETS, "beta")),
    "table8": Layout("Table 8: strength β, fine-tuning", "beta", ("kl", *_METRICS), False, (*_SETS, "n")),
}


@dataclass(frozen=True)
class Choices:
    """What the user chose: names in row order (others are refused), and the variants of the metrics."""

    datasets: Sequence[str]
    rewards: Sequence[str]
    losses: Sequence[str]
    pair: str = "human"
    bleu: str = "word"

    @property
    def variants(self) -> dict[str, str]:
        """Of each metric that has variants, the one that goes by its name."""
        return {"margin_pair": self.pair, "bleu": self.bleu}


@dataclass(frozen=True)
class Row:
    """A method in a block of the table: its evaluations (one a seed) and its estimates by column name."""

    key: tuple[object, str]
    evaluations: list[Evaluation]
    estimates: dict[str, Estimate]

    @property
    def seeds(self) -> str:
        return " ".join(str(evaluation.run.seed) for evaluation in self.evaluations if evaluation.run)


def build(layout: Layout, evaluations: Iterable[Evaluation], choices: Choices) -> list[Row]:
    """Rows of `layout` in the paper's order: its first column, then the SFT policy, then by reward and by loss.

    Raises InputError, naming the evaluation's file, when an evaluation does not belong in the table: a data set,
    reward or loss that is not among the choices; transfer in a fine-tuning table or the reverse; a run that differs
    from the others in what the table does not vary; a seed twice; other prompts or another BLEU signature than the
    other evaluations on the test set.
    """
    groups: dict[tuple, list[Evaluation]] = {}
    first: dict[str, Evaluation] = {}
    for evaluation in evaluations:
        _check_choices(layout, evaluation, choices)
        _check_comparable(evaluation, first.setdefault(evaluation.test_set, evaluation), choices.bleu)
        groups.setdefault((_attribute(evaluation, layout.varies), evaluation.row), []).append(evaluation)
    runs = [evaluation for group in groups.values() for evaluation in group if evaluation.run]
    for name in layout.common:
        _check_same(runs, name, "the table")
    for group in groups.values():
        group.sort(key=lambda evaluation: evaluation.run.seed if evaluation.run else -1)
        _check_same([evaluation for evaluation in group if evaluation.run], "trained_on", "the row")
        for a, b in pairwise(group):
            if a.run is None or a.run.seed == b.run.seed:
                raise InputError(_file(b), f"the same row and seed as {_file(a)}")
    quantities = {key: per_prompt(group, choices) for key, group in groups.items()}
    rows = []
    for key in sorted(groups, key=lambda key: _position(layout, key, groups[key][0], choices)):
        estimates = {name: estimate(values) for name, values in quantities[key].items()}
        run = groups[key][0].run
        base = (key[0], f"{run.parameterization}-bt") if run and run.loss != "bt" else None
        if base in groups:
            pairs = (groups[key], groups[base]), (groups[base], groups[key])
            own, other = (per_prompt(on_shared_seeds(*pair), choices) for pair in pairs)
            for name in layout.metrics:
                estimates[DIFFERENCE.format(name)] = paired_difference(own[name], other[name])
        rows.append(Row(key, groups[key], estimates))
    return rows


def to_csv(layout: Layout, rows: Sequence[Row], choices: Choices) -> str:
    """CSV: the paper's columns, `<metric>_lo` and `_hi` of each, `prompts`, then all else that was measured.

    After `prompts`: further measures with their intervals, both pairs' margins with the prompts they rest on, the
    differences to BT, and what was run. A cell is empty where there is no value.
    """
    extras = [name for name, _ in measures(choices.variants) if name not in layout.metrics]
    extras += [DIFFERENCE.format(name) for name in layout.metrics]
    header = [*layout.keys, *layout.metrics, *(f"{name}_{end}" for name in layout.metrics for end in ("lo", "hi"))]
    header += ["prompts", *(f"{name}{end}" for name in extras for end in ("", "_lo", "_hi"))]
    header += [*(f"prompts_{pair}" for pair in PAIRS), "seeds", "trained_on", "tested_on"]
    header += [f"run_{name}" for name in ("n", "beta")] + ["margin_pair", "bleu_variant"]
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        evaluation = row.evaluations[0]
        record = dict(zip(layout.keys, (plain(part) for part in row.key), strict=True))
        record |= {"prompts": len(evaluation.prompt_ids), "seeds": row.seeds, "tested_on": evaluation.test_set}
        record |= {"margin_pair": choices.pair, "bleu_variant": choices.bleu}
        record |= {f"prompts_{pair}": row.estimates[f"rm_dpo_{pair}"].prompts for pair in PAIRS}
        if evaluation.run:
            record |= {"trained_on": evaluation.run.dataset, "run_n": evaluation.run.n}
            record["run_beta"] = plain(evaluation.run.beta)
        for name in (*layout.metrics, *extras):
            if name in row.estimates:
                mean, lo, hi, *_ = row.estimates[name]
                record |= {name: plain(mean), f"{name}_lo": plain(lo), f"{name}_hi": plain(hi)}
        writer.writerow(record)
    return text.getvalue()


def per_prompt(group: list[Evaluation], choices: Choices) -> dict[str, np.ndarray]:
    """Everything a row reports: (seeds, prompts), the seeds in the order of the evaluations."""

    def stacked(values) -> np.ndarray:
        return np.stack([values(evaluation) for evaluation in group])

    return {name: stacked(of) for name, of in measures(choices.variants)}


def on_shared_seeds(group: list[Evaluation], other: list[Evaluation]) -> list[Evaluation]:
    """The evaluations of `group` whose training seed `other` has too, so that differences are paired by seed."""
    seeds = {evaluation.run.seed for evaluation in other}
    return [evaluation for evaluation in group if evaluation.run.seed in seeds]


def _position(layout: Layout, key: tuple, evaluation: Evaluation, choices: Choices) -> tuple:
    block = choices.datasets.index(key[0]) if layout.varies == "evaluated_on" else key[0]
    if evaluation.run is None:
        return block, -1, -1
    return block, choices.rewards.index(evaluation.run.parameterization), choices.losses.index(evaluation.run.loss)


def _attribute(evaluation: Evaluation, name: str) -> object:
    if name == "evaluated_on":
        return evaluation.test_set
    return getattr(evaluation.run, "dataset" if name == "trained_on" else name)


def _check_choices(layout: Layout, evaluation: Evaluation, choices: Choices) -> None:
    run, where = evaluation.run, _file(evaluation)
    named = [("test_set", evaluation.test_set, choices.datasets)]
    if run:
        named += [
            ("dataset", run.dataset, choices.datasets),
            ("parameterization", run.parameterization, choices.rewards),
        ]
        named += [("loss", run.loss, choices.losses)]
    elif layout.varies != "evaluated_on" or layout.transfer:
        raise InputError(where, f"the SFT policy has no place in {layout.title}")
    for name, value, allowed in named:
        if value not in allowed:
            raise InputError(where, f"{name} is {value!r}, not one of {', '.join(allowed)}")
    if evaluation.transfer != layout.transfer:
        kind = "transfer" if evaluation.transfer else "fine-tuning"
        raise InputError(where, f"{run.method} on {evaluation.test_set} is {kind}, which is not for {layout.title}")


def _check_comparable(evaluation: Evaluation, first: Evaluation, bleu: str) -> None:
    if evaluation.prompt_ids != first.prompt_ids:
        raise InputError(_file(evaluation), f"has other prompts than {_file(first)}")
    if bleu not in evaluation.bleu_signature:
        raise InputError(_file(evaluation), f"bleu_signature has no {bleu!r}")
    if evaluation.bleu_signature != first.bleu_signature:
        raise InputError(_file(evaluation), f"has another bleu_signature than {_file(first)}")


def _check_same(evaluations: Sequence[Evaluation], name: str, what: str) -> None:
    for evaluation in evaluations[1:]:
        ours, others = _attribute(evaluation, name), _attribute(evaluations[0], name)
        if ours != others:
            raise InputError(_file(evaluation), f"{name} is {ours}, but {others} elsewhere in {what}")


def _file(evaluation: Evaluation) -> object:
    return evaluation.folder / "evaluation.json"


def plain(value: object) -> str:
    """Text of a CSV cell: numbers in six significant digits, empty for NaN."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)
