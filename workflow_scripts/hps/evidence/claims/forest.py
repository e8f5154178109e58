"""The small figure that a claim's row opens to: each comparison's effect with its interval, by seed and pooled. SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from hps.evidence.claims.verdicts import Effect, Result
from hps.evidence.render import interval

WIDTH, LINE, SIDE, AXIS = 350, 38, 8, 24
"""Of a figure, of a comparison, of the margins and of the axis below, in pixels: a phone's screen is wide enough."""
INK, PALE, BAND = "#1a1a1a", "#777", "#e8eef4"
TICKS = 5


def figure(result: Result) -> str:
    """The SVG; empty without a comparison that has numbers."""
    effects = result.effects
    if not effects:
        return ""
    thresholds = [statement.threshold for statement in effects[0].statements]
    bound = result.claim.smallest or 0.0
    ends = [*thresholds, *(side * bound for side in (-1, 1) if bound)]
    ends += [value for effect in effects for value in (effect.mean, effect.lo, effect.hi, *effect.by_seed)]
    scale = _Scale(ends)
    bottom = LINE * len(effects) + 4
    parts = []
    if bound:
        x = scale(-bound)
        parts.append(f'<rect x="{x:.1f}" y="0" width="{scale(bound) - x:.1f}" height="{bottom}" fill="{BAND}"/>')
    parts += [_line(scale(at), 0, scale(at), bottom, PALE, 'stroke-dasharray="4 3"') for at in thresholds]
    for number, effect in enumerate(effects):
        parts += _comparison(effect, LINE * number, scale)
    parts.append(_line(SIDE, bottom, WIDTH - SIDE, bottom, PALE))
    for tick in scale.ticks():
        parts.append(_line(scale(tick), bottom, scale(tick), bottom + 4, PALE))
        parts.append(_text(scale(tick), bottom + 17, f"{tick:g}", "middle", PALE))
    says = "; ".join(_in_words(effect) for effect in effects)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom + AXIS}" '
        f'viewBox="0 0 {WIDTH} {bottom + AXIS}" role="img" aria-label="{escape(says)}" '
        f'font-family="system-ui, sans-serif" font-size="12">{"".join(parts)}</svg>'
    )


def caption(result: Result) -> str:
    """How to read the figure."""
    statements = result.effects[0].statements
    side = "between the dashed lines"
    if len(statements) == 1:
        side = f"to the {'right' if statements[0].sign > 0 else 'left'} of the dashed line"
    text = f"The claim holds {side}. Filled: the effect with its 95 % interval."
    if any(effect.by_seed for effect in result.effects):
        text += " Hollow: the effect under each training seed."
    return text + (" Shaded: smaller than the smallest effect of interest." if result.claim.smallest else "")


class _Scale:
    """Values to pixels, over all finite values with a little room."""

    def __init__(self, values: Iterable[float]):
        finite = [value for value in values if math.isfinite(value)]
        room = (max(finite) - min(finite) or abs(finite[0]) or 1.0) * 0.04
        self.low, self.high = min(finite) - room, max(finite) + room

    def __call__(self, value: float) -> float:
        """Its place; what lies outside is put at the edge."""
        share = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return SIDE + share * (WIDTH - 2 * SIDE)

    def ticks(self) -> list[float]:
        """At most TICKS round numbers."""
        rough = (self.high - self.low) / TICKS
        power = 10 ** math.floor(math.log10(rough))
        step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough)
        first = math.ceil(self.low / step)
        return [round(step * number, 12) for number in range(first, math.floor(self.high / step) + 1)]


def _comparison(effect: Effect, top: float, scale: _Scale) -> list[str]:
    """Its name and numbers, and below them the interval, the mean, and the mean of each seed."""
    y = top + 28
    shown = interval(effect.mean, effect.lo, effect.hi)
    name = _text(SIDE, top + 15, effect.comparison.label or "effect")
    numbers = _text(WIDTH - SIDE, top + 15, f"{shown.text} {shown.detail}".strip(), "end")
    seeds = [f'<circle cx="{scale(m):.1f}" cy="{y}" r="3" fill="none" stroke="{PALE}"/>' for m in effect.by_seed]
    mean = f'<circle cx="{scale(effect.mean):.1f}" cy="{y}" r="4" fill="{INK}"/>'
    bar = [] if math.isnan(effect.lo) else [_line(scale(effect.lo), y, scale(effect.hi), y, INK, 'stroke-width="2"')]
    return [name, numbers, *bar, mean, *seeds]


def _in_words(effect: Effect) -> str:
    shown = interval(effect.mean, effect.lo, effect.hi)
    by_seed = f", by seed {_list(effect.by_seed)}" if effect.by_seed else ""
    return f"{effect.comparison.label or 'effect'} {shown.text} {shown.detail}".strip() + by_seed


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1}" x2="{x2:.1f}" y2="{y2}" stroke="{colour}" {more}/>'


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = INK) -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
