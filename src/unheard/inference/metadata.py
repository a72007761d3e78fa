"""What a model file says of itself, read with the suspicion a stranger's file deserves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unheard.errors import ConfigError, ModelError
from unheard.features.settings import FeatureSettings
from unheard.inference.windows import WindowSettings

FORMAT = 1
"""The highest format of metadata understood here."""

KINDS = ("mfcc", "fbank", "functionals")
"""Kinds of features that need nothing but this package."""

LARGEST = 1 << 20  # characters of JSON
_LONGEST_WORD = 64
_MOST_LABELS = 1000


@dataclass(frozen=True, slots=True)
class Metadata:
    """A model's own account: what it was trained on, what its inputs are, what may be done with it.

    `labels` are in index order. `licence` is that of the weights. `data` are the corpora behind them (name, title,
    language, licence, citation, homepage, each where known). `shrinkage` is kappa of the adaptation to a voice.
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
    if len(text) > LARGEST:
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
