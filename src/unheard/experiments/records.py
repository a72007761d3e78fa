"""What a run's folder says, as records: for statistics, figures and tables. Needs neither torch nor the corpus.

    config.yaml + splits.csv + cells/* -> read_run -> lines (a system each) -> seeds -> predictions

A cell counts where its settings are those of the run and its utterances are its fold's in splits.csv, whichever call
made it. A seed counts only when all folds are there.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unheard.errors import ConfigError, RunError
from unheard.experiments.baselines import FITTED, normalisation_of
from unheard.experiments.config import Experiment, load
from unheard.experiments.selection import ADDED, KNOBS, SEEN, Choice, Figure, choose
from unheard.manifest import Manifest
from unheard.model.settings import NetworkSettings
from unheard.training.metrics import confusion, macro_f1, unweighted_average_recall, weighted_accuracy
from unheard.training.recipe import Augmentation, TrainingSettings, follows_a_schedule

__all__ = ["NAMES", "CellRecord", "Choice", "Line", "Predictions", "RunRecords", "SeedRecord", "read_run"]


@dataclass(frozen=True, eq=False)
class RunRecords:
    """Everything a run's folder says.

    `lines` in the order of the tables; `cells` are all finished ones, those tried for a choice too; `utterances` are
    rows of utterances.csv by id; `absent` says in words what the folder does not hold.
    """

    folder: Path
    settings: Experiment
    labels: tuple[str, ...]
    utterances: Mapping[str, Mapping[str, str]]
    splits: tuple[Assigned, ...]
    split_digest: str
    lines: tuple[Line, ...]
    choices: tuple[Choice, ...]
    cells: tuple[CellRecord, ...]
    absent: tuple[str, ...] = ()

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds of the split, ascending."""
        return tuple(sorted({row.fold for row in self.splits}))

    @cached_property
    def invariance(self) -> RunRecords | None:
        """The run in RUN/invariance, or None where there is none."""
        folder = self.folder / "invariance"
        return read_run(folder) if (folder / "config.yaml").exists() else None


def read_run(folder: str | Path) -> RunRecords:
    """The records of the run in `folder`; raises `RunError` where it holds none or one that cannot be read."""
    folder = Path(folder)
    path = folder / "config.yaml"
    if not path.is_file():
        raise RunError(
            "this folder holds no run",
            where=folder,
            mend="Name the --out of an `unheard experiment`: it has config.yaml, splits.csv and cells/.",
        )
    try:
        settings = load(path)
    except ConfigError as error:
        raise RunError(
            f"the settings of this run cannot be read ({error.what})", where=path, mend=error.mend
        ) from error
    splits = read_assignment(folder)
    found = gather(folder, settings, splits)
    utterances, absent = read_utterances(folder), list(found.absent)
    bare = {row.id: row.speaker for row in splits if row.id not in utterances}
    if bare:
        of_how_many = f" of {len(bare)} utterances" if utterances else ""
        absent.append(f"utterances.csv: genders, sessions, texts and languages{of_how_many} are not known")
        for name, speaker in bare.items():
            known = {"id": name, "speaker": speaker, "emotion": found.emotions.get(name, "")}
            utterances[name] = dict.fromkeys(UTTERANCES, "") | known
    return RunRecords(
        folder=folder,
        settings=settings,
        labels=settings.labels,
        utterances=utterances,
        splits=splits,
        split_digest=digest_of(splits),
        lines=found.lines,
        choices=found.choices,
        cells=found.cells,
        absent=tuple(absent),
    )


# The files of a run's folder as plain tables: nothing here knows torch or the corpus.
#
# RUN/config.yaml, splits.csv, utterances.csv, data.json, cells/<name>/{result.json, predictions.csv, ...}

UTTERANCES = ("id", "speaker", "gender", "session", "emotion", "text", "corpus", "language")
"""Columns of `utterances.csv`: the manifest's rows without paths."""

DATA = "data.json"
"""Which data each fold stands on: what trainings on labels or recordings of before are told by."""


