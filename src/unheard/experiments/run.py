"""An experiment from its settings to its table."""

import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from unheard import notebook
from unheard.corpora import read_manifest
from unheard.corpora.table import write_table as write_manifest
from unheard.errors import ConfigError, Say, SplitError, counted, silent
from unheard.experiments import ray_engine, selection
from unheard.experiments.cell import default_workers, epoch_file, run_cells
from unheard.experiments.cell_files import epochs_of, read_history, result_in
from unheard.experiments.config import Experiment, load, relative_paths
from unheard.experiments.plan import Cell, ExperimentPlan, code_of, data_digest, duration, make_plan, settings_digest
from unheard.experiments.records import TABLE, RunRecords, read_run, write_records
from unheard.experiments.selection import TUNED_OPTIONS
from unheard.experiments.summary import write_table
from unheard.features.encoder import resolve
from unheard.files import locked, write_text
from unheard.manifest import Manifest
from unheard.splits import write_splits
from unheard.splits.files import read_assignment
from unheard.splits.split import Assigned


@dataclass(frozen=True)
class Run:
    """The result of an experiment; `failed` maps every cell without a result to the reason.

    `records` cover the folder of the run, including earlier calls; `models` are the files of the models trained by this
    call, in the order of the cells.
    """

    folder: Path
    records: RunRecords
    table: str
    failed: Mapping[str, str]
    models: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        systems = ", ".join(line.name for line in self.records.lines)
        return f"<Run {str(self.folder)!r}: {systems or 'no systems'}; {counted(len(self.failed), 'cell')} failed>"

    def _repr_html_(self) -> str:
        """Return test WA and UAR of every system, mean ± standard deviation over seeds, as an HTML table."""
        rows = [
            [line.name, str(line.over_seeds("wa")), str(line.over_seeds("uar")), f"{line.finished}/{line.planned}"]
            for line in self.records.lines
        ]
        return notebook.table(repr(self), ["system", "test WA, %", "test UAR, %", "cells"], rows)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with system, seed, wa and uar on test speakers for every complete seed.

        Raises `UnheardError` if pandas is not installed.
        """
        return notebook.frame(
            {"system": line.name, "seed": seed.seed, "wa": seed.test.wa, "uar": seed.test.uar}
            for line in self.records.lines
            for seed in line.seeds
        )

    def plot(self, axes: Any = None, metric: str = "uar") -> Any:
        """Plot `metric` (uar or wa) of every seed with matplotlib, a row for each system, and return the axes.

        Raises `UnheardError` if matplotlib is not installed.
        """
        lines = [line for line in self.records.lines if line.seeds]
        axes = notebook.axes_for(axes, 7, 1 + 0.4 * len(lines))
        for y, line in enumerate(lines):
            values = [100 * value for value in line.over_seeds(metric).values]
            axes.plot(values, [y] * len(values), "o", color="#2f6fb0", alpha=0.5)
            axes.plot(sum(values) / len(values), y, "|", color="black", markersize=16)
        axes.set(xlabel=f"{metric.upper()} on test speakers, %", ylim=(len(lines) - 0.5, -0.5))
        axes.set_yticks(range(len(lines)), [line.name for line in lines])
        return axes


def experiment(config: str | Path | None = None, *, say: Say = silent, **settings: Any) -> Run:
    """Train and compare systems; `config` is a YAML file, `settings` override it (see `Experiment`).

    `manifest` may be a path, a `Manifest` or a pandas DataFrame; the last two are written to `out`/manifest.csv.

    Only missing cells in the folder `out` are trained; without `out` a temporary folder is used. Cells that fail are
    reported in the `Run` and do not stop the others. Raises `UnheardError` before any training for settings, corpora or
    splits that cannot work.

    >>> run = unheard.experiment(corpus="emodb", root="data/emodb", systems=["ser", "dat"])  # doctest: +SKIP
    """
    if not settings.get("out") and config is None:
        settings["out"] = tempfile.mkdtemp(prefix="unheard-")
    table = settings.get("manifest")
    if not isinstance(table, (str, Path, type(None))):
        if not settings.get("out"):
            raise ConfigError("a table in memory needs a folder to be written to", mend="Name it: out=FOLDER.")
        mapping, root = dict(settings.get("map", {})), settings.get("root")
        manifest = table if isinstance(table, Manifest) else read_manifest(table, mapping=mapping, audio_root=root)
        settings |= {"manifest": str(_folder(Path(settings["out"])) / "manifest.csv"), "root": ""}
        write_manifest(manifest, settings["manifest"])
    return run_experiment(load(config, settings, say=say), say)


def run_experiment(settings: Experiment, say: Say) -> Run:
    """Run the experiment described by `settings`; `say` receives progress lines."""
    out = _folder(Path(settings.out))
    with locked(out, "running an experiment here"):
        plan = _checked_plan(settings, say)
        write_settings_and_split(plan)
        tried = selection.candidate_cells(plan.cells) if settings.tune == "grid" else []
        say(_trainings_text(plan))
        failed = _train_missing([*plan.cells, *tried], settings, say)
        if settings.tune == "optuna":
            tried, failed_trials = _search(plan, say)
            failed |= failed_trials
        chosen = _chosen_cells(plan, say) if settings.tune else []
        failed |= _train_missing(chosen, settings, say)
        records = collect(plan, say)
        table = write_table(records, plan.split.total_folds)
        if settings.invariance:
            failed |= _invariance(plan, say)
    _report_under_trained(plan.cells, say)
    models = [
        path
        for cell in (*plan.cells, *tried, *chosen)
        if cell.result() is not None
        for path in sorted(cell.result_folder().glob("model*.safetensors"), reverse=True)  # first direction first
    ]
    return Run(out, records, table, failed, tuple(models))


def describe_trainings(settings: Experiment, say: Say) -> str:
    """Return the number of trainings of an experiment as text; computes its features but trains nothing."""
    with locked(_folder(Path(settings.out)), "running an experiment here"):
        return _trainings_text(_checked_plan(settings, say))


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot be made ({error.strerror})", where=out, mend="Choose another --out.") from error
    return out


def _checked_plan(settings: Experiment, say: Say) -> ExperimentPlan:
    """Check that an experiment may run in its folder, and plan it."""
    if settings.engine == "ray":
        ray_engine.ray_library()
    settings = replace(settings, features=resolve(settings.features))
    check_same_run(Path(settings.out), settings)
    selection.check_tuning(settings)
    return make_plan(settings, say)


def _trainings_text(plan: ExperimentPlan) -> str:
    cells, more = list(plan.cells), ""
    if plan.settings.tune == "optuna":
        searched = [cell for cell in cells if cell.seed == 0 and not cell.classical]
        studies = sum(len(cell.fold.directions) * len(cell.settings.training.evaluations) for cell in searched)
        more = f", up to {studies * plan.settings.trials} more of the search, then the chosen ones on the other seeds"
    if plan.settings.tune == "grid":
        cells += selection.candidate_cells(plan.cells)
        later = [cell for cell in plan.cells if cell.seed > 0 and cell.system in TUNED_OPTIONS]
        if later:
            more = f", up to {sum(len(cell.fold.directions) for cell in later)} more with the chosen λ and ε"
    if plan.settings.invariance:
        from unheard.experiments.leakage import sub_run_settings

        if sub_run_settings(plan.settings, plan.manifest):
            more += f", {len(plan.settings.systems) * plan.settings.seeds} for invariance"
    done = sum(cell.result() is not None for cell in cells)
    return f"{counted(len(cells), 'training')} ({done} already done){more}"


def _search(plan: ExperimentPlan, say: Say) -> tuple[list[Cell], dict[str, str]]:
    """Search settings on seed 0 and write all trials; return their trainings, and the reasons of failed ones."""
    tried: dict[str, Cell] = {}
    failed: dict[str, str] = {}

    def train(cells: Sequence[Cell]) -> None:
        tried.update({cell.name: cell for cell in cells})
        failed.update(_train_missing(cells, plan.settings, say))

    selection.write_trials(Path(plan.settings.out), selection.search(plan.settings, plan.cells, train))
    return list(tried.values()), failed


def _chosen_cells(plan: ExperimentPlan, say: Say) -> list[Cell]:
    """Return the trainings of the other seeds with the settings chosen on seed 0 by the validation speakers."""
    searched = plan.settings.tune == "optuna"
    candidates = [candidate for candidate in collect(plan).candidates if candidate.searched == searched]
    subject = "Settings are" if searched else "λ and ε are"
    undecided = selection.count_undecided(plan.cells, candidates, searched)
    if undecided:
        reason = "every trial failed" if searched else "a training of the grid failed"
        say(f"{subject} not chosen for {counted(undecided, 'combination')} of system, fold and direction: {reason}")
    chosen = selection.chosen_cells(plan.cells, candidates, plan.settings)
    missing = sum(cell.result() is None for cell in chosen)
    if chosen or not undecided:
        say(f"{subject} chosen; with the chosen values {counted(missing, 'training')} more on the other seeds")
    return chosen


def _invariance(plan: ExperimentPlan, say: Say) -> dict[str, str]:
    """Train the same systems on a split that allows measuring invariance, unless the run's first fold does."""
    from unheard.experiments.leakage import sub_run_settings

    settings = sub_run_settings(plan.settings, plan.manifest)
    if settings is None:
        say("Invariance can be measured on the run's first fold: no further trainings")
        return {}
    say(f"Trainings for measuring invariance, in {settings.out}")
    run = run_experiment(replace(settings, tune=""), say)
    return {f"invariance/{name}": reason for name, reason in run.failed.items()}


