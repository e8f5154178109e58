"""How often the 95 % intervals of tables and claims hold the truth, and how often families of claims err: simulated.

    python -m benchmarks.coverage

Differences between two methods are made up as effect + seed + prompt + rest, for each number of seeds and prompts and
each ratio of the variances of seeds and of the rest to that of prompts. With several seeds the truth is the effect;
with one it is what the trained policy has on all prompts, effect + seed. The error of a family is the share of families
of claims without any effect in which Holm's first step, which has the strictest level, finds one.
Writes docs/coverage/.
"""

import csv
import io
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hps.evidence.figures import style
from hps.evidence.render import Cell as TextCell
from hps.evidence.render import Column, Page, Table, markdown
from hps.evidence.statistics import half_width, two_way, width_of_test
from hps.support import cli, files

SEEDS = (1, 2, 3, 5, 10)
PROMPTS = (24, 200, 800)
RATIOS = (0.0, 0.1, 1.0)
CLAIMS, ALPHA = 30, 0.05
BAND = (93.0, 98.0)
LOOKS = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"))
OF_FAMILIES = ("normal", "skewed (exponential)")
CHUNK = 2**19  # values in memory at a time
DISTRIBUTIONS: dict[str, Callable] = {
    # Of what prompts and the rest add; mean 0, variance 1.
    "normal": lambda generator, size: generator.standard_normal(size),
    "heavy tails (t, 5 df)": lambda generator, size: generator.standard_t(5, size) * (3 / 5) ** 0.5,
    "skewed (exponential)": lambda generator, size: generator.standard_exponential(size) - 1,
}


@dataclass
class Arguments:
    out: str = cli.argument("folder of tables and figure", "docs/coverage")
    replicates: int = cli.argument("intervals of each cell", 4000)
    families: int = cli.argument(f"families of {CLAIMS} claims of each of their cells", 500)
    seed: int = cli.argument("of the simulation", 0)


