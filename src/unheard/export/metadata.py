"""The metadata of an exported model, as JSON under the key `unheard` of the ONNX file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from unheard import __version__
from unheard.model.saving import Model
from unheard.training.augment import SHRINKAGE

FORMAT = 1
WINDOW, HOP = 3.0, 1.0  # long audio is cut into windows of 3 s, a new one every second


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

    `licence` is that of the weights, `data` the training corpora; logits are divided by `temperature`.
    """

    name: str = ""
    licence: str = ""
    data: tuple[Data, ...] = ()
    temperature: float = 1.0


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
        "adaptation": {"shrinkage": SHRINKAGE},
        "window": {"seconds": WINDOW, "hop": HOP},
        "data": [asdict(one) for one in facts.data],
        "about": dict(model.about),
    }


def encoded(values: Mapping[str, Any]) -> str:
    """Encode metadata for the file."""
    return json.dumps(values, ensure_ascii=False, allow_nan=False)
