"""What every strategy has in common, and the two that need nothing else: SER_only and SER_SR_MTL."""

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
        """The same batch on `device`."""
        tensors = (self.x, self.lengths, self.y, self.s, self.w)
        return Batch(*(None if t is None else t.to(device, non_blocking=True) for t in tensors))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Setting:
    """What a strategy is built for: sizes of the task, the network, and the seed of its weights and dropout masks.

    `smoothing` is the label smoothing of the emotion loss.
    """

    features: int
    emotions: int
    speakers: int
    network: NetworkSettings
    seed: int
    smoothing: float = 0.0


def derive(*parts: object) -> int:
    """Derive a 63-bit seed from `parts`: the same on every machine, unrelated for different parts."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") >> 1


def part(name: str, setting: Setting, make: type[Part], *arguments: object) -> Part:
    """Build a sub-network whose weights and dropout masks depend on its `name` and the seed only."""
    module = initialised(make, derive(setting.seed, name, "weights"), *arguments)
    use_stream(module, torch.Generator().manual_seed(derive(setting.seed, name, "dropout")))
    return module


def head(name: str, setting: Setting, outputs: int, members: int = 1) -> Head:
    """Build a head with logits for `outputs` classes."""
    network = setting.network
    sizes = (network.embedding, network.hidden, outputs, network.dropout_of_heads)
    return part(name, setting, Head, *sizes, members, network.dense)


def stream_of(module: nn.Module) -> torch.Generator | None:
    """Return the random stream of a sub-network's dropout masks; None where it has no dropout layer."""
    return next((layer.generator for layer in module.modules() if isinstance(layer, Dropout)), None)


class Strategy(EmotionNetwork, abc.ABC):
    """The embedding network Θ_e and the emotion head Θ_y; a subclass adds what only its training needs.

    Its one duty is `forward(batch) -> {term: loss}`; the trainer minimises the sum of the terms and does not know
    which strategy it trains. Each sub-network has its own random streams of weights and dropout masks: strategies
    with the same seed start alike and are compared in pairs.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(
            part("embed", setting, EmbeddingNetwork, setting.features, setting.network),
            head("emotion", setting, setting.emotions, setting.network.members),
        )
        self.smoothing = setting.smoothing
        self.progress = 0.0
        """Share of the training done, 0 to 1; the trainer sets it before each step."""
        self._observed: dict[str, list[Tensor]] = {}

    @abc.abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the objective on one batch, each a scalar; their sum is minimised."""

    def observe(self, **values: Tensor | float) -> None:
        """Note figures of this step for the history; they do not influence the training."""
        for name, value in values.items():
            self._observed.setdefault(name, []).append(torch.as_tensor(value, dtype=torch.float32).detach())

    def observations(self) -> dict[str, float]:
        """Return the mean of every figure noted since the last call."""
        means = {name: float(torch.stack(values).mean()) for name, values in self._observed.items()}
        self._observed.clear()
        return means

    def place(self, device: torch.device) -> Strategy:
        """Move everything to `device`, random streams included (a new stream there starts from the same seed)."""
        self.to(device)
        for name, stream in self.streams().items():
            if stream.device.type != device.type:
                moved = torch.Generator(device).manual_seed(stream.initial_seed())
                use_stream(self.get_submodule(name), moved)
        return self

    def streams(self) -> dict[str, torch.Generator]:
        """The random streams of the dropout masks by sub-network; a checkpoint keeps their states."""
        streams = {name: stream_of(child) for name, child in self.named_children()}
        return {name: stream for name, stream in streams.items() if stream is not None}


def apart(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Let each of M members of a head answer for itself: logits (B, M, C), emotions (B,) -> (B·M, C), (B·M,).

    Logits (B, C) of a head without members stay as they are.
    """
    return (logits, y) if logits.dim() == 2 else (logits.flatten(0, 1), y.repeat_interleave(logits.shape[1]))


def emotion_entropy(strategy: Strategy, logits: Tensor, batch: Batch) -> Tensor:
    """L_y: mean cross-entropy of the emotions, with label smoothing and the utterances' weights where they are set.

    Weights average to 1 over the training utterances, so an utterance's weight does not depend on its batch.
    """
    logits, y = apart(logits, batch.y)
    if batch.w is None:
        return cross_entropy(logits, y, label_smoothing=strategy.smoothing)
    each = cross_entropy(logits, y, reduction="none", label_smoothing=strategy.smoothing)
    return (batch.w.unsqueeze(1) * each.view(len(batch.y), -1)).mean()


def emotion_loss(strategy: Strategy, logits: Tensor, batch: Batch) -> Tensor:
    """L_y of unperturbed utterances; notes the training accuracy."""
    answer = logits if logits.dim() == 2 else logits.mean(1)
    strategy.observe(train_wa=(answer.argmax(1) == batch.y).float().mean())
    return emotion_entropy(strategy, logits, batch)


def speaker_loss(strategy: Strategy, logits: Tensor, batch: Batch) -> Tensor:
    """L_s: mean cross-entropy of the training speakers; notes the speaker accuracy."""
    strategy.observe(speaker_accuracy=(logits.argmax(1) == batch.s).float().mean())
    return cross_entropy(logits, batch.s)


@final
class SER(Strategy):
    """SER_only, the baseline: L(Θ) = L_y. It has no speaker head."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"emotion": L_y}."""
        logits, _ = self.logits(batch.x, batch.lengths)
        return {"emotion": emotion_loss(self, logits, batch)}


@dataclass(frozen=True)
class MTLOptions:
    """Options of SER_SR_MTL; with weight 1 it is Eq. 4 with α = 0."""

    weight: float = setting(1.0, "Weight w of the speaker loss.")


@final
class MTL(Strategy):
    """SER_SR_MTL, multi-task learning of emotions and speakers: L(Θ) = L_y + w·L_s."""

    def __init__(self, setting: Setting, options: MTLOptions = MTLOptions()) -> None:
        super().__init__(setting)
        self.speaker = head("speaker", setting, setting.speakers)
        self.weight = options.weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"emotion": L_y, "speaker": w·L_s}."""
        e = self.embed(batch.x, batch.lengths)  # (B, E)
        return {
            "emotion": emotion_loss(self, self.emotion(e), batch),
            "speaker": self.weight * speaker_loss(self, self.speaker(e), batch),
        }
