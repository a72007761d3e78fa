"""From settings to cells: corpus -> manifest -> features -> split -> systems x folds x seeds."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from unheard import plugins
from unheard.corpora import get_corpus, read_corpus, read_manifest
from unheard.errors import ConfigError, FeatureError, Say, TrainingError, did_you_mean, silent, some
from unheard.experiments.baselines import CLASSICAL_SYSTEMS, EPOCHS, ClassicalSystem, normaliser_kind
from unheard.experiments.cell_files import epochs_of, read_predictions, result_folder, result_in
from unheard.experiments.config import Experiment
from unheard.features import FeatureStore, build_store
from unheard.features.encoder import resolve
from unheard.features.settings import columns_of
from unheard.features.store import copy_folder
from unheard.manifest import Manifest, Note, Utterance, choose_channel
from unheard.model.saving import WITH_PROFILES
from unheard.model.settings import NetworkSettings
from unheard.splits import PROTOCOLS, Fold, Split, default_protocol, exclude_shared_recordings, make_split
from unheard.splits.files import of_part
from unheard.splits.speakers import resolve_speakers
from unheard.training.evaluation import choose_device
from unheard.training.logging import check_loggers
from unheard.training.recipe import TrainingSettings, follows_a_schedule
from unheard.training.strategies import STRATEGIES, resolve_options

# Cells.


@dataclass(frozen=True)
class Cell:
    """A training of one system on one fold with one seed: everything that determines its results, and its location.

    `settings` are those of the experiment, resolved, with the epochs of this fold. `rows` are the utterances of the
    fold (train, dev, test), `split` and `data` the digests of the split and of the rows with their features.
    `classical` defines a classical system, which has a separate `store`. `trial` are the values of a search.
    """

    system: str
    fold: Fold
    seed: int
    settings: Experiment
    rows: Mapping[str, Utterance]
    store: Path
    split: str
    data: str
    classical: ClassicalSystem | None = None
    trial: str = ""

    def check(self, store: FeatureStore) -> None:
        """Raise `TrainingError` if another experiment has rebuilt a shared store from other recordings."""
        if data_digest(self.fold.ids, self.rows, store.audio_digest, self.settings) != self.data:
            what = "the features in this store have changed since the experiment was planned"
            mend = "Another experiment has rebuilt the store. Run this one again, with a separate --store."
            raise TrainingError(what, where=store.folder, mend=mend)

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of the system."""
        return self.settings.options.get(self.system, {})

    @cached_property
    def name(self) -> str:
        """The name `<system>-fold<k>-seed<s>-<hash>`; see `digest`."""
        return f"{self.system}-fold{self.fold.index}-seed{self.seed}-{self.digest}"

    @property
    def folder(self) -> Path:
        """The folder of the cell."""
        return Path(self.settings.out) / "cells" / self.name

    @property
    def settings_digest(self) -> str:
        """A hash of the settings shared by the cells of a table."""
        return settings_digest(self.settings, self.classical)

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits over the resolved settings, the fold and its data.

        They do not depend on the number of epochs, so that a longer run continues a shorter one, unless the learning
        rate or the strategy follows a schedule over the training.
        """
        training = self.settings.training
        epochs = training.epochs if follows_a_schedule(self.options, training.schedule) else 0
        parts = (dict(self.options), asdict(self.fold), self.data, epochs, code_of(self.system))
        return short_hash(self.settings_digest, *parts)

    def result(self) -> dict[str, Any] | None:
        """Return the complete result for exactly this cell's number of epochs, or None."""
        folder = self.result_folder()
        result = result_in(folder)
        names = ["embeddings.npz", "model.safetensors"] if self.classical is None else []
        if epochs_of(result) != self.settings.epochs or not all((folder / name).is_file() for name in names):
            return None
        try:
            predictions = read_predictions(folder / "predictions.csv", self.settings.labels)
        except (OSError, ValueError):
            return None
        return result if predictions.keys() == set(self.fold.held_out) else None

    def result_folder(self, epochs: int | None = None) -> Path:
        """Return the folder of the result after `epochs` (default: all)."""
        return result_folder(self.folder, self.settings.epochs if epochs is None else epochs)


