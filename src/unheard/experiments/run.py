"""An experiment from its settings to its table."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unheard.errors import ConfigError
from unheard.experiments.grid import Grid, lay_out
from unheard.experiments.launch import Event, run_cells
from unheard.experiments.results import Row, pool, results_csv, table_latex, table_markdown
from unheard.experiments.settings import Experiment, load
from unheard.files import write_text, write_whole
from unheard.lock import locked
from unheard.splits import write_splits


@dataclass(frozen=True)
class Run:
    """What an experiment came to; `failed` gives the reason for every cell without a result.

    `models` are the files of its trained models, in the order of the cells.
    """

    folder: Path
    rows: tuple[Row, ...]
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
        write_whole(out / "splits.csv", lambda path: write_splits(grid.split, path))
        write_text(out / "config.yaml", _yaml(settings))
        failed = _train(grid, say)
        rows = pool(grid.cells)
        table = table_markdown(rows, caption(grid))
        write_text(out / "results.csv", results_csv(grid.cells))
        write_text(out / "table.md", table)
        write_text(out / "table.tex", table_latex(rows, caption(grid)))
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
    return Run(out, tuple(rows), table, failed, tuple(models))


def caption(grid: Grid) -> str:
    """One line that says what the table is about."""
    settings, split = grid.settings, grid.split
    source = settings.corpus or Path(settings.manifest).name
    folds = len(split.folds)
    of_all = f" of {split.total_folds}" if split.total_folds > folds else ""
    seeds = f"{settings.seeds} seed{'s' * (settings.seeds > 1)}"
    marks = ", transductive: normalised with the test speakers' recordings" if settings.normalise == "speaker" else ""
    return (
        f"{source}: {len(grid.manifest)} utterances, {len(grid.manifest.speakers)} speakers, "
        f"{', '.join(settings.labels)}; protocol {split.protocol}, {folds}{of_all} fold{'s' * (folds > 1)}, {seeds}, "
        f"{settings.epochs} epochs{marks}"
    )


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
            raise ConfigError(
                f"this folder holds a run with {name} = {theirs!r}, not {ours!r}",
                where=out,
                mend="Choose another --out.",
            )


def _yaml(settings: Experiment) -> str:
    import yaml

    text: str = yaml.safe_dump(settings.as_dict(), sort_keys=False, allow_unicode=True)
    return f"# The resolved settings of this run. Again: unheard experiment --config THIS --out {settings.out}\n" + text
