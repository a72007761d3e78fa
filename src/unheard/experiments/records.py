"""Reading and writing of the folder of a run, format 1. Needs neither torch nor the corpus.

    config.yaml         every setting, resolved
    predictions.csv.xz  the split and every prediction in one table, see `write_records`
    results.csv         figures, digests and versions of every training, evaluation and direction
    table.md            the table of the systems
    splits.csv          fold, direction, part, id and speaker, written before the first training
    trials.csv          the settings tried by Optuna on seed 0, with their validation figures, if any
    cells/<cell>/       working files of a training: result.json, predictions.csv, history.jsonl, checkpoint.pt, ...

`read_run` needs the first three files; these and trials.csv are published. A seed of a system counts if all of its
folds are complete.
"""

from __future__ import annotations

import csv
import hashlib
import lzma
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.errors import ConfigError, RunError, counted
from unheard.experiments.baselines import EPOCHS, table_position
from unheard.experiments.cell_files import epochs_of, read_history, read_predictions, result_folder, result_in
from unheard.experiments.config import Experiment, load
from unheard.experiments.selection import TUNED_OPTIONS, Candidate, apply_trial, choose, read_trials
from unheard.experiments.summary import Line, Predictions, lines_of
from unheard.files import csv_text, write_text, write_whole
from unheard.manifest import Utterance
from unheard.splits.split import Assigned, digest_of

TABLE = "predictions.csv.xz"
RESULTS = "results.csv"
UTTERANCES = ("gender", "session", "text", "corpus", "language")
"""Columns of the manifest in the table of predictions, in addition to id, speaker and emotion."""
KEY = ("system", "options", "evaluation", "fold", "direction", "seed", "epochs", "part", "id", "speaker", "emotion")
FIGURES = ("val_wa", "val_uar", "val_macro_f1", "test_wa", "test_uar", "test_macro_f1", "n_val", "n_test")
VERSIONS = ("unheard", "python", "torch", "numpy", "numba", "platform")
RESULT_COLUMNS = (
    "system", "options", "evaluation", "fold", "direction", "seed", *FIGURES, "best_epoch", "under_trained", "epochs",
    "updates", "name", "fitted", "cell", "normalise", "data", "features", "device", *VERSIONS, "frames_per_second",
    "train_seconds",
)  # fmt: skip
"""Columns of `results.csv`, timings last."""


