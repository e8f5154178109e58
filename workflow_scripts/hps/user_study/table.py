"""Table 3: quality scores by human raters, ours beside the paper's."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

import numpy as np

from hps.evidence import render
from hps.evidence.paper import read_paper
from hps.evidence.render import TOY, Cell, Column, Page, Table
from hps.evidence.results import plain
from hps.evidence.statistics import CONFIDENCE, Estimate
from hps.user_study.design import CRITERIA, Key
from hps.user_study.ratings import Ratings
from hps.user_study.scores import RESAMPLES, Scores

TITLE = "Table 3: human study"
KEYS, METRICS = ("method",), ("quality_score",)
NOTHING = Estimate(math.nan, math.nan, math.nan, 0)
NO_RATINGS = (
    "No ratings have been returned: nothing has been measured. The pages for the raters are ready (docs/user_study.md)."
)
SIMULATED = (
    "These raters are SIMULATED: the toy world's true reward with noise. They show that the study can be evaluated "
    "from end to end, and say nothing about what people think."
)


def to_csv(key: Key, ratings: Ratings | None, scores: Scores | None) -> str:
    """CSV: the paper's columns, the interval, raters and prompts, then each criterion, test set, difference and alpha.

    Without ratings the rows have no values. `simulated` is yes, no, or empty.
    """
    test_sets = _test_sets(key)
    measured = [*CRITERIA, *(f"quality_{test_set}" for test_set in test_sets), "difference"]
    header = ["method", "quality_score", "quality_score_lo", "quality_score_hi", "raters", "prompts", "simulated"]
    header += [f"{name}{end}" for name in measured for end in ("", "_lo", "_hi")]
    header += [f"alpha_{name}" for name in ("quality", *CRITERIA)]
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    for method in key.methods:
        record: dict[str, object] = {"method": method, "raters": len(ratings.raters) if ratings else 0, "prompts": 0}
        if ratings and scores:
            found = scores.estimates[method]
            record |= {"simulated": "yes" if ratings.simulated else "no", "prompts": found["quality"].prompts}
            named = {"quality_score": found["quality"], "difference": found.get("difference", NOTHING)}
            named |= {criterion: found[criterion] for criterion in CRITERIA}
            named |= {f"quality_{test_set}": found[test_set] for test_set in test_sets}
            for name, (mean, lo, hi, *_) in named.items():
                record |= {name: plain(mean), f"{name}_lo": plain(lo), f"{name}_hi": plain(hi)}
            record |= {f"alpha_{name}": plain(value) for name, value in scores.alpha.items()}
        writer.writerow(record)
    return text.getvalue()


def to_page(key: Key, ratings: Ratings | None, scores: Scores | None, paper_path: str, world: str) -> Page:
    """Ours beside the paper's; without ratings, the paper's alone, and that there are none."""
    paper = read_paper(paper_path, KEYS, METRICS)
    last = key.methods[-1].upper()
    columns = [
        Column("Method"),
        Column("ours", "Quality (1 to 5)", numeric=True),
        Column("paper", "Quality (1 to 5)", numeric=True),
    ]
    columns += [Column(name.capitalize(), "Ours, by criterion", numeric=True) for name in CRITERIA]
    columns += [Column(name, "Ours, by test set", numeric=True) for name in _test_sets(key)]
    columns.append(Column(f"{last} minus it", numeric=True))
    body = []
    for method in key.methods:
        found = scores.estimates[method] if scores else {}
        theirs = paper.get((method,), {"quality_score": math.nan})["quality_score"]
        cells = [Cell(method.upper()), _cell(found.get("quality")), Cell(render.number(theirs, 2))]
        cells += [_cell(found.get(name)) for name in (*CRITERIA, *_test_sets(key), "difference")]
        body.append(cells)
    notes = [TOY] if world == "toy" else []
    if ratings is None or scores is None:
        return Page(TITLE, [Table(columns, body)], [*notes, NO_RATINGS, "–: no value."])
    expected = ratings.values.size
    rated = int(np.count_nonzero(~np.isnan(ratings.values)))
    notes += [SIMULATED] if ratings.simulated else []
    notes += [
        f"{len(ratings.raters)} raters, {len(ratings.prompts)} prompts, {len(key.methods)} methods, {len(CRITERIA)} "
        f"criteria from 1.00 to 5.00 (App. D.2): {rated} of {expected} ratings given. Quality is the mean over the "
        f"criteria, of responses rated on all of them. In brackets: {CONFIDENCE:.0%} percentile bootstrap interval "
        f"over raters and prompts, both resampled, {RESAMPLES} times.",
        "The wording of the page is ours, and so is the assumption that the criteria are those of the judge "
        "(App. D.3). –: no value.",
    ]
    alphas = [Cell(render.number(scores.alpha[name], 2)) for name in ("quality", *CRITERIA)]
    agreement = Table(
        [Column("Quality", numeric=True), *(Column(name.capitalize(), numeric=True) for name in CRITERIA)],
        [alphas],
        "Agreement between raters: Krippendorff's alpha, interval scale",
        header=-1,
    )
    legend = ["Alpha is 1 where raters agree fully and 0 where they agree as much as by chance."]
    return Page(TITLE, [Table(columns, body), agreement], notes, legend)


def _test_sets(key: Key) -> Sequence[str]:
    return sorted({item["test_set"] for items in key.raters.values() for item in items.values()})


def _cell(estimate: Estimate | None) -> Cell:
    return Cell(render.NO_VALUE) if estimate is None else render.interval(*estimate[:3], 2)
