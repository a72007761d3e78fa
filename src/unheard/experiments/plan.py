"""From settings to cells: corpus -> manifest -> features -> split -> systems x folds x seeds."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from unheard.corpora import official, read_corpus, read_manifest
from unheard.corpora.channels import choose_channel
from unheard.errors import ConfigError, FeatureError, UnheardError, did_you_mean
from unheard.experiments.baselines import EPOCHS, FITTED, normalisation_of
from unheard.experiments.cell import Cell, NormalisedFrames, change_of, data_digest
from unheard.experiments.config import Experiment
from unheard.experiments.launch import usual_workers
from unheard.experiments.records import read_history
from unheard.experiments.selection import KNOBS, Choice
from unheard.features import FeatureSettings, FeatureStore, Normaliser, build_store
from unheard.features.encoder import resolve
from unheard.features.settings import columns_of
from unheard.manifest import Manifest, Note
from unheard.model.network import NetworkSettings
from unheard.model.saving import WITH_PROFILES
from unheard.splits import PROTOCOLS, Split, default_protocol, exclude_shared_recordings, make_split
from unheard.splits.files import of_part
from unheard.training.batches import Task, draw_batches
from unheard.training.evaluation import choose_device
from unheard.training.recipe import Recipe, follows_a_schedule
from unheard.training.strategies import STRATEGIES, Setting, build, derive, resolve_options
from unheard.training.trainer import Direction, Trainer


@dataclass(frozen=True)
class Grid:
    """The cells of an experiment, in the order they are trained, and what they stand on."""

    settings: Experiment
    manifest: Manifest
    split: Split
    store: FeatureStore
    cells: tuple[Cell, ...]

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a person should know of the corpus and the split."""
        return (*self.manifest.notes, *self.split.notes)


def lay_out(settings: Experiment, say: Callable[[str], None] = lambda _: None) -> Grid:
    """Read the corpus, make or open its features, split it, and list the cells; trains nothing.

    `say` receives a line a step. Raises an `UnheardError` of whatever step fails.
    """
    # settings are checked before minutes of features
    settings = replace(settings, features=resolve(settings.features))
    network = settings.network.resolved(settings.features)
    if settings.features.kind == "functionals":
        raise ConfigError(
            "the networks read frames, and functionals are one vector an utterance",
            mend="Choose --features.kind mfcc, fbank or encoder.",
        )
    if settings.engine == "ray":
        from unheard.experiments.ray_engine import check

        check(settings.address, settings.gpus, settings.device)
    else:  # a cluster may have devices that are not here
        choose_device(settings.device)
    if settings.tensorboard:
        from unheard.experiments.logging import available

        available()
    if settings.protocol and settings.protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol '{settings.protocol}'", mend=did_you_mean(settings.protocol, PROTOCOLS))
    options = {key: _options(settings, key) for key in (*settings.systems, *settings.options)}
    recipe = Recipe.from_dict({"epochs": settings.epochs, **settings.as_dict()["training"]})
    recipe.augment.check(columns_of(settings.features))
    check_normalisation(settings, recipe)
    manifest = read_rows(settings)
    for column in filter(None, (settings.group, settings.column)):
        manifest.column(column)  # raises where there is none
    check_split_options(settings, usual_protocol(settings, manifest)[0])
    for note in manifest.notes:
        say(str(note))
    out = Path(settings.out)
    folder = Path(settings.store) if settings.store else out / "features"
    say(f"Features of {len(manifest):,} utterances of {len(manifest.speakers)} speakers")
    store = build_store(manifest, folder, settings.features, progress=settings.progress)
    stores = dict.fromkeys(settings.systems, folder)
    for key, features in _features_of_their_own(settings).items():
        stores[key] = folder / key
        build_store(manifest, stores[key], features, progress=settings.progress)
    manifest = usable(manifest, store, say)
    split = choose_split(settings, manifest)
    for split_note in split.notes:
        say(str(split_note))
    rows = manifest.by_id()
    cells = [
        _fitted_or_trained(
            system=key,
            options=options[key],
            fold=fold,
            seed=seed,
            rows={name: rows[name] for name in fold.ids},
            labels=settings.labels,
            group=settings.group,
            network=network,
            recipe=recipe,
            normalise=settings.normalise,
            store=stores[key],
            out=out,
            split=split.digest,
            data=data_digest(fold, rows, store.audio_digest, store.settings.digest, settings.group),
            device=settings.device,
            tensorboard=settings.tensorboard,
            features=store.settings.digest,
        )
        # seeds outermost: an interrupted run has whole comparisons first
        for seed in range(settings.seeds)
        for fold in split.folds
        for key in settings.systems
    ]
    return Grid(settings, manifest, split, store, tuple(cells))


