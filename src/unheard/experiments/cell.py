"""One cell of an experiment: a system on a fold with a seed, in a folder of its own.

    RUN/cells/<system>-fold<k>-seed<s>-<hash>/
        result.json        what was trained and its proof (digests, versions, speakers); written last
        predictions.csv    id, speaker, part, emotion, predicted, p_<label>...
        embeddings.npz     e (n, E) of the same utterances
        history.jsonl      a line for each epoch
        model.safetensors  the trained recogniser; of a second direction model-<direction>.safetensors
        reestimated/       the same with batch norm re-estimated, where both evaluations are reported
        networks/<k>/      history and checkpoint of network k = 1, 2, ..., if several are joined
        epochs/<n>/        the same after fewer epochs

The hash is over everything that determines the numbers. Training continues from the checkpoint of a killed process.
"""

import json
import platform
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import unheard
from unheard.errors import TrainingError, UnheardError
from unheard.experiments.baselines import EPOCHS, ClassicalSystem, DecisionFunction, Doubles
from unheard.experiments.cell_files import archive_result, epochs_folder, epochs_of, result_in, write_predictions
from unheard.experiments.plan import Cell, code_of
from unheard.features import FeatureSettings, FeatureStore, Normaliser
from unheard.features.normalise import FeatureSource, Moments, guarded, pool
from unheard.features.settings import columns_of
from unheard.features.store import copy_folder
from unheard.files import write_json, write_text, write_whole
from unheard.manifest import Utterance
from unheard.model.saving import Model
from unheard.parallel import Died, available_cores, map_unordered
from unheard.training.augment import change_of
from unheard.training.batches import Dataset
from unheard.training.evaluation import Scores, choose_device
from unheard.training.logging import logger_of
from unheard.training.metrics import balanced_weights
from unheard.training.strategies import StrategyConfig, build, strategy_of
from unheard.training.strategies.base import derive_seed
from unheard.training.strategies.cgt import CGT
from unheard.training.trainer import Evaluation, Trainer, join_evaluations

# Running cells in worker processes.

Outcome = tuple[Cell, str]  # a cell and why it failed, "" if it is done


def run_cells(cells: Sequence[Cell], tick: Callable[[], None] | None = None) -> Iterator[Outcome]:
    """Train `cells` in their order in processes, and yield each as it ends; the numbers do not depend on how many.

    A cell whose worker dies is tried once more and continues from its checkpoint.
    """
    workers = cells[0].settings.workers or default_workers(cells[0].settings.device)
    for index, failure in map_unordered(attempt, cells, workers=workers, isolate=True, tick=tick):
        yield cells[index], failure.reason if isinstance(failure, Died) else failure


def default_workers(device: str) -> int:
    """Return the default number of simultaneous trainings: one a core on a CPU, one on an accelerator."""
    return 1 if device != "cpu" and choose_device(device).type != "cpu" else available_cores()


def attempt(cell: Cell) -> str:
    """Train `cell` with one thread; return "" or why it failed, with the traceback in its failure.txt."""
    torch.set_num_threads(1)
    try:
        with ExitStack() as stack:
            run_cell(cell, _epoch_callback(cell, stack))
    except Exception as error:
        with suppress(UnheardError):
            write_text(cell.folder / "failure.txt", traceback.format_exc())
        return str(error) if isinstance(error, UnheardError) else f"{type(error).__name__}: {error}"
    finally:
        epoch_file(cell).unlink(missing_ok=True)
    (cell.folder / "failure.txt").unlink(missing_ok=True)
    return ""


def epoch_file(cell: Cell) -> Path:
    """Return the file with the number of the last finished epoch of a cell in training."""
    return cell.folder / ".epoch"


def _epoch_callback(cell: Cell, stack: ExitStack) -> Callable[[Mapping[str, Any]], None]:
    """Return a function that records each epoch for the progress bar and the loggers, which `stack` closes."""
    settings = {"system": cell.system, "fold": cell.fold.index, "seed": cell.seed, "options": dict(cell.options)}
    settings |= {"network": asdict(cell.settings.network), "training": asdict(cell.settings.training)}
    cell.folder.mkdir(parents=True, exist_ok=True)
    logs = [stack.enter_context(logger_of(name)(cell.folder, settings)) for name in cell.settings.logger]

    def report(record: Mapping[str, Any]) -> None:
        with suppress(OSError):
            epoch_file(cell).write_text(str(record["epoch"]))
        for log in logs:
            log(record)

    return report


# The files of a finished cell.


