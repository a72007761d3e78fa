"""Sizes of the network, Table 1 of Tu et al. 2019; readable without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from unheard import plugins
from unheard.errors import ConfigError, did_you_mean
from unheard.features.settings import FeatureSettings
from unheard.settings import check, setting

LEAST_DROPOUT = 1 / 256  # the smallest positive drop probability: masks are made of random bytes


POOLINGS = ("statistics", "attentive")
_LATER = ("cell", "pooling", "code", "members")
"""Settings that enter the identity of results only if they differ from the default."""


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the network; the defaults are the first column of Table 1 (IEMOCAP).

    The last `summary` columns of the features are the same in all frames of an utterance: they bypass the frame layers,
    and `summary_width` numbers computed from them are appended to the embedding. If `layers` is above 0, the first
    columns are encoder layers, each `layer_width` wide, and the network learns their weights.
    Raises `ConfigError` for values out of range.
    """

    tdnn: tuple[tuple[int, int, int], ...] = setting(
        ((128, 5, 2), (64, 3, 4)), "TDNN layers: number of outputs, kernel size and dilation of each; [] for none."
    )
    lstm: int = setting(64, "Cells of the recurrent layer per direction (0: no recurrent layer).", ge=0)
    dense: int = setting(256, "Width of the dense layer before pooling; statistics pooling doubles it.", ge=1)
    hidden: tuple[int, ...] = setting((64, 64), "Widths of the heads' hidden layers (0: none, linear heads).")
    dropout: float = setting(0.5, "Dropout probability of every layer.", ge=0, lt=1, common=True)
    input_dropout: float = setting(0.0, "Dropout probability of the input features.", ge=0, lt=1)
    rnn_bn: bool = setting(True, "Batch normalisation of the BiLSTM's output.")
    rnn_dropout: bool = setting(True, "Dropout of the BiLSTM's output.")
    pooled_dropout: bool = setting(True, "Dropout before statistics pooling.")
    padding: Literal["valid", "same"] = setting(
        "valid", "Padding of the TDNN layers; with valid, an utterance loses 16 frames."
    )
    cell: Literal["lstm", "gru"] = setting("lstm", "Kind of recurrent cell.")
    pooling: str = setting(
        "statistics",
        "statistics (mean and standard deviation), attentive (the same, weighted; Okabe et al. 2018), or the name of a "
        "registered pooling.",
    )
    members: int = setting(
        1,
        "Members of the emotion head, an ensemble (needs linear heads): each is trained on its own part of the "
        "embedding, and their logits are averaged.",
        ge=1,
    )
    head_dropout: float = setting(-1.0, "Dropout probability in the heads (-1: network.dropout).", ge=-1, lt=1)
    summary: int = setting(0, "Number of feature columns that describe the whole utterance.", ge=0, derived=True)
    summary_width: int = setting(
        128, "With features.summary: how many dimensions of the embedding the functionals give.", ge=1
    )
    summary_dropout: float = setting(0.5, "With features.summary: dropout probability of the functionals.", ge=0, lt=1)
    layers: int = setting(0, "Number of encoder layers side by side in the features.", ge=0, derived=True)
    layer_width: int = setting(0, "Width of an encoder layer.", ge=0, derived=True)
    code: str = setting("", "Hash of a registered pooling's source.", derived=True)

    def __post_init__(self) -> None:
        check(self)
        if self.hidden == (0,):
            object.__setattr__(self, "hidden", ())
        if -1 < self.head_dropout < 0:
            raise ConfigError(f"head_dropout = {self.head_dropout} is out of range", mend="Give -1, or from 0 to 1.")
        for name in ("dropout", "input_dropout", "head_dropout", "summary_dropout"):
            value = getattr(self, name)
            if 0.0 < value < LEAST_DROPOUT:
                what = f"{name} {value} is too small: on a CPU a drop probability is a multiple of 1/256"
                raise ConfigError(what, mend=f"Choose 0, or {LEAST_DROPOUT:.3f} or more.")
        if self.members > 1 and (self.hidden or self.summary or self.dense % self.members):
            raise ConfigError(
                f"{self.members} members of the emotion head need a linear head, no functionals, and equal parts of "
                f"dense = {self.dense}",
                mend="Set network.hidden to 0, leave features.summary out, and choose a divisor of network.dense.",
            )
        known = (*POOLINGS, *plugins.names("pooling"))
        if self.pooling not in known and not self.code:  # with code, a pooling that another program registered
            raise ConfigError(f"unknown pooling '{self.pooling}'", mend=did_you_mean(self.pooling, known))
        if any(number < 1 for number in (*self.hidden, *(size for layer in self.tdnn for size in layer))):
            raise ConfigError("a size of network.tdnn or network.hidden is below 1", mend="Give each at least 1.")

    def resolved(self, features: FeatureSettings) -> NetworkSettings:
        """Fill in the settings that follow from `features`."""
        layers = features.encoder_layers
        width = features.encoder_width if layers else 0
        plugin = self._plugin
        code = plugin.digest if plugin else ""
        return replace(self, summary=features.summary_dim, layers=layers, layer_width=width, code=code)

    @property
    def _plugin(self) -> plugins.Plugin | None:
        return None if self.pooling in POOLINGS else plugins.find("pooling", self.pooling)

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine results, as plain values."""
        default = {field.name: field.default for field in fields(self)}
        return {name: v for name, v in asdict(self).items() if name not in _LATER or v != default[name]}

    def joined(self, networks: int) -> NetworkSettings:
        """Return the sizes of so many networks joined in one (see `unheard.model.network.join`).

        Raises `ConfigError` for layers that cannot stand side by side.
        """
        if networks == 1:
            return self
        if self.tdnn or self.lstm or self.hidden or self.summary or self.layers or self.pooling != "statistics":
            what = f"{networks} networks can be joined only where one dense layer is between features and linear heads"
            raise ConfigError(what, mend="Set training.networks to 1, or choose the recipe encoder.")
        return replace(self, dense=networks * self.dense, members=networks * self.members)

    @property
    def embedding(self) -> int:
        """Width E of the utterance embedding."""
        plugin = self._plugin
        statistics: int = getattr(plugin.thing, "statistics", 2) if plugin else 2
        return statistics * self.dense + (self.summary_width if self.summary else 0)

    @property
    def dropout_of_heads(self) -> float:
        """Dropout probability in the heads."""
        return self.dropout if self.head_dropout < 0 else self.head_dropout


NETWORKS = {
    "iemocap": NetworkSettings(),
    "mandarin": NetworkSettings(tdnn=((128, 5, 2), (128, 3, 4)), lstm=128, dense=512, hidden=(128, 128)),
}
"""The two columns of Table 1."""