def check_normalisation(settings: Experiment, recipe: Recipe) -> None:
    """Raises `ConfigError` where the normalisation takes away what other settings work on."""
    if settings.normalise in WITH_PROFILES:
        return
    needed = {
        "--features.summary": settings.features.summary,
        "--training.augment": recipe.augment.on,
        "--training.enrol": recipe.enrol > 0,
    }
    asking = [name for name, on in needed.items() if on]
    if asking:
        raise ConfigError(
            f"--normalise {settings.normalise} gives no deviations from the training speakers' mean, which "
            f"{' and '.join(asking)} cannot do without",
            mend=f"Choose --normalise {' or '.join(WITH_PROFILES)}, or do without {' and '.join(asking)}.",
        )


def _options(settings: Experiment, key: str) -> dict[str, Any]:
    """All options of a system; raises `ConfigError` for an unknown system or option."""
    if key in FITTED:
        for name in settings.options.get(key, {}):
            raise ConfigError(f"system '{key}' has no option '{name}'", mend="It has none.")
        return {}
    if key not in STRATEGIES:
        raise ConfigError(f"unknown system '{key}'", mend=did_you_mean(key, [*STRATEGIES, *FITTED]))
    options, defaults = resolve_options(key, settings.options.get(key)), resolve_options(key)
    early = any(epochs < settings.epochs for epochs in settings.training.readouts)
    if early and follows_a_schedule(options, settings.training.schedule):
        raise ConfigError(
            f"a training of '{key}' whose λ or learning rate follows a schedule holds no shorter one",
            mend="Leave out --training.readouts, or the schedule and the warm-up.",
        )
    for name, value in options.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and (value < 0 or value == math.inf != defaults[name]):
            raise ConfigError(
                f"option '{key}.{name}' = {value} is out of range",
                mend="Give a number of 0 or more; 0 does without it.",
            )
    return options


def _features_of_their_own(settings: Experiment) -> dict[str, FeatureSettings]:
    """System -> the settings of its vectors, for classical systems."""
    chosen = {key: FITTED[key].features for key in settings.systems if key in FITTED}
    return {key: features for key, features in chosen.items() if features is not None}


def _fitted_or_trained(**values: Any) -> Cell:
    """A cell; that of a classical system has nothing of network and recipe."""
    cell = Cell(**values)
    if cell.system not in FITTED:
        return cell
    return replace(
        cell,
        network=NetworkSettings(),
        recipe=Recipe(epochs=EPOCHS),
        normalise=normalisation_of(cell.normalise),
        fitted=FITTED[cell.system],
    )


def read_rows(settings: Experiment) -> Manifest:
    """The manifest of an experiment with the labels and channels it chose."""
    if settings.manifest:
        manifest = read_manifest(settings.manifest)
    else:
        names = [name.strip() for name in settings.corpus.split(",")]
        roots = [root.strip() for root in settings.root.split(",")]
        if len(names) != len(roots):
            raise ConfigError(
                f"{len(names)} corpora but {len(roots)} folders",
                mend="Give --root as many folders as --corpus has names, separated by commas.",
            )
        manifest = Manifest.concat(
            [
                read_corpus(
                    name,
                    root,
                    labels=settings.emotions if not settings.map else None,
                    partial=settings.partial,
                    subset=settings.subset or None,
                )
                for name, root in zip(names, roots, strict=True)
            ]
        )
    if settings.speakers:
        manifest = of_part(manifest, settings.speakers)
    return choose_channel(manifest.select(settings.emotions, settings.map), settings.channel)


def usable(manifest: Manifest, store: FeatureStore, say: Callable[[str], None] = lambda _: None) -> Manifest:
    """The rows that have features and whose recording occurs once among them; what is left out is said and counted.

    Only the chosen emotions and speakers are compared: what takes no part in the experiment cannot leak into it.
    (`unheard doctor` compares the whole manifest.)
    """
    skipped = [row.id for row in manifest if row.id not in store]
    if skipped:
        reasons = "; ".join(f"{name}: {store.skipped.get(name, 'no features')}" for name in skipped[:3])
        more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        say(f"{len(skipped)} of {len(manifest)} utterances have no features and take no part ({reasons}{more})")
    if len(skipped) == len(manifest):
        raise FeatureError(
            "no utterance could be read", where=store.folder, mend="See what is wrong with: unheard doctor MANIFEST"
        )
    manifest = manifest.where(lambda row: row.id in store)
    manifest, note = exclude_shared_recordings(manifest, store.audio_digest)
    if note.ids:
        say(str(note))
    if not len(manifest):
        raise FeatureError(
            "every recording occurs more than once, under other labels or speakers",
            mend="See which with: unheard doctor MANIFEST",
        )
    return manifest