def _report_under_trained(cells: Sequence[Cell], say: Say) -> None:
    """Report under-trained cells, and missing results at earlier epochs."""
    results = {cell.name: cell.result() for cell in cells}
    late = sum(bool(result and result.get("under_trained")) for result in results.values())
    training = cells[0].settings.training
    if late:
        say(
            f"trainings whose best epoch is among the last five: {late} of {len(cells)}; "
            "they are under-trained; more --epochs would "
            + ("continue them" if training.extensible else "train longer ones from the start")
        )
    for epochs in sorted({n for cell in cells for n in cell.settings.training.budgets[:-1]}):
        finished = [cell for cell in cells if results[cell.name] and epochs in cell.settings.training.budgets]
        without = sum(epochs_of(result_in(cell.result_folder(epochs))) != epochs for cell in finished)
        if without:
            say(
                f"trainings without a result at {counted(epochs, 'epoch')}, as they had been trained further: "
                f"{without} of {len(cells)}. A new --out would include it"
            )


# Training with progress.


def _train_missing(cells: Sequence[Cell], settings: Experiment, say: Say) -> dict[str, str]:
    """Train the cells without a result; return the reasons of failed ones by name."""
    missing = [cell for cell in cells if cell.result() is None]
    failed: dict[str, str] = {}
    if not missing:
        return failed
    planned = {cell.name: cell.settings.epochs * cell.settings.training.networks for cell in missing}
    total = sum(planned.values())
    epochs, running = {cell.name: len(read_history(cell.folder)) for cell in missing}, list(missing)
    done_before = sum(epochs.values())
    parallel = min(settings.workers or default_workers(settings.device), len(missing))
    announced = False
    first: tuple[float, int] | None = None  # time and epochs after processes had started and kernels were compiled
    console = Console(stderr=True)
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs{task.fields[speed]}"))
    with Progress(*columns, console=console, disable=not (settings.progress and console.is_terminal)) as bar:
        task = bar.add_task("", total=total, speed="")

        def tick() -> None:
            nonlocal first, announced
            for cell in running:
                with suppress(OSError, ValueError):  # not started, or just being written
                    epochs[cell.name] = int(epoch_file(cell).read_text())
            done = sum(epochs.values())
            trained, speed = done - done_before, ""
            if first is None:
                first = (time.monotonic(), trained) if trained >= parallel else None
            elif trained > first[1] and (elapsed := time.monotonic() - first[0]) >= 1:
                seconds = elapsed / (trained - first[1])
                left = duration(seconds * (total - done))
                speed = f", {60 / seconds:.3g} a minute, {left} left"
                if not announced and trained >= first[1] + parallel and done < total:
                    announced = True
                    say(f"{60 / seconds:.3g} epochs a minute with {counted(parallel, 'worker')}: about {left} left")
            bar.update(task, completed=done, speed=speed)

        train = ray_engine.run_cells if settings.engine == "ray" else run_cells
        for cell, reason in train(missing, tick):
            if reason:
                failed[cell.name] = reason
                say(f"{cell.name} failed: {reason}")
            running.remove(cell)
            epochs[cell.name] = planned[cell.name]
            tick()
    return failed


