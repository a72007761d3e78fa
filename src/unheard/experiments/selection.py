"""Selection of λ and ε by each fold's validation speakers, as a pure function over records.

Every tuned system gets the same budget: four values, trained on seed 0. Each direction of a fold takes the value with
the best accuracy on its validation speakers, the smaller one on a tie, for all seeds. Test results are never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unheard.errors import ConfigError

if TYPE_CHECKING:
    from unheard.experiments.config import Experiment
    from unheard.experiments.plan import Cell


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

    @property
    def place(self) -> tuple[str, int, str, str]:
        """Where the choice is made: system, fold, direction and evaluation."""
        return self.system, self.fold, self.direction, self.evaluation


def choose(candidates: Iterable[Choice]) -> tuple[Choice, ...]:
    """Return the candidates on the grid, by system, fold, direction and value, with the best ones chosen.

    Nothing is chosen for a direction while a value of the grid is missing: its budget would be smaller.
    """
    groups: dict[tuple[str, int, str, str], dict[float, Choice]] = {}
    for one in candidates:
        if one.value in KNOBS[one.system].grid:
            groups.setdefault(one.place, {})[one.value] = one
    rows = []
    for (system, *_), tried in groups.items():
        whole = set(tried) == set(KNOBS[system].grid)
        best = max(tried, key=lambda value: (tried[value].val_wa, -value)) if whole else None
        rows += [replace(one, chosen=value == best) for value, one in sorted(tried.items())]
    order = list(KNOBS)
    # stable: directions in the split's order
    return tuple(sorted(rows, key=lambda c: (order.index(c.system), c.evaluation, c.fold)))


# The trainings that a choice needs: every value on seed 0, then the chosen ones on the other seeds.


def check_tuning(settings: Experiment) -> None:
    """Raise `ConfigError` where `tune` is set without a system to tune, or with ε in another unit."""
    if not settings.tune:
        return
    if not set(settings.systems) & set(KNOBS):
        what = f"there is nothing to choose for {', '.join(settings.systems)}"
        raise ConfigError(what, mend=f"Add {' or '.join(KNOBS)} to --systems, or leave --tune out.")
    mode = settings.options.get("cgt", {}).get("eps_mode", "rms")
    if "cgt" in settings.systems and mode != "rms":
        raise ConfigError(
            f"ε is chosen among RMS values, not with eps_mode = {mode}", mend="Leave out --option cgt.eps_mode."
        )


def candidates(cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells on seed 0 of every fold for each value of the grid that is not among `cells`."""
    own = {cell.name for cell in cells}
    tuned = [cell for cell in cells if cell.seed == 0 and cell.system in KNOBS]
    others = [_at(cell, value) for cell in tuned for value in KNOBS[cell.system].grid]
    return [other for other in others if other.name not in own]


def frozen(cells: Sequence[Cell], choices: Sequence[Choice]) -> list[Cell]:
    """Return the cells on the seeds after 0 with the values chosen for their fold that are not among `cells`."""
    own = {cell.name for cell in cells}
    others = [
        _at(cell, choice.value)
        for cell in cells
        for choice in choices
        if cell.seed > 0 and choice.chosen and (choice.system, choice.fold) == (cell.system, cell.fold.index)
    ]
    return list({other.name: other for other in others if other.name not in own}.values())


def waiting(cells: Iterable[Cell], choices: Iterable[Choice]) -> int:
    """Count the directions of the folds of `cells` for which no value is chosen because a result is missing."""
    asked = {(cell.system, cell.fold.index) for cell in cells}
    tried = [choice for choice in choices if (choice.system, choice.fold) in asked]
    return len({choice.place for choice in tried} - {choice.place for choice in tried if choice.chosen})


def _at(cell: Cell, value: float) -> Cell:
    options = {**cell.options, KNOBS[cell.system].option: value}
    settings = replace(cell.settings, options={**cell.settings.options, cell.system: options})
    return replace(cell, settings=settings)
