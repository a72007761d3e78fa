"""Sizes of the network, Table 1 of Tu et al. 2019; readable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from unheard.errors import ConfigError


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the network; the defaults are Table 1's first column (IEMOCAP).

    `tdnn` holds (outputs, kernel, dilation) a layer, `lstm` the cells per direction, `dense` the width before
    pooling (the embedding is twice as wide), `hidden` the two hidden layers of every head.
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

    def __post_init__(self) -> None:
        if self.padding not in ("valid", "same"):
            raise ConfigError(f"padding '{self.padding}' is unknown", mend="Choose valid or same.")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout {self.dropout} is out of range", mend="Choose from 0 up to, not including, 1.")

    @property
    def embedding(self) -> int:
        """Width E of the utterance embedding."""
        return 2 * self.dense


NETWORKS = {
    "iemocap": NetworkSettings(),
    "mandarin": NetworkSettings(tdnn=((128, 5, 2), (128, 3, 4)), lstm=128, dense=512, hidden=(128, 128)),
}
"""Table 1's two columns."""
