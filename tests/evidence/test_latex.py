"""Tables as LaTeX: the cells of the Markdown, escaped, and pages that LaTeX takes where it is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT
from synthetic_results import evaluation, run

from hps.evidence import render
from hps.evidence.latex import escaped, latex
from hps.evidence.render import Cell, Column, Page, Table
from hps.evidence.results import read_evaluation
from hps.evidence.table_page import to_page
from hps.evidence.table_rows import Choices, build
from hps.evidence.tables import TABLES

NEEDS = "\\usepackage{booktabs, graphicx, amssymb}"


def table2(folder: Path) -> Page:
    """Rows of two test sets, marks of both kinds, negative numbers, intervals, notes and a legend."""
    losses = {"bt": (1.0, 2.0, 3.0), "hps": (0.0, 1.0, 2.0), "pl": (-9.0, 1.0, 30.0)}
    folders = [
        evaluation(folder / dataset / loss, run(f"dpo-{loss}", dataset), [{"margin_human": v} for v in values], dataset)
        for dataset in ("hh_rlhf", "pku_saferlhf")
        for loss, values in losses.items()
    ]
    rows = build(TABLES["table2"], map(read_evaluation, folders), Choices())
    return to_page(TABLES["table2"], rows, Choices(), ROOT / "paper", "toy")


def test_a_table_by_hand():
    columns = [Column("Set"), Column("Method"), Column("ours", "M & M", True), Column("paper", "M & M", True)]
    rows = [[Cell(name), Cell("DPO"), Cell("▼ -1", "[-2, 0]"), Cell("–")] for name in ("a_1", "a_1", "b")]
    text = latex(Page("T", [Table(columns, rows, "Cells", block=0)], ["50% <toy>"], ["▼: below"]), "Of β.", "table9")
    row = "DPO & $\\blacktriangledown$ $-$1 [$-$2, 0] & – \\\\"
    assert text.splitlines()[1:] == [
        "\\begin{table}",
        "\\centering",
        "\\caption{Cells. Of $\\beta$.}",
        "\\label{tab:table9}",
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        "\\begin{tabular}{llrr}",
        "\\toprule",
        "\\multicolumn{2}{c}{} & \\multicolumn{2}{c}{M \\& M} \\\\",
        "\\cmidrule(lr){3-4}",
        "Set & Method & ours & paper \\\\",
        "\\midrule",
        f"a\\_1 & {row}",
        f"a\\_1 & {row}",
        "\\midrule",
        f"b & {row}",
        "\\bottomrule",
        "\\end{tabular}",
        "}",
        "\\par\\smallskip\\raggedright\\footnotesize 50\\% $<$toy$>$",
        "\\par\\smallskip\\raggedright\\footnotesize $\\blacktriangledown$: below",
        "\\end{table}",
    ]


def test_text_is_escaped():
    assert escaped("a\\b^c~d {e} #1 $2 x|y") == (
        "a\\textbackslash{}b\\textasciicircum{}c\\textasciitilde{}d \\{e\\} \\#1 \\$2 x$|$y"
    )
    assert escaped("DPO-HPS, n - 1, -0.5, -∞") == "DPO-HPS, n - 1, $-$0.5, $-$$\\infty$"


def test_it_has_the_cells_of_the_markdown(tmp_path):
    page = table2(tmp_path)
    text, markdown = latex(page, TABLES["table2"].caption, "table2"), render.markdown(page)
    rows = [line for line in markdown.splitlines() if line.startswith(("| hh_rlhf", "| pku_saferlhf"))]
    assert len(rows) == 3 * 6
    made = [
        line.removesuffix(" \\\\") for line in text.splitlines() if line.startswith(("hh\\_rlhf", "pku\\_saferlhf"))
    ]
    assert made == [escaped(row.strip("| ").replace(" | ", " & ")).replace("\\&", "&") for row in rows]
    assert [line for line in text.splitlines() if line.startswith("\\label")] == [
        "\\label{tab:table2}",
        "\\label{tab:table2-2}",
        "\\label{tab:table2-3}",
    ]


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_latex_takes_it(tmp_path):
    (tmp_path / "table2.tex").write_text(latex(table2(tmp_path), TABLES["table2"].caption, "table2"), encoding="utf-8")
    said = "".join(text for spec in TABLES.values() for text in (spec.title, spec.caption))
    body = "\\input{table2}" + escaped(said + "βγπ∞·▼▽±–~^\\{}$#|<>&_%")
    article = f"\\documentclass{{article}}\n{NEEDS}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (tmp_path / "article.tex").write_text(article, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "article"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "article.pdf").stat().st_size > 10_000
