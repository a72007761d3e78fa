"""The configuration tree of an experiment, from presets, recipes, a YAML file, flags or Python.

Each setting is declared once, in the dataclass of its package: `Experiment` here, `FeatureSettings`, `NetworkSettings`,
`TrainingSettings` and the options of the strategies. pydantic converts and checks values; flags, `config.yaml`, help
and the reference page (`python -m unheard.experiments.config`) are generated from the declarations.
"""

import dataclasses
import json
import os
import re
import textwrap
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

from unheard.errors import ConfigError, Say, did_you_mean, silent
from unheard.features.settings import FeatureSettings
from unheard.manifest import FOUR
from unheard.model.settings import NETWORKS, NetworkSettings
from unheard.settings import check, described, hints_of, range_of, setting
from unheard.training.recipe import TrainingSettings

PRESETS = Path(__file__).parent / "presets"
"""Ready-made experiments: a corpus, its protocol and seeds. The first line of a file describes it."""

RECIPES = Path(__file__).parent / "recipes"
"""Settings of features, network and training for any corpus. The first line of a file describes it."""

PACKAGED = Path(__file__).parents[1] / "models"  # packaged models, which may include an encoder

SPACE = {"training.lr": "1e-4:1e-2:log", "options.dat.lam": "0.01:3:log", "options.cgt.epsilon": "0.01:3:log"}
"""The default search space of `tune: optuna`."""

PAIRS = {"map": "excited=happy", "space": "training.lr=1e-4:1e-2:log"}  # settings that take pairs, with an example

SIZES = ("tdnn", "lstm", "dense", "hidden")  # the network settings given in Table 1 of the paper


def names_in(folder: Path) -> tuple[str, ...]:
    """Return the names of the presets or recipes in `folder`, the paper's first."""
    paper = ("iemocap", "mandarin", "paper")
    return tuple(sorted((path.stem for path in folder.glob("*.yaml")), key=lambda name: (name not in paper, name)))


def description_of(folder: Path) -> str:
    """Describe the presets or recipes in `folder`, each by the first line of its file."""
    files = [folder / f"{name}.yaml" for name in names_in(folder)]
    return " ".join(f"{path.stem}: {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}" for path in files)


