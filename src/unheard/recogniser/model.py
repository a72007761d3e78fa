"""An ONNX model file: its graph, run by onnxruntime, and what it says of itself.

    features (B, T, F), lengths (B,), profile (1, V)
        -> logits, probabilities (B, C), embedding (B, E), description (B, V)

A graph is data: it computes numbers from numbers, and nothing in the file is run as a program.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import unheard
from unheard import __version__
from unheard.errors import ConfigError, ModelError, did_you_mean, printable
from unheard.features.settings import FeatureSettings
from unheard.files import cannot_read
from unheard.recogniser.stream import WindowSettings

Floats = npt.NDArray[np.float32]

FILE = "model.onnx"
"""The graph in a model's folder."""

CARD = "README.md"
"""The model card beside it, where a Hugging Face repository has it."""

LARGEST = 1 << 30
"""Bytes of a model file that are read at most."""

MOST_THREADS = 256
"""Threads of one prediction: no machine has use for more."""

_INPUTS = ("features", "lengths")
_OUTPUTS = ("logits", "probabilities", "embedding", "description")


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What the graph says of B utterances: (B, C), (B, C), (B, E), (B, V)."""

    logits: Floats
    probabilities: Floats
    embedding: Floats
    description: Floats


class OnnxModel:
    """A model that can be run; safe to use from several threads."""

    def __init__(self, content: bytes, where: str, *, folder: Path | None = None, threads: int = 1) -> None:
        self.where = where
        self.folder = folder
        self.digest = sha256(content).hexdigest()
        """Of the file: what is learnt of a profile belongs to one model."""
        graph = _opened(content, where, threads)
        if graph.description is None:
            raise ModelError(
                "this ONNX file was not made by unheard", where=where, mend="Make one with: unheard export"
            )
        self._session = graph.session
        self.metadata: Metadata = read_metadata(graph.description, where)
        self.profile_width: int = _profile_width(graph, self.metadata, where)
        """V; 0 for a model that knows no profiles."""

    @classmethod
    def open(cls, path: str | Path, *, threads: int = 1) -> OnnxModel:
        """The model in a file, or in a folder as `unheard export` leaves it.

        Raises `ModelError` where there is none, and for a file that is broken or something else.
        """
        path = Path(path)
        folder = path if path.is_dir() else path.parent
        file = path / FILE if path.is_dir() else path
        try:
            if path.is_dir() and not file.exists():
                trained = (path / "model.safetensors").exists()
                raise ModelError(
                    "this folder holds a trained model that has not been exported" if trained else f"no {FILE} in here",
                    where=path,
                    mend=f"Export it first: unheard export {path} -o FOLDER"
                    if trained
                    else "Name a model's folder or file.",
                )
            if file.stat().st_size > LARGEST:
                raise ModelError(f"is larger than a model may be ({LARGEST >> 20} MiB)", where=file)
            content = file.read_bytes()
        except (OSError, ValueError) as problem:
            if isinstance(problem, OSError):
                raise cannot_read(file, problem, ModelError) from None
            raise ModelError("is no path", where=repr(str(file)), mend="Check the path.") from None
        if file.suffix == ".safetensors":
            raise ModelError(
                "this is a trained model that has not been exported",
                where=file,
                mend=f"unheard export {file} -o FOLDER",
            )
        return cls(content, str(path), folder=folder, threads=threads)

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions in index order."""
        return self.metadata.labels

    @property
    def name(self) -> str:
        """What its maker called it, else the name of its file or folder."""
        return self.metadata.name or Path(self.where).stem

    def run(self, features: Floats, lengths: npt.NDArray[np.int64], profile: Floats | None = None) -> Outputs:
        """Run the graph on features (B, T, F) with `lengths` (B,) valid frames each, and a profile (1 or B, V).

        Raises `ModelError` where the graph fails or says what are no numbers.
        """
        given: dict[str, Any] = {"features": features, "lengths": lengths}
        if profile is not None:
            given["voice"] = profile
        try:
            found = self._session.run(_OUTPUTS, given)
        except Exception as problem:  # onnxruntime's own classes derive from nothing else
            raise ModelError(f"the graph failed ({_first_line(problem)})", where=self.where) from None
        batch, classes = len(features), len(self.labels)
        fine = all(isinstance(one, np.ndarray) and one.ndim == 2 and len(one) == batch for one in found)
        if not fine or found[1].shape[1] != classes or not all(np.isfinite(one).all() for one in found):
            raise ModelError("the graph's outputs are not what its labels ask for, or no numbers", where=self.where)
        return Outputs(*found)

    def card(self) -> str:
        """The model card's text, empty where none lies beside the model."""
        if self.folder is None or not (self.folder / FILE).exists():
            return ""
        try:
            with (self.folder / CARD).open("rb") as file:
                return file.read(1 << 20).decode("utf-8", "replace")
        except OSError:
            return ""


