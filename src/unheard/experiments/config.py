"""What an experiment is: every setting, from a YAML file, the command line or Python.

Unknown keys are errors that suggest the right one; the settings of a run are all written into its folder, `resolved`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unheard.errors import ConfigError, did_you_mean
from unheard.features.settings import FeatureSettings
from unheard.manifest import FOUR
from unheard.model.settings import NETWORKS, NetworkSettings

# Ready-made experiments, a YAML file each: what a configuration file and the command line build on.
#
# A preset names a corpus, never where it is. Its first line says what it is for.

PRESETS = Path(__file__).parent / "presets"


def preset_names() -> tuple[str, ...]:
    """The presets, the paper's two first."""
    found = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    paper = ("iemocap", "mandarin")
    return (*paper, *(name for name in found if name not in paper))


def about_preset(name: str) -> str:
    """What a preset is for, in one line."""
    return _preset_text(name).splitlines()[0].lstrip("# ")


def read_preset(name: str) -> dict[str, Any]:
    """The settings of a preset; raises `ConfigError` for an unknown one, naming the closest."""
    import yaml

    values: dict[str, Any] = yaml.safe_load(_preset_text(name))
    return values


def _preset_text(name: str) -> str:
    if name not in preset_names():
        raise ConfigError(f"unknown preset '{name}'", mend=did_you_mean(name, preset_names()))
    return (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")


# Recipes, a YAML file each: how networks are trained, whatever the corpus.
#
# A recipe is features, network and training together. Settings of a preset, of a file and of the command line win over
# it. Its first line says what it is.

RECIPES = Path(__file__).parent / "recipes"


def recipe_names() -> tuple[str, ...]:
    """The recipes, the paper's first."""
    return tuple(sorted((path.stem for path in RECIPES.glob("*.yaml")), key=lambda name: (name != "paper", name)))


def about_recipe(name: str) -> str:
    """What a recipe is, in one line."""
    return _recipe_text(name).splitlines()[0].lstrip("# ")


def read_recipe(name: str) -> dict[str, Any]:
    """The settings of a recipe; raises `ConfigError` for an unknown one, naming the closest."""
    import yaml

    values: dict[str, Any] = yaml.safe_load(_recipe_text(name))
    return values


def _recipe_text(name: str) -> str:
    if name not in recipe_names():
        raise ConfigError(f"unknown recipe '{name}'", mend=did_you_mean(name, recipe_names()))
    return (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")


# Paths in a file of settings: they are relative to the folder the file is in, from wherever it is read.
#
# So a run's `config.yaml` finds its corpus after `cd`, and after run and corpus have been moved together.

_PATHS = ("manifest", "store", "weights_from", "out")


def read_in(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a file in `folder`, their paths as the present folder sees them."""

    def seen(path: str) -> str:
        joined = str(folder / path)
        short = os.path.normpath(joined)
        return short if os.path.realpath(short) == os.path.realpath(joined) else joined  # `..` of a link is elsewhere

    return _changed(values, seen)


def written_in(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for a file in `folder`: relative paths become relative to it, absolute ones stay."""

    def relative(path: str) -> str:
        if Path(path).is_absolute():
            return path
        here = str(Path(path).absolute())
        try:
            return os.path.relpath(here, os.path.realpath(folder))
        except ValueError:  # another drive
            return here

    return _changed(values, relative)


def same_place(one: str, other: str) -> bool:
    """Whether two paths name the same; of `FILE:PART` the part too."""
    return one == other or (bool(one) and bool(other) and os.path.realpath(one) == os.path.realpath(other))


def _changed(values: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    changed = {str(name).replace("-", "_"): value for name, value in values.items()}

    def put(name: str, words: Callable[[str], str]) -> None:
        if isinstance(changed.get(name), (str, Path)) and str(changed[name]):
            changed[name] = words(str(changed[name]))

    def of_part(place: str) -> str:
        file, mark, part = place.rpartition(":")
        return change(file) + mark + part if mark else change(place)

    for name in _PATHS:
        put(name, change)
    put("root", lambda roots: ",".join(change(root.strip()) for root in roots.split(",")))
    put("speakers", of_part)
    features = changed.get("features")
    if isinstance(features, Mapping) and isinstance(features.get("encoder"), (str, Path)) and features["encoder"]:
        encoder = str(features["encoder"])
        hub_id = re.fullmatch(r"\w[\w.-]*/[^/]+", encoder) and not Path(encoder).exists()
        if not hub_id or Path(change(encoder)).exists():
            changed["features"] = {**features, "encoder": change(encoder)}
    return changed


def setting(text: str, default: Any = dataclasses.MISSING, *, factory: Any = dataclasses.MISSING) -> Any:
    """A field with the sentence that explains it on the command line."""
    return dataclasses.field(default=default, default_factory=factory, metadata={"help": text})


@dataclass(frozen=True)
class Augment:
    """How strongly speakers are invented in training; 0 is not at all."""

    tract: float = setting("Vocal tract: mel bands are stretched by 1 ± this.", 0.0)
    colour: float = setting("Voice and microphone: deviation of smooth curves added to the mel bands.", 0.0)
    pitch: float = setting("Deviation that log F0 is moved by, in its own deviations.", 0.0)
    pace: float = setting("The tempo changes by 1 ± this.", 0.0)
    time_masks: int = setting("Spans of frames that are left out.", 0)
    band_masks: int = setting("Runs of mel bands that are left out.", 0)


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained; the defaults are the paper's (the batch size is not given there)."""

    batch_size: int = setting("Utterances in a batch.", 32)
    lr: float = setting("Learning rate, the highest of a schedule.", 1e-3)
    momentum: float = setting("Momentum of the stochastic gradient descent.", 0.9)
    nesterov: bool = setting("Nesterov's form of the momentum.", True)
    weight_decay: float = setting("L2 penalty; of adamw the decoupled decay of weight matrices.", 0.0)
    precision: str = setting("fp32, or bf16 (automatic mixed precision).", "fp32")
    readouts: tuple[int, ...] = setting("Earlier numbers of epochs whose results are wanted too.", ())
    optimizer: str = setting("sgd or adamw.", "sgd")
    schedule: str = setting("Of the learning rate: constant, or onecycle (up, and down to nothing).", "constant")
    warmup: float = setting("onecycle: the share of all steps that lead up.", 0.2)
    label_smoothing: float = setting("Share of an emotion's probability that the loss moves to all.", 0.0)
    class_weights: str = setting("none, or balanced: every emotion has the same say in the loss.", "none")
    select: str = setting("Whose weights are read out: the best epoch's on validation, or the last one's.", "best")
    augment: Augment = setting("Invented speakers.", factory=Augment)  # noqa: RUF009 - makes a field
    enrol: float = setting("Share of utterances heard as if others of their speaker had been heard before.", 0.0)
    statistics: str = setting("Of batch norm in use: running ones, or taken anew without dropout.", "running")
    decision: str = setting("Which emotion is said: likeliest, even (for UAR), or both (WA and UAR).", "likeliest")


@dataclass(frozen=True)
class NetworkChoice:
    """Which network: a column of the paper's Table 1, and what to change in it."""

    preset: str = setting("iemocap or mandarin.", "iemocap")
    dropout: float = setting("Probability of dropping a unit.", 0.5)
    rnn_bn: bool = setting("Batch normalisation of the BiLSTM's output.", True)
    rnn_dropout: bool = setting("Dropout of the BiLSTM's output.", True)
    pooled_dropout: bool = setting("Dropout right before mean and deviation are pooled.", True)
    padding: str = setting("valid (an utterance loses 16 frames in the TDNN layers) or same.", "valid")
    hidden: tuple[int, ...] = setting("Widths of the heads' hidden layers, 0 for none (default: the preset's).", ())
    head_dropout: float = setting("Dropout in the heads (-1: as everywhere).", -1.0)
    summary_width: int = setting("Of features with a summary: what it adds to the embedding.", 128)
    summary_dropout: float = setting("Of features with a summary: dropout of its numbers.", 0.5)

    def resolved(self, features: FeatureSettings) -> NetworkSettings:
        """The network's sizes for `features`; raises `ConfigError` for an unknown preset or a value out of range."""
        if self.preset not in NETWORKS:
            raise ConfigError(f"unknown network '{self.preset}'", mend=f"Choose {' or '.join(NETWORKS)}.")
        chosen = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "preset"}
        chosen["hidden"] = tuple(filter(None, self.hidden)) if self.hidden else NETWORKS[self.preset].hidden
        if features.encoder_layers:
            chosen |= {"layers": features.encoder_layers, "layer_width": features.encoder_width}
        return dataclasses.replace(NETWORKS[self.preset], summary=features.summary_dim, **chosen)


@dataclass(frozen=True)
class Experiment:
    """Systems x folds x seeds on one corpus, under one protocol and one recipe."""

    preset: str = setting(
        "A ready-made experiment that the other settings change. "
        + " ".join(f"{name}: {about_preset(name)}" for name in preset_names()),
        "",
    )
    recipe: str = setting(
        "How networks are trained: features, network and training together, which other settings change. "
        + " ".join(f"{name}: {about_recipe(name)}" for name in recipe_names()),
        "paper",
    )
    corpus: str = setting("Name of a corpus with a reader (see `unheard corpora`); it needs `root`.", "")
    root: str = setting("Folder of that corpus.", "")
    manifest: str = setting("A manifest of your own instead: CSV, JSONL, or a Kaldi data directory.", "")
    out: str = setting("Folder of the run; calling again does only what is missing there.", "")
    subset: str = setting("Subset of a corpus that has some (IEMOCAP: paper, four, all).", "")
    partial: bool = setting("Take a corpus tree that is incomplete.", False)
    emotions: tuple[str, ...] = setting("The emotions told apart.", FOUR)
    map: Mapping[str, str] = setting("Labels renamed before, such as excited=happy.", factory=dict)
    speakers: str = setting(
        "FILE:PART: only the speakers with that part in a table corpus,speaker,part, such as "
        "results/development-speakers.csv:development.",
        "",
    )
    channel: str = setting("mix, left, right or each (every channel a recording of its own).", "mix")
    systems: tuple[str, ...] = setting(
        "Which systems: ser (SER_only), mtl, dat, cgt; svm, the classical baseline.", ("ser", "mtl", "dat", "cgt")
    )
    protocol: str = setting("paired, kfold, loso, random, given or cross; each corpus has a default.", "")
    group: str = setting("The column that is kept apart and that the adversary works on.", "speaker")
    test: str = setting("paired: who is tested, male, female or both (one training, two readings).", "both")
    k: int = setting("kfold: how many folds (0: the corpus's default).", 0)
    n: tuple[int, ...] = setting("random: speakers for train, dev and test.", ())
    column: str = setting("given: the column that says train, dev or test, or names the fold.", "")
    train_corpora: tuple[str, ...] = setting("cross: corpora trained on (default: all that are not tested).", ())
    test_corpora: tuple[str, ...] = setting("cross: corpora tested.", ())
    split_seed: int = setting("Seed of the split, apart from the training seeds.", 0)
    folds: int = setting("Only the first so many folds (0: all).", 0)
    seeds: int = setting("Training seeds 0 to seeds - 1.", 1)
    epochs: int = setting(
        "Epochs of each training; a longer run continues a shorter one, unless a schedule depends on how long it is.",
        100,
    )
    normalise: str = setting(
        "none, train, utterance, sliding, or speaker (uses the test speakers' recordings: transductive).", "train"
    )
    features: FeatureSettings = setting("Features and VAD.", factory=FeatureSettings)  # noqa: RUF009 - makes a field
    network: NetworkChoice = setting("The network.", factory=NetworkChoice)  # noqa: RUF009
    training: TrainingSettings = setting("The optimiser.", factory=TrainingSettings)  # noqa: RUF009
    options: Mapping[str, Mapping[str, Any]] = setting(
        "Options of single systems, such as dat: {lam: 0.3} or cgt: {epsilon: 0.1}.", factory=dict
    )
    tune: bool = setting(
        "Choose λ (dat) and ε (cgt) on seed 0 by each fold's validation speakers, beside the fixed values.", False
    )
    invariance: bool = setting(
        "Also train on a random split with at least four unseen speakers, in RUN/invariance, where it is measured how "
        "much of the speaker is left in the embeddings.",
        False,
    )
    weights_from: str = setting(
        "Another run: of what it has trained with the same settings but for --training.statistics, "
        "--training.decision and --training.select the last weights are read, instead of training again.",
        "",
    )
    store: str = setting("Folder of the feature store (default: inside the run's).", "")
    workers: int = setting("Trainings at once, one thread each on a CPU (0: one a core).", 0)
    device: str = setting("auto, cpu, cuda or mps.", "auto")
    engine: str = setting("local (processes of this machine) or ray (a cluster; needs the extra 'ray').", "local")
    address: str = setting("ray: auto, or HOST:PORT of a running cluster (default: this machine alone).", "")
    gpus: float = setting("ray: share of a GPU a training takes (0: a quarter where there are GPUs).", 0.0)
    tensorboard: bool = setting("Write TensorBoard logs beside the history (needs the extra 'tensorboard').", False)
    progress: bool = setting("Show progress on a terminal.", True)

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)} is out of range", mend="Give at least 1.")
        for name in ("folds", "workers", "k"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)} is out of range", mend="Give 0 or more.")
        for name in ("systems", "emotions"):
            chosen = getattr(self, name)
            if not chosen or len(set(chosen)) < len(chosen):
                raise ConfigError(f"{name} = {', '.join(chosen)} is empty or names one twice")
        if len(self.emotions) < 2:
            raise ConfigError(
                f"with one emotion, {self.emotions[0]}, there is nothing to tell apart",
                mend="Give two or more with --emotions.",
            )
        choices = {
            "channel": ("mix", "left", "right", "each"),
            "engine": ("local", "ray"),
            "normalise": ("none", "train", "utterance", "sliding", "speaker"),
            "test": ("male", "female", "both"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"unknown {name} '{getattr(self, name)}'", mend=did_you_mean(getattr(self, name), known)
                )
        if bool(self.manifest) == bool(self.corpus):
            raise ConfigError(
                "an experiment needs either a corpus or a manifest",
                mend="Give --corpus NAME --root FOLDER, or --manifest FILE.",
            )
        if self.corpus and not self.root:
            raise ConfigError(f"where is the corpus '{self.corpus}'?", mend="Give its folder with --root.")
        if self.weights_from and self.training.select != "last":
            raise ConfigError(
                "of another run's trainings the last weights are there, not those of every epoch",
                mend="Add --training.select last, or leave --weights-from out.",
            )
        if self.weights_from and any(epochs < self.epochs for epochs in self.training.readouts):
            raise ConfigError(
                f"another run's trainings are there as they were after {self.epochs} epochs, and cannot be read out "
                "earlier",
                mend="Leave out --training.readouts or --weights-from.",
            )
        for name in ("subset", "root", "partial"):
            if self.manifest and getattr(self, name):
                raise ConfigError(
                    f"{name} = {getattr(self, name)} is of a corpus; a manifest says itself what is in it",
                    mend=f"Leave out --{name}, or --manifest.",
                )
        if self.engine == "local" and (self.address or self.gpus):
            raise ConfigError("address and gpus are of the engine ray", mend="Add --engine ray, or leave them out.")
        if not self.out:
            raise ConfigError("where should the results go?", mend="Name a folder with --out.")

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions in a model's index order: alphabetical."""
        return tuple(sorted(self.emotions))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        plain: dict[str, Any] = _plain(self)
        return plain


def load(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """An experiment from a preset, a YAML file and `overrides` (nested like the file), later ones winning.

    Relative paths in the file are relative to its folder, those of `overrides` to the present one. In a file with
    `resolved: true`, as a run's, preset and recipe are names of where the settings once came from: what it does not
    say, being from before there was such a setting, is the setting's own default.
    Raises `ConfigError` for a file that cannot be read, an unknown key (naming the closest), a value of the wrong
    kind, or another preset or recipe for a resolved file.
    """
    values: dict[str, Any] = {}
    resolved: object = False
    if path is not None:
        import yaml

        try:
            read = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot be read ({error})", where=path) from error
        except yaml.YAMLError as error:
            raise ConfigError(f"is not YAML ({error})", where=path, mend="Write `key: value` lines.") from error
        if not isinstance(read or {}, dict):
            raise ConfigError("holds no settings", where=path, mend="Write `key: value` lines.")
        values = read_in(Path(path).parent, read or {})
        resolved = values.pop("resolved", False)
        try:
            if not isinstance(resolved, bool):
                raise ConfigError(f"setting 'resolved' is true or false, not {resolved!r}")
            _checked(Experiment, values, "")
        except ConfigError as error:
            raise ConfigError(error.what, where=path, mend=error.mend) from None
    given = _merged(values, overrides or {})
    if resolved:
        for name in ("preset", "recipe"):
            if given.get(name) != values.get(name):
                raise ConfigError(
                    f"this file has every setting of {name} '{values.get(name, '')}' in it: another would change none",
                    where=path,
                    mend=f"Leave out --{name}, or give it without --config.",
                )
        return typing.cast(Experiment, _build(Experiment, given))
    if given.get("preset"):
        base = read_preset(str(given["preset"]))
        if given.get("manifest"):  # a manifest of one's own takes the place of the preset's corpus
            base = {key: value for key, value in base.items() if key not in ("corpus", "subset")}
        if given.get("protocol", base.get("protocol")) != base.get("protocol"):  # what another protocol was told
            base = {key: value for key, value in base.items() if key not in ("test", "k", "n")}
        if given.get("recipe", "paper") != "paper":  # how long to train is the recipe's
            base.pop("epochs", None)
        given = _merged(base, given)
    given = _merged(read_recipe(str(given.get("recipe", "paper"))), given)
    return typing.cast(Experiment, _build(Experiment, given))


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _build(kind: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """A dataclass `kind` from plain values, checked key by key."""
    return kind(**_checked(kind, values, prefix))


def _checked(kind: type, values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The arguments of a dataclass `kind`; raises `ConfigError` for an unknown key or a value of the wrong kind."""
    hints = typing.get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind)]
    arguments = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise ConfigError(f"unknown setting '{prefix}{key}'", mend=did_you_mean(name, known))
        arguments[name] = _value(hints[name], value, f"{prefix}{name}")
    return arguments


def _value(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f"setting '{name}' holds settings of its own, not {value!r}")
        return _build(hint, value, f"{name}.")  # type: ignore[arg-type]
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return str(value)
    if origin is tuple:
        if isinstance(value, str):
            value = [word.strip() for word in value.split(",") if word.strip()]
        if not isinstance(value, (list, tuple)):
            value = [value]
        return tuple(_value(parts[0], item, name) for item in value)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, str):  # excited=happy,calm=neutral
            words = [word.strip() for word in value.split(",") if word.strip()]
            if not all(word.partition("=")[2] for word in words):
                raise ConfigError(f"setting '{name}' takes pairs, not {value!r}", mend="For instance excited=happy.")
            value = {word.partition("=")[0].strip(): word.partition("=")[2].strip() for word in words}
        if not isinstance(value, Mapping):
            raise ConfigError(f"setting '{name}' takes pairs, not {value!r}", mend="For instance excited=happy.")
        return {str(key): _value(parts[1], item, f"{name}.{key}") for key, item in value.items()}
    if hint is Any:
        return value
    if hint is bool and isinstance(value, str) and value.lower() in ("true", "false", "yes", "no"):
        return value.lower() in ("true", "yes")
    if hint is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if hint is int and isinstance(value, str) and value.lstrip("-").isdigit():
        return int(value)
    if hint is str and isinstance(value, (int, float, Path)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"setting '{name}' takes a {hint.__name__}, not {value!r}")
    return value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