def read_named(folder: Path, name: str) -> dict[str, Any]:
    """Read a preset or recipe; raises `ConfigError` for an unknown one, naming the closest."""
    if name not in names_in(folder):
        raise ConfigError(f"unknown {folder.name[:-1]} '{name}'", mend=did_you_mean(name, names_in(folder)))
    return _prepare(Experiment, yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Experiment:
    """Systems x folds x seeds on one corpus, under one protocol and one recipe."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"coerce_numbers_to_str": True}

    preset: str = setting(
        "", f"Ready-made experiment, whose settings the others override. {description_of(PRESETS)}", common=True
    )
    recipe: str = setting(
        "",
        "Settings of features, network and training, which the others override (default: that of the preset, else "
        f"encoder if a pretrained encoder is available, else strong). {description_of(RECIPES)}",
        common=True,
    )
    sizes: Literal["iemocap", "mandarin"] = setting("iemocap", "Sizes of the network: a column of the paper's Table 1.")
    corpus: str = setting("", "Name of a corpus (`unheard corpora` lists them); needs root.", common=True)
    root: str = setting("", "Folder of that corpus, or of a manifest's recordings if they are elsewhere.", common=True)
    manifest: str = setting("", "Your own manifest instead: CSV, JSONL or a Kaldi data directory.", common=True)
    out: str = setting("", "Folder of the run; a repeated call does only what is missing there.", common=True)
    subset: str = setting("", "IEMOCAP: paper, four, all; ASED: balanced; of several: CORPUS=SUBSET.", common=True)
    partial: bool = setting(False, "Accept an incomplete corpus.")
    emotions: tuple[str, ...] = setting(FOUR, "Emotions to recognise.", common=True)
    map: Mapping[str, str] = setting(dict, "Labels to rename first, such as excited=happy.", common=True)
    speakers: str = setting(
        "",
        "FILE:PART: use only the speakers that have this part in a table with the columns corpus,speaker,part, such as "
        "results/development-speakers.csv:development.",
    )
    same_speakers: Literal["", "merge", "distinct"] = setting(
        "", "Speakers whose names look alike, such as 1 and 01: one person (merge) or several (distinct)."
    )
    unknown_speakers: Literal["drop", "each"] = setting(
        "drop", "Drop utterances of unknown speakers (N/A, ?, -1), or treat each such utterance as a speaker."
    )
    channel: Literal["mix", "left", "right", "each"] = setting(
        "mix", "Channel of multi-channel recordings; with each, every channel is a separate recording."
    )
    systems: tuple[str, ...] = setting(
        ("ser", "mtl", "dat", "cgt"),
        "Systems: ser (SER_only), mtl, dat, cgt; svm, pooled: linear SVMs on functionals or on pooled frames.",
        common=True,
    )
    protocol: str = setting(
        "", "paired, kfold, loso, random, given, cross or leave-corpus-out; each corpus has a default.", common=True
    )
    group: str = setting(
        "speaker", "Column whose values the split keeps apart and the speaker head learns, such as session."
    )
    test: Literal["male", "female", "both"] = setting(
        "both", "paired: which speaker of a pair is tested; both tests both with one training."
    )
    k: int = setting(0, "kfold: number of folds (0: the corpus's default).", ge=0)
    n: tuple[int, ...] = setting((), "random: numbers of training, validation and test speakers.")
    validation: Literal["held-out", "train"] = setting(
        "held-out",
        "Validation speakers: held out, or used for training if nothing is chosen on them (last epoch, no tune).",
    )
    column: str = setting("", "given: column that says train, dev or test, or names the fold.")
    train_corpora: tuple[str, ...] = setting((), "cross: corpora to train on (default: all that are not tested).")
    test_corpora: tuple[str, ...] = setting((), "cross: corpora to test on.")
    split_seed: int = setting(0, "Seed of the split, independent of the training seeds.")
    folds: int = setting(0, "Number of folds to train, the first ones (0: all).", ge=0, common=True)
    seeds: int = setting(1, "Number of training seeds: 0, 1, 2 and so on.", ge=1, common=True)
    normalise: Literal["none", "train", "utterance", "sliding", "speaker"] = setting(
        "train",
        "Normalisation of the features: by the training speakers (train), each utterance, 300 frames around each "
        "(sliding) or each speaker, which uses the test speakers' recordings (transductive).",
    )
    features: FeatureSettings = setting(FeatureSettings, "Features and VAD.")
    network: NetworkSettings = setting(NetworkSettings, "The network.")
    training: TrainingSettings = setting(TrainingSettings, "The training.")
    options: Mapping[str, Mapping[str, Any]] = setting(dict, "Options of systems: dat: {lam: 0.3}, cgt: {epsilon: 1}.")
    tune: Literal["", "grid", "optuna"] = setting(
        "",
        "Also train with the settings that are best on each fold's validation speakers (chosen on seed 0): λ of dat "
        "and ε of cgt among four values (grid), or any settings, of every system (optuna; extra: tune).",
    )
    trials: int = setting(20, "optuna: number of trials for each system, fold and direction.", ge=1)
    space: Mapping[str, str] = setting(
        dict,
        "optuna: keys of training, network or options to search, each as KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=A|B "
        f"(default: {','.join(f'{key}={ends}' for key, ends in SPACE.items())}).",
    )
    invariance: bool = setting(
        False,
        "Also train on a random split with at least four unseen speakers, in RUN/invariance, to measure how much of "
        "the speaker the embeddings keep.",
    )
    store: str = setting("", "Folder of the feature store (default: in the run's folder).")
    workers: int = setting(0, "Parallel trainings, one thread each on a CPU (0: one per core).", ge=0, common=True)
    device: str = setting("auto", "auto, cpu, cuda or mps.", common=True)
    engine: Literal["local", "ray"] = setting(
        "local", "Where trainings run: processes of this machine, or a Ray cluster (extra: ray)."
    )
    address: str = setting("", "ray: auto or HOST:PORT, a running cluster (default: this machine only).")
    gpus: float = setting(0.0, "ray: share of a GPU per training (0: a quarter if there are GPUs).", ge=0)
    logger: tuple[str, ...] = setting((), "Also log each epoch: tensorboard, mlflow, wandb or plug-ins, by commas.")
    progress: bool = setting(True, "Show progress on a terminal.")

    def __post_init__(self) -> None:
        check(self)
        for name in ("systems", "emotions"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"{name} = {', '.join(values)} is empty or names one twice")
        if len(self.emotions) < 2:
            raise ConfigError(f"only one emotion, {self.emotions[0]}", mend="Give two or more with --emotions.")
        if bool(self.manifest) == bool(self.corpus):
            what = "an experiment needs either a corpus or a manifest"
            raise ConfigError(what, mend="Give --corpus NAME --root FOLDER, or --manifest FILE.")
        if self.corpus and not self.root:
            raise ConfigError(f"where is the corpus '{self.corpus}'?", mend="Give its folder with --root.")
        for name in ("subset", "partial") if self.manifest else ():
            if value := getattr(self, name):
                what = f"{name} = {value} applies to a corpus, and this experiment has a manifest"
                raise ConfigError(what, mend=f"Leave out --{name}, or --manifest.")
        if self.engine == "local" and (self.address or self.gpus):
            raise ConfigError("address and gpus apply to the engine ray", mend="Add --engine ray, or leave them out.")
        if self.gpus and self.device == "cpu":
            raise ConfigError(f"gpus = {self.gpus} and device = cpu contradict each other", mend="Give one of them.")
        if "://" in self.address:
            what = f"'{self.address}' is not an address of a cluster that this machine is part of"
            raise ConfigError(what, mend="Run this on a machine of the cluster, with --address auto or HOST:PORT.")
        if not self.out:
            raise ConfigError("no folder for the results is named", mend="Add --out FOLDER.")

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions in a model's index order, which is alphabetical."""
        return tuple(sorted(self.emotions))

    @property
    def epochs(self) -> int:
        """Number of epochs of each training."""
        return self.training.epochs

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for YAML and JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain


def load(
    path: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] = MappingProxyType({}),
    say: Say = silent,
) -> Experiment:
    """Load an experiment from a recipe, a preset, a YAML file and `overrides` (nested like the file); later ones win.

    `defaults` are used if neither file nor `overrides` give a value.

    Paths in the file are relative to its folder, paths in `overrides` to the working directory. A top-level `epochs` is
    short for `training.epochs`. A file with `resolved: true`, such as a run's `config.yaml`, contains every setting:
    preset, recipe and sizes are not applied again. If no recipe is given, `say` receives the recipe in use and the
    reason. Raises `ConfigError` for a file that cannot be read, an unknown key (naming the closest), a value of the
    wrong type or out of range (naming the file, if the value is from it), or another preset, recipe or sizes for a
    resolved file.
    """
    from_file, resolved = _read_file(Path(path)) if path is not None else ({}, False)
    from_file = {**defaults, **from_file}
    values = _merge(from_file, _prepare(Experiment, overrides or {}))
    for name in ("preset", "recipe", "sizes") if resolved else ():
        if values.get(name) != from_file.get(name):
            what = f"this file is resolved with the {name} '{from_file.get(name, '')}': another would change nothing"
            raise ConfigError(what, where=path, mend=f"Leave out --{name}, or give it without --config.")
    try:
        settings = _complete(values, resolved)
        if not values.get("recipe"):
            say(f"Recipe {settings.recipe}: {_recipe_reason(settings)}")
        return settings
    except ConfigError as error:
        if path is None:
            raise
        try:
            _complete(from_file, resolved)
        except ConfigError as alone:
            if alone.what == error.what:  # an error in the file, which has keys, not flags
                what, mend = (
                    re.sub(r"--([a-z][a-z.-]*)", lambda flag: flag[1].replace("-", "_"), text)
                    for text in (error.what, error.mend or "")
                )
                raise ConfigError(what, where=path, mend=mend or None) from None
        raise


