"""An experiment from its settings to its table."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unheard.errors import ConfigError, RunError
from unheard.experiments import plan as tuning
from unheard.experiments.cell import Cell
from unheard.experiments.config import Experiment, load, same_place, written_in
from unheard.experiments.launch import Event, run_cells, usual_workers
from unheard.experiments.plan import Grid, lay_out
from unheard.experiments.records import (
    DATA,
    RunRecords,
    epochs_of,
    read_assignment,
    read_data,
    read_history,
    read_run,
    result_in,
    utterances_csv,
)
from unheard.experiments.tables import write_tables
from unheard.features.encoder import resolve
from unheard.files import locked, write_json, write_text, write_whole
from unheard.splits import Split, write_splits


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
        say(_counted(grid))
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


def foretell(settings: Experiment, say: Callable[[str], None]) -> str:
    """Return the number of trainings of an experiment in words; makes its features and trains nothing."""
    with locked(_folder(settings), "running an experiment here"):
        return _counted(_begin(settings, say))


def _folder(settings: Experiment) -> Path:
    out = Path(settings.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot be made ({error.strerror})", where=out, mend="Choose another --out.") from error
    return out


def _begin(settings: Experiment, say: Callable[[str], None]) -> Grid:
    """The grid of an experiment that may be run in its folder."""
    settings = replace(settings, features=resolve(settings.features))
    check_same_run(Path(settings.out), settings)
    tuning.check_tuning(settings)
    return lay_out(settings, say)


def _counted(grid: Grid) -> str:
    cells, more = list(grid.cells), {}
    if grid.settings.tune:
        cells += tuning.candidates(grid.cells)
        more["up to {} more with the chosen λ and ε"] = tuning.at_most(grid.cells)
    if grid.settings.invariance:
        from unheard.experiments.leakage import sub_run_settings

        separate = sub_run_settings(grid.settings, grid.manifest) is not None
        more["{} for invariance"] = separate * len(grid.settings.systems) * grid.settings.seeds
    return tuning.count(cells, more)


APART = 0.4
"""A difference between the accuracies of training and of validation that strangers' voices alone seldom make."""


def _chosen(grid: Grid, say: Callable[[str], None]) -> list[Cell]:
    """The trainings of the other seeds with the λ and ε that the validation speakers chose on seed 0."""
    choices = read_run(grid.settings.out).choices
    waiting = tuning.waiting(grid.cells, choices)
    if waiting:
        say(f"nothing is chosen for {waiting} readings: trainings of other values have failed there")
    chosen = tuning.frozen(grid.cells, choices)
    missing = sum(cell.result() is None for cell in chosen)
    if chosen or not waiting:
        say(f"λ and ε are chosen; with the chosen values {missing} more trainings on the other seeds")
    return chosen


def _invariance(grid: Grid, say: Callable[[str], None]) -> dict[str, str]:
    """Train the same systems where invariance can be measured, unless the run's own first fold serves."""
    from unheard.experiments.leakage import sub_run_settings

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
            "another network; --training.batchnorm both and another --out also re-estimate these"
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
    if cell.fitted or not cell.network.dropout or cell.recipe.batchnorm != "running" or cell.result() is None:
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
        parallel = min(settings.workers or usual_workers(settings.device), len(missing))
        first: list[float] = []
        for event in _engine(settings)(missing, settings.workers, settings.device):
            name = event.cell.name
            if event.kind == "failed":
                failed[name] = str(event.record["reason"])
                say(f"{name} failed: {failed[name]}")
            # a resumed cell begins later, a failed one ends early: both count as far as they are gone
            seen[name] = event.record["epoch"] if event.kind == "epoch" else epochs
            done = sum(seen.values())
            bar.update(task, completed=done, now=name)
            if settings.progress and event.kind == "epoch" and len(first) < parallel:
                first.append(event.record["seconds"])
                if len(first) == parallel:
                    each = statistics.fmean(first)
                    left = each * (len(missing) * epochs - done) / parallel
                    say(f"The first epochs took {tuning.duration(each)}; about {tuning.duration(left)} left")
    return failed


def _engine(settings: Experiment) -> Callable[..., Iterator[Event]]:
    """What trains the cells: processes of this machine, or Ray."""
    if settings.engine == "local":
        return run_cells
    from unheard.experiments import ray_engine

    return partial(ray_engine.run_cells, address=settings.address, gpus=settings.gpus)


# What a run's folder holds before anything is trained: settings, split, utterances; and what it refuses to mix.

OF_THE_CORPUS = (
    "corpus", "manifest", "subset", "labels", "map", "speakers", "channel", "group", "split_seed", "features",
)  # fmt: skip
OF_THE_SPLIT = ("protocol", "test", "k", "n", "column", "train_corpora", "test_corpora")


