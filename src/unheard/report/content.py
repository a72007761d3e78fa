"""What a report is made of: sections of words, tables and figures, before they are HTML, Markdown or LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from unheard.analysis.intervals import Interval

NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """A table of text with its caption; `name` names its file, `notes` stand under it, `bold` are (row, column)."""

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
        return tuple(place > 0 and all(map(number.fullmatch, column)) for place, column in enumerate(columns))


@dataclass(frozen=True, eq=False)
class Figure:
    """A drawing with its caption; `name` names its files, `alt` describes it in words."""

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
class Facts:
    """Terms with their descriptions; those in `code` are set as they would be typed."""

    items: tuple[tuple[str, str], ...]
    code: tuple[str, ...] = ()
    kind: str = "facts"


Block = Table | Figure | Text | Facts


@dataclass(frozen=True, eq=False)
class Section:
    """A heading and what stands under it; `anchor` is its address within the page."""

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


def known(value: float | None) -> float:
    """Return `value`, NaN for None."""
    return math.nan if value is None else float(value)


def percent(value: float | None, *, sign: bool = False) -> str:
    """Format a share in percent, without the sign %: 0.538 is "53.8"; `NOTHING` for no number."""
    value = known(value)
    if not math.isfinite(value):
        return NOTHING
    text = f"{100 * value:{'+' if sign else ''}.1f}"
    return text.replace("-", "−") if text.strip("+-0.") else text.lstrip("+-")  # no difference has no sign


def spread(mean: float | None, std: float | None, *, sign: bool = False) -> str:
    """Format mean ± standard deviation of shares in percent; the mean alone where there is no deviation."""
    if not math.isfinite(known(std)):
        return percent(mean, sign=sign)
    return f"{percent(mean, sign=sign)} ± {percent(std)}"


def interval(found: Interval | None, *, sign: bool = False) -> str:
    """Format a confidence interval of shares in percent; `NOTHING` for None."""
    return NOTHING if found is None else f"{percent(found.low, sign=sign)} to {percent(found.high, sign=sign)}"


def probability(p: float) -> str:
    """Format a p value with three decimals, four below 0.01."""
    return f"{p:.4f}" if p < 0.01 else f"{p:.3f}"


def listed(words: Sequence[str]) -> str:
    """Join words: `a, b and c`."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