@dataclass(frozen=True, eq=False)
class CellRecord:
    """A finished training (a cell) under one evaluation.

    `home` is its working folder and `folder` the folder of this result, which may be of an earlier number of epochs or
    of the re-estimated evaluation; neither exists in a published run. `value` is that of the tuned option, the text of
    a trial, or None. `unvalidated` is true without validation speakers, or if validation repeats the test
    (both directions predict the same). `digest` is a hash of the predictions. `rows` are the held-out utterances of the
    fold; `fields` are the texts of each in the files: emotion, predicted emotion, a probability for each of `labels`.
    """

    name: str
    home: Path
    folder: Path
    system: str
    fold: int
    seed: int
    result: Mapping[str, Any]
    value: float | str | None = None
    unvalidated: bool = False
    evaluation: str = ""
    digest: str = ""
    labels: tuple[str, ...] = ()
    rows: Sequence[Assigned] = ()
    fields: Sequence[Sequence[str]] = field(default=(), repr=False)

    @property
    def classical(self) -> bool:
        """Whether the system is a classical one, without epochs and curves."""
        return bool(self.result.get("fitted"))

    @property
    def options(self) -> str:
        """The value of the tuned option, such as `lam=0.1`, or the trial; empty without either."""
        trial = self.value if isinstance(self.value, str) else ""
        return f"{TUNED_OPTIONS[self.system].name}={self.value:g}" if isinstance(self.value, float) else trial

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions of the fold."""
        return tuple(dict.fromkeys(row.direction for row in self.rows))

    def predictions(self, direction: str, part: str) -> Predictions:
        """Return the predictions for one part of one direction."""
        chosen = [i for i, row in enumerate(self.rows) if (row.direction, row.part) == (direction, part)]
        rows, fields = [self.rows[i] for i in chosen], [self.fields[i] for i in chosen]
        truth, predicted = (np.array([self.labels.index(row[column]) for row in fields], np.int64) for column in (0, 1))
        return Predictions(
            ids=tuple(row.id for row in rows),
            speakers=tuple(row.speaker for row in rows),
            folds=np.full(len(rows), self.fold, np.int64),
            directions=(direction,) * len(rows),
            truth=truth,
            predicted=predicted,
            probabilities=np.array([row[2:] for row in fields], np.float64).reshape(-1, len(self.labels)),
        )

    def history(self) -> list[dict[str, Any]]:
        """Return a record for each epoch of the result; [] if absent."""
        return [record for record in read_history(self.home) if record.get("epoch", 0) <= self.result["epochs"]]

    def embeddings(self) -> tuple[NDArray[np.float32], tuple[str, ...], tuple[str, ...]] | None:
        """Return embeddings (n, E) with their ids and parts, or None if absent."""
        path = self.folder / "embeddings.npz"
        if not path.exists():
            return None
        try:
            with np.load(path) as arrays:
                return arrays["e"], tuple(map(str, arrays["id"])), tuple(map(str, arrays["part"]))
        except (OSError, ValueError, KeyError) as error:
            mend = "Delete it and run the experiment again."
            raise RunError(f"cannot be read ({error})", where=path, mend=mend) from error


@dataclass(frozen=True, eq=False)
class RunRecords:
    """A run read from its folder.

    `lines` are in the order of the tables. `candidates` are the values tried on seed 0. `cells` are all finished cells.
    `utterances` maps ids to speaker, emotion, gender, session, text, corpus and language.
    """

    folder: Path
    settings: Experiment
    labels: tuple[str, ...]
    utterances: Mapping[str, Mapping[str, str]]
    splits: tuple[Assigned, ...]
    split_digest: str
    lines: tuple[Line, ...]
    candidates: tuple[Candidate, ...]
    cells: tuple[CellRecord, ...]

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds of the split, ascending."""
        return tuple(sorted({row.fold for row in self.splits}))

    @property
    def epochs(self) -> str:
        """The number of epochs as text, such as `40 epochs`, or `10 to 40 epochs` if folds differ."""
        numbers = sorted({*_epochs(self.settings, self.splits).values()}) or [self.settings.training.epochs]
        last = counted(numbers[-1], "epoch")
        return last if numbers[0] == numbers[-1] else f"{numbers[0]:,} to {last}"

    @cached_property
    def absent(self) -> tuple[str, ...]:
        """Descriptions of missing working files."""
        trained = [cell for cell in self.cells if not cell.classical]
        curves = sum(not (cell.home / "history.jsonl").exists() for cell in trained)
        embeddings = sum(not (cell.folder / "embeddings.npz").exists() for cell in self.cells)
        notes = [f"history.jsonl: the histories of {curves} of {len(trained)} trainings are not here"]
        notes += [f"embeddings.npz: the embeddings of {embeddings} of {len(self.cells)} trainings are not here"]
        return tuple(note for note, n in zip(notes, (curves, embeddings), strict=True) if n)

    @cached_property
    def invariance(self) -> RunRecords | None:
        """The run in RUN/invariance, or None."""
        folder = self.folder / "invariance"
        return read_run(folder) if (folder / "config.yaml").exists() else None


# From the cells of a run to its tables.