def check_same_run(out: Path, settings: Experiment) -> None:
    """Refuse a folder that holds a run on another corpus: its table would mix them."""
    before = _before(out)
    for name in OF_THE_CORPUS if before else ():
        theirs, ours = getattr(before, name), getattr(settings, name)
        same = same_place(theirs, ours) if name in ("manifest", "speakers") else theirs == ours
        if not same:
            raise _other(out, name, theirs, ours)


def prepare(grid: Grid) -> None:
    """Write what the cells stand on; a split of earlier calls that has more folds stays as it is.

    Raises `ConfigError` where the folder holds a run under another protocol.
    """
    out = Path(grid.settings.out)
    was, now = _folds_before(out), _folds_of(grid.split)
    same = all(was[fold] == now[fold] for fold in was.keys() & now.keys())
    before = _before(out)
    if was and not same and before:
        # the same protocol splits otherwise where the corpus has changed: that may be
        for name in OF_THE_SPLIT:
            theirs, ours = getattr(before, name), getattr(grid.settings, name)
            if theirs != ours and not (name == "protocol" and not ours):
                raise _other(out, name, theirs, ours)
    if not was or not same or len(was) < len(now):
        write_whole(out / "splits.csv", lambda path: write_splits(grid.split, path))
    write_text(out / "utterances.csv", utterances_csv(grid.manifest))
    keep_data(grid)
    # options of systems of earlier calls stay: their trainings still count
    options: dict[str, Mapping[str, Any]] = dict(before.options) if before else {}
    options.update({cell.system: dict(cell.options) for cell in grid.cells})
    write_text(out / "config.yaml", _yaml(replace(grid.settings, protocol=grid.split.protocol, options=options), out))


def keep_data(grid: Grid) -> None:
    """Write the data of every fold: this call's, and an earlier call's of folds that this one leaves out.

    Where labels or recordings have changed since, what earlier calls trained is of other data, in every fold. The
    trainings tell what a run was of that is older than such files.
    """
    out = Path(grid.settings.out)
    before: dict[int, str | None] = read_data(out) or _data_of_trainings(out)
    now: dict[int, str | None] = {cell.fold.index: cell.data for cell in grid.cells}
    if any(before[fold] not in (None, now[fold]) for fold in before.keys() & now.keys()):
        before = dict.fromkeys(_folds_before(out), None)
    write_json(out / DATA, {str(fold): digest for fold, digest in sorted((before | now).items())})


def _data_of_trainings(out: Path) -> dict[int, str | None]:
    """Fold -> the data that its finished trainings are of, where they are all of the same."""
    found: dict[int, set[str]] = {}
    for folder in (out / "cells").glob("*"):
        result = result_in(folder)
        if (
            isinstance(result.get("fold"), int)
            and isinstance(result.get("proof"), dict)
            and result["proof"].get("data")
        ):
            found.setdefault(result["fold"], set()).add(str(result["proof"]["data"]))
    return {fold: next(iter(several)) for fold, several in found.items() if len(several) == 1}


def _before(out: Path) -> Experiment | None:
    path = out / "config.yaml"
    try:
        return load(path) if path.exists() else None
    except ConfigError as error:
        raise ConfigError(
            f"the settings of this run cannot be read ({error.what})",
            where=path,
            mend="Delete this file: trainings that fit the settings of this call are found again.",
        ) from error


def _folds_before(out: Path) -> dict[int, set[tuple[str, str, str]]]:
    folds: dict[int, set[tuple[str, str, str]]] = {}
    try:
        for row in read_assignment(out):
            folds.setdefault(row.fold, set()).add((row.reading, row.part, row.id))
    except RunError:  # it is written anew
        return {}
    return folds


def _folds_of(split: Split) -> dict[int, set[tuple[str, str, str]]]:
    folds: dict[int, set[tuple[str, str, str]]] = {}
    for fold, reading, part, name in split.assignment():
        folds.setdefault(fold, set()).add((reading, part, name))
    return folds


def _other(out: Path, name: str, theirs: object, ours: object) -> ConfigError:
    what = f"this folder holds a run with {name} = {theirs!r}, not {ours!r}"
    return ConfigError(what, where=out, mend="Choose another --out.")


def _yaml(settings: Experiment, out: Path) -> str:
    import yaml

    every = {"resolved": True, **written_in(out, settings.as_dict())}
    text: str = yaml.safe_dump(every, sort_keys=False, allow_unicode=True)
    return (
        "# The settings of this run; paths are relative to this file. Again: unheard experiment --config THIS\n" + text
    )