@dataclass(frozen=True)
class Cell:
    """Sizes, and the variances of seeds and of the rest over that of prompts."""

    seeds: int
    prompts: int
    seed_ratio: float
    rest_ratio: float

    def draws(self, count: int, distribution: str, generator: np.random.Generator) -> Iterator[tuple]:
        """Seeds' parts (replicates, seeds) and values (replicates, seeds, prompts) of an effect of 0, in chunks."""
        draw = DISTRIBUTIONS[distribution]
        size = max(1, CHUNK // (self.seeds * self.prompts))
        for start in range(0, count, size):
            n = min(size, count - start)
            of_seeds = self.seed_ratio**0.5 * generator.standard_normal((n, self.seeds))
            values = of_seeds[:, :, None] + draw(generator, (n, 1, self.prompts))
            if self.rest_ratio:
                values = values + self.rest_ratio**0.5 * draw(generator, (n, self.seeds, self.prompts))
            yield of_seeds, values

    def coverage(self, count: int, distribution: str, generator: np.random.Generator) -> float:
        """Share of intervals that hold the truth."""
        held = 0
        for of_seeds, values in self.draws(count, distribution, generator):
            parts = two_way(values)
            truth = of_seeds[:, 0] if self.seeds == 1 else 0.0
            held += np.sum(np.abs(parts.mean - truth) <= half_width(parts, self.seeds, self.prompts))
        return held / count

    def family_error(self, families: int, distribution: str, generator: np.random.Generator) -> float:
        """Share of families of CLAIMS claims in which a claim is supported or contradicted at Holm's first step.

        There each of a claim's verdicts needs a p-value of ALPHA / 2 / CLAIMS. No difference would be right.
        """
        found = []
        for of_seeds, values in self.draws(families * CLAIMS, distribution, generator):
            parts = two_way(values)
            truth = of_seeds[:, 0] if self.seeds == 1 else 0.0
            found.append(
                np.abs(parts.mean - truth) >= width_of_test(parts, self.seeds, self.prompts, ALPHA / 2 / CLAIMS)
            )
        return float(np.concatenate(found).reshape(families, CLAIMS).any(axis=1).mean())


def cells() -> list[Cell]:
    """All of them; with one seed its part is in the truth, so that its ratio does not matter."""
    every = (Cell(*parts) for parts in product(SEEDS, PROMPTS, RATIOS, RATIOS))
    return [cell for cell in every if cell.seeds > 1 or cell.seed_ratio == 0]


def family_cells() -> list[Cell]:
    """Those in which families are made up: the smaller ones, where there is most to go wrong."""
    return [cell for cell in cells() if cell.seeds <= 5 and cell.prompts <= 200]


@dataclass(frozen=True)
class Row:
    """A share, in percent, of a cell."""

    distribution: str
    cell: Cell
    share: float
    count: int

    @property
    def standard_error(self) -> float:
        return (self.share * (100 - self.share) / self.count) ** 0.5


def measure(count: int, distributions: Iterable[str], of: Iterable[Cell], seed: int, what: Callable) -> list[Row]:
    """`what(cell, count, distribution, generator)` of each cell, in percent."""
    rows = []
    for distribution, cell in product(distributions, of):
        generator = np.random.default_rng([seed, len(rows)])
        rows.append(Row(distribution, cell, 100 * float(what(cell, count, distribution, generator)), count))
        logging.info("%s, %s: %.2f %%", distribution, cell, rows[-1].share)
    return rows


def to_csv(rows: Iterable[Row], name: str) -> str:
    """CSV, a row a cell; shares in percent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["distribution", *Cell.__dataclass_fields__, name, "standard_error"])
    for row in rows:
        numbers = f"{row.share:.2f}", f"{row.standard_error:.2f}"
        writer.writerow([row.distribution, *(f"{value:g}" for value in astuple(row.cell)), *numbers])
    return text.getvalue()


def extremes(rows: Iterable[Row], title: str) -> Table:
    """Smallest and largest share by distribution, seeds and prompts, over the ratios of variances."""
    groups: dict[tuple, list[float]] = {}
    for row in rows:
        groups.setdefault((row.distribution, row.cell.seeds, row.cell.prompts), []).append(row.share)
    sizes = dict.fromkeys(key[2] for key in groups)
    columns = [Column("Distribution"), Column("Seeds", numeric=True)]
    columns += [Column(f"{prompts} prompts", numeric=True) for prompts in sizes]
    body = []
    for distribution, seeds in dict.fromkeys(key[:2] for key in groups):
        shares = [groups[distribution, seeds, prompts] for prompts in sizes]
        texts = [distribution, str(seeds), *(f"{min(of):.1f} to {max(of):.1f}" for of in shares)]
        body.append([TextCell(text) for text in texts])
    return Table(columns, body, title)


def figure(intervals: Iterable[Row], families: Iterable[Row]) -> Figure:
    """Above, coverage of each cell against its seeds; below, the error of its family. A column a distribution."""
    with mpl.rc_context(style.SETTINGS):
        drawn = Figure(figsize=(10, 6), layout="constrained")
        axes = drawn.subplots(2, len(DISTRIBUTIONS), sharey="row", sharex=True)
        for line, rows in enumerate((intervals, families)):
            for row in rows:
                column = list(DISTRIBUTIONS).index(row.distribution)
                colour, marker = LOOKS[PROMPTS.index(row.cell.prompts)]
                shift = 0.22 * (PROMPTS.index(row.cell.prompts) - 1)
                x = SEEDS.index(row.cell.seeds) + shift
                axes[line, column].plot(x, row.share, marker, color=colour, markersize=5, fillstyle="none")
        for column, name in enumerate(DISTRIBUTIONS):
            axes[0, column].axhspan(*BAND, color="#e8e8e8", zorder=0)
            axes[0, column].set(title=f"{name}")
            axes[1, column].axhline(100 * ALPHA, color="#555555", linewidth=1)
            if name not in OF_FAMILIES:
                axes[1, column].text(0.5, 0.5, "not measured", transform=axes[1, column].transAxes, ha="center")
            axes[1, column].set(xticks=range(len(SEEDS)), xticklabels=map(str, SEEDS), xlabel="Training seeds")
        axes[0, 0].set_ylabel("Intervals that hold the truth (%)\nband: 93 to 98")
        axes[1, 0].set_ylabel(f"Families of {CLAIMS} claims\nwith a false verdict (%)\nline: {100 * ALPHA:g}")
        handles = [
            Line2D([], [], linestyle="", marker=marker, color=colour, fillstyle="none", label=f"{prompts} prompts")
            for prompts, (colour, marker) in zip(PROMPTS, LOOKS, strict=True)
        ]
        drawn.legend(handles=handles, loc="outside lower center", ncols=len(PROMPTS))
    return drawn


def main(arguments: Arguments) -> None:
    intervals = measure(arguments.replicates, DISTRIBUTIONS, cells(), arguments.seed, Cell.coverage)
    families = measure(arguments.families, OF_FAMILIES, family_cells(), arguments.seed + 1, Cell.family_error)
    out = Path(arguments.out)
    files.write_text(out / "intervals.csv", to_csv(intervals, "coverage"))
    files.write_text(out / "families.csv", to_csv(families, "error"))
    inside = sum(BAND[0] <= row.share <= BAND[1] for row in intervals)
    page = Page(
        "How often intervals and verdicts are right",
        [
            extremes(intervals, "Intervals that hold the truth (%)"),
            extremes(families, f"Families of {CLAIMS} claims with a false verdict (%)"),
        ],
        [
            f"`make coverage` makes this page: {arguments.replicates} intervals and {arguments.families} families in "
            f"each cell ([intervals.csv](intervals.csv), [families.csv](families.csv)). {inside} of {len(intervals)} "
            f"cells cover between {BAND[0]:g} and {BAND[1]:g} %.",
            "Differences between two methods are made up as effect + seed + prompt + rest. The variance of the seeds "
            "and that of the rest are 0, 0.1 or 1 times that of the prompts; each entry shows the lowest and the "
            "highest cell. With several seeds the truth is the effect; with one, it is what the trained policy has on "
            "all prompts, which is all that such an interval speaks of. A false verdict is a claim supported "
            "or contradicted at the first step of Holm's method at 5 %, where no claim has an effect (no difference "
            "would be right).",
            "![Coverage and family error by seeds](coverage.png)",
        ],
        [
            "What is left: with two or three seeds intervals are somewhat too wide where seeds matter little, since "
            "the seeds' variance is hardly known then; and where 24 prompts of a strongly skewed quantity (skewness 2) "
            "are all that varies, a family of claims that all rest on such numbers errs more often than 5 %.",
        ],
    )
    files.write_text(out / "README.md", markdown(page))
    figure(intervals, families).savefig(out / "coverage.png")


if __name__ == "__main__":
    cli.run(main, Arguments)
