"""Open an exported model: its ONNX graph, run by onnxruntime, and the metadata in the file.

    features (T, F), profile (V,) -> logits (C,), probabilities (C,), embedding (E,), description (V,)

A file may come from a stranger. A graph computes numbers from numbers and nothing in the file runs as a program; the
metadata is checked value by value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import unheard
from unheard import __version__
from unheard.errors import ConfigError, ModelError, did_you_mean, printable
from unheard.features.encoder import LARGEST, MODEL, OnnxEncoder, content_digest, first_line, onnx_session
from unheard.features.settings import FeatureSettings
from unheard.files import cannot_read, exists, read_regular
from unheard.licence import commercial_use
from unheard.recogniser.hub import PREFIX, download, try_out
from unheard.recogniser.windows import WindowSettings
from unheard.settings import check_number

Floats = npt.NDArray[np.float32]

FILE = "model.onnx"  # the graph in a model folder
TRAINED = "model.safetensors"  # what is there instead in the folder of a training
CARD = "README.md"  # the model card beside it, where a Hugging Face repository has it
ENCODER = "encoder"  # the folder beside it with the pretrained encoder that the graph continues, if any
SUMS = "SHA256SUMS"  # the checksums of the ONNX files of the folder, as `sha256sum` writes and checks them

MOST_THREADS = 256
OUTPUTS = ("logits", "probabilities", "embedding", "description")
_EXPORT = "Make it with: unheard export"


class Outputs(NamedTuple):
    """Outputs of the graph for one utterance: (C,), (C,), (E,), (V,)."""

    logits: Floats
    probabilities: Floats
    embedding: Floats
    description: Floats


class OnnxModel:
    """A model that can be run; safe to use from several threads.

    `digest` identifies the file: a speaker profile belongs to one model. `profile_width` is V, 0 for a model that
    cannot adapt. `encoder` computes the features of a model on a pretrained encoder.
    """

    def __init__(self, content: bytes, where: str, *, folder: Path | None = None, threads: int = 1) -> None:
        check_number("threads", threads, 1, MOST_THREADS)
        self.where, self.folder, self.digest = where, folder, sha256(content).hexdigest()
        try:
            self._session = onnx_session(content, threads)
            # Names that are not UTF-8 raise UnicodeDecodeError.
            text = self._session.get_modelmeta().custom_metadata_map.get("unheard")
            inputs = {value.name: value.shape for value in self._session.get_inputs()}
            outputs = {value.name for value in self._session.get_outputs()}
            optional = {value.name: value.shape for value in self._session.get_overridable_initializers()}
        except ValueError as problem:
            what = f"this is not an ONNX model that can be run ({problem})"
            raise ModelError(what, where=where, mend=_EXPORT) from None
        if text is None:
            raise ModelError("this ONNX file was not made by unheard", where=where, mend=_EXPORT)
        self.metadata: Metadata = read_metadata(text, where)
        self.encoder = _encoder_of(self.metadata.features, folder, where, threads)
        width = self.metadata.features.dim
        if set(inputs) != {"features"} or inputs["features"][1:] != [width] or not outputs.issuperset(OUTPUTS):
            what = f"the graph must map features (T, {width}) to {', '.join(OUTPUTS)}"
            raise ModelError(what, where=where, mend=_EXPORT)
        self.profile_width: int = width if optional.get("profile") == [width] else 0

    @classmethod
    def open(cls, path: str | Path, *, threads: int = 1) -> OnnxModel:
        """Open a model file, or a folder that `unheard export` wrote.

        Raises `ModelError` where there is no model, and for a file that is broken or something else.
        """
        path = Path(path)
        file, inside = (path / FILE, path) if path.is_dir() else (path, None)
        try:
            if file.suffix == ".safetensors" or (inside and not file.exists() and (path / TRAINED).exists()):
                mend = f"unheard export {path} -o FOLDER"
                raise ModelError("this trained model has not been exported", where=path, mend=mend)
            if inside and not file.exists():
                raise ModelError(f"no {FILE} in this folder", where=path, mend="Name a model's folder or file.")
            content = read_regular(file, LARGEST, ModelError, inside=inside)
            sums = file.parent / SUMS
            text = read_regular(sums, 1 << 16, ModelError, inside=file.parent) if sums.exists() else b""
        except OSError as problem:
            raise cannot_read(file, problem, ModelError) from None
        except ValueError:
            raise ModelError("not a valid path", where=repr(str(file)), mend="Check the path.") from None
        listed = (line.partition(" ") for line in text.decode("utf-8", "replace").splitlines())
        known = {name.strip().lstrip("*"): digest.lower() for digest, _, name in listed}
        if known.get(file.name, digest := sha256(content).hexdigest()) != digest:
            what = f"the file differs from its checksum in {SUMS}"
            raise ModelError(what, where=file, mend="Copy or download the folder again.")
        return cls(content, str(path), folder=file.parent, threads=threads)

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions in index order."""
        return self.metadata.labels

    @property
    def name(self) -> str:
        """The name in the metadata, else that of the file or folder."""
        return self.metadata.name or Path(self.where).stem

    @property
    def commercial_use(self) -> str:
        """Whether the weights may be used commercially, in a sentence."""
        data = [(one.get("title") or one.get("name", "?"), one.get("licence", "")) for one in self.metadata.data]
        return commercial_use(self.metadata.licence, data)

    def run(self, features: Floats, profile: Floats | None = None) -> Outputs:
        """Run the graph on features (T, F) of one utterance, and a speaker profile (V,).

        Raises `ModelError` where the graph fails or its outputs are not finite.
        """
        given = {"features": features} | ({} if profile is None else {"profile": profile})
        try:
            found = self._session.run(OUTPUTS, given)
        except Exception as problem:  # onnxruntime's classes have no other base
            raise ModelError(f"the graph failed ({first_line(problem)})", where=self.where) from None
        fine = all(isinstance(one, np.ndarray) and one.ndim == 1 and np.isfinite(one).all() for one in found)
        if not fine or len(found[1]) != len(self.labels):
            raise ModelError("the outputs of the graph are not finite, or do not fit the labels", where=self.where)
        return Outputs(*found)

    def card(self) -> str:
        """Return the text of the model card, empty where there is none beside the model that may be read."""
        if self.folder is None or not (self.folder / FILE).exists():
            return ""
        with suppress(ModelError):
            return read_regular(self.folder / CARD, 1 << 20, ModelError, inside=self.folder).decode("utf-8", "replace")
        return ""


