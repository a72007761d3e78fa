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


@dataclass(frozen=True)
class Figure:
    """The result of one value on the validation speakers of one direction of a fold, seed 0."""

    system: str
    fold: int
    direction: str
    value: float
    val_wa: float
    val_uar: float
    evaluation: str = ""


@dataclass(frozen=True)
class Choice:
    """A candidate, and whether it is chosen for its fold, direction and evaluation."""

    system: str
    knob: str
    fold: int
    direction: str
    value: float
    val_wa: float
    val_uar: float
    chosen: bool
    evaluation: str = ""


def choose(figures: Iterable[Figure]) -> tuple[Choice, ...]:
    """Return a row for every candidate, by system, fold, direction and value.

    Nothing is chosen for a direction while a value of the grid is missing: its budget would be smaller.
    """
    groups: dict[tuple[str, int, str, str], dict[float, Figure]] = {}
    for figure in figures:
        if figure.value in KNOBS[figure.system].grid:
            key = (figure.system, figure.fold, figure.direction, figure.evaluation)
            groups.setdefault(key, {})[figure.value] = figure
    rows = []
    for (system, fold, direction, evaluation), tried in groups.items():
        knob = KNOBS[system]
        whole = set(tried) == set(knob.grid)
        best = max(tried, key=lambda value: (tried[value].val_wa, -value)) if whole else None
        rows += [
            Choice(system, knob.option, fold, direction, value, one.val_wa, one.val_uar, value == best, evaluation)
            for value, one in sorted(tried.items())
        ]
    order = list(KNOBS)
    # stable: directions in the split's order
    return tuple(sorted(rows, key=lambda c: (order.index(c.system), c.evaluation, c.fold)))


def choices_csv(choices: Iterable[Choice]) -> str:
    """Return the text of `choices.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["system", "evaluation", "knob", "fold", "direction", "value", "val_wa", "val_uar", "chosen"])
    for c in choices:
        figures = (f"{c.val_wa:.6f}", f"{c.val_uar:.6f}")
        key = (c.system, c.evaluation, c.knob, c.fold, c.direction, f"{c.value:g}")
        writer.writerow([*key, *figures, str(c.chosen).lower()])
    return text.getvalue()
