"""SER_SR_DAT: domain adversarial training, the speakers being the domains (Eq. 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from unheard.errors import ConfigError
from unheard.model.network import Head
from unheard.training.strategies.base import Batch, Setting, Strategy, emotion_loss, speaker_loss


@dataclass(frozen=True)
class DATOptions:
    """`lam` λ of the gradient reversal, and how it grows.

    `schedule` "constant" (the paper's), or "ganin": λ(p) = lam · (2/(1 + exp(-γp)) - 1) over the training's
    progress p (Ganin et al. 2016); before `warmup` (a share of the training) λ is 0 and the schedule
    follows on the rest; `cap` bounds λ.

    `loss` "reversal" (the paper's) makes the embedding raise the speaker loss, which a head that is wrong with
    confidence satisfies as well; "entropy" (Li et al. 2020, Speaker-invariant affective representation learning via
    adversarial training) makes it raise the entropy of what the head says, which is highest where it cannot tell.
    """

    lam: float = 0.1
    loss: str = "reversal"
    schedule: str = "constant"
    gamma: float = 10.0
    warmup: float = 0.0
    cap: float = math.inf

    def __post_init__(self) -> None:
        if self.schedule not in ("constant", "ganin"):
            raise ConfigError(f"unknown schedule '{self.schedule}'", mend="Choose constant or ganin.")
        if self.loss not in ("reversal", "entropy"):
            raise ConfigError(f"unknown adversarial loss '{self.loss}'", mend="Choose reversal or entropy.")
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


def frozen(head: Head, e: Tensor) -> Tensor:
    """What `head` says of `e` (B, E) -> (B, S), its weights being constants: only `e` learns, no statistics move."""
    weights = {name: weight.detach() for name, weight in head.named_parameters()}
    statistics = {name: value.clone() for name, value in head.named_buffers()}
    return torch.func.functional_call(head, weights | statistics, (e,))  # type: ignore[no-any-return]


def entropy(logits: Tensor) -> Tensor:
    """The mean entropy in nats of the distributions that `logits` (B, S) stand for: 0 to log S."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1).mean()


@final
class DAT(Strategy):
    """Eq. 1 as a saddle point: L_y + L_s(GRL_λ(e)).

    The speaker head learns at full rate to tell the speakers apart; the embedding network receives its
    gradient times -λ and so learns to confuse it. Or, with the loss "entropy", L_y + L_s(e constant) - λ H(ŝ(e)) with
    the head constant in H.
    """

    def __init__(self, setting: Setting, options: DATOptions = DATOptions()) -> None:
        super().__init__(setting)
        self.speaker = self._head("speaker", setting, setting.speakers)
        self.options = options
        self.chance_entropy = math.log(setting.speakers)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"emotion": L_y, "speaker": L_s(GRL_λ(e))}; with the loss "entropy" L_s(e) and "confusion": -λ H(ŝ(e))."""
        lam = self.options.at(self.progress)
        e = self.embed(batch.x, batch.lengths)
        self.observe(lam=lam, chance_entropy=self.chance_entropy)
        if self.options.loss == "entropy":
            return {
                "emotion": emotion_loss(self, self.emotion(e), batch),
                "speaker": speaker_loss(self, self.speaker(e.detach()), batch),
                "confusion": -lam * entropy(frozen(self.speaker, e)),
            }
        return {
            "emotion": emotion_loss(self, self.emotion(e), batch),
            "speaker": speaker_loss(self, self.speaker(reverse_gradient(e, lam)), batch),
        }
