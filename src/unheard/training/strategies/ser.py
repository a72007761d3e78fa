"""SER_only: emotion recognition alone, the baseline."""

from __future__ import annotations

from typing import final

from torch import Tensor

from unheard.training.strategies.base import Batch, Strategy, emotion_loss


@final
class SER(Strategy):
    """L(Θ) = L_y. No speaker head exists."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"emotion": L_y}."""
        logits, _ = self.logits(batch.x, batch.lengths)
        return {"emotion": emotion_loss(self, logits, batch)}