def usual_protocol(settings: Experiment, manifest: Manifest) -> tuple[str, dict[str, object]]:
    """The protocol of an experiment that names none, and its options."""
    single = official(settings.corpus).name if settings.corpus and "," not in settings.corpus else ""
    return default_protocol(single, manifest)


def check_split_options(settings: Experiment, usual: str) -> None:
    """Raises `ConfigError` for an option that the protocol (`usual` where none is named) would leave unheard."""
    protocol = settings.protocol or usual
    owners = {"k": "kfold", "n": "random", "column": "given", "train_corpora": "cross", "test_corpora": "cross"}
    given = {name: owner for name, owner in owners.items() if getattr(settings, name)}
    if settings.test != "both":
        given["test"] = "paired"
    for name, owner in given.items():
        if owner != protocol:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(
                f"{flag} is for the protocol {owner}, and this experiment's is {protocol}",
                mend=f"Add --protocol {owner}, or leave {flag} out.",
            )


def choose_split(settings: Experiment, manifest: Manifest) -> Split:
    """The split an experiment asks for, or its corpus's usual one."""
    usual, options = usual_protocol(settings, manifest)
    protocol = settings.protocol or usual
    chosen: dict[str, object] = dict(options) if protocol == usual else {}
    if settings.k:
        chosen["k"] = settings.k
    if settings.column:
        chosen["column"] = settings.column
    if protocol == "paired":
        chosen["test"] = settings.test
    if settings.n:
        if len(settings.n) != 3:
            raise ConfigError(f"n = {settings.n} is not three numbers", mend="Give --n TRAIN,DEV,TEST speakers.")
        chosen["n"] = tuple(int(number) for number in settings.n)
    if settings.train_corpora:
        chosen["train_corpora"] = settings.train_corpora
    if settings.test_corpora:
        chosen["test_corpora"] = settings.test_corpora
    return make_split(
        manifest,
        protocol,
        group=settings.group,
        seed=settings.split_seed,
        folds=settings.folds or None,
        **chosen,  # type: ignore[arg-type]
    )


# How many trainings an experiment is, and how long they take here: said before the first begins.
#
# A short calibration trains each system that is still missing on one batch of the corpus's usual length, one
# thread, as a
# worker would. It draws from no random stream that a training uses.

TINY = 2_000_000
"""Frames, all epochs together, that are over before a calibration would be worth its seconds."""


@dataclass(frozen=True)
class Speed:
    """Seconds a frame on one thread, in training and in validation."""

    train: float
    validate: float


@dataclass(frozen=True)
class Estimate:
    """`trainings`, of which `done` are there, and in words what may come on top of them (`more`).

    `seconds` is how long everything that is missing takes with `workers`; None where it was not measured.
    """

    trainings: int
    done: int
    more: tuple[str, ...]
    seconds: float | None
    workers: int

    def __str__(self) -> str:
        said = ", ".join([f"{self.trainings} trainings ({self.done} done before)", *self.more])
        if self.seconds is None:
            return said
        return f"{said}: about {duration(self.seconds)} with {self.workers} worker{'s' * (self.workers > 1)}"


def estimate(
    cells: Sequence[Cell],
    settings: Experiment,
    *,
    more: Mapping[str, Sequence[Cell]] | None = None,
    always: bool = False,
) -> Estimate:
    """The estimate for `cells`, and for `more`: words, {} for how many -> cells that take as long as what comes on top.

    Measured unless it is tiny (then only where `always` is asked for), or done by other machines.
    """
    more = {words: others for words, others in (more or {}).items() if others}
    missing = [cell for cell in cells if cell.result() is None]
    said = (len(cells), len(cells) - len(missing), tuple(words.format(len(others)) for words, others in more.items()))
    missing = [cell for cell in missing if cell.fitted is None]  # a fit is over in seconds
    todo = [*missing, *(cell for others in more.values() for cell in others if cell.fitted is None)]
    workers = max(1, min(settings.workers or usual_workers(settings.device), len(todo)))
    if not todo or settings.engine != "local":
        return Estimate(*said, None, workers)
    epochs = [max(1, cell.recipe.epochs - _gone(cell)) for cell in missing]
    epochs += [cell.recipe.epochs for cell in todo[len(missing) :]]
    frames = [(e * train, e * held) for e, (train, held) in zip(epochs, _frames(todo), strict=True)]
    if not always and sum(map(sum, frames)) < TINY:
        return Estimate(*said, None, workers)
    try:
        speeds = calibrate(todo)
    except (UnheardError, RuntimeError):  # settings that cannot train say so, cell by cell, when they are trained
        return Estimate(*said, None, workers)
    each = [
        train * speeds[cell.system].train + held * speeds[cell.system].validate
        for cell, (train, held) in zip(todo, frames, strict=True)
    ]
    return Estimate(*said, max(sum(each) / workers, *each), workers)