def settings_digest(settings: Experiment, classical: ClassicalSystem | None = None) -> str:
    """Return a hash of the settings shared by the cells of a table, for networks or for a classical system.

    It excludes the options of systems and the number of epochs, which may differ between folds.
    """
    common = (settings.labels, settings.group, settings.normalise)
    if classical:
        return short_hash(classical.digest, *common)
    training = replace(settings.training, epochs=1, updates=None, report_epochs=())
    return short_hash(settings.network.identity(), asdict(training), *common)


def short_hash(*parts: object) -> str:
    """Return eight hexadecimal digits of a hash over settings (dataclasses) and plain values."""
    text = json.dumps(parts, sort_keys=True, default=dataclasses.asdict)
    return blake2b(text.encode(), digest_size=4).hexdigest()


def code_of(system: str) -> str:
    """Return the hash of a plug-in's source; "" for built-in systems."""
    plugin = None if system in STRATEGIES or system in CLASSICAL_SYSTEMS else plugins.find("strategy", system)
    return plugin.digest if plugin else ""


def data_digest(
    ids: Sequence[str], rows: Mapping[str, Utterance], audio: Mapping[str, str], settings: Experiment
) -> str:
    """Return a hash of a fold's labels, speakers, groups, audio and feature settings; "" if an utterance is missing."""
    digest = blake2b(settings.features.digest.encode(), digest_size=8)
    for name in ids:
        if name not in rows or name not in audio:
            return ""
        row = rows[name]
        group = [row.get(settings.group)] if settings.group != "speaker" else []
        digest.update("\t".join([name, row.emotion, row.speaker, audio[name], *group]).encode() + b"\n")
    return digest.hexdigest()


# From settings to cells.


@dataclass(frozen=True)
class ExperimentPlan:
    """The cells of an experiment in the order of training, with the corpus, split and features they use."""

    settings: Experiment
    manifest: Manifest
    split: Split
    store: FeatureStore
    cells: tuple[Cell, ...]


def make_plan(settings: Experiment, say: Say = silent) -> ExperimentPlan:
    """Read the corpus, compute or open its features, split it, and list the cells, without training.

    `say` receives a line per step. Raises the `UnheardError` of the step that fails.
    """
    features = resolve(settings.features)
    settings = replace(settings, features=features, network=settings.network.resolved(features))
    settings = replace(settings, options=check_settings(settings))  # before features, which take minutes
    manifest = read_rows(settings)
    for column in filter(None, (settings.group, settings.column)):
        manifest.column(column)  # raises for an unknown column
    check_split_options(settings, corpus_protocol(settings, manifest)[0])
    for note in manifest.notes:
        say(str(note))
    choose_split(settings, manifest)  # errors appear before features are computed; split again below
    say(f"Features of {manifest.size}")
    folder = Path(settings.store or Path(settings.out) / "features")
    classical = {key: CLASSICAL_SYSTEMS[key] for key in settings.systems if key in CLASSICAL_SYSTEMS}
    stores = {key: folder / key for key, system in classical.items() if system.features}
    inputs = [(folder, settings.features), *((stores[key], classical[key].features) for key in stores)]
    for copy in range(1, settings.training.copies + 1) if len(classical) < len(settings.systems) else ():
        inputs.append((copy_folder(folder, copy), replace(settings.features, copy=copy)))
    store, *_ = (build_store(manifest, path, kind, progress=settings.progress) for path, kind in inputs if kind)
    manifest = rows_with_features(manifest, store, say)
    split = choose_split(settings, manifest)
    for split_note in split.notes:
        say(str(split_note))
    rows = manifest.by_id()

    def cell(seed: int, fold: Fold, key: str) -> Cell:
        if key in classical:
            normalise = normaliser_kind(settings.normalise)
            training, network = TrainingSettings(epochs=EPOCHS), NetworkSettings()
            adjusted = replace(settings, training=training, network=network, normalise=normalise)
        else:
            adjusted = replace(settings, training=settings.training.limited(len(fold.train)))
        of_fold = {name: rows[name] for name in fold.ids}
        data = data_digest(fold.ids, rows, store.audio_digest, settings)
        return Cell(key, fold, seed, adjusted, of_fold, stores.get(key, folder), split.digest, data, classical.get(key))

    # seeds outermost, so that an interrupted run has complete seeds
    cells = [cell(s, fold, key) for s in range(settings.seeds) for fold in split.folds for key in settings.systems]
    return ExperimentPlan(settings, manifest, split, store, tuple(cells))


