"""Tables of evaluations: means over prompts with intervals, in the paper's columns and row order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from hps.evidence.metrics import METRICS, VARIANTS, measures
from hps.evidence.results import Evaluation, csv_text, plain
from hps.evidence.statistics import NOTHING, Estimate, estimate, paired_difference
from hps.evidence.tables import TableSpec
from hps.method.losses import Loss
from hps.method.parameterizations import Parameterization
from hps.support.errors import InputError

ORDER = [[member.value for member in kind] for kind in (Parameterization, Loss)]
DIFFERENCE = "{}_minus_bt"
"""A metric minus that of the BT policy of the same block and parameterization, paired by seed and prompt."""


@dataclass(frozen=True)
class Choices:
    """What the user chose: the variants of the metrics, the value of a varied key where runs have no other."""

    pair: str = "human"
    bleu: str = "word"
    configured: Any = None

    @property
    def variants(self) -> dict[str, str]:
        """Of each metric that has variants, the one that goes by its name."""
        return {"margin_pair": self.pair, "bleu": self.bleu}


@dataclass(frozen=True)
class TableRow:
    """A method in a block of the table: its evaluations (one a seed) and its estimates by column name."""

    key: tuple[object, str]
    evaluations: list[Evaluation]
    estimates: dict[str, Estimate]

    @property
    def seeds(self) -> str:
        return " ".join(str(evaluation.seed) for evaluation in self.evaluations)


def build(spec: TableSpec, evaluations: Iterable[Evaluation], choices: Choices) -> list[TableRow]:
    """Rows of the table: blocks by number or as they come, in them the SFT policy, methods in the paper's order, and
    policies that others trained.

    Raises InputError, naming the evaluation's file, when an evaluation does not belong in the table: an unknown method;
    transfer in a fine-tuning table or the reverse; a run that differs from the others in what the table does not vary;
    a seed twice; other prompts or another BLEU signature than the other evaluations on the test set.
    """
    evaluations = list(evaluations)
    routes = {(evaluation.run.dataset, evaluation.test_set) for evaluation in evaluations if evaluation.run}
    several = spec.transfer and len(routes) > len({test_set for _, test_set in routes})
    groups: dict[tuple, list[Evaluation]] = {}
    first: dict[str, Evaluation] = {}
    for evaluation in evaluations:
        _check_place(spec, evaluation)
        _check_comparable(evaluation, first.setdefault(evaluation.test_set, evaluation), choices.bleu)
        block, row = _key(spec, evaluation, choices)
        if several:  # of three data sets, each is evaluated on from two others
            block = f"{block} (trained on {evaluation.run.dataset})"
        groups.setdefault((block, row), []).append(evaluation)
    runs = [evaluation for group in groups.values() for evaluation in group if evaluation.run]
    for name in spec.common:
        _check_same(spec, runs, name, "the table")
    for group in groups.values():
        group.sort(key=lambda evaluation: evaluation.seed)
        _check_same(spec, [evaluation for evaluation in group if evaluation.run], "trained_on", "the row")
        for a, b in pairwise(group):
            if a.seed == b.seed:
                raise InputError(_file(b), f"the same row and seed as {_file(a)}")
    quantities = {key: per_prompt(group, choices) for key, group in groups.items()}
    blocks = list(dict.fromkeys(block for block, _ in groups))
    if all(isinstance(block, int | float) for block in blocks):
        blocks.sort()
    rows = []
    for key in sorted(groups, key=lambda key: (blocks.index(key[0]), *_place(groups[key][0]))):
        estimates = {name: estimate(values) for name, values in quantities[key].items()}
        run = groups[key][0].run
        base = (key[0], f"{run.parameterization}-bt") if run and run.loss != "bt" else None
        if base in groups:
            differences = paired(groups[key], groups[base], spec.metrics, choices)
            estimates |= {DIFFERENCE.format(name): found for name, found in differences.items()}
        rows.append(TableRow(key, groups[key], estimates))
    return rows


def to_csv(spec: TableSpec, rows: Sequence[TableRow], choices: Choices) -> str:
    """CSV: the paper's columns, `<metric>_lo` and `_hi` of each, `prompts`, then all else that was measured.

    After `prompts`: every other metric and variant with its interval, the prompts that are sampled and those that
    either pair's margins rest on, the differences to BT, and what was run. A cell is empty where there is no value.
    """
    extras = [name for name, _ in measures(choices.variants) if name not in spec.metrics]
    extras += [DIFFERENCE.format(name) for name in spec.metrics]
    pairs = VARIANTS["margin_pair"]
    header = [*spec.keys, *spec.metrics, *(f"{name}_{end}" for name in spec.metrics for end in ("lo", "hi"))]
    header += ["prompts", *(f"{name}{end}" for name in extras for end in ("", "_lo", "_hi"))]
    header += ["prompts_sampled", *(f"prompts_{pair}" for pair in pairs)]
    header += ["seeds", "responses", "trained_on", "tested_on", "run_n", "run_beta", "run_settings"]
    header += ["margin_pair", "bleu_variant"]
    records = []
    for row in rows:
        evaluation = row.evaluations[0]
        record = dict(zip(spec.keys, (plain(part) for part in row.key), strict=True))
        record |= {"prompts": len(evaluation.prompt_ids), "seeds": row.seeds, "tested_on": evaluation.test_set}
        record |= {"margin_pair": choices.pair, "bleu_variant": choices.bleu}
        record["prompts_sampled"] = row.estimates["reward"].prompts
        record |= {f"prompts_{pair}": row.estimates[f"rm_dpo_{pair}"].prompts for pair in pairs}
        if evaluation.run:
            record |= {"trained_on": evaluation.run.dataset, "responses": evaluation.responses}
            record |= {"run_n": evaluation.run.n, "run_beta": plain(evaluation.run.beta)}
            record["run_settings"] = json.dumps(evaluation.run.record()["settings"])
        for name in (*spec.metrics, *extras):
            if name in row.estimates:
                record |= dict(
                    zip((name, f"{name}_lo", f"{name}_hi"), map(plain, row.estimates[name][:3]), strict=True)
                )
        records.append(record)
    return csv_text(header, records)


def per_prompt(group: list[Evaluation], choices: Choices) -> dict[str, np.ndarray]:
    """Everything a row reports: (seeds, prompts), the seeds in the order of the evaluations."""
    return {name: np.stack([values(evaluation) for evaluation in group]) for name, values in measures(choices.variants)}


def paired(
    first: list[Evaluation], second: list[Evaluation], metrics: Iterable[str], choices: Choices
) -> dict[str, Estimate]:
    """`first` minus `second` in each metric, on the training seeds that both have; without any, there is no value."""
    seeds = {one.run.seed for one in first} & {one.run.seed for one in second}
    if not seeds:
        return dict.fromkeys(metrics, NOTHING)
    a, b = (per_prompt([one for one in row if one.run.seed in seeds], choices) for row in (first, second))
    return {name: paired_difference(a[name], b[name]) for name in metrics}


def label(name: str, *, unit: bool = True) -> str:
    """A metric's name for readers, also that of a variant: `RM_DPO (nats), annotated pair`."""
    base, _, variant = (name, "", "") if name in METRICS else name.rpartition("_")
    metric = METRICS[base]
    text = metric.title if unit else metric.label
    return f"{text}, {variant}{' pair' * (metric.variant == 'margin_pair')}" if variant else text


