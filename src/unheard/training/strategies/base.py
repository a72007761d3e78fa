"""The base class of strategies, and the two strategies that need nothing else: SER_only and SER_SR_MTL."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from hashlib import blake2b
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unheard.model.layers import Dropout, use_stream
from unheard.model.network import EmbeddingNetwork, EmotionNetwork, Head, NetworkSettings, Part, initialised
from unheard.settings import setting


@dataclass(frozen=True)
class Batch:
    """A padded batch: `x` (B, T, F), `lengths` (B,), emotion index `y` (B,), speaker index `s` (B,).

    `w` (B,) are the utterances' weights in the emotion loss, None for equal ones.
    """

    x: Tensor
    lengths: Tensor
    y: Tensor
    s: Tensor
    w: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        tensors = (self.x, self.lengths, self.y, self.s, self.w)
        return Batch(*(None if t is None else t.to(device, non_blocking=True) for t in tensors))  # type: ignore[arg-type]


@dataclass(frozen=True)
class StrategyConfig:
    """Numbers of features, emotions and speakers, the network, and the seed of weights and dropout masks.

    `smoothing` is the label smoothing of the emotion loss.
    """

    features: int
    emotions: int
    speakers: int
    network: NetworkSettings
    seed: int
    smoothing: float = 0.0


def derive_seed(*parts: object) -> int:
    """Derive a 63-bit seed from `parts`, the same on every machine; different parts give independent seeds."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") >> 1


def subnetwork(name: str, config: StrategyConfig, make: type[Part], *arguments: object) -> Part:
    """Build a sub-network whose weights and dropout masks depend on its `name` and the seed only."""
    module = initialised(make, derive_seed(config.seed, name, "weights"), *arguments)
    use_stream(module, torch.Generator().manual_seed(derive_seed(config.seed, name, "dropout")))
    return module


def head(name: str, config: StrategyConfig, outputs: int, members: int = 1) -> Head:
    """Build a head with logits for `outputs` classes."""
    network = config.network
    sizes = (network.embedding, network.hidden, outputs, network.dropout_of_heads)
    return subnetwork(name, config, Head, *sizes, members, network.dense)


def dropout_stream(module: nn.Module) -> torch.Generator | None:
    """Return the random stream of a sub-network's dropout masks; None where it has no dropout layer."""
    return next((layer.generator for layer in module.modules() if isinstance(layer, Dropout)), None)


class Strategy(EmotionNetwork, abc.ABC):
    """The embedding network Θ_e and the emotion head Θ_y; a subclass adds what only its training needs.

    `forward(batch)` returns {term: loss}; the trainer minimises the sum of the terms. Each sub-network has separate
    random streams for weights and dropout masks, so that strategies with the same seed start from the same weights.
    """

    def __init__(self, config: StrategyConfig) -> None:
        super().__init__(
            subnetwork("embed", config, EmbeddingNetwork, config.features, config.network),
            head("emotion", config, config.emotions, config.network.members),
        )
        self.smoothing = config.smoothing
        self.progress = 0.0
        """Share of the training done, 0 to 1; the trainer sets it before each step."""
        self._observed: dict[str, list[Tensor]] = {}

    @abc.abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the objective on one batch, each a scalar; their sum is minimised."""

    def observe(self, **values: Tensor | float) -> None:
        """Record metrics of this step for the history; they do not influence the training."""
        for name, value in values.items():
            self._observed.setdefault(name, []).append(torch.as_tensor(value, dtype=torch.float32).detach())

    def observations(self) -> dict[str, float]:
        """Return the mean of every metric recorded since the last call."""
        means = {name: float(torch.stack(values).mean()) for name, values in self._observed.items()}
        self._observed.clear()
        return means

    def move_to(self, device: torch.device) -> Strategy:
        """Move weights and random streams to `device`; a new stream starts from the same seed."""
        self.to(device)
        for name, stream in self.streams().items():
            if stream.device.type != device.type:
                moved = torch.Generator(device).manual_seed(stream.initial_seed())
                use_stream(self.get_submodule(name), moved)
        return self

    def streams(self) -> dict[str, torch.Generator]:
        """Return the random streams of the dropout masks by sub-network; checkpoints contain their states."""
        streams = {name: dropout_stream(child) for name, child in self.named_children()}
        return {name: stream for name, stream in streams.items() if stream is not None}


def per_member(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and emotions for each of the M members of a head: (B, M, C), (B,) -> (B·M, C), (B·M,).

    Logits (B, C) of a head without members are not changed.
    """
    return (logits, y) if logits.dim() == 2 else (logits.flatten(0, 1), y.repeat_interleave(logits.shape[1]))


def emotion_cross_entropy(strategy: Strategy, logits: Tensor, batch: Batch) -> Tensor:
    """Compute L_y, the mean cross-entropy of the emotions, with label smoothing and utterance weights if set.

    Weights average to 1 over the training utterances, so that the weight of an utterance is the same in every batch.
    """
    logits, y = per_member(logits, batch.y)
    if batch.w is None:
        return cross_entropy(logits, y, label_smoothing=strategy.smoothing)
    losses = cross_entropy(logits, y, reduction="none", label_smoothing=strategy.smoothing)
    return (batch.w.unsqueeze(1) * losses.view(len(batch.y), -1)).mean()


def emotion_loss(strategy: Strategy, logits: Tensor, batch: Batch) -> Tensor:
    """Compute L_y of unperturbed utterances, and record the training accuracy."""
    mean = logits if logits.dim() == 2 else logits.mean(1)  # over the members of the head
    strategy.observe(train_wa=(mean.argmax(1) == batch.y).float().mean())
    return emotion_cross_entropy(strategy, logits, batch)


def speaker_loss(strategy: Strategy, logits: Tensor, batch: Batch) -> Tensor:
    """Compute L_s, the mean cross-entropy of the training speakers, and record the speaker accuracy."""
    strategy.observe(speaker_accuracy=(logits.argmax(1) == batch.s).float().mean())
    return cross_entropy(logits, batch.s)


@final
class SER(Strategy):
    """SER_only, the baseline: L(Θ) = L_y. It has no speaker head."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"emotion": L_y}."""
        logits, _ = self.logits(batch.x, batch.lengths)
        return {"emotion": emotion_loss(self, logits, batch)}


@dataclass(frozen=True)
class MTLOptions:
    """Options of SER_SR_MTL; with weight 1 it is Eq. 4 with α = 0."""

    weight: float = setting(1.0, "Weight w of the speaker loss.")


@final
class MTL(Strategy):
    """SER_SR_MTL, multi-task learning of emotions and speakers: L(Θ) = L_y + w·L_s."""

    def __init__(self, config: StrategyConfig, options: MTLOptions = MTLOptions()) -> None:
        super().__init__(config)
        self.speaker = head("speaker", config, config.speakers)
        self.weight = options.weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"emotion": L_y, "speaker": w·L_s}."""
        e = self.embed(batch.x, batch.lengths)  # (B, E)
        return {
            "emotion": emotion_loss(self, self.emotion(e), batch),
            "speaker": self.weight * speaker_loss(self, self.speaker(e), batch),
        }
