"""The elements of a report, sections of text, tables and figures, and their output as HTML, Markdown and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unheard.errors import needs
from unheard.files import markdown_table
from unheard.report.plots import svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from unheard.analysis.intervals import Interval

NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """A table of text with its caption; `name` names its file, `notes` follow it, `bold` are (row, column)."""

    name: str
    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    bold: frozenset[tuple[int, int]] = frozenset()
    kind: str = "table"

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Whether each column holds numbers, which are aligned to the right."""
        number = re.compile(rf"({NOTHING}|[+−<]?\s?[\d.,]+.*)?")
        columns = zip(*self.rows, strict=True) if self.rows else [() for _ in self.heads]
        return tuple(i > 0 and all(map(number.fullmatch, column)) for i, column in enumerate(columns))


@dataclass(frozen=True, eq=False)
class Figure:
    """A drawing with its caption; `name` names its files, `alt` is its text alternative."""

    name: str
    caption: str
    alt: str
    drawing: Drawing
    kind: str = "figure"


@dataclass(frozen=True)
class Text:
    """A paragraph; `warning` makes it stand out."""

    text: str
    warning: bool = False
    kind: str = "text"


@dataclass(frozen=True)
class DefinitionList:
    """Terms with their descriptions; descriptions of terms in `code` are set as code."""

    items: tuple[tuple[str, str], ...]
    code: tuple[str, ...] = ()
    kind: str = "facts"


Block = Table | Figure | Text | DefinitionList


@dataclass(frozen=True, eq=False)
class Section:
    """A heading and the blocks below it; `anchor` is its address within the page."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, eq=False)
class Report:
    """A whole report; `headline` is its main finding in a sentence."""

    title: str
    subtitle: str
    headline: str
    sections: tuple[Section, ...]

    def blocks(self) -> Iterator[Block]:
        """Yield every block, in order."""
        for section in self.sections:
            yield from section.blocks


def or_nan(value: float | None) -> float:
    """Return `value`, NaN for None."""
    return math.nan if value is None else float(value)


def percent(value: float | None, *, sign: bool = False) -> str:
    """Format a share in percent, without the sign %: 0.538 is "53.8"; `NOTHING` for None and NaN."""
    value = or_nan(value)
    if not math.isfinite(value):
        return NOTHING
    text = f"{100 * value:{'+' if sign else ''}.1f}"
    return text.replace("-", "−") if text.strip("+-0.") else text.lstrip("+-")  # zero has no sign


def spread(mean: float | None, std: float | None, *, sign: bool = False) -> str:
    """Format mean ± standard deviation of shares in percent; only the mean without a deviation."""
    if not math.isfinite(or_nan(std)):
        return percent(mean, sign=sign)
    return f"{percent(mean, sign=sign)} ± {percent(std)}"


def limits(x: Interval | None, *, sign: bool = False) -> str:
    """Format a confidence interval of shares in percent; `NOTHING` for None."""
    return NOTHING if x is None else f"{percent(x.low, sign=sign)} to {percent(x.high, sign=sign)}"


def probability(p: float) -> str:
    """Format a p value with three decimals, or four if below 0.01."""
    return f"{p:.4f}" if p < 0.01 else f"{p:.3f}"


def listed(words: Sequence[str]) -> str:
    """Join words: `a, b and c`."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


_LATEX = {c: rf"\{c}" for c in "_%&#${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # after \\, LaTeX would read [ as a distance between rows and * as forbidding a page break
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


def html_of(report: Report) -> str:
    """Render the self-contained HTML page; raises `MissingExtra` without Jinja2."""
    with needs("jinja2", "train"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    environment = Environment(
        loader=PackageLoader("unheard.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = environment.loader.get_source(environment, "style.css")[0]  # type: ignore[union-attr]

    def draw(figure: Figure) -> Markup:
        return Markup(svg(figure.drawing, figure.alt))  # matplotlib escapes the text in it

    page: str = environment.get_template("report.html").render(report=report, style=Markup(style), draw=draw)
    return page


def latex_text(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def latex_of(table: Table) -> str:
    """Write the table for LaTeX with booktabs."""
    align = "".join("r" if numeric else "l" for numeric in table.numeric)
    lines = [
        r"% needs \usepackage{booktabs}; names beyond Latin letters need XeLaTeX or LuaLaTeX",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(table.caption)}}}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join(map(latex_text, table.heads)) + r" \\",
        r"\midrule",
        *(" & ".join(_bold(table, r, c, latex_text(cell), r"\textbf{{{}}}") for c, cell in enumerate(row)) + r" \\"
          for r, row in enumerate(table.rows)),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize {latex_text(note)}" for note in table.notes),
        r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _bold(table: Table, row: int, column: int, text: str, form: str) -> str:
    return form.format(text) if (row, column) in table.bold else text


def markdown_text(text: str) -> str:
    """Escape text for one line of Markdown, except underscores within a word, which have no meaning there."""
    return re.sub(r"([\\`*{}\[\]<>|#]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", " ".join(text.split()))


def markdown_of(report: Report) -> str:
    """Return the report in Markdown; figures refer to the files beside it."""
    lines = [f"# {markdown_text(report.title)}", "", markdown_text(report.subtitle), ""]
    lines += [f"**{markdown_text(report.headline)}**", ""]
    for section in report.sections:
        lines += [f"## {markdown_text(section.title)}", ""]
        for block in section.blocks:
            if isinstance(block, Table):
                lines += [markdown_of_table(block), ""]
            elif isinstance(block, Figure):
                lines += [f"![{markdown_text(block.alt)}](figures/{block.name}.svg)", ""]
                lines += [f"*{markdown_text(block.caption)}*", ""]
            elif isinstance(block, DefinitionList):
                for term, text in block.items:
                    code = term in block.code and "`" not in text
                    lines += [f"- {markdown_text(term)}: {f'`{text}`' if code else markdown_text(text)}"]
                lines += [""]
            elif isinstance(block, Text):
                lines += [("**Note.** " if block.warning else "") + markdown_text(block.text), ""]
    return "\n".join(lines).rstrip() + "\n"


def markdown_of_table(table: Table) -> str:
    """Write a table in Markdown, with caption and notes."""
    rows = [
        [_bold(table, r, c, markdown_text(cell), "**{}**") for c, cell in enumerate(row)]
        for r, row in enumerate(table.rows)
    ]
    heads = [markdown_text(head) for head in table.heads]
    lines = [f"**{markdown_text(table.caption)}**", "", markdown_table(heads, rows, table.numeric)]
    return "\n".join([*lines, *(line for note in table.notes for line in ("", markdown_text(note)))])
