"""What every strategy is: the embedding network, the emotion head, and an objective."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unheard.model.layers import use_stream
from unheard.model.network import EmbeddingNetwork, Head, NetworkSettings, Part, initialised
from unheard.training.seeds import derive


@dataclass(frozen=True)
class Batch:
    """A padded batch: `x` (B, T, F), `lengths` (B,), emotion index `y` (B,), speaker index `s` (B,)."""

    x: Tensor
    lengths: Tensor
    y: Tensor
    s: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return Batch(*(t.to(device, non_blocking=True) for t in (self.x, self.lengths, self.y, self.s)))


@dataclass(frozen=True)
class Setting:
    """What a strategy is built for: the task's sizes, the network, and the seed of its weights and masks.

    `smoothing` is the share of an emotion's probability that its loss moves to all emotions; `weights` are the
    emotions' own in the loss (none: all the same).
    """

    features: int
    emotions: int
    speakers: int
    network: NetworkSettings
    seed: int
    smoothing: float = 0.0
    weights: tuple[float, ...] = ()


class Strategy(nn.Module, abc.ABC):
    """The embedding network Θ_e and the emotion head Θ_y; a subclass adds what only its training needs.

    Its one duty is `forward(batch) -> {term: loss}`; the trainer minimises the sum of the terms and never
    learns which strategy it trains. The weights and dropout masks of the embedding network and of the emotion
    head come from random streams of their own: two strategies with one seed start alike and are compared in
    pairs.
    """

    weights: Tensor | None

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self._streams: dict[str, torch.Generator] = {}
        self.embed = self._part("embed", setting, EmbeddingNetwork, setting.features, setting.network)
        self.emotion = self._head("emotion", setting, setting.emotions)
        self.smoothing = setting.smoothing
        self.register_buffer("weights", torch.tensor(setting.weights) if setting.weights else None, persistent=False)
        self.progress = 0.0
        """How much of the training is done, 0 to 1; set by the trainer before each step."""
        self._observed: dict[str, list[Tensor]] = {}

    @abc.abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The objective's terms on one batch, each a scalar; their sum is minimised."""

    def logits(self, x: Tensor, lengths: Tensor, voice: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Emotion logits (B, C) and embeddings (B, E) of a padded batch `x` (B, T, F); `voice` as the network's."""
        e = self.embed(x, lengths, voice)
        return self.emotion(e), e

    def observe(self, **values: Tensor | float) -> None:
        """Note figures of this step for the history; they steer nothing."""
        for name, value in values.items():
            self._observed.setdefault(name, []).append(torch.as_tensor(value, dtype=torch.float32).detach())

    def observations(self) -> dict[str, float]:
        """The mean of every figure noted since the last call."""
        means = {name: float(torch.stack(values).mean()) for name, values in self._observed.items()}
        self._observed.clear()
        return means

    def place(self, device: torch.device) -> Strategy:
        """Move everything to `device`, the random streams too (a new stream there begins from the same seed)."""
        self.to(device)
        for name, stream in self._streams.items():
            if stream.device.type != device.type:
                self._streams[name] = torch.Generator(device).manual_seed(stream.initial_seed())
                use_stream(self.get_submodule(name), self._streams[name])
        return self

    def streams(self) -> dict[str, torch.Generator]:
        """The random streams of the dropout masks, by the part's name (a checkpoint keeps their states)."""
        return dict(self._streams)

    def _head(self, name: str, setting: Setting, outputs: int) -> Head:
        network = setting.network
        return self._part(name, setting, Head, network.embedding, network.hidden, outputs, network.dropout_of_heads)

    def _part(self, name: str, setting: Setting, make: type[Part], *arguments: object) -> Part:
        """A sub-network, to be kept under its `name`; its weights and masks depend on the seed and on that only."""
        part = initialised(make, derive(setting.seed, name, "weights"), *arguments)
        stream = torch.Generator().manual_seed(derive(setting.seed, name, "dropout"))
        self._streams[name] = stream
        use_stream(part, stream)
        return part


def emotion_entropy(strategy: Strategy, logits: Tensor, batch: Batch) -> Tensor:
    """L(y, ŷ): mean cross-entropy of the emotions, smoothed and weighted where asked for.

    Weights average to 1 over the training utterances: an emotion's say does not depend on which others are in a batch.
    """
    if strategy.weights is None:
        return cross_entropy(logits, batch.y, label_smoothing=strategy.smoothing)
    each = cross_entropy(logits, batch.y, reduction="none", label_smoothing=strategy.smoothing)  # (B,)
    return (strategy.weights[batch.y] * each).mean()


def emotion_loss(strategy: Strategy, logits: Tensor, batch: Batch) -> Tensor:
    """`emotion_entropy` of the utterances as they are; notes the training accuracy."""
    strategy.observe(train_wa=(logits.argmax(1) == batch.y).float().mean())
    return emotion_entropy(strategy, logits, batch)


def speaker_loss(strategy: Strategy, logits: Tensor, batch: Batch) -> Tensor:
    """L(s, ŝ): mean cross-entropy of the training speakers; notes the speaker accuracy."""
    strategy.observe(speaker_accuracy=(logits.argmax(1) == batch.s).float().mean())
    return cross_entropy(logits, batch.s)


# SER_only: emotion recognition alone, the baseline.


@final
class SER(Strategy):
    """L(Θ) = L_y. No speaker head exists."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"emotion": L_y}."""
        logits, _ = self.logits(batch.x, batch.lengths)
        return {"emotion": emotion_loss(self, logits, batch)}


# SER_SR_MTL: emotion and speaker recognition learnt together.


@dataclass(frozen=True)
class MTLOptions:
    """`weight` w of the speaker loss; at 1 this is Eq. 4 with α = 0."""

    weight: float = 1.0


@final
class MTL(Strategy):
    """L(Θ) = L_y + w·L_s."""

    def __init__(self, setting: Setting, options: MTLOptions = MTLOptions()) -> None:
        super().__init__(setting)
        self.speaker = self._head("speaker", setting, setting.speakers)
        self.weight = options.weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"emotion": L_y, "speaker": w·L_s}."""
        e = self.embed(batch.x, batch.lengths)
        return {
            "emotion": emotion_loss(self, self.emotion(e), batch),
            "speaker": self.weight * speaker_loss(self, self.speaker(e), batch),
        }
