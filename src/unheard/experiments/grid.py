"""From settings to cells: corpus -> manifest -> features -> split -> systems x folds x seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unheard.corpora import official, read_corpus, read_manifest
from unheard.corpora.channels import choose_channel
from unheard.errors import ConfigError, FeatureError, did_you_mean
from unheard.experiments.cells import Cell, data_digest
from unheard.experiments.fitted import EPOCHS, FITTED, normalisation_of
from unheard.experiments.settings import Experiment
from unheard.features import FeatureSettings, FeatureStore, build_store
from unheard.features.columns import columns_of
from unheard.manifest import Manifest, Note
from unheard.splits import PROTOCOLS, Split, default_protocol, exclude_shared_recordings, make_split
from unheard.splits.development import of_part
from unheard.training.device import choose_device
from unheard.training.enrol import VOICED
from unheard.training.network import NetworkSettings
from unheard.training.recipe import Recipe, follows_a_schedule
from unheard.training.strategies import STRATEGIES, resolve_options


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
    network = settings.network.resolved(settings.features)
    if settings.features.kind == "functionals":
        raise ConfigError(
            "the networks read frames, and functionals are one vector an utterance",
            mend="Choose --features.kind mfcc, fbank or ssl.",
        )
    if settings.engine == "ray":
        from unheard.experiments.ray_engine import check

        check(settings.address, settings.gpus, settings.device)
    else:  # a cluster may have devices that are not here
        choose_device(settings.device)
    if settings.tensorboard:
        from unheard.experiments.tensorboard import available

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
            weights_from=Path(settings.weights_from) if settings.weights_from else None,
        )
        # seeds outermost: an interrupted run has whole comparisons first
        for seed in range(settings.seeds)
        for fold in split.folds
        for key in settings.systems
    ]
    return Grid(settings, manifest, split, store, tuple(cells))


def check_normalisation(settings: Experiment, recipe: Recipe) -> None:
    """Raises `ConfigError` where the normalisation takes away what other settings work on."""
    if settings.normalise in VOICED:
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
            mend=f"Choose --normalise {' or '.join(VOICED)}, or do without {' and '.join(asking)}.",
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