def _gone(cell: Cell) -> int:
    """How many of a cell's epochs are trained."""
    return len(read_history(cell.folder))


def calibrate(cells: Sequence[Cell]) -> dict[str, Speed]:
    """The speed of each system among `cells`, from one batch of training and one of validation each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker
    try:
        with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory(prefix="unheard-") as folder:
            first = {cell.system: cell for cell in reversed(cells)}
            return {system: _speed(cell, Path(folder)) for system, cell in first.items()}
    finally:
        torch.set_num_threads(threads)


def _speed(cell: Cell, folder: Path) -> Speed:
    store = FeatureStore(cell.store)
    train = _usual_batch(store, cell.fold.train, cell.recipe.batch_size)
    dev = _usual_batch(store, cell.fold.readings[0].dev, 64)
    trainer = _trainer(cell, store, train, dev, folder)
    trainer.train_ids = train[:4]
    trainer._one_epoch()  # the first steps of all compile, and fetch memory
    trainer.train_ids = train
    trainer._one_epoch()
    record = trainer.history[-1]
    validated = sum(store.entries[name].frames for name in dev)
    return Speed(record["train_seconds"] / record["frames"], (record["seconds"] - record["train_seconds"]) / validated)


def _usual_batch(store: FeatureStore, ids: Sequence[str], size: int) -> tuple[str, ...]:
    """The batch of an epoch whose mean length is nearest to the mean of all."""
    lengths = [store.entries[name].frames for name in ids]
    mean = sum(lengths) / len(lengths)
    batches = draw_batches(len(ids), size, derive("estimate"))
    chosen = min(batches, key=lambda batch: abs(sum(lengths[i] for i in batch) / len(batch) - mean))
    return tuple(ids[i] for i in chosen)


def _trainer(cell: Cell, store: FeatureStore, train: Sequence[str], dev: Sequence[str], folder: Path) -> Trainer:
    """A trainer of the cell's system on a batch; what it learns is thrown away, and it writes nothing."""
    speakers = {name: row.speaker for name, row in cell.rows.items()}
    normaliser = Normaliser("train").fit(store, train, speakers)
    groups = sorted({cell.rows[name].get(cell.group) for name in cell.fold.train})
    y = {name: cell.labels.index(cell.rows[name].emotion) for name in (*train, *dev)}
    s = {name: groups.index(cell.rows[name].get(cell.group)) for name in train}
    frames = NormalisedFrames(store, normaliser, cell.rows)
    alone = replace(cell, recipe=replace(cell.recipe, enrol=0.0))  # it would describe every utterance first
    task = Task(frames, y, s, change_of(alone, frames, store.settings))
    setting = Setting(
        store.dim, len(cell.labels), len(groups), cell.network, derive("estimate"), cell.recipe.label_smoothing
    )
    return Trainer(
        build(cell.system, setting, cell.options),
        task,
        train,
        [Direction("test", tuple(dev), tuple(dev))],  # nobody is tested here
        replace(cell.recipe, epochs=2),
        folder,
        key=("estimate",),
        device=choose_device(cell.device),
    )


def _frames(cells: Sequence[Cell]) -> list[tuple[int, int]]:
    """Frames of each cell that an epoch trains on, and that it validates on."""
    entries = FeatureStore(cells[0].store).entries
    of_fold: dict[int, tuple[int, int]] = {}
    for cell in cells:
        if cell.fold.index not in of_fold:
            held = [name for reading in cell.fold.readings for name in reading.dev]
            train, dev = (sum(entries[name].frames for name in ids) for ids in (cell.fold.train, held))
            of_fold[cell.fold.index] = train, dev
    return [of_fold[cell.fold.index] for cell in cells]


def duration(seconds: float) -> str:
    """About how long: `40 s`, `25 min`, `2 h 10 min`, `3 days 4 h`.

    >>> [duration(s) for s in (7, 95, 7800, 300_000)]
    ['10 s', '2 min', '2 h 10 min', '3 days 11 h']
    """
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(10, 10 * math.ceil(seconds / 10))} s"
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return _two(*divmod(10 * round(minutes / 10), 60), "h", "min")
    return _two(*divmod(round(minutes / 60), 24), "days", "h")


def _two(large: int, small: int, unit: str, small_unit: str) -> str:
    return f"{large} {unit}" + (f" {small} {small_unit}" if small else "")


# The trainings that a choice of λ and ε needs: every value on seed 0, then the chosen ones on the other seeds.


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