class Assigned(NamedTuple):
    """A row of `splits.csv`: an utterance's part in a fold; training rows have an empty reading."""

    fold: int
    reading: str
    part: str
    id: str
    speaker: str


def read_assignment(folder: Path) -> tuple[Assigned, ...]:
    """The rows of a run's `splits.csv`; raises `RunError` where there is none or it cannot be understood."""
    path = folder / "splits.csv"
    try:
        rows = [
            Assigned(int(row["fold"]), row["reading"], row["part"], row["id"], row["speaker"]) for row in read_csv(path)
        ]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise RunError(
            f"the run's split cannot be read ({type(error).__name__}: {error})",
            where=path,
            mend="Run the same experiment again: it writes this file, and trains only what is missing.",
        ) from error
    if not any(row.part == "test" for row in rows):
        raise RunError("the run's split tests nobody", where=path, mend="Run the same experiment again.")
    return tuple(rows)


def digest_of(rows: Iterable[Assigned]) -> str:
    """What `Split.digest` is of the same assignment."""
    lines = sorted("\t".join(map(str, row[:4])) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def utterances_csv(manifest: Manifest) -> str:
    """The text of `utterances.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(UTTERANCES)
    writer.writerows([row.get(column) for column in UTTERANCES] for row in manifest)
    return text.getvalue()


def read_utterances(folder: Path) -> dict[str, dict[str, str]]:
    """id -> its row of `utterances.csv`, whole ones alone; nothing where a run has no such file."""
    path = folder / "utterances.csv"
    if not path.exists():
        return {}
    try:
        return {row["id"]: row for row in read_csv(path) if None not in row.values()}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise RunError(
            f"cannot be read ({error})", where=path, mend="Delete it; the same experiment again writes it anew."
        ) from error


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_data(folder: Path) -> dict[int, str | None]:
    """Fold -> the digest of the labels and recordings it stands on now, from `data.json`; None: it has others now.

    Of a fold that is not named nothing has changed since there is such a file. Nothing where the run has none, or none
    that can be read.
    """
    try:
        read = json.loads((folder / DATA).read_text(encoding="utf-8"))
        return {int(fold): None if digest is None else str(digest) for fold, digest in read.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def result_in(folder: Path) -> dict[str, Any]:
    """The content of a `result.json`; nothing where it is missing or damaged."""
    try:
        read = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def epochs_of(result: Mapping[str, Any]) -> int:
    """The number of epochs a result is for; -1 where it does not say."""
    epochs = result.get("epochs")
    return epochs if isinstance(epochs, int) else -1


def readout_of(folder: Path, epochs: int) -> Path:
    """Where a cell in `folder` keeps its result for `epochs` once it was trained further."""
    return folder / "readouts" / f"{epochs:05d}"


def place_of(folder: Path, epochs: int) -> Path:
    """Where the result of the cell in `folder` for `epochs` is, once it exists.

    The longest training's result is in the cell's folder itself, earlier readouts in `readouts/<epochs>`.
    """
    return folder if epochs_of(result_in(folder)) == epochs else readout_of(folder, epochs)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The lines of a `history.jsonl`; none where it is missing or damaged."""
    try:
        lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []


def read_predictions(path: Path, labels: Sequence[str]) -> dict[tuple[str, str], tuple[int, int, list[float]]]:
    """(part, id) -> true and predicted index in `labels`, and the probability of each label.

    Raises `ValueError`, `KeyError` or `OSError` for a file that is damaged or has other labels.
    """
    index = {label: place for place, label in enumerate(labels)}
    columns = ["id", "speaker", "part", "emotion", "predicted", *(f"p_{label}" for label in labels)]
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        try:
            if next(rows, None) != columns:
                raise ValueError(f"the columns are not {','.join(columns)}")
            return {
                (part, name): (index[emotion], index[predicted], [float(p) for p in probabilities])
                for name, _, part, emotion, predicted, *probabilities in rows
                if len(probabilities) == len(labels) or _damaged(name)
            }
        except csv.Error as error:
            raise ValueError(str(error)) from error


def _damaged(name: str) -> bool:
    raise ValueError(f"the row of '{name}' is incomplete")


# The records of a run: what a system said, a cell, a seed, a line of the tables.

NAMES = {"ser": "SER_only", "mtl": "SER_SR_MTL", "dat": "SER_SR_DAT", "cgt": "SER_SR_CGT"} | {
    key: system.name for key, system in FITTED.items()
}
"""The systems in the order of the paper's tables, with the names they have there, then the classical ones."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a system said of the utterances of one part, dev or test, of one seed: all folds in splits.csv's order.

    `truth` and `predicted` (n,) are indices of labels, `probabilities` is (n, C); `folds` (n,).
    """

    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    folds: NDArray[np.int64]
    readings: tuple[str, ...]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def wa(self) -> float:
        """Weighted accuracy, pooled over the folds."""
        return weighted_accuracy(self.truth, self.predicted)

    @property
    def uar(self) -> float:
        """Unweighted average recall, pooled over the folds."""
        return unweighted_average_recall(self.truth, self.predicted, self.probabilities.shape[1])

    @property
    def macro_f1(self) -> float:
        """Macro-averaged F1, pooled over the folds."""
        return macro_f1(self.truth, self.predicted, self.probabilities.shape[1])

    @property
    def wa_of_folds(self) -> float:
        """Mean of the folds' weighted accuracies."""
        here = [self.folds == fold for fold in np.unique(self.folds)]
        return statistics.fmean(weighted_accuracy(self.truth[own], self.predicted[own]) for own in here)

    def confusion(self, n_labels: int) -> NDArray[np.int64]:
        """Counts (C, C): row the true label, column the predicted one."""
        return confusion(self.truth, self.predicted, n_labels)


@dataclass(frozen=True, eq=False)
class CellRecord:
    """A finished cell. `folder` holds its result; `home` is the cell's own folder, another one for a readout.

    `value` is what its knob stood at, None for a system that has none. `judged_twice`: it has two readings and gave
    the same answers in both, so that its validation and its test say the same of the same utterances.
    """

    name: str
    folder: Path
    system: str
    fold: int
    seed: int
    result: Mapping[str, Any]
    home: Path
    value: float | None = None
    judged_twice: bool = False

    @property
    def fitted(self) -> bool:
        """Whether it was fitted in one go, and has neither epochs nor curves."""
        return bool(self.result.get("fitted"))

    def history(self) -> list[dict[str, Any]]:
        """A record an epoch, up to the result's; [] where they are absent."""
        return [record for record in read_history(self.home) if record.get("epoch", 0) <= self.result["epochs"]]

    def embeddings(self) -> tuple[NDArray[np.float32], tuple[str, ...], tuple[str, ...]] | None:
        """Embeddings (n, E) with their ids and parts, or None where they are absent."""
        path = self.folder / "embeddings.npz"
        if not path.exists():
            return None
        try:
            with np.load(path) as arrays:
                return arrays["e"], tuple(map(str, arrays["id"])), tuple(map(str, arrays["part"]))
        except (OSError, ValueError, KeyError) as error:
            raise RunError(
                f"cannot be read ({error})", where=path, mend="Delete it and run the experiment again."
            ) from error


@dataclass(frozen=True, eq=False)
class SeedRecord:
    """One complete seed of a line; `cells` are those its predictions are from, in the order of the folds."""

    seed: int
    dev: Predictions
    test: Predictions
    cells: tuple[CellRecord, ...]


@dataclass(frozen=True, eq=False)
class Line:
    """A line of the tables: a system, its knob fixed at `value` or chosen by validation speakers.

    `seeds` are the complete ones; `done` of `wanted` trainings are there.
    """

    system: str
    knob: str
    chosen: bool
    value: float | None
    seeds: tuple[SeedRecord, ...]
    done: int
    wanted: int

    @property
    def name(self) -> str:
        """The paper's name, and what was chosen: `SER_SR_DAT, λ chosen`; of systems not ours what their cells say."""
        said = (cell.result.get("name") for seed in self.seeds for cell in seed.cells)
        name = NAMES.get(self.system) or next(said, None) or self.system.upper()
        return f"{name}, {KNOBS[self.system].symbol} chosen" if self.chosen else name

    @property
    def fitted(self) -> bool:
        """Whether it is a classical system."""
        return any(cell.fitted for seed in self.seeds for cell in seed.cells)

    @property
    def judged_twice(self) -> bool:
        """Whether validation says over again what the test says: the same answers of the same networks.

        Where a fold is read in both directions and both readings come to the same network, as they do when the last
        epoch is read out, validation is no second opinion; nor is it where it chose among such networks.
        """
        return bool(self.seeds) and all(cell.judged_twice for seed in self.seeds for cell in seed.cells)

    @property
    def family(self) -> str:
        """Whose contrasts it is corrected with."""
        return "classical" if self.fitted else "chosen" if self.chosen else "fixed"

    def over_seeds(self, figure: str, part: str = "test") -> tuple[float, float]:
        """Mean and sample standard deviation over the complete seeds of `wa`, `uar`, ...; NaN where too few."""
        values = [float(getattr(getattr(seed, part), figure)) for seed in self.seeds]
        mean = statistics.fmean(values) if values else float("nan")
        return mean, statistics.stdev(values) if len(values) > 1 else float("nan")


# From the folders of cells to lines: which cells count, what was chosen, which seeds are complete.

Key = tuple[str, float | None, int, int]
"""(system, value of its knob, fold, seed): what a cell is for."""


@dataclass(frozen=True)
class Found:
    """What the cells of a run come to; `emotions` are the true labels of the held-out utterances."""

    lines: tuple[Line, ...]
    choices: tuple[Choice, ...]
    cells: tuple[CellRecord, ...]
    emotions: Mapping[str, str]
    absent: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Said:
    """A cell and what it said of its fold's held-out utterances, in the order of splits.csv."""

    record: CellRecord
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def gather(folder: Path, settings: Experiment, splits: Sequence[Assigned]) -> Found:
    """Every finished cell that is one of this run, and the lines they make."""
    held: dict[int, list[Assigned]] = {row.fold: [] for row in splits}
    for row in splits:
        if row.part != "train":
            held[row.fold].append(row)
    said, absent = _of_one_data(_cells(folder, settings, held), read_data(folder), folder)
    choices = choose(_figures(said.values()))
    # fixed values alone are no choice; one made by an earlier call is
    made = {choice.system for choice in choices if choice.chosen} | set(settings.systems if settings.tune else ())
    choices = tuple(choice for choice in choices if choice.system in made)
    lines = _lines(said, choices, held, settings)
    cells = tuple(one.record for one in said.values())
    trained = [cell for cell in cells if not cell.fitted]
    curves = [cell for cell in trained if not (cell.home / "history.jsonl").exists()]
    if curves:
        absent.append(f"history.jsonl: the histories of {len(curves)} of {len(trained)} trainings are not here")
    spaces = [cell for cell in cells if not (cell.folder / "embeddings.npz").exists()]
    if spaces:
        absent.append(f"embeddings.npz: the embeddings of {len(spaces)} of {len(cells)} trainings are not here")
    emotions = {
        row.id: settings.labels[truth]
        for one in said.values()
        for row, truth in zip(held[one.record.fold], one.truth, strict=True)
    }
    return Found(lines, choices, cells, emotions, tuple(absent))


def _cells(folder: Path, settings: Experiment, held: Mapping[int, list[Assigned]]) -> list[_Said]:
    """The finished cells whose settings are the run's and whose utterances are their fold's."""
    wanted = _decisive(settings)
    found = []
    for home in sorted((folder / "cells").glob("*-fold*-seed*-*")):
        fitted = result_in(home).get("fitted")
        place = home if fitted else place_of(home, settings.epochs)
        result = result_in(place)
        if not (fitted or epochs_of(result) == settings.epochs) or result.get("fold") not in held:
            continue
        fits, value = _fits(result, settings, wanted)
        said = _predictions(place / "predictions.csv", settings.labels, held[result["fold"]]) if fits else None
        if said is None:
            continue
        record = CellRecord(
            name=home.name,
            folder=place,
            system=result["system"],
            fold=result["fold"],
            seed=result["seed"],
            result=result,
            home=home,
            value=value,
            judged_twice=not fitted and _same_in_both(held[result["fold"]], said[2]),
        )
        found.append(_Said(record, *said))
    return sorted(found, key=lambda said: _place(said.record))


def _same_in_both(rows: Sequence[Assigned], probabilities: NDArray[np.float64]) -> bool:
    """Whether what is validation in one reading is the test of another, with the same probabilities (n, C)."""
    said: dict[str, dict[str, tuple[float, ...]]] = {"dev": {}, "test": {}}
    for row, each in zip(rows, probabilities.tolist(), strict=True):
        said[row.part][row.id] = tuple(each)
    return len({row.reading for row in rows}) > 1 and said["dev"] == said["test"]


def _place(record: CellRecord) -> tuple[int, str, int, int, float]:
    """By system in the paper's order, fold, seed and value."""
    order = list(NAMES)
    system = order.index(record.system) if record.system in order else len(order)
    return system, record.system, record.fold, record.seed, record.value or 0.0


def _decisive(settings: Experiment) -> dict[str, Any]:
    """The settings that a result has to share, as JSON would read them."""
    recipe = asdict(settings.training) | {"epochs": 0, "report_epochs": []}
    wanted = {
        "labels": list(settings.labels),
        "group": settings.group,
        "network": asdict(settings.network.resolved(settings.features)),
        "recipe": recipe,
        "normalise": settings.normalise,
    }
    plain: dict[str, Any] = json.loads(json.dumps(wanted))
    return plain


def _fits(result: Mapping[str, Any], settings: Experiment, wanted: Mapping[str, Any]) -> tuple[bool, float | None]:
    """Whether a result is of this run's settings, whatever its knob stands at; and what that is."""
    said = result.get("settings")
    system = result.get("system")
    if not isinstance(said, dict) or not isinstance(system, str) or not isinstance(result.get("seed"), int):
        return False, None
    if result.get("fitted"):  # it has nothing of network and recipe
        wanted = {name: wanted[name] for name in ("labels", "group")}
        wanted["normalise"] = normalisation_of(settings.normalise)
        defined = system not in FITTED or _definition(result) == FITTED[system].digest
        return defined and {name: said.get(name) for name in wanted} == wanted, None
    own = {name: said.get(name) for name in wanted}
    # an older result does not say what was added since, and had it at its default
    own["network"] = json.loads(json.dumps(asdict(NetworkSettings()))) | dict(own["network"] or {})
    theirs = dict(own["recipe"] or {})
    theirs.pop("readouts", None)
    if "statistics" in theirs:  # until the published results are of format 1
        theirs["batchnorm"] = {"anew": "reestimate"}.get(theirs["statistics"], theirs.pop("statistics"))
        theirs.pop("statistics", None)
    recipe = asdict(TrainingSettings()) | theirs | {"epochs": 0, "report_epochs": []}
    recipe["augment"] = asdict(Augmentation()) | dict(recipe["augment"])
    own["recipe"] = recipe
    if own != wanted:
        return False, None
    options: dict[str, Any] = {**ADDED.get(system, {}), **(said.get("options") or {})}
    follows = follows_a_schedule(options, recipe["schedule"])
    if follows and (said["recipe"] or {}).get("epochs") != settings.epochs:  # midway through a longer schedule
        return False, None
    if system == "cgt" and settings.normalise == "sliding" and result.get("proof", {}).get("epsilon") != SEEN:
        return False, None  # of an earlier version, whose ε was of the raw features
    knob = KNOBS.get(system)
    value = options.pop(knob.option, None) if knob else None
    for name, asked in settings.options.get(system, {}).items():
        # JSON has no infinity: an option that is one was written as null
        if name in options and options[name] != asked and not (options[name] is None and asked == float("inf")):
            return False, None
    return True, None if value is None else float(value)


def _predictions(
    path: Path, labels: Sequence[str], rows: Sequence[Assigned]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]] | None:
    """Truth (n,), predicted (n,) and probabilities (n, C) of `rows`; None where they are others, or damaged."""
    try:
        said = read_predictions(path, labels)
        if len(said) != len(rows):
            return None
        chosen = [said[row.part, row.id] for row in rows]
    except (OSError, ValueError, KeyError):
        return None
    truth, predicted, probabilities = zip(*chosen, strict=True)
    return np.array(truth, np.int64), np.array(predicted, np.int64), np.array(probabilities, np.float64)


