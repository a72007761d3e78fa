"""What a report is made of, before it is HTML, Markdown, LaTeX or CSV: sections of words, tables and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from unheard.report.svg import Panel

NOTHING = "–"
LAYOUTS = {"two": 2, "three": 3, "square": 2, "pairs": 4}
"""How panels are laid out on a wide page: two or three side by side, two by two and smaller, two small pairs."""


@dataclass(frozen=True)
class Cell:
    """One place of a table: `text` for people, `data` for CSV (suffix of the column's key -> value).

    `best` is printed bold, as the best of its column.
    """

    text: str
    data: Mapping[str, object] = field(default_factory=dict)
    best: bool = False


@dataclass(frozen=True)
class Column:
    """A column: its head, its key in CSV, and whether it holds numbers (set to the right)."""

    head: str
    key: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table with its caption; `name` names its files; `notes` stand under it."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    kind: str = "table"


@dataclass(frozen=True)
class Key:
    """An entry of a figure's key: what a mark means."""

    text: str
    mark: Panel


@dataclass(frozen=True)
class Figure:
    """Panels under one caption; `name` names its file, `layout` says how many are side by side (`LAYOUTS`)."""

    name: str
    caption: str
    panels: tuple[Panel, ...]
    layout: str = "two"
    key: tuple[Key, ...] = ()
    kind: str = "figure"


@dataclass(frozen=True)
class Text:
    """A paragraph; `warning` makes it stand out."""

    text: str
    warning: bool = False
    kind: str = "text"


@dataclass(frozen=True)
class Facts:
    """Terms with their descriptions; `code` sets the descriptions as they would be typed."""

    items: tuple[tuple[str, str], ...]
    code: tuple[str, ...] = ()
    kind: str = "facts"


Block = Table | Figure | Text | Facts


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; `anchor` is its address within the page."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """A whole report."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]

    def tables(self) -> list[Table]:
        """Every table, in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Table)]

    def figures(self) -> list[Figure]:
        """Every figure, in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Figure)]


def plain(text: object, value: object = None) -> Cell:
    """A cell of words, or of a number shown as `text`."""
    return Cell(str(text), {"": text if value is None else value})


def known(value: float | None) -> float:
    """`value`, NaN for None."""
    return math.nan if value is None else float(value)


def percent(value: float | None, *, sign: bool = False, digits: int = 1) -> str:
    """A share in percent, without the sign %: 0.538 is "53.8"; NOTHING for no number."""
    value = known(value)
    if not math.isfinite(value):
        return NOTHING
    text = f"{100 * value:+.{digits}f}" if sign else f"{100 * value:.{digits}f}"
    zero = not text.strip("+-0.")  # no difference has no sign
    return text.lstrip("+-") if zero else text.replace("-", "−")


def tiled(n: int) -> str:
    """The layout for n panels of one kind."""
    return "square" if n in (2, 4) else "three"


def share(value: float | None, *, sign: bool = False, digits: int = 1) -> Cell:
    """A share, shown in percent."""
    return Cell(percent(value, sign=sign, digits=digits), {"": known(value)})


def spread(mean: float | None, std: float | None, *, sign: bool = False) -> Cell:
    """mean ± standard deviation, shares shown in percent."""
    data = {"mean": known(mean), "std": known(std)}
    if not math.isfinite(known(mean)):
        return Cell(NOTHING, data)
    return Cell(f"{percent(mean, sign=sign)} ± {percent(std)}", data)


def interval(low: float | None, high: float | None, *, sign: bool = False) -> Cell:
    """A confidence interval of shares, shown in percent."""
    data = {"low": known(low), "high": known(high)}
    if not all(map(math.isfinite, data.values())):
        return Cell(NOTHING, data)
    return Cell(f"{percent(low, sign=sign)} to {percent(high, sign=sign)}", data)


def probability(p: float | None) -> Cell:
    """A p value, with three decimals."""
    if not math.isfinite(known(p)):
        return Cell(NOTHING, {"": known(p)})
    return Cell("< 0.001" if known(p) < 0.0005 else f"{p:.3f}", {"": p})


def listed(words: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""


def counted(n: int, thing: str) -> str:
    """`1 fold`, `5 folds`."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"
