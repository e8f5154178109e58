"""Tables as LaTeX with booktabs, to \\input into an article."""

from __future__ import annotations

import re

from hps.evidence.render import Page, Table

HEAD = "% Needs booktabs, graphicx (a wide table shrinks to the line) and amssymb.\n"
ESCAPES = {character: f"\\{character}" for character in "&%$#_{}"}
ESCAPES |= {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
# What stands for something else, or for nothing, in LaTeX's default font.
ESCAPES |= {"<": "$<$", ">": "$>$", "|": "$|$", "β": "$\\beta$", "γ": "$\\gamma$", "π": "$\\pi$", "∞": "$\\infty$"}
ESCAPES |= {"▼": "$\\blacktriangledown$", "▽": "$\\triangledown$", "−": "$-$"}
SHRINK = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%"


def latex(page: Page, caption: str, name: str) -> str:
    """The tables of `page`, the notes and the legend below the first.

    A table's caption is its own title and `caption`; the labels are `tab:<name>`, `tab:<name>-2` and so on.
    """
    floats = []
    for number, table in enumerate(page.tables, 1):
        title = f"{table.title}. " if table.title else ""
        below = [*page.notes, *page.legend] if number == 1 else []
        floats.append(
            [
                "\\begin{table}",
                "\\centering",
                f"\\caption{{{escaped(title + caption)}}}",
                f"\\label{{tab:{name}{'' if number == 1 else f'-{number}'}}}",
                SHRINK,
                *_tabular(table),
                "}",
                *(f"\\par\\smallskip\\raggedright\\footnotesize {escaped(text)}" for text in below),
                "\\end{table}",
            ]
        )
    return HEAD + "\n\n".join("\n".join(lines) for lines in floats) + "\n"


def escaped(text: str) -> str:
    """`text` for LaTeX, with a minus before a negative number where it has a hyphen."""
    return re.sub(r"(?<!\w)-(?=[\d∞])", "−", text).translate(str.maketrans(ESCAPES))


def _tabular(table: Table) -> list[str]:
    kinds = "".join("r" if column.numeric else "l" for column in table.columns)
    lines = [f"\\begin{{tabular}}{{{kinds}}}", "\\toprule"]
    if table.groups:
        cells, rules, first = [], [], 1
        for group, span in table.groups:
            cells.append(f"\\multicolumn{{{span}}}{{c}}{{{escaped(group)}}}")
            rules += [f"\\cmidrule(lr){{{first}-{first + span - 1}}}"] if group else []
            first += span
        lines += [_line(cells), "".join(rules)]
    lines += [_line([escaped(column.name) for column in table.columns]), "\\midrule"]
    for row, ruled in zip(table.rows, table.ruled, strict=True):
        lines += ["\\midrule"] if ruled else []
        lines.append(_line([escaped(f"{cell.text} {cell.detail}".strip()) for cell in row]))
    return [*lines, "\\bottomrule", "\\end{tabular}"]


def _line(cells: list[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
