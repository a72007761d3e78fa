"""Selection of λ and ε by each fold's validation speakers, as a pure function over records.

Every tuned system gets the same budget: four values, trained on seed 0. Each direction of a fold takes the value with
the best accuracy on its validation speakers, the smaller one on a tie, for all seeds. Test results are never read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Knob:
    """The option of a system that is tuned: its name, its symbol, its fixed value, and the values tried."""

    option: str
    symbol: str
    fixed: float
    grid: tuple[float, ...]


KNOBS = {
    "dat": Knob("lam", "λ", 0.1, (0.03, 0.1, 0.3, 1.0)),
    "cgt": Knob("epsilon", "ε", 0.3, (0.03, 0.1, 0.3, 1.0)),
}
"""System -> its tuned option; ε is in input standard deviations (RMS)."""

SEEN = "of what the network sees"
"""The unit of an RMS ε: standard deviations of the normalised features."""

ADDED = {"dat": {"loss": "reversal"}}
"""System -> options that older results do not name, and what they stood at."""


@dataclass(frozen=True)
class Figure:
    """The result of one value on the validation speakers of one direction of a fold, seed 0."""

    system: str
    fold: int
    reading: str
    value: float
    val_wa: float
    val_uar: float


@dataclass(frozen=True)
class Choice:
    """A candidate, and whether it is chosen for its fold and direction."""

    system: str
    knob: str
    fold: int
    reading: str
    value: float
    val_wa: float
    val_uar: float
    chosen: bool


def choose(figures: Iterable[Figure]) -> tuple[Choice, ...]:
    """Return a row for every candidate, by system, fold, direction and value.

    Nothing is chosen for a direction while a value of the grid is missing: its budget would be smaller.
    """
    groups: dict[tuple[str, int, str], dict[float, Figure]] = {}
    for figure in figures:
        if figure.value in KNOBS[figure.system].grid:
            groups.setdefault((figure.system, figure.fold, figure.reading), {})[figure.value] = figure
    rows = []
    for (system, fold, reading), tried in groups.items():
        knob = KNOBS[system]
        whole = set(tried) == set(knob.grid)
        best = max(tried, key=lambda value: (tried[value].val_wa, -value)) if whole else None
        rows += [
            Choice(system, knob.option, fold, reading, value, tried[value].val_wa, tried[value].val_uar, value == best)
            for value in sorted(tried)
        ]
    order = list(KNOBS)
    return tuple(sorted(rows, key=lambda c: (order.index(c.system), c.fold)))  # stable: directions in the split's order


def choices_csv(choices: Iterable[Choice]) -> str:
    """Return the text of `choices.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["system", "knob", "fold", "reading", "value", "val_wa", "val_uar", "chosen"])
    for c in choices:
        figures = (f"{c.val_wa:.6f}", f"{c.val_uar:.6f}")
        writer.writerow([c.system, c.knob, c.fold, c.reading, f"{c.value:g}", *figures, str(c.chosen).lower()])
    return text.getvalue()