def _encoder_of(features: FeatureSettings, folder: Path | None, where: str, threads: int) -> OnnxEncoder | None:
    """Open the encoder beside a model on an encoder's frames: the one that it was exported with, and no other."""
    if features.kind != "encoder":
        return None
    mend = "Copy the whole folder of the model."
    if folder is None or not (folder / ENCODER / MODEL).exists():
        raise ModelError(f"this model needs the folder {ENCODER} beside it", where=where, mend=mend)
    path = folder / ENCODER
    content = read_regular(path / MODEL, LARGEST, ModelError, inside=folder)
    if content_digest(MODEL, content) != features.encoder_digest:
        what = "this is not the encoder that the model was exported with, or a damaged one"
        raise ModelError(what, where=path / MODEL, mend=mend)
    try:
        return OnnxEncoder(content, path, features.layer, threads=threads)
    except ConfigError as problem:
        raise ModelError(problem.what, where=path, mend=_EXPORT) from None


# Metadata: what a model file contains beside its graph.

FORMAT = 1
KINDS = ("mfcc", "fbank", "functionals", "encoder")
"""Kinds of features; an encoder lies beside the model, whatever folder the metadata names."""

LARGEST_TEXT = 1 << 20  # upper limit for the metadata, in characters

_SCHEMA = {
    "labels": [str],
    "features": {str: object},
    "unheard": str,
    "name": str,
    "licence": str,
    "normalise": str,
    "temperature": float,
    "adaptation": {"shrinkage": float},
    "window": {"seconds": float, "hop": float},
    "data": [{str: str}],
    "about": {str: str},
}
"""Keys of the metadata; a type in a list stands for each item, `{str: T}` for any names with values of type T."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of a model: labels in index order, features, licence of the weights, training corpora, windows.

    `data` has name, title, language, licence, citation and homepage of each corpus; `shrinkage` is κ of the adaptation
    to a speaker; `about` holds further remarks of the training.
    """

    labels: tuple[str, ...]
    features: FeatureSettings
    version: str
    name: str
    licence: str
    shrinkage: float
    windows: WindowSettings
    data: tuple[Mapping[str, str], ...]
    about: Mapping[str, str]


