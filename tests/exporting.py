"""Networks that look trained without a training: random weights, batch norms that have seen something."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unheard.features import FeatureSettings, Normaliser
from unheard.model.network import NETWORKS, LayerWeights, NetworkSettings
from unheard.model.saving import Model
from unheard.training.strategies import StrategyConfig, build

Floats = NDArray[np.float32]
LABELS = ("angry", "happy", "neutral", "sad")
SMALL = NetworkSettings(tdnn=((16, 5, 2), (8, 3, 4)), lstm=8, dense=16, hidden=(8, 8))


def random_model(
    network: NetworkSettings = SMALL,
    normalise: str = "train",
    seed: int = 0,
    labels: tuple[str, ...] = LABELS,
    features: FeatureSettings = FeatureSettings(),  # noqa: B008 - it is frozen
    **about: str,
) -> Model:
    """A model of such features; nothing in it is at its initial value."""
    strategy = build("ser", StrategyConfig(features.dim, len(labels), 0, network, seed)).eval()
    random = torch.Generator().manual_seed(seed)
    for layer in strategy.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.copy_(torch.randn(layer.num_features, generator=random))
            layer.running_var.copy_(0.05 + 2 * torch.rand(layer.num_features, generator=random))
            layer.weight.data.copy_(torch.randn(layer.num_features, generator=random))
            layer.bias.data.copy_(torch.randn(layer.num_features, generator=random))
        elif isinstance(layer, LayerWeights):
            layer.weights.data.copy_(torch.randn(len(layer.weights), generator=random))
    normaliser = Normaliser(normalise)
    if normalise == "train":
        numbers = np.random.default_rng(seed)
        mean = numbers.normal(5, 3, (1, features.dim)).astype(np.float32)
        std = numbers.uniform(0.5, 4, (1, features.dim)).astype(np.float32)
        normaliser = Normaliser("train", mean, std)
    return Model(strategy, network, labels, normaliser, features, about)


def utterances(lengths: Sequence[int], seed: int = 1) -> list[Floats]:
    """Frames (T, 39) that drift, so that their order matters."""
    random = np.random.default_rng(seed)
    return [(random.normal(3, 4, (n, 39)) + np.sin(np.arange(n) / 20)[:, None] * 3).astype(np.float32) for n in lengths]


__all__ = ["LABELS", "NETWORKS", "SMALL", "random_model", "utterances"]
