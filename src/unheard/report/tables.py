"""A report's tables as CSV, Markdown and LaTeX, and the report itself as Markdown."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence

from unheard.report.content import Cell, Facts, Figure, Report, Table, Text

_LATEX = {c: rf"\{c}" for c in "_%&#${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # after the end of a row it would be its distance to the next, and * the end of a page forbidden
    "*": "{*}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "Δ": r"$\Delta$",
    "λ": r"$\lambda$",
    "ε": r"$\varepsilon$",
    "→": r"$\rightarrow$",
    "×": r"$\times$",
    "…": r"\ldots{}",
}


def csv_of(table: Table) -> str:
    """The table's figures in full precision, a header first; a column with several values becomes several."""
    heads: list[list[str]] = [[] for _ in table.columns]
    for row in table.rows:
        for place, cell in enumerate(row):
            heads[place] += [suffix for suffix in cell.data if suffix not in heads[place]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = [(column.key, suffix) for column, own in zip(table.columns, heads, strict=True) for suffix in own or [""]]
    writer.writerow([f"{key}_{suffix}" if suffix else key for key, suffix in keys])
    for row in table.rows:
        values = [
            _value(cell.data.get(suffix, "")) for cell, own in zip(row, heads, strict=True) for suffix in own or [""]
        ]
        writer.writerow(values)
    return text.getvalue()


def _value(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.10g}" if math.isfinite(value) else ""
    return value


def latex_words(words: str) -> str:
    """`words` for LaTeX, where a dozen characters mean something else."""
    return "".join(_LATEX.get(character, character) for character in " ".join(words.split()))


def latex_of(table: Table) -> str:
    """The table for LaTeX with booktabs."""
    align = "".join("r" if column.numeric else "l" for column in table.columns)
    heads = " & ".join(latex_words(column.head) for column in table.columns)
    rows = [" & ".join(map(_latex_cell, row)) + r" \\" for row in table.rows]
    return _latex_table(table.caption, align, heads, rows, table.notes)


def latex_like_paper(table: Table) -> str:
    """The first three columns in the layout of the paper's Tables 2 and 3: `53.9\\% ($\\pm$1.0\\%)`, best in bold."""
    rows = []
    for row in table.rows:
        cells = []
        for cell in row[1:3]:
            mean, std = (cell.data.get(name) for name in ("mean", "std"))
            if not (isinstance(mean, float) and math.isfinite(mean)):
                cells.append(latex_words(cell.text))
                continue
            known = isinstance(std, float) and math.isfinite(std)
            value = rf"{100 * mean:.1f}\%"
            value = rf"\textbf{{{value}}}" if cell.best else value
            cells.append(value + (rf" ($\pm${100 * float(std):.1f}\%)" if known else ""))  # type: ignore[arg-type]
        rows.append(f"{latex_words(row[0].text)} & {' & '.join(cells)} " + r"\\")
    return _latex_table(table.caption, "lcc", " & Val & Test", rows, ())


def _latex_cell(cell: Cell) -> str:
    words = latex_words(cell.text)
    return rf"\textbf{{{words}}}" if cell.best else words


def _latex_table(caption: str, align: str, heads: str, rows: Sequence[str], notes: Sequence[str]) -> str:
    lines = [
        r"% needs \usepackage{booktabs}; names beyond Latin letters need XeLaTeX or LuaLaTeX",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_words(caption)}}}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        rf"{heads} \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize {latex_words(note)}" for note in notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def markdown_words(words: str) -> str:
    """`words` on one line of Markdown, with nothing in them that Markdown or HTML would take for a command."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(words.split()))


def markdown_of(report: Report) -> str:
    """The whole report in Markdown; figures are the files beside it."""
    lines = [f"# {markdown_words(report.title)}", "", markdown_words(report.subtitle), ""]
    for section in report.sections:
        lines += [f"## {markdown_words(section.title)}", ""]
        for block in section.blocks:
            if isinstance(block, Table):
                lines += _markdown_table(block)
            elif isinstance(block, Figure):
                caption = markdown_words(block.caption)
                lines += [f"![{markdown_words(block.name)}](figures/{block.name}.svg)", "", f"*{caption}*", ""]
            elif isinstance(block, Facts):
                lines += [
                    f"- {markdown_words(term)}: {_markdown_fact(term, said, block)}" for term, said in block.items
                ]
                lines += [""]
            elif isinstance(block, Text):
                lines += [("**Note.** " if block.warning else "") + markdown_words(block.text), ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_fact(term: str, said: str, facts: Facts) -> str:
    if term in facts.code and "`" not in said:
        return f"`{' '.join(said.split())}`"
    return markdown_words(said)


def _markdown_table(table: Table) -> list[str]:
    rule = "|" + "".join("---:|" if column.numeric else "---|" for column in table.columns)
    lines = [f"**{markdown_words(table.caption)}**", ""]
    lines += ["| " + " | ".join(markdown_words(column.head) for column in table.columns) + " |", rule]
    for row in table.rows:
        words = [f"**{markdown_words(cell.text)}**" if cell.best else markdown_words(cell.text) for cell in row]
        lines.append("| " + " | ".join(words) + " |")
    return [*lines, "", *(line for note in table.notes for line in (markdown_words(note), ""))]