def write_models(
    cell: Cell, normaliser: Normaliser, features: FeatureSettings, evaluations: Sequence[Evaluation], folder: Path
) -> None:
    """Write `model.safetensors` of the first direction, `model-<direction>.safetensors` of a second."""
    speakers = sorted({cell.rows[utterance].full_name for utterance in cell.fold.train})
    network = cell.settings.network.joined(cell.settings.training.networks)
    for evaluation, name in zip(evaluations, model_names(cell), strict=True):
        about = {"cell": cell.name, "direction": evaluation.direction, "epoch": str(evaluation.best_epoch)}
        about["train_speakers"] = json.dumps(speakers)
        model = Model.of(evaluation.weights, network, cell.settings.labels, normaliser, features)
        write_whole(folder / name, partial(model.save, about=about))


def model_names(cell: Cell) -> list[str]:
    """Return the file names of the models of the cell's directions."""
    others = cell.fold.directions[1:]
    return ["model.safetensors", *(f"model-{direction.name}.safetensors" for direction in others)]


def result_of(cell: Cell, evaluations: Sequence[Evaluation], device: str) -> dict[str, Any]:
    """Return the content of a `result.json` that trained and classical cells share."""
    train = [cell.rows[name] for name in cell.fold.train]
    settings = cell.settings
    directions = {}
    for e in evaluations:
        figures: dict[str, Any] = {"best_epoch": e.best_epoch, "under_trained": e.under_trained}
        for part, scores in (("val", e.dev), ("test", e.test)):
            figures |= {f"{part}_wa": scores.wa, f"{part}_uar": scores.uar} if scores.ids else {}
        directions[e.direction] = figures
    return {
        "system": cell.system,
        "name": cell.classical.name if cell.classical else strategy_of(cell.system)[0],
        "fitted": cell.classical is not None,
        "evaluation": "" if cell.classical else evaluations[0].mode,
        "fold": cell.fold.index,
        "seed": cell.seed,
        "epochs": evaluations[0].epochs,
        "under_trained": any(e.under_trained for e in evaluations),
        "directions": directions,
        "options": dict(cell.options),
        "trial": cell.trial,
        "settings": {
            "digest": cell.settings_digest,
            "labels": list(settings.labels),
            "group": settings.group,
            "normalise": settings.normalise,
            "transductive": settings.normalise == "speaker",
        },
        "proof": {
            "cell": cell.name,
            "split": cell.split,
            "data": cell.data,
            "features": settings.features.digest,
            "code": code_of(cell.system),
            "train_utterances": len(train),
            "train_speakers": sorted({row.speaker for row in train}),
            "train_emotions": {label: sum(row.emotion == label for row in train) for label in settings.labels},
            "versions": versions(),
            "device": device,
        },
    }


def versions() -> dict[str, str]:
    """Return the versions a number may depend on; numba is "" where it is not installed."""
    try:
        numba = version("numba")
    except PackageNotFoundError:
        numba = ""
    return {
        "unheard": unheard.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "numba": numba,
        "platform": f"{platform.system()} {platform.machine()}",
    }


# Classical systems.

Vectors = Mapping[str, NDArray[np.float32]]


def fit_cell(cell: Cell, vectors: Vectors | None = None) -> dict[str, Any]:
    """Fit one cell of a classical system; return the content of its `result.json`.

    `vectors` maps ids to standardised vectors (D,); by default they are computed from the cell's store. The seed has no
    effect: every seed has the same results, so that each can be paired with the same seed of a network.
    """
    began = time.perf_counter()
    system = cell.classical
    assert system is not None
    x = standardised_vectors(cell) if vectors is None else vectors
    y = {name: cell.settings.labels.index(row.emotion) for name, row in cell.rows.items()}

    def part(ids: Sequence[str]) -> tuple[Doubles, NDArray[np.int64]]:
        return np.stack([x[name] for name in ids]).astype(np.float64), np.array([y[name] for name in ids], np.int64)

    def scores(decide: DecisionFunction, ids: tuple[str, ...]) -> Scores:
        """Score with decision values as logits; their softmax, the probabilities, is not calibrated."""
        inputs, truth = part(ids)
        return Scores(ids, truth, decide(inputs).astype(np.float32), inputs.astype(np.float32))

    train = part(cell.fold.train)
    groups = [cell.rows[name].get(cell.settings.group) for name in cell.fold.train]
    fits = {value: system.fit(*train, len(cell.settings.labels), value) for value in sorted(system.grid)}
    evaluations, chosen = [], {}
    for direction in cell.fold.directions:
        if direction.dev:
            tried = {value: scores(decide, direction.dev) for value, decide in fits.items()}
            accuracy = {value: result.wa for value, result in tried.items()}
        else:
            tried, accuracy = {}, cross_validated(system, *train, groups, len(cell.settings.labels))
        best = max(accuracy, key=lambda value: (accuracy[value], -value))
        chosen[direction.name] = best
        test = scores(fits[best], direction.test)  # test utterances are scored nowhere else
        evaluations.append(Evaluation(direction.name, EPOCHS, EPOCHS, tried.get(best, test.none), test))
    write_predictions(cell, evaluations, cell.folder)
    result = result_of(cell, evaluations, "cpu")
    features = system.features.as_dict() if system.features else system.source
    result["settings"] |= {"features": features, "grid": list(system.grid)}
    for name, value in chosen.items():
        result["directions"][name] |= {system.hyperparameter: value, "best_epoch": None}
    result["chosen"] = " ".join(f"{system.hyperparameter}={value:g}" for value in dict.fromkeys(chosen.values()))
    result["proof"]["dimensions"] = int(train[0].shape[1])
    result["seconds"] = round(time.perf_counter() - began, 3)
    write_json(cell.folder / "result.json", result)  # last: it marks the cell as complete
    return result


