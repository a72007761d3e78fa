"""An experiment from its settings to its table."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unheard.errors import ConfigError, RunError
from unheard.experiments.folder import read_assignment, utterances_csv
from unheard.experiments.grid import Grid, lay_out
from unheard.experiments.launch import Event, run_cells
from unheard.experiments.records import RunRecords, read_run
from unheard.experiments.results import caption, results_csv, table_latex, table_markdown
from unheard.experiments.settings import Experiment, load
from unheard.files import write_text, write_whole
from unheard.lock import locked
from unheard.splits import write_splits


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
    out = Path(settings.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot be made ({error.strerror})", where=out, mend="Choose another --out.") from error
    with locked(out, "running an experiment here"):
        _same_run(out, settings)
        grid = lay_out(settings, say)
        _prepare(out, grid)
        failed = _train(grid, say)
        records = read_run(out)
        title = caption(records, grid.split.total_folds)
        table = table_markdown(records.lines, title)
        write_text(out / "results.csv", results_csv(records))
        write_text(out / "table.md", table)
        write_text(out / "table.tex", table_latex(records.lines, title))
    late = [cell.name for cell in grid.cells if (cell.result() or {}).get("under_trained")]
    if late:
        say(
            f"{len(late)} of {len(grid.cells)} trainings had their best epoch among the last five: "
            "they are under-trained; more --epochs would go on where they stopped"
        )
    models = [
        path
        for cell in grid.cells
        if cell.result() is not None
        for path in sorted(cell.readout_folder().glob("model*.safetensors"), reverse=True)  # the first reading's first
    ]
    return Run(out, records, table, failed, tuple(models))


def _prepare(out: Path, grid: Grid) -> None:
    """Write what the cells stand on: settings, split and utterances. A split of earlier calls with more folds stays."""
    before = _folds_before(out)
    now: dict[int, set[tuple[object, ...]]] = {}
    speakers = {row.id: row.speaker for row in grid.manifest}
    for row in grid.split.assignment():
        now.setdefault(row[0], set()).add((*row, speakers[row[3]]))
    same = before is not None and all(before[fold] == now[fold] for fold in before.keys() & now.keys())
    if before is not None and not same:
        _refuse_other_split(out, grid.settings)
    if before is None or not same or len(before) < len(now):
        write_whole(out / "splits.csv", lambda path: write_splits(grid.split, path))
    write_text(out / "utterances.csv", utterances_csv(grid.manifest))
    write_text(out / "config.yaml", _yaml(_resolved(out, grid)))


def _folds_before(out: Path) -> dict[int, set[tuple[object, ...]]] | None:
    try:
        rows = read_assignment(out)
    except RunError:
        return None
    folds: dict[int, set[tuple[object, ...]]] = {}
    for row in rows:
        folds.setdefault(row.fold, set()).add(tuple(row))
    return folds


def _refuse_other_split(out: Path, settings: Experiment) -> None:
    """Another protocol would overwrite splits.csv; the same one splits otherwise where the corpus has changed."""
    before = load(out / "config.yaml") if (out / "config.yaml").exists() else settings
    for name in ("protocol", "test", "k", "n", "column", "train_corpora", "test_corpora"):
        theirs, ours = getattr(before, name), getattr(settings, name)
        if theirs != ours and not (name == "protocol" and not ours):
            raise _other(out, name, theirs, ours)


def _resolved(out: Path, grid: Grid) -> Experiment:
    """The settings with the protocol and all options spelt out, those of systems of earlier calls too."""
    options: dict[str, Mapping[str, Any]] = {}
    if (out / "config.yaml").exists():
        options.update(load(out / "config.yaml").options)
    options.update({cell.system: dict(cell.options) for cell in grid.cells})
    return replace(grid.settings, protocol=grid.split.protocol, options=options)


def _train(grid: Grid, say: Callable[[str], None]) -> dict[str, str]:
    """Train the cells that have no result yet; the reasons of those that failed."""
    missing = [cell for cell in grid.cells if cell.result() is None]
    say(f"{len(grid.cells)} trainings, {len(grid.cells) - len(missing)} of them done before")
    failed: dict[str, str] = {}
    if not missing:
        return failed
    epochs = grid.settings.epochs
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
    with Progress(*columns, console=console, disable=not (grid.settings.progress and console.is_terminal)) as bar:
        task = bar.add_task("", total=len(missing) * epochs, now="")
        seen: dict[str, int] = {}
        for event in _engine(grid.settings)(missing, grid.settings.workers, grid.settings.device):
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


def _same_run(out: Path, settings: Experiment) -> None:
    """Refuse a folder that holds a run on another corpus or split: its table would mix them."""
    path = out / "config.yaml"
    if not path.exists():
        return
    try:
        before = load(path)
    except ConfigError as error:
        raise ConfigError(
            f"the settings of this run cannot be read ({error.what})",
            where=path,
            mend="Delete this file: trainings that fit the settings of this call are found again.",
        ) from error
    fixed = ("corpus", "manifest", "subset", "labels", "map", "channel", "group", "split_seed", "features")
    for name in fixed:
        theirs, ours = getattr(before, name), getattr(settings, name)
        same = Path(theirs).resolve() == Path(ours).resolve() if name == "manifest" else theirs == ours
        if not same:
            raise _other(out, name, theirs, ours)


def _other(out: Path, name: str, theirs: object, ours: object) -> ConfigError:
    what = f"this folder holds a run with {name} = {theirs!r}, not {ours!r}"
    return ConfigError(what, where=out, mend="Choose another --out.")


def _yaml(settings: Experiment) -> str:
    import yaml

    text: str = yaml.safe_dump(settings.as_dict(), sort_keys=False, allow_unicode=True)
    return f"# The resolved settings of this run. Again: unheard experiment --config THIS --out {settings.out}\n" + text
