"""An experiment from its settings to its table."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unheard.errors import ConfigError, UnheardError
from unheard.experiments import tuning
from unheard.experiments.cells import Cell
from unheard.experiments.estimate import Estimate, estimate
from unheard.experiments.folder import epochs_of, read_history, result_in
from unheard.experiments.grid import Grid, lay_out
from unheard.experiments.launch import Event, run_cells
from unheard.experiments.prepare import check_same_run, prepare
from unheard.experiments.records import RunRecords, read_run
from unheard.experiments.results import write_tables
from unheard.experiments.settings import Experiment, load
from unheard.lock import locked


@dataclass(frozen=True)
class Run:
    """What an experiment came to; `failed` gives the reason for every cell without a result.

    `records` are all that the folder holds, of earlier calls too; `models` are the files of this call's trained
    models, in the order of the cells.
    """

    folder: Path
    records: RunRecords
    table: str
    failed: Mapping[str, str]
    models: tuple[Path, ...] = ()


def experiment(config: str | Path | None = None, *, say: Callable[[str], None] | None = None, **settings: Any) -> Run:
    """Train and compare systems; `config` is a YAML file, `settings` override it (see `Experiment`).

    Only what is missing in the folder `out` is done; without `out` a temporary folder is used. Cells that fail are
    reported in the `Run` and do not stop the rest. Raises `UnheardError` for settings, corpora or splits that
    cannot work, before anything is trained.

    >>> run = unheard.experiment(corpus="emodb", root="data/emodb", systems=["ser", "dat"])  # doctest: +SKIP
    """
    if not settings.get("out") and config is None:
        settings["out"] = tempfile.mkdtemp(prefix="unheard-")
    return carry_out(load(config, settings), say or (lambda _: None))


def carry_out(settings: Experiment, say: Callable[[str], None]) -> Run:
    """Run the experiment `settings` describe; `say` receives a line for people now and then."""
    out = _folder(settings)
    with locked(out, "running an experiment here"):
        grid = _begin(settings, say)
        prepare(grid)
        tried = tuning.candidates(grid.cells) if settings.tune else []
        _tell_taken([*grid.cells, *tried], settings, say)
        say(str(_estimate(grid)))
        failed = _train([*grid.cells, *tried], settings, say)
        chosen = _chosen(grid, say) if settings.tune else []
        failed |= _train(chosen, settings, say)
        records = read_run(grid.settings.out)
        for note in records.absent:
            say(note)
        table = write_tables(records, grid.split.total_folds)
        if settings.invariance:
            failed |= _invariance(grid, say)
    _tell(grid.cells, say)
    models = [
        path
        for cell in (*grid.cells, *tried, *chosen)
        if cell.result() is not None
        for path in sorted(cell.readout_folder().glob("model*.safetensors"), reverse=True)  # the first reading's first
    ]
    return Run(out, records, table, failed, tuple(models))


def foretell(settings: Experiment, say: Callable[[str], None]) -> Estimate:
    """How much an experiment is, and how long it takes here; its features are made, and nothing is trained."""
    with locked(_folder(settings), "running an experiment here"):
        return _estimate(_begin(settings, say), always=True)


def _folder(settings: Experiment) -> Path:
    out = Path(settings.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot be made ({error.strerror})", where=out, mend="Choose another --out.") from error
    return out


def _begin(settings: Experiment, say: Callable[[str], None]) -> Grid:
    """The grid of an experiment that may be run in its folder."""
    check_same_run(Path(settings.out), settings)
    tuning.check(settings)
    if settings.weights_from and not (Path(settings.weights_from) / "cells").is_dir():
        raise ConfigError(
            "no trainings are here", where=settings.weights_from, mend="Correct --weights-from, or leave it out."
        )
    return lay_out(settings, say)


def _tell_taken(cells: Iterable[Cell], settings: Experiment, say: Callable[[str], None]) -> None:
    """How many trainings take their weights from another run."""
    missing = [cell for cell in cells if cell.result() is None]
    if not settings.weights_from or not missing:
        return
    taken = sum(cell.trained_elsewhere() is not None for cell in missing)
    why = (
        " (a training there needs the same settings, as many epochs and its checkpoint)" if taken < len(missing) else ""
    )
    say(f"Of {len(missing)} trainings {taken} are taken from {settings.weights_from}{why}")


def _estimate(grid: Grid, *, always: bool = False) -> Estimate:
    cells, more = list(grid.cells), {}
    out = Path(grid.settings.out)
    if grid.settings.tune:
        cells += tuning.candidates(grid.cells)
        before = _told(out)
        choices = before.choices if before else ()
        if choices and not tuning.waiting(grid.cells, choices):
            cells += tuning.frozen(grid.cells, choices)
        else:
            more["up to {} more with the chosen λ and ε"] = tuning.at_most(grid.cells)
    if grid.settings.invariance:
        from unheard.experiments.invariance import sub_run_settings

        sub = sub_run_settings(grid.settings, grid.manifest)
        there = _told(out / "invariance")
        same = there and sub and all(getattr(there.settings, name) == getattr(sub, name) for name in _DECIDING)
        done = {(cell.system, cell.seed) for cell in there.cells} if there and same else set()
        like = [cell for cell in grid.cells if cell.fold is grid.split.folds[0]] if sub and not sub.weights_from else []
        more["{} for invariance"] = [cell for cell in like if (cell.system, cell.seed) not in done]
    return estimate(cells, grid.settings, more=more, always=always)


APART = 0.4
"""A difference between the accuracies of training and of validation that strangers' voices alone seldom make."""