def _key(spec: TableSpec, evaluation: Evaluation, choices: Choices) -> tuple[object, str]:
    """The block, and the row in it: the method, with what its run's settings have beyond the block."""
    if evaluation.run is None:
        return evaluation.test_set, evaluation.method
    others = tuple((key, value) for key, value in evaluation.run.settings if key != spec.varies)
    return _attribute(spec, evaluation, spec.varies, choices.configured), replace(evaluation.run, settings=others).row


def _place(evaluation: Evaluation) -> tuple:
    run = evaluation.run
    if evaluation.published:
        return (len(ORDER[0]), 0)
    return (-1, -1) if run is None else tuple(order.index(name) for order, name in _named(run))


def _named(run) -> list[tuple[list[str], str]]:
    return list(zip(ORDER, (run.parameterization, run.loss), strict=True))


def _attribute(spec: TableSpec, evaluation: Evaluation, name: str, configured: Any = None) -> object:
    run = evaluation.run
    if name == "evaluated_on":
        return evaluation.test_set
    if name == "trained_on":
        return run.dataset
    if name == "settings":
        return () if spec.parts else tuple(setting for setting in run.settings if setting[0] != spec.varies)
    if "." in name:
        value = dict(run.settings).get(name, configured)
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return getattr(run, name)


def _check_place(spec: TableSpec, evaluation: Evaluation) -> None:
    run, where = evaluation.run, _file(evaluation)
    if evaluation.published:
        if not spec.compares:
            raise InputError(where, f"a policy that others trained has no place in {spec.title}")
        return
    if run is None:
        if not spec.sft:
            raise InputError(where, f"the SFT policy has no place in {spec.title}")
        return
    for known, name in _named(run):
        if name not in known:
            raise InputError(where, f"unknown method {run.method}: {name!r} is not one of {', '.join(known)}")
    if evaluation.transfer != spec.transfer:
        kind = "transfer" if evaluation.transfer else "fine-tuning"
        raise InputError(where, f"{run.method} on {evaluation.test_set} is {kind}, which is not for {spec.title}")


def _check_comparable(evaluation: Evaluation, first: Evaluation, bleu: str) -> None:
    if evaluation.prompt_ids != first.prompt_ids:
        raise InputError(_file(evaluation), f"has other prompts than {_file(first)}")
    if bleu not in evaluation.bleu_signature:
        raise InputError(_file(evaluation), f"bleu_signature has no {bleu!r}")
    if evaluation.bleu_signature != first.bleu_signature:
        raise InputError(_file(evaluation), f"has another bleu_signature than {_file(first)}")


def _check_same(spec: TableSpec, evaluations: Sequence[Evaluation], name: str, what: str) -> None:
    for evaluation in evaluations[1:]:
        ours, others = _attribute(spec, evaluation, name), _attribute(spec, evaluations[0], name)
        if ours != others:
            raise InputError(_file(evaluation), f"{name} is {ours}, but {others} elsewhere in {what}")


def _file(evaluation: Evaluation) -> object:
    return evaluation.folder / "evaluation.json"
