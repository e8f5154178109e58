"""Our training step against TRL's DPOTrainer: pairs a second, after both have given the same losses."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import inputs, measure, ours
from benchmarks.measure import Summary
from benchmarks.rows import Row, Setting, lengths, seconds
from benchmarks.trl_baseline import Baseline
from hps.logprobs.scorer import SequenceScorer
from hps.planning.operations import Work, shared_work

TRL_TARGETS = {"defaults": 4.0, "precomputed": 2.5}


def against_trl(setting: Setting, dataset: str) -> list[Row]:
    """Pairs a second of our training step over those of TRL's DPOTrainer, in its two variants."""
    pairs, source = setting.pairs(dataset, setting.batch * (setting.repeats + 2))
    model = setting.policy()
    examples = ours.examples(ours.pair_groups(pairs), SequenceScorer(model, setting.batch_tokens))
    trainer = ours.trainer(model, "bt", examples, setting.batch, setting.batch_tokens)
    ordered = in_order(trainer, pairs)
    repeats = setting.repeats if dataset == "hh_rlhf" else max(1, setting.repeats - 1)  # the targets are on HH-RLHF
    with tempfile.TemporaryDirectory() as work:
        theirs = {
            variant: Baseline(setting.causal(), setting.tokenizer(), ordered, setting.batch, variant, Path(work))
            for variant in TRL_TARGETS
        }
        cases = {"ours": lambda repeat: trainer.step(repeat + 2) and None}  # warm-ups are the steps before
        cases |= {name: lambda repeat, own=own: own.train(repeat + 2, 1) for name, own in theirs.items()}
        timed = setting.interleaved(cases, repeats)
        # Float32 is slow, so each data set checks one variant; both compute the same loss.
        checked = "defaults" if dataset == "hh_rlhf" else "precomputed"
        losses = losses_agree(setting.in_float32(), dataset, checked, Path(work))
    shared, plain = Work(), 0.0
    for pair in pairs:
        shared += shared_work(len(pair.prompt), [len(pair.chosen), len(pair.rejected)])
        plain += 2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) - 2
    most = plain / shared.tokens
    rows = []
    for variant, target in TRL_TARGETS.items():
        hh = dataset == "hh_rlhf"
        rows.append(
            Row(
                f"trl_{variant}_{dataset}",
                f"pairs a second, ours / TRL DPOTrainer ({variant}), {dataset}",
                measure.ratios(timed[variant], timed["ours"]),
                target if hh else None,
                facts=setting.facts(
                    source,
                    batch=setting.batch,
                    **lengths(pairs),
                    # What sharing the prompt alone could save on these pairs, and nothing else.
                    tokens_plain_over_shared=most,
                    pairs_per_second={
                        name: setting.batch / Summary.of(timed[name]).median for name in ("ours", variant)
                    },
                    float32_losses={"trl_variant": checked} | losses,
                    **seconds({name: timed[name] for name in ("ours", variant)}),
                )
                | {"repeats": repeats},
            )
        )
    return rows


def in_order(trainer, pairs: Sequence[inputs.Pair]) -> list[inputs.Pair]:
    """The pairs in the order in which our trainer takes them."""
    return [pairs[item.number] for batch in trainer.batches for item in batch]


def losses_agree(setting: Setting, dataset: str, variant: str, work: Path, steps: int = 3) -> dict[str, Any]:
    """Losses of both over the same first steps, from the same adapters, at a rate that moves them.

    Raises ArithmeticError when they differ by more than 1e-4: a comparison of times would mean nothing.
    """
    size, rate = 2, 1e-3
    pairs, _ = setting.pairs(dataset, size * 10)
    pairs = sorted(pairs, key=lambda pair: pair.longest)[: size * steps]  # short ones: this is not timed
    model = setting.policy()
    examples = ours.examples(ours.pair_groups(pairs), SequenceScorer(model, setting.batch_tokens))
    trainer = ours.trainer(model, "bt", examples, size, setting.batch_tokens, rate)
    baseline = Baseline(setting.causal(), setting.tokenizer(), in_order(trainer, pairs), size, variant, work, rate)
    baseline.copy_adapters(model)
    baseline.train(0, steps)
    mine = [trainer.step(step)["loss"] for step in range(steps)]
    theirs = baseline.trainer.losses
    worst = max(abs(a - b) for a, b in zip(mine, theirs, strict=True))
    if worst > 1e-4:
        raise ArithmeticError(f"{dataset}, {variant}: losses {mine} of ours, {theirs} of TRL's")
    return {"ours": mine, "trl": theirs, "largest_difference": worst}