def _same_as_seed_0(cell: Cell) -> dict[str, Any]:
    """Copy the fit of seed 0, which is the same for every seed; return its result, {} without one."""
    first = replace(cell, seed=0)
    result = first.result() if cell.seed else None
    if result is None:
        return {}
    for name in ("predictions.csv", "embeddings.npz"):
        write_whole(cell.folder / name, partial(shutil.copyfile, first.folder / name))
    result = result | {"seed": cell.seed, "proof": result["proof"] | {"cell": cell.name}}
    write_json(cell.folder / "result.json", result)
    return result


def cross_validated(
    system: ClassicalSystem, x: Doubles, y: NDArray[np.int64], groups: Sequence[str], classes: int
) -> dict[float, float]:
    """Return the WA of each value of the grid by three-fold cross-validation over the training speakers.

    `x` (n, D), `y` (n,); `groups` are the speakers (n,). Raises `TrainingError` for a single speaker.
    """
    from sklearn.model_selection import GroupKFold

    if len(set(groups)) < 2:
        what = "cannot be chosen: a single speaker trains, and nobody validates"
        raise TrainingError(f"{system.hyperparameter} of {system.name} {what}", mend="Set --validation held-out.")
    hits = dict.fromkeys(sorted(system.grid), 0)
    for train, test in GroupKFold(min(3, len(set(groups)))).split(x, y, groups):
        for value in hits:
            decide = system.fit(x[train], y[train], classes, value)
            hits[value] += int((decide(x[test]).argmax(1) == y[test]).sum())
    return {value: count / len(y) for value, count in hits.items()}


def standardised_vectors(cell: Cell) -> dict[str, NDArray[np.float32]]:
    """Return the vectors (D,) of the cell's store, or its pooled frames, standardised on the training utterances.

    With `normalise` "speaker": on all utterances of each speaker.
    """
    store = FeatureStore(cell.store)
    vectors = _PooledFrames(store, cell.rows) if cell.classical and cell.classical.pools else store
    normaliser = _fitted_normaliser(cell, store, vectors)
    return {name: normaliser.apply(vectors[name], row.speaker)[0] for name, row in cell.rows.items()}


class _PooledFrames(dict[str, NDArray[np.float32]]):
    """Mean and standard deviation over time of each utterance's frames, (1, 2F), in memory."""

    def __init__(self, store: FeatureStore, names: Iterable[str]) -> None:
        super().__init__({name: pool(store[name])[None].astype(np.float32) for name in names})
        self.dim = 2 * store.dim


def _fitted_normaliser(cell: Cell, store: FeatureStore, vectors: FeatureSource) -> Normaliser:
    cell.check(store)
    speakers = {name: row.speaker for name, row in cell.rows.items()}
    ids = cell.rows if cell.settings.normalise == "speaker" else cell.fold.train
    return Normaliser(cell.settings.normalise).fit(vectors, ids, speakers)


# Networks.


@dataclass(frozen=True)
class NormalisedFrames:
    """The store's features as the network receives them."""

    store: FeatureStore
    normaliser: Normaliser
    rows: Mapping[str, Utterance]

    def length(self, utterance: str) -> int:
        """Return the number of frames of one utterance."""
        return self.store.entries[utterance].frames

    def __getitem__(self, utterance: str) -> NDArray[np.float32]:
        """Return normalised frames (T, F)."""
        return self.normaliser.apply(self.store[utterance], self.rows[utterance].speaker)