def _key(record: CellRecord) -> Key:
    return record.system, record.value, record.fold, record.seed


def _of_one_data(
    found: Sequence[_Said], data: Mapping[int, str | None], run: Path
) -> tuple[dict[Key, _Said], list[str]]:
    """One cell for each key, of the data that the run says its folds stand on.

    For every system: one trained on the labels of before beside one trained on those of now would be no comparison.
    Nor would one trained before the same settings began to give other numbers: of several formats the newest counts.
    A fold that `data.json` does not name is from before there was one; raises `RunError` where its trainings are not of
    one data.
    """
    newest = max((_format(said.record) for said in found if not said.record.fitted), default=0)
    of_format = [said for said in found if said.record.fitted or _format(said.record) == newest]
    older = len(found) - len(of_format)
    notes = [f"{older} trainings of an earlier version, which gave other numbers, are left out"] if older else []
    kept = [said for said in of_format if said.record.fold not in data or _data(said.record) == data[said.record.fold]]
    gone = len(of_format) - len(kept)
    if gone:
        notes.append(f"{gone} trainings on other data (labels or recordings have changed since) are left out")
    kinds: dict[str, set[object]] = {}
    for said in kept:
        if said.record.fitted:
            kinds.setdefault(said.record.system, set()).add(_definition(said.record.result))
    mixed = sorted(system for system, several in kinds.items() if len(several) > 1)
    kept = [said for said in kept if said.record.system not in mixed]
    notes += [f"{system} is left out: its cells are of several definitions; delete the older ones" for system in mixed]
    options: dict[Key, set[str]] = {}
    for said in kept:
        own = {**ADDED.get(said.record.system, {}), **(said.record.result["settings"].get("options") or {})}
        options.setdefault(_key(said.record), set()).add(json.dumps(own, sort_keys=True))
    torn = sorted({key[0] for key, several in options.items() if len(several) > 1})
    kept = [said for said in kept if said.record.system not in torn]
    notes += [
        f"{system} is left out: it was trained with several options; say which with --option {system}.NAME=VALUE"
        for system in torn
    ]
    of_fold: dict[int, set[object]] = {}
    for said in kept:
        of_fold.setdefault(said.record.fold, set()).add(_data(said.record))
    for fold, several in sorted(of_fold.items()):
        if len(several) > 1:
            raise RunError(
                f"fold {fold} was trained on {len(several)} versions of the data, and {DATA} does not say which counts",
                where=run,
                mend="Run the same experiment again: it writes this file, and trains only what is missing.",
            )
    return {_key(said.record): said for said in sorted(kept, key=lambda said: _place(said.record))}, notes