# The folder of a run before and after training.

CORPUS_SETTINGS = (
    "corpus", "manifest", "subset", "labels", "map", "speakers", "channel", "group", "split_seed", "features",
)  # fmt: skip
SPLIT_SETTINGS = ("protocol", "test", "k", "n", "column", "train_corpora", "test_corpora")


def check_same_run(out: Path, settings: Experiment) -> None:
    """Raise `ConfigError` for a folder with a published run or with a run on another corpus."""
    previous = _previous_settings(out)
    if previous and (out / TABLE).exists() and not (out / "cells").is_dir():
        what = "this folder holds a published run, without its trainings"
        raise ConfigError(what, where=out, mend="Choose another --out.")
    _check_same(out, previous, settings, CORPUS_SETTINGS)


def write_settings_and_split(plan: ExperimentPlan) -> None:
    """Write the settings and the split; the split of an earlier call with more folds is kept.

    Raises `ConfigError` if the folder holds a run under another protocol.
    """
    out, previous = Path(plan.settings.out), _previous_settings(Path(plan.settings.out))
    old, new = {}, _by_fold(plan.split.assignment())
    with suppress(SplitError):  # missing or damaged: written again
        old = _by_fold(read_assignment(out / "splits.csv"))
    same = all(old[fold] == new[fold] for fold in old.keys() & new.keys())
    if not same:  # a changed corpus may change the split, but the protocol must be the same
        _check_same(out, previous, plan.settings, SPLIT_SETTINGS)
    if not same or len(old) < len(new):
        write_splits(plan.split, out / "splits.csv")
    # options of systems of earlier calls are kept, since their trainings still count
    options: dict[str, Mapping[str, Any]] = dict(previous.options) if previous else {}
    options.update({cell.system: dict(cell.options) for cell in plan.cells})
    settings = replace(plan.settings, protocol=plan.split.protocol, options=options)
    values = {"resolved": True, **relative_paths(out, settings.as_dict())}
    header = "# The settings of this run; paths are relative to this file. Again: unheard experiment --config THIS\n"
    write_text(out / "config.yaml", header + yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _by_fold(rows: Iterable[Assigned]) -> dict[int, dict[Assigned, None]]:
    """Return fold -> its unique rows in order; results are equal for the same rows in any order."""
    folds: dict[int, dict[Assigned, None]] = {}
    for row in rows:
        folds.setdefault(row.fold, {})[row] = None
    return folds


def collect(plan: ExperimentPlan, say: Say = silent) -> RunRecords:
    """Write the run's records from all finished cells in its folder and read them.

    A cell of any call counts if its settings and options are those of the run and its fold and data are unchanged.
    `say` receives the number of trainings left out because of other data.
    """
    out, settings = Path(plan.settings.out), plan.settings
    options = load(out / "config.yaml").options
    splits, rows = read_assignment(out / "splits.csv"), plan.manifest.by_id()
    ids = {fold: tuple(dict.fromkeys(row.id for row in part)) for fold, part in _by_fold(splits).items()}
    data = {fold: data_digest(names, rows, plan.store.audio_digest, settings) for fold, names in ids.items()}
    settings_of = cache(partial(selection.apply_trial, replace(settings, options=options)))
    definitions = {cell.system: cell.settings_digest for cell in plan.cells if cell.classical}
    codes = cache(code_of)
    on_other_data: set[str] = set()

    def counts(result: Mapping[str, Any], trial: str) -> bool:
        system, digest, proof = result["system"], result["settings"]["digest"], result["proof"]
        if result["fitted"]:
            same = digest == definitions.get(system, digest)
        else:
            expected = settings_of(trial)
            # λ and ε may differ from the settings; those of a trial must be values of the grid
            option = TUNED_OPTIONS[system].name if system in TUNED_OPTIONS and not trial else ""
            if result["trial"] and option and result["options"][option] not in TUNED_OPTIONS[system].grid:
                option = ""
            same = digest == settings_digest(expected)
            same &= _without(option, result["options"]) == _without(option, expected.options.get(system, {}))
        if not same or proof["code"] != codes(system):
            return False
        if proof["data"] != data[result["fold"]]:
            on_other_data.add(proof["cell"])
        return proof["cell"] not in on_other_data

    write_records(out, settings, splits, rows, counts)
    if on_other_data:
        trainings = counted(len(on_other_data), "training")
        say(f"{trainings} on other data (labels or recordings have changed since) left out")
    records = read_run(out)
    for note in records.absent:
        say(note)
    return records


def _without(option: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as in JSON (None for infinity), without `option`, whose value may differ."""
    return {name: None if value == float("inf") else value for name, value in options.items() if name != option}


def _previous_settings(out: Path) -> Experiment | None:
    path = out / "config.yaml"
    try:
        return load(path) if path.exists() else None
    except ConfigError as error:
        what = f"the settings of this run cannot be read ({error.what})"
        mend = "Delete this file: trainings with the settings of this call will be found again."
        raise ConfigError(what, where=path, mend=mend) from error


def _check_same(out: Path, previous: Experiment | None, settings: Experiment, names: Iterable[str]) -> None:
    """Raise `ConfigError` if one of the settings `names` differs from the folder's."""
    for name in names if previous else ():
        theirs, ours = getattr(previous, name), getattr(settings, name)
        is_path = name in ("manifest", "speakers") and theirs and ours  # `speakers` may be FILE:PART
        same_file = is_path and os.path.realpath(theirs) == os.path.realpath(ours)
        if theirs != ours and not same_file and not (name == "protocol" and not ours):
            what = f"this folder holds a run with {name} = {theirs!r}, not {ours!r}"
            raise ConfigError(what, where=out, mend="Choose another --out.")