def read_metadata(text: str, where: str) -> Metadata:
    """Parse and check metadata; raises `ModelError` for anything that `unheard export` does not write."""
    try:
        if len(text) > LARGEST_TEXT:
            raise ValueError(f"is {len(text):,} characters long")
        try:
            values = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise ValueError("is not JSON") from None
        if not isinstance(values, dict) or not isinstance(values.get("format"), int):
            raise ValueError("has no format number")
        if values["format"] > FORMAT:
            made = f"format {values['format']}, version {values.get('unheard', '?')!s:.20}"
            mend = "Upgrade with: pip install --upgrade unheard"
            raise ModelError(f"was made by a newer unheard ({made})", where=where, mend=mend)
        values = _checked(values, _SCHEMA)
        labels = tuple(values["labels"])
        fine = all(label.strip() and len(label) <= 64 and "\n" not in label for label in labels)
        if not fine or not 2 <= len(labels) <= 1000 or len(set(labels)) < len(labels):
            raise ValueError("must have at least two labels, all different, of at most 64 letters")
        if values["features"].get("kind", KINDS[0]) not in KINDS:
            raise ValueError(f"asks for features of kind {values['features']['kind']!r:.20}, which are unknown here")
        features = FeatureSettings.from_dict(values["features"])
        if not features.resolved:
            raise ValueError("asks for an encoder without its digest and width")
        return Metadata(
            labels=labels,
            features=features,
            version=values["unheard"],
            shrinkage=values["adaptation"]["shrinkage"],
            windows=WindowSettings(**values["window"]),
            data=tuple(values["data"]),
            **{name: values[name] for name in ("name", "licence", "about")},
        )
    except (ConfigError, ValueError, TypeError, OverflowError) as problem:
        what = f"this is not a model of unheard: its metadata {str(problem).rstrip('.')}"
        raise ModelError(what, where=where, mend=_EXPORT) from None


def _checked(value: Any, kind: Any, key: str = "") -> Any:
    """Return `value` where it has the type `kind` (see `_SCHEMA`): printable texts, finite numbers not below 0."""
    if kind is object:
        return value
    if kind is str and isinstance(value, str):
        return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in value)
    if kind is float and type(value) in (int, float) and value >= 0 and math.isfinite(value):
        return float(value)
    if isinstance(kind, list) and isinstance(value, list):
        return [_checked(item, kind[0], key) for item in value]
    if isinstance(kind, dict) and isinstance(value, dict):
        if str in kind:
            return {_checked(name, str): _checked(item, kind[str], key) for name, item in value.items()}
        if missing := kind.keys() - value.keys():
            raise ValueError(f"has no {min(missing)}")
        return {name: _checked(value[name], of, name) for name, of in kind.items()}
    names = {str: "a text", float: "a number not below 0", list: "a list", dict: "a table"}
    raise ValueError(f"has a '{key}' that is not {names[kind if isinstance(kind, type) else type(kind)]}")


def _no_constant(word: str) -> None:
    raise ValueError(word)


# Models in the package, by name.


def packaged_models() -> dict[str, Path]:
    """Return name -> folder of every model in the package."""
    root = Path(unheard.__file__).parent / "models"
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{FILE}"))}


def open_model(model: str | Path, *, threads: int = 1) -> OnnxModel:
    """Open a model by name, folder, file or `hf:OWNER/NAME`; a name in the package precedes a folder of that name.

    Raises `ModelError` where there is none.
    """
    known = packaged_models()
    path = known.get(model, model) if isinstance(model, str) else model
    if str(model).startswith(PREFIX):
        path = download(str(model))
        try_out(path)
    elif not exists(path):
        names = did_you_mean(str(model), known) if known else "No model came with this package."
        raise ModelError("there is no model of this name, and no such file", where=model, mend=names)
    return OnnxModel.open(path, threads=threads)


def describe(model: OnnxModel) -> str:
    """Return a model's version, licence, training data and card as text."""
    about = model.metadata
    lines = [
        f"{model.name}, made by unheard {about.version or '(unknown version)'}, run by unheard {__version__}",
        f"emotions: {', '.join(model.labels)}",
        f"licence of the weights: {about.licence or 'not stated'}",
        f"commercial use? {model.commercial_use}",
    ]
    for corpus in about.data:
        name = corpus.get("title") or corpus.get("name", "?")
        lines.append(f"trained on {name}: {corpus.get('licence') or 'licence not stated'}")
    if model.encoder is not None:
        of = model.encoder.description
        what = f"encoder: layer {of['layer']} of {of['origin']}, {of['weights']} weights, licence {of['licence']}"
        lines.append(printable(what))
    lines.append(f"file: {model.where} (sha256 {model.digest})")
    body = re.sub(r"\A---\n.*?\n---\n", "", model.card(), flags=re.DOTALL)  # without the YAML for the Hub
    card = "\n".join(map(printable, body.strip().splitlines()))
    return "\n".join(lines) + "\n" + (f"\n{card}\n" if card else "")
