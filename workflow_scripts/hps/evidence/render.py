"""Tables as Markdown and as small self-contained HTML pages, for `results/` and for the Snakemake report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby

NO_VALUE = "–"
TOY = (
    "These are results of a toy world (small models trained from scratch on synthetic text), not of the paper's models "
    "and data: only directions and orders can be compared with the paper, not values."
)

PAGE_STYLE = """
:root { color-scheme: light; }
body { margin: 0; padding: 1rem; background: #fff; color: #1a1a1a; font: 16px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0 0 .6rem; } h2 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
p { max-width: 48rem; margin: .4rem 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { body { padding: .6rem; font-size: 15px; } }
""".strip()

TABLE_STYLE = """
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; }
thead th { border-bottom: 2px solid #555; vertical-align: bottom; background: #fff; }
thead tr.groups > * { border-bottom: 0; padding-bottom: 0; }
thead th.group { text-align: center; }
tr.block > * { border-top: 2px solid #999; }
tbody th { font-weight: 600; position: sticky; left: 0; background: #fff; }
.number { text-align: right; white-space: nowrap; }
tr:has(+ .below) > * { border-bottom: 0; padding-bottom: .1rem; }
.below summary { cursor: pointer; width: fit-content; color: #0b5394; }
.below p { margin: .3rem 0; font-size: .9em; color: #444; }
.below svg { display: block; max-width: 100%; height: auto; }
.detail { display: block; font-size: .82em; font-weight: 400; color: #555; }
@media (max-width: 40rem) {
  th, td { padding: .25rem .45rem; }
  .cards thead { display: none; } .cards table, .cards tbody, .cards tr, .cards td, .cards th { display: block; }
  .cards tr { border-bottom: 2px solid #999; padding: .4rem 0; } .cards tr:has(+ .below) { border: 0; }
  .cards td, .cards th { border: 0; padding: .1rem 0; position: static; text-align: left; white-space: normal; }
  .cards td[data-name]:not(:empty)::before { content: attr(data-name) ": "; color: #555; }
}
""".strip()


@dataclass(frozen=True)
class Cell:
    """A cell's text, and what stands smaller with it (an interval)."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Column:
    """A column's name and, where several belong together, the name of their group."""

    name: str
    group: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Below:
    """What the HTML shows below a row once its summary is opened: a text and a figure (SVG, taken as it is)."""

    summary: str
    text: str
    svg: str


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns. `header`: the column that names a row; `block`: the one whose changes are ruled.

    With `cards`, for cells of prose, a narrow screen shows each row as lines below each other. `below`: what each row
    opens to, empty where no row does.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    header: int = 0
    block: int | None = None
    cards: bool = False
    below: Sequence[Below | None] = ()

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Groups of columns from left to right, each with how many it spans; none where no column is in one."""
        if not any(column.group for column in self.columns):
            return []
        found = groupby(self.columns, key=lambda column: column.group)
        return [(group, len(list(columns))) for group, columns in found]

    @property
    def ruled(self) -> list[bool]:
        """Of each row, whether it begins another block than the row above it."""
        blocks = [row[self.block].text if self.block is not None else "" for row in self.rows]
        return [number > 0 and blocks[number - 1] != block for number, block in enumerate(blocks)]


@dataclass(frozen=True)
class Page:
    """A title, notes, tables, and what explains their symbols."""

    title: str
    tables: Sequence[Table]
    notes: Sequence[str] = field(default_factory=tuple)
    legend: Sequence[str] = field(default_factory=tuple)


def world_note(world: str) -> list[str]:
    """The note that every page of a toy world's results begins with; none for the real world."""
    return [TOY] if world == "toy" else []


def number(value: float, decimals: int = 3) -> str:
    """`value` with fixed decimals, without a negative zero; a dash for NaN, and the sign for infinity."""
    if math.isnan(value):
        return NO_VALUE
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def interval(mean: float, lo: float, hi: float, decimals: int = 3) -> Cell:
    """`mean` with `[lo, hi]`, in as many decimals as the interval's width needs, at least `decimals`."""
    if math.isnan(lo):
        return Cell(number(mean, decimals))
    if 0 < hi - lo < math.inf:
        decimals = min(9, max(decimals, 1 - math.floor(math.log10(hi - lo))))
    return Cell(number(mean, decimals), f"[{number(lo, decimals)}, {number(hi, decimals)}]")


def markdown(page: Page) -> str:
    """`page` as GitHub-flavoured Markdown."""
    parts = [f"# {page.title}", *page.notes]
    for table in page.tables:
        if table.title:
            parts.append(f"## {table.title}")
        names = [_full_name(column) for column in table.columns]
        lines = [names, ["---:" if column.numeric else "---" for column in table.columns]]
        lines += [[f"{cell.text} {cell.detail}".strip() for cell in row] for row in table.rows]
        parts.append("\n".join(f"| {' | '.join(_in_markdown(text) for text in line)} |" for line in lines))
    return "\n\n".join([*parts, *page.legend]) + "\n"


def html(page: Page) -> str:
    """`page` as one HTML file that needs no other."""
    body = [f"<h1>{escape(page.title)}</h1>", *_content(page)]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(page.title)}</title>\n<style>\n{PAGE_STYLE}\n{TABLE_STYLE}\n</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def fragment(page: Page) -> str:
    """The notes, tables and legend of `page` as HTML to stand in another page, with the style of its tables."""
    return "\n".join([f"<style>\n{TABLE_STYLE}\n</style>", *_content(page)]) + "\n"


def _content(page: Page) -> list[str]:
    parts = [f"<p>{escape(note)}</p>" for note in page.notes]
    for table in page.tables:
        if table.title:
            parts.append(f"<h2>{escape(table.title)}</h2>")
        how = "scroll cards" if table.cards else "scroll"
        parts.append(f'<div class="{how}" tabindex="0"><table>\n{_head(table)}\n{_body(table)}\n</table></div>')
    return [*parts, *(f"<p>{escape(line)}</p>" for line in page.legend)]


def _in_markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _head(table: Table) -> str:
    """The names, below a row of group names when there are groups."""
    names = "".join(f'<th scope="col"{_numeric(column)}>{escape(column.name)}</th>' for column in table.columns)
    if not table.groups:
        return f"<thead><tr>{names}</tr></thead>"
    groups = "".join(
        f'<th class="group" scope="colgroup" colspan="{span}">{escape(group)}</th>'
        if group
        else f'<td colspan="{span}"></td>'
        for group, span in table.groups
    )
    return f'<thead><tr class="groups">{groups}</tr><tr>{names}</tr></thead>'


def _body(table: Table) -> str:
    lines, below = [], dict(enumerate(table.below))
    for number, (row, ruled) in enumerate(zip(table.rows, table.ruled, strict=True)):
        cells = []
        for position, (cell, column) in enumerate(zip(row, table.columns, strict=True)):
            tag = 'th scope="row"' if position == table.header else "td"
            detail = f'<span class="detail">{escape(cell.detail)}</span>' if cell.detail else ""
            name = f' data-name="{escape(_full_name(column))}"' if table.cards and tag == "td" and column.name else ""
            cells.append(f"<{tag}{name}{_numeric(column)}>{escape(cell.text)}{detail}</{tag[:2]}>")
        block = ' class="block"' if ruled else ""
        lines.append(f"<tr{block}>{''.join(cells)}</tr>")
        if opened := below.get(number):
            lines.append(
                f'<tr class="below"><td colspan="{len(cells)}"><details><summary>{escape(opened.summary)}</summary>'
                f"<p>{escape(opened.text)}</p>{opened.svg}</details></td></tr>"
            )
    return "<tbody>\n" + "\n".join(lines) + "\n</tbody>"


def _full_name(column: Column) -> str:
    return f"{column.group}, {column.name}" if column.group else column.name


def _numeric(column: Column) -> str:
    return ' class="number"' if column.numeric else ""
