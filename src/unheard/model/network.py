"""The network of Tu et al. 2019, Table 1: an embedding network and heads.

(B, T, F) -> TDNN -> TDNN -> BiLSTM -> FC -> mean ‖ std -> e (B, E) -> emotion head (B, C)
                                                                  └-> speaker head (B, S)

Extensions to the paper: functionals of the utterance (the last K columns, equal in every frame) are clipped, pass an
affine layer and are appended to e. The layers of a pretrained encoder are first averaged with learnt weights; since its
frames include their context, TDNN and BiLSTM can be left out.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from unheard import plugins
from unheard.errors import ConfigError
from unheard.model.layers import (
    TDNN,
    AttentivePooling,
    BiLSTM,
    Dense,
    Dropout,
    Frames,
    mean_std_pooling,
    norm_dropout,
    sum_frames,
    valid_frames,
)
from unheard.model.settings import NETWORKS, NetworkSettings

__all__ = [
    "NETWORKS",
    "EmbeddingNetwork",
    "EmotionNetwork",
    "Head",
    "NetworkSettings",
    "initialised",
    "join",
    "side_by_side",
]

Part = TypeVar("Part", bound=nn.Module)


class EmbeddingNetwork(nn.Module):
    """TDNN, TDNN, BiLSTM, FC and statistics pooling: (B, T, F) -> (B, E)."""

    def __init__(self, features: int, settings: NetworkSettings) -> None:
        super().__init__()
        self.features = features
        self.framed = features - settings.summary
        if self.framed < 1:
            raise ConfigError(f"{settings.summary} of {features} features are functionals: no frame features are left")
        self.weighing = LayerWeights(settings) if settings.layers else None
        inputs = self.framed - (settings.layers - 1) * settings.layer_width if settings.layers else self.framed
        widths = [inputs, *(outputs for outputs, _, _ in settings.tdnn)]
        self.tdnn = nn.ModuleList(
            TDNN(inputs, outputs, kernel, dilation, settings.dropout, settings.padding)
            for inputs, (outputs, kernel, dilation) in zip(widths, settings.tdnn, strict=False)
        )
        self.rnn = BiLSTM(widths[-1], settings.lstm, settings.cell) if settings.lstm else None
        self.rnn_norm = nn.BatchNorm1d(2 * settings.lstm) if settings.lstm and settings.rnn_bn else nn.Identity()
        self.input_dropout = Dropout(settings.input_dropout) if settings.input_dropout else nn.Identity()
        self.rnn_dropout = Dropout(settings.dropout if settings.rnn_dropout else 0.0)
        dropout = settings.dropout if settings.pooled_dropout else 0.0
        self.dense = Dense(2 * settings.lstm or widths[-1], settings.dense, dropout)
        self.pooling = pooling(settings)
        self.summary = Functionals(settings) if settings.summary else None
        self.receptive_field = 1 + sum(layer.shortens for layer in self.tdnn if isinstance(layer, TDNN))

    def inputs_read(self, lengths: Tensor) -> Tensor:
        """Count the input values behind each embedding, (B,): those of valid frames, and functionals once."""
        return lengths * self.framed + (self.features - self.framed)

    def describe(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Compute the mean valid frame of each utterance: (B, T, F) -> (B, F).

        Its average over utterances of one speaker is the `profile` of `forward`.
        """
        frames = valid_frames(x, lengths)
        return sum_frames(frames.values, frames) / lengths.unsqueeze(1)

    def forward(self, x: Tensor, lengths: Tensor, profile: Tensor | None = None) -> Tensor:
        """Compute embeddings (B, E) of `x` (B, T, F) with `lengths` (B,) valid frames.

        Frames beyond an utterance's length are never read. Utterances shorter than the receptive field (17 frames)
        repeat their edge frames up to it. `profile` (B, F) or (1, F) is subtracted from the frames: the speaker's mean
        frame, shrunk towards the mean of all speakers, which is 0.
        """
        if profile is not None:
            x = x - profile.unsqueeze(1)
        frames = valid_frames(x[:, :, : self.framed], lengths, at_least=self.receptive_field)  # (N, F)
        if self.weighing is not None:
            frames = Frames(self.weighing(frames.values), frames.lengths)
        frames = Frames(self.input_dropout(frames.values), frames.lengths)
        for layer in self.tdnn:
            frames = layer(frames)  # (N - 16B, 64)
        states = frames.values
        if self.rnn is not None:
            states = norm_dropout(self.rnn(frames), self.rnn_norm, self.rnn_dropout)  # (N - 16B, 2 * cells)
        frames = Frames(self.dense(states), frames.lengths)
        pooled = mean_std_pooling(frames) if self.pooling is None else self.pooling(frames)  # (B, 2 * dense)
        if self.summary is None:
            return pooled
        return torch.cat([pooled, self.summary(x[:, 0, self.framed :])], 1)  # (B, E)


