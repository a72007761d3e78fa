"""Sizes of the network, Table 1 of Tu et al. 2019; readable without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from unheard.errors import ConfigError
from unheard.features.settings import FeatureSettings
from unheard.settings import check, setting

LEAST_DROPOUT = 1 / 256
"""The smallest drop probability but 0: masks are made of random bytes."""


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the network; the defaults are Table 1's first column (IEMOCAP).

    The last `summary` columns of the features are the same in all frames of an utterance: they bypass the frame layers,
    and `summary_width` numbers computed from them are appended to the embedding. The first columns are `layers` layers
    of an encoder, each `layer_width` wide, where there are any: the network learns their weights.
    Raises `ConfigError` for values out of range.
    """

    tdnn: tuple[tuple[int, int, int], ...] = setting(
        ((128, 5, 2), (64, 3, 4)), "TDNN layers: outputs, kernel and dilation of each; [] for none."
    )
    lstm: int = setting(64, "Cells of the BiLSTM per direction; 0 for no BiLSTM.", ge=0)
    dense: int = setting(256, "Width before pooling; the embedding is twice as wide.", ge=1)
    hidden: tuple[int, ...] = setting((64, 64), "Widths of the heads' hidden layers; 0: none.")
    dropout: float = setting(0.5, "Dropout probability of every layer.", ge=0, lt=1, common=True)
    rnn_bn: bool = setting(True, "Batch normalisation of the BiLSTM's output.")
    rnn_dropout: bool = setting(True, "Dropout of the BiLSTM's output.")
    pooled_dropout: bool = setting(True, "Dropout before statistics pooling.")
    padding: Literal["valid", "same"] = setting(
        "valid", "Padding of the TDNN layers; with valid an utterance loses 16 frames."
    )
    head_dropout: float = setting(-1.0, "Dropout probability in the heads (-1: as everywhere).", ge=-1, lt=1)
    summary: int = setting(0, "Number of feature columns that describe the whole utterance.", ge=0, derived=True)
    summary_width: int = setting(128, "With features.summary: its width in the embedding.", ge=1)
    summary_dropout: float = setting(0.5, "With features.summary: dropout probability of its inputs.", ge=0, lt=1)
    layers: int = setting(0, "Number of encoder layers side by side in the features.", ge=0, derived=True)
    layer_width: int = setting(0, "Width of an encoder layer.", ge=0, derived=True)

    def __post_init__(self) -> None:
        check(self)
        if self.hidden == (0,):
            object.__setattr__(self, "hidden", ())
        if -1 < self.head_dropout < 0:
            raise ConfigError(f"head_dropout = {self.head_dropout} is out of range", mend="Give -1, or from 0 to 1.")
        for name in ("dropout", "head_dropout", "summary_dropout"):
            value = getattr(self, name)
            if 0.0 < value < LEAST_DROPOUT:
                what = f"{name} {value} is too small: on a CPU a drop probability is a multiple of 1/256"
                raise ConfigError(what, mend=f"Choose 0, or {LEAST_DROPOUT:.3f} or more.")
        if any(number < 1 for number in (*self.hidden, *(size for layer in self.tdnn for size in layer))):
            raise ConfigError("a size of network.tdnn or network.hidden is below 1", mend="Give each at least 1.")

    def resolved(self, features: FeatureSettings) -> NetworkSettings:
        """Fill in what follows from `features`."""
        layers = features.encoder_layers
        width = features.encoder_width if layers else 0
        return replace(self, summary=features.summary_dim, layers=layers, layer_width=width)

    @property
    def embedding(self) -> int:
        """Width E of the utterance embedding."""
        return 2 * self.dense + (self.summary_width if self.summary else 0)

    @property
    def dropout_of_heads(self) -> float:
        """Dropout in the heads."""
        return self.dropout if self.head_dropout < 0 else self.head_dropout


NETWORKS = {
    "iemocap": NetworkSettings(),
    "mandarin": NetworkSettings(tdnn=((128, 5, 2), (128, 3, 4)), lstm=128, dense=512, hidden=(128, 128)),
}
"""Table 1's two columns."""
