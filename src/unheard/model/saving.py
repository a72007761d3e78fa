"""Trained models: one safetensors file with the network and all settings needed to use it.

Parts that exist only for training, such as the speaker head, are not saved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unheard.errors import TrainingError
from unheard.features.normalise import Normaliser
from unheard.features.settings import FeatureSettings
from unheard.model.network import EmbeddingNetwork, EmotionNetwork, Head
from unheard.model.settings import NetworkSettings

FORMAT = 1
_STATISTICS = ("normaliser.mean", "normaliser.std")

WITH_PROFILES = ("train", "speaker")
"""Normalisations after which the mean frame describes the speaker; others remove it from every utterance."""


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode, with its settings and those of its input; `labels` are in index order."""

    network: EmotionNetwork
    settings: NetworkSettings
    labels: tuple[str, ...]
    normaliser: Normaliser
    features: FeatureSettings
    about: Mapping[str, str]

    @property
    def adapts(self) -> bool:
        """Whether the model can use a speaker profile."""
        return self.normaliser.kind in WITH_PROFILES

    @classmethod
    def of(
        cls,
        weights: Mapping[str, Tensor],
        settings: NetworkSettings,
        labels: tuple[str, ...],
        normaliser: Normaliser,
        features: FeatureSettings,
        about: Mapping[str, str] | None = None,
    ) -> Model:
        """Build the model from a strategy's `weights`, without its parts that are used only for training.

        Raises `RuntimeError` for weights that do not fit `settings`, as PyTorch does.
        """
        head = Head(settings.embedding, settings.hidden, len(labels), settings.dropout_of_heads)
        network = EmotionNetwork(EmbeddingNetwork(features.dim, settings), head)
        network.load_state_dict({name: w for name, w in weights.items() if name.startswith(("embed.", "emotion."))})
        return cls(network.eval(), settings, labels, normaliser, features, about or {})

    def save(self, path: Path, about: Mapping[str, str] | None = None) -> None:
        """Write a safetensors file with settings, labels and `about` in its metadata."""
        from safetensors.torch import save_file

        tensors = {name: value.contiguous().cpu() for name, value in self.network.state_dict().items()}
        if self.normaliser.mean is not None and self.normaliser.std is not None:
            for key, values in zip(_STATISTICS, (self.normaliser.mean, self.normaliser.std), strict=True):
                tensors[key] = torch.from_numpy(np.ascontiguousarray(values))
        description = {
            "format": FORMAT,
            "labels": self.labels,
            "network": asdict(self.settings),
            "features": self.features.as_dict(),
            "normalise": self.normaliser.kind,
            "normalise_speakers": self.normaliser.speakers,
            "about": {**self.about, **(about or {})},
        }
        save_file(tensors, path, metadata={"unheard": json.dumps(description)})

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """Read a file written by `save`, or the one in a cell's folder.

        Safe on untrusted files: safetensors contains only numbers. Raises `TrainingError` if the file is missing,
        damaged or not a model.
        """
        from safetensors import safe_open

        path = Path(path)
        path = path / "model.safetensors" if path.is_dir() else path
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            description: dict[str, Any] = json.loads(metadata["unheard"])
            if description["format"] != FORMAT:
                raise ValueError(f"format {description['format']} is not {FORMAT}")
            sizes = dict(description["network"])
            sizes |= {"tdnn": tuple(map(tuple, sizes["tdnn"])), "hidden": tuple(sizes["hidden"])}
            about = {str(name): str(value) for name, value in description["about"].items()}
            if not isinstance(json.loads(about.get("train_speakers", "[]")), list):
                raise ValueError("train_speakers is not a list")
            mean, std = (tensors[key].numpy() if key in tensors else None for key in _STATISTICS)
            speakers = tuple(map(str, description["normalise_speakers"]))
            normaliser = Normaliser(description["normalise"], mean, std, speakers)
            features, labels = FeatureSettings.from_dict(description["features"]), tuple(description["labels"])
            return cls.of(tensors, NetworkSettings(**sizes), labels, normaliser, features, about)
        except FileNotFoundError:
            mend = "Name a model.safetensors, or the folder of a trained cell."
            raise TrainingError("there is no model here", where=path, mend=mend) from None
        except Exception as error:  # a damaged or foreign file may raise anything
            what = f"this is not a usable model ({type(error).__name__}: {error})"
            mend = "Name a model.safetensors that `unheard experiment` or `unheard train` wrote."
            raise TrainingError(what, where=path, mend=mend) from error