def pooling(settings: NetworkSettings) -> nn.Module | None:
    """Build the pooling layer; None for statistics pooling.

    A plug-in is called with the number of channels C and maps `Frames` (N, C) to (B, statistics · C); its attribute
    `statistics` is 2 by default. Raises `ConfigError` for a plug-in that is missing, changed or has another output.
    """
    if settings.pooling == "statistics":
        return None
    if settings.pooling == "attentive":
        return AttentivePooling(settings.dense)
    plugin = plugins.find("pooling", settings.pooling)
    if plugin is None or plugin.digest != settings.code:
        state = "is not installed" if plugin is None else "has changed since this network was trained"
        raise ConfigError(f"the pooling '{settings.pooling}' {state}", mend="Install or register the original.")
    layer: nn.Module = plugin.thing(settings.dense)
    with torch.no_grad():
        shape = tuple(layer.eval()(Frames(torch.zeros(3, settings.dense), torch.tensor([2, 1]))).shape)
    expected = (2, getattr(plugin.thing, "statistics", 2) * settings.dense)
    if shape != expected:
        raise ConfigError(f"the pooling '{settings.pooling}' maps two utterances to {shape}, not {expected}")
    return layer.train()


class LayerWeights(nn.Module):
    """Learnt weighted mean of an encoder's layers: (N, L·W + rest) -> (N, W + rest).

    The weights are positive, sum to 1 and are initially equal. Source: Yang et al. 2021 (SUPERB).
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.sizes = (settings.layers, settings.layer_width)
        self.weights = nn.Parameter(torch.zeros(settings.layers))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L·W + rest) to (N, W + rest)."""
        layers, width = self.sizes
        states = x[:, : layers * width].reshape(len(x), layers, width)  # (N, L, W)
        mean = torch.einsum("l,nlw->nw", self.weights.softmax(0), states)  # (N, W)
        return torch.cat([mean, x[:, layers * width :]], 1)


class Functionals(nn.Module):
    """Projection of an utterance's functionals, appended to its embedding: (B, K) -> (B, summary_width).

    Functionals are clipped at `CLIP` standard deviations, since unusual recordings have outliers.
    """

    CLIP = 4.0

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.dropout = Dropout(settings.summary_dropout)
        self.affine = nn.Linear(settings.summary, settings.summary_width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, K) to (B, summary_width)."""
        return self.affine(self.dropout(x.clamp(-self.CLIP, self.CLIP)))  # type: ignore[no-any-return]


class Head(nn.Module):
    """A classifier on embeddings, "FC D1-D2-D3-D4": (B, D1) -> logits (B, D4).

    With M > 1 `members` (without hidden layers) it is an ensemble: member m sees the m-th part of the `channels` of
    each pooled statistic. In training each member has its own logits, (B, M, D4), and thus its own loss; in evaluation
    the linear layer computes their mean.
    """

    def __init__(
        self, inputs: int, hidden: tuple[int, ...], outputs: int, dropout: float, members: int = 1, channels: int = 0
    ) -> None:
        super().__init__()
        self.members = members
        self.channels = channels
        widths = (inputs, *hidden)
        self.hidden = nn.Sequential(*(Dense(a, b, dropout) for a, b in zip(widths, hidden, strict=False)))
        self.output = nn.Linear(widths[-1], outputs)

    def forward(self, embedding: Tensor) -> Tensor:
        """Compute logits (B, D4) from embeddings (B, D1); (B, M, D4) in training with M > 1 members."""
        if self.training and self.members > 1:
            split = (-1, self.members, self.channels // self.members)  # statistics, members, channels of a member
            parts, weights = (rows.reshape(len(rows), *split) for rows in (embedding, self.output.weight))
            return self.members * torch.einsum("bsmc,ksmc->bmk", parts, weights) + self.output.bias
        return self.output(self.hidden(embedding))  # type: ignore[no-any-return]


class EmotionNetwork(nn.Module):
    """Embedding network and emotion head, the part of every strategy that is used after training."""

    def __init__(self, embed: EmbeddingNetwork, emotion: Head) -> None:
        super().__init__()
        self.embed = embed
        self.emotion = emotion

    def logits(self, x: Tensor, lengths: Tensor, profile: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute emotion logits (B, C) and embeddings (B, E); arguments as in `EmbeddingNetwork.forward`."""
        e = self.embed(x, lengths, profile)  # (B, E)
        return self.emotion(e), e


def join(networks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the weights of one network that averages the logits of `networks`, whose sizes are equal.

    Its sizes are `NetworkSettings.joined`. Only weights of the embedding network and the emotion head are returned.
    """
    weights = {}
    for name in networks[0]:
        tensors = [network[name] for network in networks]
        if name == "emotion.output.weight":
            weights[name] = side_by_side(tensors) / len(tensors)
        elif name == "emotion.output.bias":
            weights[name] = torch.stack(tensors).mean(0)
        elif name.startswith("embed."):
            weights[name] = torch.cat(tensors) if tensors[0].dim() else tensors[0]
    return weights


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Join embeddings, or weights on them, (n, 2 · dense) each: the means of all parts, then their deviations."""
    return torch.cat([part.view(len(part), 2, part.shape[1] // 2) for part in parts], 2).flatten(1)


def initialised(make: type[Part], seed: int, *arguments: object) -> Part:
    """Return `make(*arguments)` with PyTorch's initialisation drawn from `seed`; no other random stream advances."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(*arguments)
