"""A trained recogniser: embedding network and emotion head, and all that is needed to use them.

Nothing that existed only for training is in it: no speaker head can travel with a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unheard.errors import TrainingError, UnheardError
from unheard.features.normalise import Normaliser
from unheard.features.settings import FeatureSettings
from unheard.model.network import NetworkSettings
from unheard.training.enrolment import VOICED
from unheard.training.strategies import Setting, Strategy, build

FORMAT = 1
PARTS = ("embed.", "emotion.")


@dataclass(frozen=True)
class Model:
    """A strategy in evaluation mode with what it was trained for; `labels` are in index order."""

    strategy: Strategy
    network: NetworkSettings
    labels: tuple[str, ...]
    normaliser: Normaliser
    features: FeatureSettings
    about: Mapping[str, str]

    @property
    def knows_voices(self) -> bool:
        """Whether a voice can be taken away from its input: after other normalisations a mean frame is none."""
        return self.normaliser.kind in VOICED

    @classmethod
    def of(
        cls,
        strategy: Strategy,
        weights: Mapping[str, Tensor],
        network: NetworkSettings,
        labels: tuple[str, ...],
        normaliser: Normaliser,
        features: FeatureSettings,
    ) -> Model:
        """The recogniser inside a trained `strategy` at `weights`."""
        kept = {name: value for name, value in weights.items() if name.startswith(PARTS)}
        bare = build("ser", Setting(features.dim, len(labels), 0, network, 0))
        bare.load_state_dict(kept)
        return cls(bare.eval(), network, labels, normaliser, features, {})

    def save(self, path: Path, about: Mapping[str, str] | None = None) -> None:
        """Write one safetensors file; settings, labels and `about` are in its metadata."""
        from safetensors.torch import save_file

        tensors = {name: value.contiguous().cpu() for name, value in self.strategy.state_dict().items()}
        arrays = self.normaliser.to_arrays()
        for name in ("mean", "std"):
            if name in arrays:
                tensors[f"normaliser.{name}"] = torch.from_numpy(np.ascontiguousarray(arrays[name]))
        description = {
            "format": FORMAT,
            "labels": self.labels,
            "network": asdict(self.network),
            "features": self.features.as_dict(),
            "normalise": self.normaliser.kind,
            "normalise_speakers": self.normaliser.speakers,
            "about": {**self.about, **(about or {})},
        }
        save_file(tensors, path, metadata={"unheard": json.dumps(description)})

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """Read what `save` wrote (or a cell's folder that holds it).

        Safe on a stranger's file: safetensors holds numbers only. Raises `TrainingError` where it is missing,
        damaged or no model of ours.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        if path.is_dir():
            path = path / "model.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            description: dict[str, Any] = json.loads(metadata["unheard"])
            if description["format"] != FORMAT:
                raise ValueError(f"format {description['format']} is not {FORMAT}")
            settings = dict(description["network"])
            settings["tdnn"] = tuple(tuple(layer) for layer in settings["tdnn"])
            settings["hidden"] = tuple(settings["hidden"])
            network = NetworkSettings(**settings)
            labels = tuple(description["labels"])
            features = FeatureSettings.from_dict(description["features"])
            statistics: dict[str, NDArray[Any]] = {"kind": np.array(description["normalise"])}
            for name in ("mean", "std"):
                if f"normaliser.{name}" in tensors:
                    statistics[name] = tensors.pop(f"normaliser.{name}").numpy()
            if description["normalise_speakers"]:
                statistics["speakers"] = np.array(description["normalise_speakers"])
            strategy = build("ser", Setting(features.dim, len(labels), 0, network, 0))
            strategy.load_state_dict(tensors)
            normaliser = Normaliser.from_arrays(statistics)
            about = {str(name): str(value) for name, value in description["about"].items()}
            if not isinstance(json.loads(about.get("train_speakers", "[]")), list):
                raise ValueError("its training speakers are no list")
        except FileNotFoundError:
            raise TrainingError(
                "there is no model here",
                where=path,
                mend="Name a model.safetensors, or the folder of a trained cell.",
            ) from None
        except (
            SafetensorError, UnheardError, AttributeError, KeyError, ValueError, TypeError, RuntimeError, OSError
        ) as error:  # fmt: skip
            raise TrainingError(
                f"this is no model that can be used ({type(error).__name__}: {error})",
                where=path,
                mend="Name a model.safetensors that `unheard experiment` or `unheard train` wrote.",
            ) from error
        return cls(strategy.eval(), network, labels, normaliser, features, about)