@dataclass(frozen=True, slots=True, eq=False)
class _Graph:
    """A session, and what it takes and gives: name -> shape."""

    session: Any
    description: str | None
    inputs: dict[str, Any]
    optional: dict[str, Any]
    outputs: dict[str, Any]


_NOWHERE = str(Path(os.devnull) / "nowhere")
"""No folder anywhere: what is no folder has nothing in it."""


def _opened(content: bytes, where: str, threads: int) -> _Graph:
    """The graph in a file's bytes; weights in other files are not looked for."""
    import onnxruntime

    if not 1 <= threads <= MOST_THREADS:
        raise ConfigError(f"{threads} threads are out of range", mend=f"Give 1 to {MOST_THREADS}.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised; a second report on standard error helps nobody
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # of a graph given as bytes they would be looked for in the folder one happens to be in
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NOWHERE)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        return _Graph(
            session,
            session.get_modelmeta().custom_metadata_map.get("unheard"),
            {value.name: value.shape for value in session.get_inputs()},
            {value.name: value.shape for value in session.get_overridable_initializers()},
            {value.name: value.shape for value in session.get_outputs()},
        )
    except Exception as problem:  # onnxruntime's own classes derive from nothing else
        raise ModelError(
            f"this is no ONNX model that can be run ({_first_line(problem)})",
            where=where,
            mend="Copy it again, or make it with: unheard export",
        ) from None


def _profile_width(graph: _Graph, metadata: Metadata, where: str) -> int:
    """The width of a profile, 0 without one; raises `ModelError` for inputs and outputs other than a model's."""
    width = metadata.features.dim
    shape = graph.inputs.get("features", [])
    if set(graph.inputs) != set(_INPUTS) or not set(_OUTPUTS) <= set(graph.outputs) or shape[2:] != [width]:
        raise ModelError(
            f"the graph does not take features (B, T, {width}) and lengths, or gives no {', '.join(_OUTPUTS)}",
            where=where,
            mend="Make it again with: unheard export",
        )
    profile = graph.optional.get("voice", [])
    return profile[1] if len(profile) == 2 and isinstance(profile[1], int) else 0


def _first_line(problem: Exception) -> str:
    lines = str(problem).strip().splitlines()
    return "".join(letter for letter in (lines[0] if lines else "") if letter.isprintable())[:200].rstrip(". ")


# What a model file says of itself, read with the suspicion a stranger's file deserves.

FORMAT = 1
"""The highest format of metadata understood here."""

KINDS = ("mfcc", "fbank", "functionals")
"""Kinds of features that need nothing but this package."""

LARGEST_TEXT = 1 << 20  # characters of JSON
_LONGEST_WORD = 64
_MOST_LABELS = 1000


@dataclass(frozen=True, slots=True)
class Metadata:
    """A model's own account: what it was trained on, what its inputs are, what may be done with it.

    `labels` are in index order. `licence` is that of the weights. `data` are the corpora behind them (name, title,
    language, licence, citation, homepage, each where known). `shrinkage` is kappa of the adaptation to a profile.
    `about` is whatever else its maker wrote down.
    """

    labels: tuple[str, ...]
    features: FeatureSettings
    version: str = ""
    name: str = ""
    licence: str = ""
    normalise: str = ""
    temperature: float = 1.0
    shrinkage: float = 4.0
    windows: WindowSettings = WindowSettings()  # noqa: RUF009 - it is frozen
    data: tuple[Mapping[str, str], ...] = ()
    about: Mapping[str, str] | None = None