def check_settings(settings: Experiment) -> dict[str, dict[str, Any]]:
    """Return the options of every system; raises `ConfigError` for settings that cannot work with any corpus."""
    if settings.features.kind == "functionals":
        what = "the networks read frames, and functionals are one vector per utterance"
        raise ConfigError(what, mend="Choose --features.kind mfcc, fbank or encoder.")
    if settings.engine == "local":  # a cluster may have devices that this machine lacks
        choose_device(settings.device)
    check_loggers(settings.logger)
    if settings.protocol and settings.protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol '{settings.protocol}'", mend=did_you_mean(settings.protocol, PROTOCOLS))
    settings.training.augment.check(columns_of(settings.features))
    settings.network.joined(settings.training.networks)  # raises for layers that cannot be joined
    needed = {
        "--features.summary": settings.features.summary,
        "--training.augment": settings.training.augment.on,
        "--training.enrol": settings.training.enrol > 0,
    }
    flags = " and ".join(name for name, on in needed.items() if on)
    if flags and settings.normalise not in WITH_PROFILES:
        raise ConfigError(
            f"{flags} needs features normalised by the training speakers' mean and deviation, and --normalise "
            f"{settings.normalise} does not give them",
            mend=f"Choose --normalise {' or '.join(WITH_PROFILES)}, or leave out {flags}.",
        )
    return {key: _system_options(settings, key) for key in (*settings.systems, *settings.options)}


def _system_options(settings: Experiment, key: str) -> dict[str, Any]:
    if key in CLASSICAL_SYSTEMS:
        for name in settings.options.get(key, {}):
            raise ConfigError(f"system '{key}' has no option '{name}'", mend="It has no options.")
        return {}
    strategies = (*STRATEGIES, *plugins.names("strategy"))
    if key not in strategies:
        raise ConfigError(f"unknown system '{key}'", mend=did_you_mean(key, [*strategies, *CLASSICAL_SYSTEMS]))
    options = resolve_options(key, settings.options.get(key))
    for name, value in options.items():
        if isinstance(value, float) and value < 0:
            raise ConfigError(f"option '{key}.{name}' = {value} is out of range", mend="Give a number of 0 or more.")
    early = any(epochs < settings.epochs for epochs in settings.training.report_epochs)
    if early and follows_a_schedule(options, settings.training.schedule):
        what = f"a training of '{key}' whose λ or learning rate follows a schedule does not contain a shorter one"
        raise ConfigError(what, mend="Leave out --training.report-epochs, or the schedule and the warm-up.")
    return options


def read_rows(settings: Experiment) -> Manifest:
    """Read the manifest of an experiment, with its choice of labels, speakers and channels."""
    if settings.manifest:
        manifest = read_manifest(settings.manifest, mapping=settings.map, audio_root=settings.root or None)
    else:
        names = [name.strip() for name in settings.corpus.split(",")]
        roots = [root.strip() for root in settings.root.split(",")] if len(names) > 1 else [settings.root]
        if len(names) != len(roots):
            what = f"{len(names)} corpora but {len(roots)} folders"
            raise ConfigError(what, mend="Give --root as many folders as --corpus has names, separated by commas.")
        labels = settings.emotions if not settings.map else None
        subsets = _subsets(settings, names)
        corpora = [
            read_corpus(name, root, labels=labels, partial=settings.partial, subset=subsets.get(name))
            for name, root in zip(names, roots, strict=True)
        ]
        manifest = Manifest.concat(corpora)
    if settings.speakers:
        manifest = of_part(manifest, settings.speakers)
    manifest = manifest.select(settings.emotions, settings.map)
    manifest = resolve_speakers(manifest, settings.same_speakers, settings.unknown_speakers)
    return choose_channel(manifest, settings.channel)