def write_records(
    out: Path,
    settings: Experiment,
    splits: Sequence[Assigned],
    utterances: Mapping[str, Utterance],
    counts: Callable[[Mapping[str, Any], str], bool],
) -> None:
    """Write predictions.csv.xz and results.csv from the finished cells in RUN/cells that `counts` accepts.

    `counts(result, trial)` decides whether a result belongs to the run; `trial` is "" or a chosen trial.

    Rows of the table without a system are the split: every utterance of every fold with its part (train, dev, test) and
    its columns of the manifest. Rows with a system are predictions for dev and test utterances in the same order:
    system, options (the tuned one), evaluation, fold, direction, seed, epochs, and a probability for each label.
    """
    cells = sorted(_finished(out, settings, splits, counts), key=_sort_key)
    columns = _columns(settings.labels)
    predicted = columns[KEY.index("emotion") : -len(UTTERANCES)]  # columns that only predictions have
    table: list[dict[str, Any]] = [row._asdict() for row in splits]
    for row in table:
        if utterance := utterances.get(row["id"]):
            row |= {name: utterance.get(name) for name in ("emotion", *UTTERANCES)}
    for cell in cells:
        of_cell: dict[str, Any] = {"system": cell.system, "options": cell.options, "evaluation": cell.evaluation}
        of_cell |= {"seed": cell.seed, "epochs": cell.result["epochs"]}
        table += [
            {**of_cell, **row._asdict(), **dict(zip(predicted, fields, strict=True))}
            for row, fields in zip(cell.rows, cell.fields, strict=True)
        ]
    text = csv_text([columns, *([row.get(name, "") for name in columns] for row in table)])
    write_whole(out / TABLE, lambda path: path.write_bytes(lzma.compress(text.encode(), preset=2)))
    results = [values for cell in cells for values in _result_rows(cell, settings.normalise)]
    rounded = [[f"{x:.6f}" if isinstance(x, float) else x for x in map(row.get, RESULT_COLUMNS)] for row in results]
    write_text(out / RESULTS, csv_text([RESULT_COLUMNS, *rounded]))


def _finished(
    out: Path, settings: Experiment, splits: Sequence[Assigned], counts: Callable[[Mapping[str, Any], str], bool]
) -> Iterator[CellRecord]:
    """Yield the finished cells that count, once for each evaluation and each chosen trial."""
    held_out = _held_out(splits)
    epochs = cache(lambda trial: _epochs(apply_trial(settings, trial), splits))
    chosen = [trial for trial in read_trials(out) if trial.chosen]
    for home in sorted((out / "cells").glob("*-fold*-seed*-*")):
        system, _, rest = home.name.rpartition("-fold")
        number = rest.partition("-")[0]
        fold = int(number) if number.isdecimal() else -1  # -1: not the folder of a cell
        trials = dict.fromkeys(["", *(str(t.value) for t in chosen if (t.system, t.fold) == (system, fold))])
        for trial, part in product(trials, ("", "reestimated")):
            n_epochs = EPOCHS if result_in(home).get("fitted") else epochs(trial).get(fold, 0)
            folder = result_folder(home, n_epochs) / part
            result = result_in(folder)
            if fold not in held_out or epochs_of(result) != n_epochs or not counts(result, trial):
                continue
            try:
                predictions = read_predictions(folder / "predictions.csv", settings.labels)
                fields = [predictions.pop((row.part, row.id)) for row in held_out[fold]]
            except (OSError, ValueError, KeyError):  # damaged, or from another split: the next call trains it again
                continue
            if not predictions:
                yield _cell_record(home, folder, result, held_out[fold], fields, settings.labels, trial or None)


def _columns(labels: Sequence[str]) -> list[str]:
    """Return the columns of the table of predictions."""
    return [*KEY, "predicted", *(f"p_{label}" for label in labels), *UTTERANCES]


def _epochs(settings: Experiment, splits: Iterable[Assigned]) -> dict[int, int]:
    """Return fold -> number of epochs of its trainings."""
    train = {(row.fold, row.id) for row in splits if row.part == "train"}
    sizes = Counter(fold for fold, _ in train)
    return {fold: settings.training.limited(size).epochs for fold, size in sizes.items()}


def _held_out(splits: Iterable[Assigned]) -> dict[int, list[Assigned]]:
    """Return fold -> its dev and test rows, in order."""
    rows: dict[int, list[Assigned]] = {}
    for row in splits:
        rows.setdefault(row.fold, []).extend([row] if row.part != "train" else [])
    return rows