def _data(record: CellRecord) -> object:
    """The digest of the data a training was given."""
    return record.result.get("proof", {}).get("data")


def _definition(result: Mapping[str, Any]) -> object:
    """Which definition of a classical system a fit is of: its vectors, its way of fitting, its grid."""
    return result.get("proof", {}).get("fitted")


def _format(record: CellRecord) -> int:
    """Which of the formats of `cells.FORMAT` a training is of; the first ones did not say."""
    return int(record.result.get("proof", {}).get("format", 2))


def _figures(said: Iterable[_Said]) -> list[Figure]:
    """The validation figures of every value tried on seed 0; the test's are not looked at."""
    return [
        Figure(one.record.system, one.record.fold, reading, one.record.value, figures["val_wa"], figures["val_uar"])
        for one in said
        if one.record.seed == 0 and one.record.value is not None and one.record.system in KNOBS
        for reading, figures in one.record.result.get("readings", {}).items()
    ]


def _lines(
    said: Mapping[Key, _Said], choices: Sequence[Choice], held: Mapping[int, list[Assigned]], settings: Experiment
) -> tuple[Line, ...]:
    systems = [*settings.systems, *dict.fromkeys(key[0] for key in said)]
    known = [name for name in NAMES if name in systems]
    lines = []
    for system in dict.fromkeys([*known, *systems]):
        knob = KNOBS.get(system)
        value = float(settings.options.get(system, {}).get(knob.option, knob.fixed)) if knob else None
        asked = settings.seeds if system in settings.systems else 0
        fixed = {(fold, reading): value for fold, rows in held.items() for reading in {r.reading for r in rows}}
        if knob is None:
            lines.append(_line(system, "", fixed, False, None, said, held, asked))
            continue
        lines.append(_line(system, knob.option, fixed, False, value, said, held, asked))
        chosen = {(c.fold, c.reading): c.value for c in choices if c.system == system and c.chosen}
        tuned = settings.tune and system in settings.systems
        if tuned or chosen.keys() == fixed.keys():
            lines.append(_line(system, knob.option, chosen, True, None, said, held, asked if tuned else 0))
    return tuple(lines)


