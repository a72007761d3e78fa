"""SER_SR_MTL: emotion and speaker recognition learnt together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from unheard.training.strategies.base import Batch, Setting, Strategy, emotion_loss, speaker_loss


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