def _complete(values: Mapping[str, Any], resolved: bool) -> Experiment:
    """Return the experiment of these settings; unless `resolved`, preset, recipe and sizes fill in the others."""
    if resolved:
        return _validate(values)
    if values.get("preset"):
        base = read_named(PRESETS, str(values["preset"]))
        if values.get("manifest"):  # a manifest replaces the preset's corpus
            base = {key: value for key, value in base.items() if key not in ("corpus", "subset")}
        if values.get("protocol", base.get("protocol")) != base.get("protocol"):  # drop options of the other protocol
            base = {key: value for key, value in base.items() if key not in ("test", "k", "n")}
        values = _merge(base, values)
    values = _merge(values, best_recipe(values))
    recipe = read_named(RECIPES, str(values["recipe"]))
    if values.get("features", {}).get("kind", recipe["features"]["kind"]) != recipe["features"]["kind"]:
        recipe["features"], recipe["training"]["augment"] = {}, {}  # augmentation depends on the features
    values = _merge(recipe, values)
    sizes = NETWORKS.get(str(values.get("sizes", "iemocap")), NetworkSettings())
    return _validate(_merge({"network": {name: getattr(sizes, name) for name in SIZES}}, values))


def best_recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe of an experiment, by default the best one available, and the features that it needs.

    The default is `encoder` if the features name an encoder or a packaged model has one, else `strong`.
    """
    features = values.get("features", {})
    packaged = (str(path.parent) for path in sorted(PACKAGED.glob("*/encoder/model.onnx")))
    encoder = features.get("encoder") or next(packaged, "")
    fits = encoder and features.get("kind", "encoder") == "encoder"
    recipe = values.get("recipe") or ("encoder" if fits else "strong")
    return {"recipe": recipe} | ({"features": {"encoder": encoder}} if recipe == "encoder" and fits else {})


def _recipe_reason(settings: Experiment) -> str:
    """Return the reason for the recipe of an experiment that names none."""
    if settings.preset and "recipe" in read_named(PRESETS, settings.preset):
        return f"that of the preset {settings.preset}"
    if settings.recipe == "encoder":
        return f"the best with a pretrained encoder, {settings.features.encoder}"
    if settings.features.kind == "fbank":
        return "the best without a pretrained encoder (--features.encoder)"
    return f"its network and training, on features of kind {settings.features.kind}"


def _read_file(path: Path) -> tuple[dict[str, Any], bool]:
    """Return the settings of a file, and whether it is resolved."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if not isinstance(values, dict):
            raise ConfigError("contains no settings", mend="Write `key: value` lines.")
        resolved = values.pop("resolved", False)
        if not isinstance(resolved, bool):
            raise ConfigError(f"setting 'resolved' is true or false, not {resolved!r}")
        return resolve_paths(path.parent, _prepare(Experiment, values)), resolved
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read ({error})", where=path) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"is not YAML ({error})", where=path, mend="Write `key: value` lines.") from error
    except ConfigError as error:
        raise ConfigError(error.what, where=path, mend=error.mend) from None