def _line(
    system: str,
    knob: str,
    values: Mapping[tuple[int, str], float | None],
    chosen: bool,
    value: float | None,
    said: Mapping[Key, _Said],
    held: Mapping[int, list[Assigned]],
    asked: int,
) -> Line:
    """The line of the cells that have `values` (fold and reading -> value of the knob)."""
    used = {(fold, v) for (fold, _), v in values.items()}
    found = {key[3] for key in said if key[0] == system and (key[2], key[1]) in used}
    if chosen:  # where the fixed value was chosen, its other seeds are no sign that the chosen ones' were wanted
        found = {seed for seed in found if all((system, v, fold, seed) in said for fold, v in used)}
    seeds = range(max([asked, *(seed + 1 for seed in found)]))
    records, done = [], 0
    for seed in seeds:
        parts: list[tuple[list[Assigned], _Said, NDArray[np.bool_]]] = []
        for fold, rows in held.items():
            readings = list(dict.fromkeys(row.reading for row in rows))
            cells = {r: said.get((system, values.get((fold, r), -1.0), fold, seed)) for r in readings}
            whole = [(r, cell) for r, cell in cells.items() if cell is not None]
            if len(whole) < len(readings):
                continue
            done += 1
            for reading, cell in whole:
                parts.append((rows, cell, np.array([row.reading == reading for row in rows])))
        if len({id(rows) for rows, _, _ in parts}) == len(held):
            used_cells = tuple(dict.fromkeys(cell.record for _, cell, _ in parts))
            records.append(SeedRecord(seed, _joined(parts, "dev"), _joined(parts, "test"), used_cells))
    return Line(system, knob, chosen, value, tuple(records), done, len(seeds) * len(held))


def _joined(parts: Sequence[tuple[list[Assigned], _Said, NDArray[np.bool_]]], part: str) -> Predictions:
    rows: list[Assigned] = []
    truth, predicted, probabilities = [], [], []
    for all_rows, cell, of_reading in parts:
        own = of_reading & np.array([row.part == part for row in all_rows])
        rows += [row for row, mine in zip(all_rows, own, strict=True) if mine]
        truth.append(cell.truth[own])
        predicted.append(cell.predicted[own])
        probabilities.append(cell.probabilities[own])
    return Predictions(
        ids=tuple(row.id for row in rows),
        speakers=tuple(row.speaker for row in rows),
        folds=np.array([row.fold for row in rows], np.int64),
        readings=tuple(row.reading for row in rows),
        truth=np.concatenate(truth),
        predicted=np.concatenate(predicted),
        probabilities=np.concatenate(probabilities),
    )