def _subsets(settings: Experiment, names: list[str]) -> dict[str, str]:
    """Return corpus -> subset: one subset for all of `names`, or CORPUS=SUBSET for some."""
    if "=" not in settings.subset:
        return dict.fromkeys(names, settings.subset) if settings.subset else {}
    pairs = (pair.partition("=") for pair in settings.subset.split(","))
    subsets = {name.strip(): subset.strip() for name, _, subset in pairs}
    if unknown := set(subsets) - set(names):
        what = f"subset = {settings.subset} names '{min(unknown)}', which is not one of the corpora {', '.join(names)}"
        raise ConfigError(what, mend="Give --subset CORPUS=SUBSET, separated by commas.")
    return subsets


def rows_with_features(manifest: Manifest, store: FeatureStore, say: Say = silent) -> Manifest:
    """Return the rows that have features and a unique recording; the number of others is reported to `say`.

    Only the chosen emotions and speakers are compared, since other rows cannot leak into the experiment
    (`unheard doctor` compares the whole manifest).
    """
    skipped = [row.id for row in manifest if row.id not in store]
    if skipped:
        reasons = some([f"{name}: {store.skipped.get(name, 'no features')}" for name in skipped], 3)
        say(f"{len(skipped)} of {len(manifest)} utterances left out, as they have no features ({reasons})")
    if len(skipped) == len(manifest):
        mend = "See what is wrong with: unheard doctor MANIFEST"
        raise FeatureError("no utterance could be read", where=store.folder, mend=mend)
    manifest = manifest.where(lambda row: row.id in store)
    manifest, note = exclude_shared_recordings(manifest, store.audio_digest)
    if note.ids:
        say(str(note))
    if not len(manifest):
        what = "every recording occurs more than once, under other labels or speakers"
        raise FeatureError(what, mend="See which with: unheard doctor MANIFEST")
    return manifest


def corpus_protocol(settings: Experiment, manifest: Manifest) -> tuple[str, dict[str, object]]:
    """Return the default protocol of the experiment's corpus, with its options."""
    single = get_corpus(settings.corpus).name if settings.corpus and "," not in settings.corpus else ""
    return default_protocol(single, manifest)


def check_split_options(settings: Experiment, default: str) -> None:
    """Raise `ConfigError` for an option that the protocol (by default `default`) would ignore."""
    protocol = settings.protocol or default
    protocols = {"k": "kfold", "n": "random", "column": "given", "train_corpora": "cross", "test_corpora": "cross"}
    needed = {name: needs for name, needs in protocols.items() if getattr(settings, name)}
    if settings.test != "both":
        needed["test"] = "paired"
    for name, needs in needed.items():
        if needs != protocol:
            flag = "--" + name.replace("_", "-")
            what = f"{flag} is for the protocol {needs}, and this experiment's is {protocol}"
            raise ConfigError(what, mend=f"Add --protocol {needs}, or leave out {flag}.")


def choose_split(settings: Experiment, manifest: Manifest) -> Split:
    """Make the split requested by an experiment, or the default split of its corpus."""
    default, options = corpus_protocol(settings, manifest)
    protocol = settings.protocol or default
    arguments: dict[str, Any] = dict(options) if protocol == default else {}
    if settings.n and len(settings.n) != 3:
        raise ConfigError(f"n = {settings.n} is not three numbers", mend="Give --n TRAIN,DEV,TEST speakers.")
    names = ("k", "column", "n", "train_corpora", "test_corpora")
    arguments |= {name: getattr(settings, name) for name in names if getattr(settings, name)}
    if protocol == "paired":
        arguments["test"] = settings.test
    arguments |= {"group": settings.group, "seed": settings.split_seed, "folds": settings.folds or None}
    split = make_split(manifest, protocol, **arguments)
    if settings.validation == "held-out":
        return split
    if settings.training.select == "last" and not settings.tune:
        return split.without_validation()
    what = "validation speakers do not train, since something is chosen on them (training.select best, or tune)"
    return replace(split, notes=(*split.notes, Note("validation", what)))


def duration(seconds: float) -> str:
    """Return a rounded duration.

    >>> [duration(s) for s in (7, 95, 7800, 300_000)]
    ['7.0 s', '2 min', '2 h 10 min', '83 h']
    """
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(10 * round(minutes / 10), 60)
    return f"{round(minutes / 60)} h" if hours >= 48 or not rest else f"{hours} h {rest} min"
