"""SER_SR_DAT: domain adversarial training, the speakers being the domains (Eq. 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from unheard.errors import ConfigError
from unheard.training.strategies.base import Batch, Setting, Strategy, emotion_loss, speaker_loss


@dataclass(frozen=True)
class DATOptions:
    """`lam` λ of the gradient reversal, and how it grows.

    `schedule` "constant" (the paper's), or "ganin": λ(p) = lam · (2/(1 + exp(-γp)) - 1) over the training's
    progress p (Ganin et al. 2016); before `warmup` (a share of the training) λ is 0 and the schedule
    follows on the rest; `cap` bounds λ.
    """

    lam: float = 0.1
    schedule: str = "constant"
    gamma: float = 10.0
    warmup: float = 0.0
    cap: float = math.inf

    def __post_init__(self) -> None:
        if self.schedule not in ("constant", "ganin"):
            raise ConfigError(f"unknown schedule '{self.schedule}'", mend="Choose constant or ganin.")
        if not 0.0 <= self.warmup < 1.0:
            raise ConfigError(f"warm-up {self.warmup} is no share of the training", mend="Choose 0 up to 1.")

    def at(self, progress: float) -> float:
        """λ at `progress` (0 to 1) of the training."""
        if progress < self.warmup:
            return 0.0
        p = (progress - self.warmup) / (1.0 - self.warmup)
        growth = 1.0 if self.schedule == "constant" else 2.0 / (1.0 + math.exp(-self.gamma * p)) - 1.0
        return min(self.lam * growth, self.cap)


class _Reverse(torch.autograd.Function):
    """Identity forwards; multiplies the gradient by -λ backwards."""

    @staticmethod
    def forward(ctx: Any, e: Tensor, lam: float) -> Tensor:
        ctx.lam = lam
        return e.view_as(e)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.lam * gradient, None


def reverse_gradient(e: Tensor, lam: float) -> Tensor:
    """The gradient reversal layer GRL_λ(e): identity forwards, gradient times -λ backwards; any shape."""
    return _Reverse.apply(e, lam)  # type: ignore[no-any-return,no-untyped-call,unused-ignore]


@final
class DAT(Strategy):
    """Eq. 1 as a saddle point: L_y + L_s(GRL_λ(e)).

    The speaker head learns at full rate to tell the speakers apart; the embedding network receives its
    gradient times -λ and so learns to confuse it.
    """

    def __init__(self, setting: Setting, options: DATOptions = DATOptions()) -> None:
        super().__init__(setting)
        self.speaker = self._head("speaker", setting, setting.speakers)
        self.options = options
        self.chance_entropy = math.log(setting.speakers)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"emotion": L_y, "speaker": L_s(GRL_λ(e))}."""
        lam = self.options.at(self.progress)
        e = self.embed(batch.x, batch.lengths)
        self.observe(lam=lam, chance_entropy=self.chance_entropy)
        return {
            "emotion": emotion_loss(self, self.emotion(e), batch),
            "speaker": speaker_loss(self, self.speaker(reverse_gradient(e, lam)), batch),
        }
