"""The trainings that a choice of λ and ε needs: every value on seed 0, then the chosen ones on the other seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from unheard.errors import ConfigError
from unheard.experiments.cells import Cell
from unheard.experiments.choice import KNOBS, Choice
from unheard.experiments.settings import Experiment


def check(settings: Experiment) -> None:
    """Raises `ConfigError` where `tune` is asked for and there is nothing to choose, or in another unit."""
    if not settings.tune:
        return
    if not set(settings.systems) & set(KNOBS):
        raise ConfigError(
            f"there is nothing to choose for {', '.join(settings.systems)}",
            mend=f"Only {' and '.join(KNOBS)} have a knob: add them to --systems, or leave --tune out.",
        )
    mode = settings.options.get("cgt", {}).get("eps_mode", "rms")
    if "cgt" in settings.systems and mode != "rms":
        raise ConfigError(
            f"ε is chosen among RMS values, not with eps_mode = {mode}", mend="Leave out --option cgt.eps_mode."
        )


def candidates(cells: Iterable[Cell]) -> list[Cell]:
    """On seed 0 of every fold, each value of the knob's grid that `cells` do not have themselves."""
    own = {cell.name for cell in cells}
    made = [
        other
        for cell in cells
        if cell.seed == 0 and cell.system in KNOBS
        for value in KNOBS[cell.system].grid
        if (other := _at(cell, value)).name not in own
    ]
    return made


def frozen(cells: Sequence[Cell], choices: Iterable[Choice]) -> list[Cell]:
    """On the seeds after 0, the values chosen for a fold's readings, as far as `cells` do not have them themselves."""
    chosen: dict[tuple[str, int], list[float]] = {}
    for choice in choices:
        if choice.chosen:
            chosen.setdefault((choice.system, choice.fold), []).append(choice.value)
    own = {cell.name for cell in cells}
    made = {
        other.name: other
        for cell in cells
        if cell.seed > 0
        for value in chosen.get((cell.system, cell.fold.index), ())
        if (other := _at(cell, value)).name not in own
    }
    return list(made.values())


def waiting(cells: Iterable[Cell], choices: Iterable[Choice]) -> int:
    """For how many readings of the folds of `cells` nothing is chosen, for want of a result."""
    asked = {(cell.system, cell.fold.index) for cell in cells}
    by_reading: dict[tuple[str, int, str], bool] = {}
    for choice in choices:
        if (choice.system, choice.fold) not in asked:
            continue
        key = (choice.system, choice.fold, choice.reading)
        by_reading[key] = by_reading.get(key, False) or choice.chosen
    return sum(not chosen for chosen in by_reading.values())


def at_most(cells: Iterable[Cell]) -> list[Cell]:
    """Cells that take as long as those a choice may at most add: one a reading on the seeds after 0."""
    return [cell for cell in cells if cell.seed > 0 and cell.system in KNOBS for _ in cell.fold.readings]


def _at(cell: Cell, value: float) -> Cell:
    return replace(cell, options={**cell.options, KNOBS[cell.system].option: value})