def _cell_record(
    home: Path,
    folder: Path,
    result: Mapping[str, Any],
    rows: Sequence[Assigned],
    fields: Sequence[Sequence[str]],
    labels: tuple[str, ...],
    value: float | str | None = None,
) -> CellRecord:
    """Return the record of a cell, given its result and the `fields` of its predictions as in the files."""
    system = str(result["system"])
    if value is None and system in TUNED_OPTIONS and "options" in result:
        value = float(result["options"][TUNED_OPTIONS[system].name])
    by_part: dict[str, dict[str, Sequence[str]]] = {"dev": {}, "test": {}}
    for row, texts in zip(rows, fields, strict=True):
        by_part[row.part][row.id] = texts[2:]
    repeated = len({row.direction for row in rows}) > 1 and by_part["dev"] == by_part["test"]
    return CellRecord(
        name=home.name,
        home=home,
        folder=folder,
        system=system,
        fold=int(result["fold"]),
        seed=int(result["seed"]),
        result=result,
        value=value,
        unvalidated=not by_part["dev"] or (repeated and not result.get("fitted")),
        evaluation=str(result.get("evaluation", "")),
        digest=hashlib.blake2b("\n".join(map(",".join, fields)).encode(), digest_size=16).hexdigest(),
        labels=labels,
        rows=rows,
        fields=fields,
    )


def _result_rows(cell: CellRecord, normalise: str) -> Iterable[dict[str, Any]]:
    """Yield a cell's rows of results.csv; validation is empty if it is missing or repeats the test."""
    proof = cell.result.get("proof", {})
    for direction in cell.directions:
        values: dict[str, Any] = {**cell.result, **cell.result.get("directions", {}).get(direction, {}), **proof}
        values |= proof.get("versions", {})
        values |= {"options": cell.options or cell.result.get("chosen", ""), "evaluation": cell.evaluation}
        values |= {"direction": direction, "cell": cell.name, "normalise": normalise}
        for part, prefix in (("dev", "val"), ("test", "test")):
            predictions = cell.predictions(direction, part)
            figures = {f"{prefix}_{name}": getattr(predictions, name) for name in ("wa", "uar", "macro_f1")}
            figures[f"n_{prefix}"] = len(predictions.ids)
            values |= dict.fromkeys(figures, "") if part == "dev" and cell.unvalidated else figures
        yield values


# From the tables to records.


def read_run(folder: str | Path) -> RunRecords:
    """Read the run in `folder`, published or not; raises `RunError` if it is missing or cannot be read."""
    folder = Path(folder)
    path = folder / "config.yaml"
    if not path.is_file():
        mend = "Name the --out of a finished `unheard experiment`."
        raise RunError("this folder holds no run", where=folder, mend=mend)
    try:
        settings = load(path)
    except ConfigError as error:
        what = f"the settings of this run cannot be read ({error.what})"
        raise RunError(what, where=path, mend=error.mend) from error
    mend = "Run the same experiment again: it trains only missing cells and writes this file."
    try:
        with lzma.open(folder / TABLE, "rt", encoding="utf-8", newline="") as file:
            table = list(csv.reader(file))
        results: dict[tuple[str, ...], list[dict[str, str]]] = {}
        with (folder / RESULTS).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                options = row["options"] if row["fitted"] != "True" else ""
                key = (row["system"], options, row["evaluation"], row["fold"], row["seed"])
                results.setdefault(key, []).append(row)
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise RunError(f"the records of this run cannot be read ({error})", where=folder / TABLE, mend=mend) from error
    try:
        return _run_records(folder, settings, table, results)
    except (KeyError, ValueError, IndexError) as error:
        what = f"the records of this run are damaged ({type(error).__name__}: {error})"
        raise RunError(what, where=folder / TABLE, mend=mend) from error