def read_metadata(text: str, where: str) -> Metadata:
    """The metadata in `text`; raises `ModelError` for anything that is not what `unheard export` writes."""
    if len(text) > LARGEST_TEXT:
        raise _broken(where, f"is {len(text):,} characters long")
    try:
        values = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _broken(where, "is no JSON") from None
    if not isinstance(values, dict) or not isinstance(values.get("format"), int):
        raise _broken(where, "has no format number")
    if values["format"] > FORMAT:
        raise ModelError(
            f"was made by a newer unheard (format {values['format']}, version {values.get('unheard', '?')!s:.20})",
            where=where,
            mend="Upgrade with: pip install --upgrade unheard",
        )
    try:
        return Metadata(
            labels=_labels(values["labels"]),
            features=_features(_mapping(values["features"])),
            version=_text(values.get("unheard", "")),
            name=_text(values.get("name", "")),
            licence=_text(values.get("licence", "")),
            normalise=_text(values.get("normalise", "")),
            temperature=_number(values.get("temperature", 1.0)),
            shrinkage=_number(_mapping(values.get("adaptation", {})).get("shrinkage", 4.0)),
            windows=_windows(_mapping(values.get("window", {}))),
            data=tuple(_texts(one) for one in _list(values.get("data", []))),
            about=_texts(values.get("about", {})),
        )
    except KeyError as missing:
        raise _broken(where, f"has no {missing.args[0]}") from None
    except (ConfigError, ValueError, TypeError, OverflowError) as problem:
        raise _broken(where, str(problem).rstrip(".")) from None


class _Odd(ValueError):
    """A value of another kind than expected."""


def _no_constant(word: str) -> None:
    raise _Odd(f"holds {word}, which is no number")


def _broken(where: str, why: str) -> ModelError:
    return ModelError(
        f"this is no model of unheard: its description {why}", where=where, mend="Make it again with: unheard export"
    )


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Odd("holds a table that is none")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Odd("holds a list that is none")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Odd("holds a text that is none")
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in value)


def _texts(value: Any) -> dict[str, str]:
    return {_text(name): _text(item) for name, item in _mapping(value).items()}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise _Odd("holds a number that is none, or is below 0")
    return float(value)


def _features(values: dict[str, Any]) -> FeatureSettings:
    kind = values.get("kind", KINDS[0])
    if kind not in KINDS:  # said before the settings look for an encoder wherever a stranger's file says it is
        raise _Odd(f"asks for features of kind {kind!r:.20}, which are not made here")
    return FeatureSettings.from_dict(values)


def _windows(values: dict[str, Any]) -> WindowSettings:
    default = WindowSettings()
    return WindowSettings(_number(values.get("seconds", default.seconds)), _number(values.get("hop", default.hop)))


def _labels(value: Any) -> tuple[str, ...]:
    labels = tuple(_text(label) for label in _list(value))
    fine = all(label.strip() and len(label) <= _LONGEST_WORD and label.isprintable() for label in labels)
    if not fine or not 2 <= len(labels) <= _MOST_LABELS or len(set(labels)) < len(labels):
        raise _Odd("has labels that are not different words")
    return labels


# Models that came with the package, by name.


def packaged_models() -> dict[str, Path]:
    """Name -> folder of every model in the package."""
    root = Path(unheard.__file__).parent / "models"
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{FILE}"))}


def open_model(model: str | Path, *, threads: int = 1) -> OnnxModel:
    """The model of this name, folder or file; a name of the package goes before a folder of the same name.

    Raises `ModelError` where there is none.
    """
    known = packaged_models()
    if isinstance(model, str) and model in known:
        return OnnxModel.open(known[model], threads=threads)
    try:
        exists = Path(model).exists()
    except (OSError, ValueError):
        exists = False
    if not exists:
        names = did_you_mean(str(model), known) if known else "No model came with this package."
        raise ModelError("there is no model of this name, and no such file", where=model, mend=names)
    return OnnxModel.open(model, threads=threads)


# What a model says of itself, for people: where it comes from and what may be done with it.


def describe(model: OnnxModel) -> str:
    """A model's version, licence, training data and card, as text."""
    about = model.metadata
    lines = [
        f"{model.name}, made by unheard {about.version or '(unknown version)'}, run by unheard {__version__}",
        f"emotions: {', '.join(model.labels)}",
        f"licence of the weights: {about.licence or 'not stated'}",
    ]
    for corpus in about.data:
        name = corpus.get("title") or corpus.get("name", "?")
        lines.append(f"trained on {name}: {corpus.get('licence') or 'licence not stated'}")
    lines.append(f"file: {model.where} (sha256 {model.digest})")
    card = "\n".join(map(printable, without_front_matter(model.card()).strip().splitlines()))
    return "\n".join(lines) + "\n" + (f"\n{card}\n" if card else "")


def without_front_matter(card: str) -> str:
    """A card's text for people, without what a repository wants to know of it."""
    if not card.startswith("---\n"):
        return card
    _, found, text = card[4:].partition("\n---\n")
    return text if found else card
