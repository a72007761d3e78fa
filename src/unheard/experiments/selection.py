"""Selection of λ and ε by each fold's validation speakers, as a pure function over records.

Every tuned system gets the same budget: four values, trained on seed 0. Each direction of a fold takes the value with
the best accuracy on its validation speakers, the smaller one on a tie, for all seeds. Test results are never read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


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
class Choice:
    """The result of a value on the validation speakers of one direction of a fold, seed 0, and whether it is chosen."""

    system: str
    fold: int
    direction: str
    value: float
    val_wa: float
    val_uar: float
    evaluation: str = ""
    chosen: bool = False


def choose(candidates: Iterable[Choice]) -> tuple[Choice, ...]:
    """Return the candidates on the grid, by system, fold, direction and value, with the best ones chosen.

    Nothing is chosen for a direction while a value of the grid is missing: its budget would be smaller.
    """
    groups: dict[tuple[str, int, str, str], dict[float, Choice]] = {}
    for one in candidates:
        if one.value in KNOBS[one.system].grid:
            groups.setdefault((one.system, one.fold, one.direction, one.evaluation), {})[one.value] = one
    rows = []
    for (system, *_), tried in groups.items():
        whole = set(tried) == set(KNOBS[system].grid)
        best = max(tried, key=lambda value: (tried[value].val_wa, -value)) if whole else None
        rows += [replace(one, chosen=value == best) for value, one in sorted(tried.items())]
    order = list(KNOBS)
    # stable: directions in the split's order
    return tuple(sorted(rows, key=lambda c: (order.index(c.system), c.evaluation, c.fold)))
