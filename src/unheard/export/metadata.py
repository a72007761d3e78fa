"""The metadata of an exported model, as JSON under the key `unheard` of the ONNX file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from unheard import __version__
from unheard.errors import ConfigError
from unheard.model.saving import Model
from unheard.training.augment import SHRINKAGE

FORMAT = 1


@dataclass(frozen=True)
class Data:
    """A corpus that a model was trained on."""

    name: str
    title: str
    language: str
    licence: str
    citation: str = ""
    homepage: str = ""


@dataclass(frozen=True)
class Facts:
    """What is stored with an exported model beside what `Model` contains.

    `licence` is that of the weights, `data` the training corpora; logits are divided by `temperature`; `shrinkage` is
    that of speaker profiles; long audio is cut into windows of `window_seconds` every `window_hop` seconds.
    Raises `ConfigError` for values out of range.
    """

    name: str = ""
    licence: str = ""
    data: tuple[Data, ...] = ()
    temperature: float = 1.0
    shrinkage: float = SHRINKAGE
    window_seconds: float = 3.0
    window_hop: float = 1.0

    def __post_init__(self) -> None:
        if not 0.01 <= self.temperature <= 100:
            raise ConfigError(f"temperature {self.temperature} is out of range", mend="Use 0.01 to 100.")
        if not self.shrinkage >= 0:
            raise ConfigError(f"shrinkage {self.shrinkage} is out of range", mend="Use 0 or more.")
        if not 0 < self.window_hop <= self.window_seconds:
            raise ConfigError("a window hop must be above 0 and not above the window's length")


FACTS = Facts()


def metadata(model: Model, facts: Facts) -> dict[str, Any]:
    """Return the metadata of an exported model as plain values."""
    return {
        "format": FORMAT,
        "unheard": __version__,
        "name": facts.name,
        "licence": facts.licence,
        "labels": list(model.labels),
        "features": model.features.as_dict(),
        "normalise": model.normaliser.kind,
        "weights": "float32",
        "temperature": facts.temperature,
        "adaptation": {"shrinkage": facts.shrinkage},
        "window": {"seconds": facts.window_seconds, "hop": facts.window_hop},
        "data": [asdict(one) for one in facts.data],
        "about": dict(model.about),
    }


def encoded(values: Mapping[str, Any]) -> str:
    """Encode metadata for the file."""
    return json.dumps(values, ensure_ascii=False, allow_nan=False)
