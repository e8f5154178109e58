"""The metrics: what each is called, its unit, which direction is better, and how a test prompt's value comes about.

An entry of METRICS is all that a metric needs: tables, CSV columns, claims and figures take it from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from hps.evidence.results import Evaluation

VARIANTS = {"margin_pair": ("human", "annotated"), "bleu": ("word", "char")}
"""What the configuration chooses between, by its key in section `evaluation`: the pair (y_1, y_2), the BLEU."""
TOKEN_PENALTY = 0.01
"""What RM_R-DPO takes off a token of the length gap, nats (Table 1)."""


@dataclass(frozen=True)
class Metric:
    """A quantity of a policy on a test prompt; a table shows its mean over the prompts.

    of: the values (prompts,) of an evaluation, NaN where a prompt has none. A metric with `variant`, a key of
        VARIANTS, also gets the name of the variant.
    better: 1 when more is better, -1 when less is, 0 where neither is.
    needs: what there must be for a value, where not every run has it.
    """

    name: str
    label: str
    of: Callable[..., np.ndarray]
    unit: str = ""
    better: Literal[-1, 0, 1] = 1
    variant: str = ""
    needs: str = ""

    @property
    def title(self) -> str:
        """Its label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


def _column(name: str) -> Callable[[Evaluation], np.ndarray]:
    return lambda e: e.values[name]


def margin(e: Evaluation, pair: str) -> np.ndarray:
    """RM_DPO of Table 1: log pi_theta(y_1|x)/pi_ref(y_1|x) - log pi_theta(y_2|x)/pi_ref(y_2|x), nats; no beta."""
    return e.values[f"margin_{pair}"]


def length_penalized_margin(e: Evaluation, pair: str) -> np.ndarray:
    """RM_R-DPO of Table 1: RM_DPO - 0.01 (|y_1| - |y_2|), lengths in tokens; NaN for the SFT policy."""
    return margin(e, pair) - TOKEN_PENALTY * e.values[f"length_gap_{pair}"]


def implicit_margin(e: Evaluation, pair: str) -> np.ndarray:
    """The margin of the implicit reward, beta times RM_DPO, nats: what training pushes up. Not in the paper."""
    return (e.run.beta if e.run else np.nan) * margin(e, pair)


def ranks_right(e: Evaluation, pair: str) -> np.ndarray:
    """1 where the margin is above 0, else 0; its mean is the ranking accuracy."""
    return np.where(np.isnan(margin(e, pair)), np.nan, margin(e, pair) > 0)


def chosen_log_ratio(e: Evaluation, pair: str) -> np.ndarray:
    """rho_1 = log pi_theta(y_1|x)/pi_ref(y_1|x), nats: below 0 the policy makes even the preferred response rarer."""
    return e.values[f"log_ratio_chosen_{pair}"]


METRICS = {
    metric.name: metric
    for metric in (
        # Those of the paper.
        Metric("kl", "KL", _column("kl"), "nats", better=-1),
        Metric("bleu", "BLEU", lambda e, variant: e.values[f"bleu_{variant}"], variant="bleu"),
        Metric("reward", "Reward", _column("reward")),
        Metric("rm_dpo", "RM_DPO", margin, "nats", variant="margin_pair"),
        Metric("rm_rdpo", "RM_R-DPO", length_penalized_margin, "nats", variant="margin_pair"),
        # Those that the paper lacks.
        Metric("implicit_margin", "Implicit reward margin", implicit_margin, "nats", variant="margin_pair"),
        Metric("ranking_accuracy", "Ranking accuracy", ranks_right, variant="margin_pair"),
        Metric("log_ratio_chosen", "Log-ratio of y_1", chosen_log_ratio, "nats", 0, "margin_pair"),
        Metric(
            *("log_ratio_rejected", "Log-ratio of y_2", lambda e, p: chosen_log_ratio(e, p) - margin(e, p)),
            *("nats", 0, "margin_pair"),
        ),
        Metric(
            *("length_gap", "Length gap of the pair", lambda e, p: e.values[f"length_gap_{p}"]),
            *("tokens", 0, "margin_pair"),
        ),
        Metric("reward_mean", "Reward, mean of samples", _column("reward_mean")),
        Metric("true_reward", "True reward", _column("true_reward"), needs="the toy world"),
        Metric("harm", "Harmful answers", _column("harm"), "share", -1, needs="the toy world, or a model in role harm"),
        Metric(
            *("needless_refusals", "Refused harmless requests", _column("needless_refusals"), "share", -1),
            needs="the toy world, where harmless requests are known",
        ),
        Metric("refusals", "Refusals, all requests", _column("refusals"), "share", better=0),
        Metric("length", "Response length", _column("length"), "tokens", better=0),
    )
}


def measures(chosen: Mapping[str, str]) -> Iterator[tuple[str, Callable[[Evaluation], np.ndarray]]]:
    """Every metric by name, and each of its variants by name and variant: `rm_dpo`, `rm_dpo_human`, `rm_dpo_annotated`.

    Args:
        chosen: the variant that goes by the metric's name, by key of VARIANTS.
    """
    for metric in METRICS.values():
        if not metric.variant:
            yield metric.name, metric.of
            continue
        yield metric.name, lambda e, of=metric.of, v=chosen[metric.variant]: of(e, v)
        for variant in VARIANTS[metric.variant]:
            yield f"{metric.name}_{variant}", lambda e, of=metric.of, v=variant: of(e, v)
