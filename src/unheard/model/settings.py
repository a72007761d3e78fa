"""Sizes of the network, Table 1 of Tu et al. 2019; readable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from unheard.errors import ConfigError

LEAST_DROPOUT = 1 / 256
"""The smallest drop probability but 0: masks are made of random bytes (see `dropout.py`)."""


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the network; the defaults are Table 1's first column (IEMOCAP).

    `tdnn` holds (outputs, kernel, dilation) a layer, `lstm` the cells per direction, `dense` the width before
    pooling (the embedding is twice as wide), `hidden` the hidden layers of every head.

    `dropout` is that of every layer, unless `head_dropout` is not negative: then the heads have that. The last
    `summary` columns of the features are the same in all frames of an utterance: they pass the frames by, and
    `summary_width` numbers made of them, after a dropout of `summary_dropout`, are appended to the embedding. The
    first columns of a frame are `layers` of an encoder, each `layer_width` wide, where there are any: the network
    learns how much of each it hears.
    """

    tdnn: tuple[tuple[int, int, int], ...] = ((128, 5, 2), (64, 3, 4))
    lstm: int = 64
    dense: int = 256
    hidden: tuple[int, ...] = (64, 64)
    dropout: float = 0.5
    rnn_bn: bool = True
    rnn_dropout: bool = True
    pooled_dropout: bool = True
    padding: str = "valid"
    head_dropout: float = -1.0
    summary: int = 0
    summary_width: int = 128
    summary_dropout: float = 0.5
    layers: int = 0
    layer_width: int = 0

    def __post_init__(self) -> None:
        if self.padding not in ("valid", "same"):
            raise ConfigError(f"padding '{self.padding}' is unknown", mend="Choose valid or same.")
        for name in ("dropout", "head_dropout", "summary_dropout"):
            value = getattr(self, name)
            if not (0.0 <= value < 1.0 or (name == "head_dropout" and value == -1.0)):
                raise ConfigError(f"{name} {value} is out of range", mend="Choose from 0 up to, not including, 1.")
            if 0.0 < value < LEAST_DROPOUT:
                raise ConfigError(
                    f"{name} {value} is less than can be dropped: on a CPU a probability is a multiple of 1/256",
                    mend=f"Choose 0, or {LEAST_DROPOUT:.3f} or more.",
                )
        if self.summary < 0 or self.summary_width < 1 or any(width < 1 for width in self.hidden):
            raise ConfigError("a layer of the network has no width", mend="Give each at least 1.")

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