def run_cell(cell: Cell, on_epoch: Callable[[Mapping[str, Any]], None] | None = None) -> dict[str, Any]:
    """Train, or finish training, or fit one cell; return the content of its `result.json`.

    Errors of training are raised unchanged; files on disk stay.
    """
    done = cell.result()
    if done is not None:
        return done
    if cell.classical is not None:
        return _same_as_seed_0(cell) or fit_cell(cell)
    began = time.perf_counter()
    trainers, normaliser, features = make_trainers(cell, on_epoch)
    resumed = [trainer.resume() for trainer in trainers]
    reached = max(trainer.epoch for trainer in trainers)
    target_epochs, previous = cell.settings.epochs, epochs_of(result_in(cell.folder))
    if reached > target_epochs:
        what = f"this cell has been trained to {reached} epochs and has no result at {target_epochs}"
        mend = "Name a fresh --out, or list the epochs you want in training.report_epochs before training further."
        raise TrainingError(what, where=cell.folder, mend=mend)
    if 0 < previous < target_epochs:
        archive_result(cell.folder, previous)
    result: dict[str, Any] = {}
    for epochs in cell.settings.training.budgets:
        if epochs < reached:
            continue
        by_network = [trainer.run(epochs) for trainer in trainers]
        evaluations = [join_evaluations(networks) for networks in zip(*by_network, strict=True)]
        target = cell.folder if epochs == target_epochs else epochs_folder(cell.folder, epochs)
        first = [e for e in evaluations if e.mode == evaluations[0].mode]
        # result.json is written last: it marks the others as complete
        for folder, same_mode in ((target / "reestimated", evaluations[len(first) :]), (target, first)):
            if not same_mode:
                continue
            write_predictions(cell, same_mode, folder)
            write_models(cell, normaliser, features, same_mode, folder)
            frames, seconds = (
                sum(record[name] for trainer in trainers for record in trainer.history)
                for name in ("frames", "train_seconds")
            )
            result = result_of(cell, same_mode, str(trainers[0].device)) | {
                "updates": sum(record["steps"] for record in trainers[0].history),
                "frames": frames,
                "train_seconds": round(seconds, 3),
                "frames_per_second": round(frames / seconds, 1) if seconds else 0.0,
                "resumed": any(resumed),
                "seconds": round(time.perf_counter() - began, 3),
            }
            result["settings"] |= {"network": asdict(cell.settings.network), "recipe": asdict(cell.settings.training)}
            write_json(folder / "result.json", result)
    return result


def make_trainers(
    cell: Cell, on_epoch: Callable[[Mapping[str, Any]], None] | None = None
) -> tuple[list[Trainer], Normaliser, FeatureSettings]:
    """Return a trainer for each network of a cell, its normaliser, and the settings of its features."""
    recipe, network, labels, group = (
        getattr(cell.settings, name) for name in ("training", "network", "labels", "group")
    )
    store = FeatureStore(cell.store)
    normaliser = _fitted_normaliser(cell, store, store)
    frames = NormalisedFrames(store, normaliser, cell.rows)
    train = {name: cell.rows[name] for name in cell.fold.train}
    groups = sorted({row.get(group) for row in train.values()})
    y = {name: labels.index(row.emotion) for name, row in cell.rows.items()}
    s = {name: groups.index(row.get(group)) for name, row in train.items()}
    copies = (FeatureStore(copy_folder(cell.store, copy)) for copy in range(1, recipe.copies + 1))
    variants = [frames, *(replace(frames, store=copy) for copy in copies)]
    weights = balanced_weights({name: y[name] for name in train}) if recipe.class_weights == "balanced" else None
    classes = {name: (row.corpus, y[name]) for name, row in train.items()}
    odds = balanced_weights(classes) if recipe.sampling == "balanced" else None
    change = change_of(recipe, columns_of(store.settings), variants, {name: row.speaker for name, row in train.items()})
    dataset = Dataset(frames, y, s, change, weights, odds)
    directions = {direction.name: (direction.dev, direction.test) for direction in cell.fold.directions}
    sizes, device = (store.dim, len(labels), len(groups), network), choose_device(cell.settings.device)
    trainers = []
    for k in range(recipe.networks):
        key = (cell.fold.index, cell.seed, *([k] if k else []))
        setting = StrategyConfig(*sizes, derive_seed("weights", *key), recipe.label_smoothing)
        strategy = build(cell.system, setting, cell.options)
        if isinstance(strategy, CGT) and normaliser.kind in ("none", "sliding"):
            moments = Moments(store.dim)
            for name in train:
                moments.add(frames[name])
            strategy.input_std.copy_(torch.from_numpy(guarded(np.sqrt(moments.variance)).astype(np.float32)))
        trainers.append(
            Trainer(
                strategy,
                dataset,
                cell.fold.train,
                directions,
                recipe,
                cell.folder / "networks" / str(k) if k else cell.folder,
                key=("batches", *key),
                device=device,
                on_epoch=on_epoch and partial(_report_epoch, k * recipe.epochs, on_epoch),
            )
        )
    return trainers, normaliser, store.settings


def _report_epoch(offset: int, on_epoch: Callable[[Mapping[str, Any]], None], record: Mapping[str, Any]) -> None:
    """Call `on_epoch` with the epoch number increased by `offset`, the epochs of the networks trained before."""
    on_epoch({**record, "epoch": offset + record["epoch"]})