_DECIDING = ("epochs", "labels", "network", "training", "normalise")
"""Settings without which the trainings of an earlier call are none of this one's."""


def _told(out: Path) -> RunRecords | None:
    """The records of a folder as far as there are any that can be read: an estimate stops nothing."""
    try:
        return read_run(out)
    except UnheardError:
        return None


def _chosen(grid: Grid, say: Callable[[str], None]) -> list[Cell]:
    """The trainings of the other seeds with the λ and ε that the validation speakers chose on seed 0."""
    choices = read_run(grid.settings.out).choices
    waiting = tuning.waiting(grid.cells, choices)
    if waiting:
        say(f"nothing is chosen for {waiting} readings: trainings of other values have failed there")
    chosen = tuning.frozen(grid.cells, choices)
    _tell_taken(chosen, grid.settings, say)
    missing = sum(cell.result() is None for cell in chosen)
    if chosen or not waiting:
        say(f"λ and ε are chosen; with the chosen values {missing} more trainings on the other seeds")
    return chosen


def _invariance(grid: Grid, say: Callable[[str], None]) -> dict[str, str]:
    """Train the same systems where invariance can be measured, unless the run's own first fold serves."""
    from unheard.experiments.invariance import sub_run_settings

    settings = sub_run_settings(grid.settings, grid.manifest)
    if settings is None:
        say("Invariance can be measured on the run's own first fold: no further trainings")
        return {}
    say(f"Trainings for measuring invariance, in {settings.out}")
    run = carry_out(replace(settings, tune=False), say)
    return {f"invariance/{name}": reason for name, reason in run.failed.items()}


def _tell(cells: Sequence[Cell], say: Callable[[str], None]) -> None:
    """Which trainings should go on, and which readouts came too late."""
    late = [cell for cell in cells if (cell.result() or {}).get("under_trained")]
    if late:
        say(
            f"{len(late)} of {len(cells)} trainings had their best epoch among the last five: "
            "they are under-trained; more --epochs would "
            + ("go on where they stopped" if cells[0].recipe.extensible else "serve them")
        )
    apart = [gap for cell in cells if (gap := _apart(cell))]
    if apart:
        train, dev = (100 * statistics.fmean(column) for column in zip(*apart, strict=True))
        say(
            f"{len(apart)} of {len(cells)} trainings tell {train:.0f} % of their batches and {dev:.0f} % of the "
            "validation speakers: dropout before the pooled deviation may have left batch norm with statistics of "
            "another network; see what they say with --training.statistics anew --training.select last --weights-from "
            f"{cells[0].out} and another --out, which trains nothing again"
        )
    for epochs in sorted({n for cell in cells for n in cell.recipe.budgets[:-1]}):
        finished = [cell for cell in cells if epochs in cell.recipe.budgets and cell.result() is not None]
        without = [cell for cell in finished if epochs_of(result_in(cell.readout_folder(epochs))) != epochs]
        if without:
            say(
                f"{len(without)} of {len(cells)} trainings have no readout at {epochs} epochs: they had been trained "
                "past it before it was asked for. A fresh --out would have it"
            )


def _apart(cell: Cell) -> tuple[float, float] | None:
    """Accuracy in training and on validation in the last epoch, where they are too far apart."""
    if cell.fitted or not cell.network.dropout or cell.recipe.statistics != "running" or cell.result() is None:
        return None
    last: dict[str, Any] = next(reversed(read_history(cell.folder)), {})
    dev = [value for name, value in last.items() if name.startswith("val_wa")]
    train = last.get("train_wa")
    if train is None or not dev or train - statistics.fmean(dev) < APART:
        return None
    return train, statistics.fmean(dev)


def _train(cells: Sequence[Cell], settings: Experiment, say: Callable[[str], None]) -> dict[str, str]:
    """Train the cells that have no result yet; the reasons of those that failed."""
    missing = [cell for cell in cells if cell.result() is None]
    failed: dict[str, str] = {}
    if not missing:
        return failed
    epochs = settings.epochs
    console = Console(stderr=True)
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with Progress(*columns, console=console, disable=not (settings.progress and console.is_terminal)) as bar:
        task = bar.add_task("", total=len(missing) * epochs, now="")
        seen: dict[str, int] = {}
        for event in _engine(settings)(missing, settings.workers, settings.device):
            name = event.cell.name
            if event.kind == "failed":
                failed[name] = str(event.record["reason"])
                say(f"{name} failed: {failed[name]}")
            # a resumed cell begins later, a failed one ends early: both count as far as they are gone
            seen[name] = event.record["epoch"] if event.kind == "epoch" else epochs
            bar.update(task, completed=sum(seen.values()), now=name)
    return failed


def _engine(settings: Experiment) -> Callable[..., Iterator[Event]]:
    """What trains the cells: processes of this machine, or Ray."""
    if settings.engine == "local":
        return run_cells
    from unheard.experiments import ray_engine

    return partial(ray_engine.run_cells, address=settings.address, gpus=settings.gpus)