def _prepare(kind: type, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Convert values of a (part of the) tree for pydantic: names with underscores, "a,b" to lists, "a=b" to mappings.

    Raises `ConfigError` for an unknown key, with the closest one anywhere in the tree.
    """
    hints = hints_of(kind)
    prepared: dict[str, Any] = {}
    for key, value in sorted(values.items(), key=lambda item: item[0] == "epochs"):  # last, so that it wins
        name = str(key).replace("-", "_")
        if prefix + name == "epochs":
            name, value = "training", {"epochs": value}
        if name not in hints or name.startswith("__"):
            raise ConfigError(f"unknown setting '{prefix}{key}'", mend=_suggestion(name, prefix))
        hint, path = hints[name], prefix + name
        if dataclasses.is_dataclass(hint) and not isinstance(value, typing.cast(type, hint)):
            if not isinstance(value, Mapping):
                raise ConfigError(f"setting '{path}' is a group of settings, not {value!r}")
            value = _merge(prepared.get(name, {}), _prepare(typing.cast(type, hint), value, f"{path}."))
        elif isinstance(value, Path):
            value = str(value)
        elif get_origin(hint) is tuple and not isinstance(value, (list, tuple)):
            items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
            value = [item for item in (items if isinstance(items, Iterable) else [items]) if item != ""]
        elif path in PAIRS and isinstance(value, str):
            pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
            text, value = value, {old.strip(): new.strip() for old, _, new in pairs}
            if len(value) < len(pairs) or not all(value.values()):
                what = f"setting '{path}' takes pairs, each name once, not {text!r}"
                raise ConfigError(what, mend=f"For instance {PAIRS[path]}.")
        elif isinstance(value, bool) and hint in (int, float, int | None):
            raise ConfigError(f"setting '{path}' takes a number, not {value!r}")
        prepared[name] = value
    return prepared


def _suggestion(name: str, prefix: str) -> str:
    here = [key[len(prefix) :] for key, _, _ in keys() if key.startswith(prefix) and "." not in key[len(prefix) :]]
    elsewhere = {key.rpartition(".")[2]: key for key, _, _ in keys()}
    close = [elsewhere[name]] if name in elsewhere else get_close_matches(name, here, n=1, cutoff=0.5)
    close = close or [elsewhere[leaf] for leaf in get_close_matches(name, elsewhere, n=1, cutoff=0.75)]
    guess = f"Did you mean '{close[0]}'? " if close else ""
    return f"{guess}Known: {', '.join(sorted(here))}."


_adapter = cache(lambda: TypeAdapter(Experiment))  # slow to build


def _validate(values: Mapping[str, Any]) -> Experiment:
    try:
        return _adapter().validate_python(values)
    except ValidationError as invalid:
        error = invalid.errors()[0]
        name, value = ".".join(map(str, error["loc"])), error["input"]
        if error["type"] == "literal_error":
            choices = filter(None, re.findall(r"'([^']*)'", error["ctx"]["expected"]))
            raise ConfigError(f"unknown {name} '{value}'", mend=did_you_mean(str(value), choices)) from None
        bounds = next((range_of(field) for key, field, _ in keys() if key == name), "")
        if bounds and error["type"].startswith(("greater_than", "less_than")):
            what = f"setting '{name}' = {value!r} is out of range"
            raise ConfigError(what, mend=f"Give a number {bounds}.") from None
        what = error["msg"].replace("Input should be", "it should be")
        raise ConfigError(f"setting '{name}' = {value!r}: {what}") from None


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        nested = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(old, value) if nested else value  # type: ignore[arg-type]
    return merged


# Paths in a file are relative to its folder, so that a run's `config.yaml` finds its corpus from any working directory,
# and after run and corpus have been moved together.


def resolve_paths(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a file in `folder` with paths relative to the working directory."""

    def resolve(path: str) -> str:
        joined = str(folder / path)
        short = os.path.normpath(joined)
        return short if os.path.realpath(short) == os.path.realpath(joined) else joined  # a link changes `..`

    return _map_paths(values, resolve)


def relative_paths(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings for a file in `folder`: relative paths become relative to it, absolute paths are kept."""

    def relative(path: str) -> str:
        absolute = str(Path(path).absolute())
        try:
            return path if Path(path).is_absolute() else os.path.relpath(absolute, os.path.realpath(folder))
        except ValueError:  # another drive
            return absolute

    return _map_paths(values, relative)


def _map_paths(values: Mapping[str, Any], convert: Callable[[str], str]) -> dict[str, Any]:
    """Return the settings with `convert` applied to every path."""

    def speakers(value: str) -> str:  # FILE:PART
        file, colon, name = value.rpartition(":")
        return convert(file) + colon + name if colon else convert(value)

    def encoder(source: str) -> str:
        hub_id = re.fullmatch(r"\w[\w.-]*/[^/]+", source) and not Path(source).exists()
        return source if hub_id and not Path(convert(source)).exists() else convert(source)

    def roots(value: str) -> str:  # a folder for each corpus
        return ",".join(convert(r.strip()) for r in value.split("," if "," in str(values.get("corpus")) else "\0"))

    def convert_all(values: Mapping[str, Any], functions: Mapping[str, Callable[[str], str]]) -> dict[str, Any]:
        names = [name for name in functions if isinstance(values.get(name) or None, str)]
        return {**values, **{name: functions[name](values[name]) for name in names}}

    functions = {**dict.fromkeys(("manifest", "store", "out"), convert), "speakers": speakers, "root": roots}
    converted = convert_all(values, functions)
    if isinstance(converted.get("features"), Mapping):
        converted["features"] = convert_all(converted["features"], {"folder": convert, "encoder": encoder})
    return converted


# Help and the reference page.


@cache
def keys(kind: type = Experiment, prefix: str = "") -> tuple[tuple[str, dataclasses.Field[Any], Any], ...]:
    """Return all dotted keys of the tree in order, with field and type; groups precede their keys."""
    entries: list[tuple[str, dataclasses.Field[Any], Any]] = []
    for field in dataclasses.fields(kind):
        hint, key = hints_of(kind)[field.name], prefix + field.name
        entries += [
            (key, field, hint),
            *(keys(typing.cast(type, hint), f"{key}.") if dataclasses.is_dataclass(hint) else ()),
        ]
    return tuple(entries)


def reference() -> str:
    """Return the reference page of every key, in Markdown."""
    from unheard.training.strategies import STRATEGIES

    tree = [(key, field, hint) for key, field, hint in keys() if not dataclasses.is_dataclass(hint)]
    groups = {key: field.metadata["description"] for key, field, hint in keys() if dataclasses.is_dataclass(hint)}
    for system, (name, _, kind) in STRATEGIES.items():
        groups[f"options.{system}"] = f"Options of {name}; as a flag `--option {system}.NAME=VALUE`."
        tree += keys(kind, f"options.{system}.") if kind else ()
    lines = ["# Configuration", "", *_REFERENCE]
    for group, text in {"": "At the top of the file.", **groups}.items():
        entries = [entry for entry in tree if entry[0].rpartition(".")[0] == group]
        if entries:
            lines += ["", f"## `{group}`" if group else "## Experiment", "", text, ""]
        for key, field, hint in entries:
            derived = " Derived, not given." * field.metadata.get("json_schema_extra", {}).get("derived", False)
            text = f"- `{key}`: {described(field, hint, field.default)}{derived}"
            lines.append(textwrap.fill(text, 120, subsequent_indent="  ", break_on_hyphens=False))
    return "\n".join(lines) + "\n"


_REFERENCE = (
    "Every setting of `unheard experiment` and `unheard train`. `training.lr` is the key `lr` in the group `training`",
    "of a YAML file (`--config FILE`), or the flag `--training.lr`. `epochs` is short for `training.epochs`.",
    "The defaults are those where neither preset nor recipe sets a value: see `--recipe`.",
    "This page is generated: `python -m unheard.experiments.config > docs/reference/configuration.md`.",
)


if __name__ == "__main__":
    print(reference(), end="")