def _run_records(
    folder: Path,
    settings: Experiment,
    table: Sequence[Sequence[str]],
    results: Mapping[tuple[str, ...], Sequence[Mapping[str, str]]],
) -> RunRecords:
    labels, width = settings.labels, len(KEY) + 1 + len(settings.labels)
    if list(table[0]) != _columns(labels):
        raise ValueError("the columns of the table are not those of these emotions")
    splits: list[Assigned] = []
    utterances: dict[str, dict[str, str]] = {}
    fields: dict[tuple[str, ...], list[Sequence[str]]] = {}
    for row in table[1:]:
        system, options, evaluation, fold, direction, seed, _, part, name, speaker, emotion = row[: len(KEY)]
        if system:
            fields.setdefault((system, options, evaluation, fold, seed), []).append(row[len(KEY) - 1 : width])
        else:
            splits.append(Assigned(int(fold), direction, part, name, speaker))
            columns = {"id": name, "speaker": speaker, "emotion": emotion}
            utterances[name] = columns | dict(zip(UTTERANCES, row[width:], strict=True))
    held_out = _held_out(splits)
    cells = []
    for key, rows in fields.items():
        result = _result_of(results[key])
        home = folder / "cells" / result["cell"]
        of_result = home if result["fitted"] else result_folder(home, result["epochs"])
        if key[2] and (of_result / "reestimated").is_dir() and result_in(of_result).get("evaluation") != key[2]:
            of_result = of_result / "reestimated"
        name, _, number = key[1].partition("=")
        value = key[1] if "." in name else float(number) if number else None
        cells.append(_cell_record(home, of_result, result, held_out[result["fold"]], rows, labels, value))
    candidates = choose(
        Candidate(cell.system, cell.fold, direction, cell.value, dev.wa, dev.uar, cell.evaluation)
        for cell in cells
        if cell.seed == 0 and isinstance(cell.value, float)
        for direction in cell.directions
        for dev in [cell.predictions(direction, "dev")]
    )
    # a system with its fixed value only has no candidates
    tuned = {c.system for c in candidates if c.chosen} | set(settings.systems if settings.tune == "grid" else ())
    candidates = tuple(c for c in candidates if c.system in tuned)
    finished = {(cell.system, cell.fold, cell.evaluation, cell.value) for cell in cells if cell.seed == 0}
    trials = read_trials(folder)
    missing = {t.key for t in trials if t.chosen and (t.system, t.fold, t.evaluation, t.value) not in finished}
    candidates += tuple(trial for trial in trials if trial.key not in missing)
    return RunRecords(
        folder=folder,
        settings=settings,
        labels=labels,
        utterances=utterances,
        splits=tuple(splits),
        split_digest=digest_of(splits),
        lines=lines_of(cells, candidates, splits, settings),
        candidates=candidates,
        cells=tuple(cells),
    )


def _result_of(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return the result of a cell from its rows of results.csv, a row for each direction."""
    first = rows[0]
    numbers = {name: int(first[name]) for name in ("epochs", "updates", "fold", "seed") if first[name]}
    directions: dict[str, dict[str, Any]] = {}
    for row in rows:
        figures: dict[str, Any] = {name: float(row[name]) for name in FIGURES if row[name]}
        directions[row["direction"]] = figures | {
            "best_epoch": int(row["best_epoch"]) if row["best_epoch"] else None,
            "under_trained": row["under_trained"] == "True",
        }
    return {
        **{name: first[name] for name in ("system", "name", "cell", "evaluation", "normalise")},
        **numbers,
        "fitted": first["fitted"] == "True",
        "chosen": first["options"],
        "under_trained": any(figures["under_trained"] for figures in directions.values()),
        "directions": directions,
        "proof": {
            **{name: first[name] for name in ("data", "features", "device")},
            "versions": {name: first[name] for name in VERSIONS if first[name]},
        },
        **{name: float(first[name]) for name in ("frames_per_second", "train_seconds") if first[name]},
    }


def _sort_key(cell: CellRecord) -> tuple[object, ...]:
    """Return a sort key: system in the paper's order, evaluation, fold, seed and value, trials last."""
    searched = isinstance(cell.value, str)
    return table_position(cell.system), cell.system, cell.evaluation, cell.fold, cell.seed, searched, cell.value or 0.0
