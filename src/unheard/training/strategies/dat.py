"""SER_SR_DAT: domain adversarial training with speakers as domains (Eq. 1)."""

import math
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor

from unheard.model.network import Head
from unheard.settings import setting
from unheard.training.strategies.base import Batch, Strategy, StrategyConfig, emotion_loss, head, speaker_loss


@dataclass(frozen=True)
class DATOptions:
    """Options of SER_SR_DAT: the weight λ of the adversary, its schedule and its loss.

    Schedule "ganin" (Ganin et al. 2016): λ(p) = lam · (2 / (1 + exp(-γp)) - 1) over the progress p of the training.
    Loss "reversal" (the paper's): the embedding maximises the speaker loss, which is also high if the head is confident
    and wrong. "entropy" (Li et al. 2020, Speaker-invariant affective representation learning via adversarial training):
    the embedding maximises the entropy of the speaker posteriors, which is highest if they are uninformative.
    """

    lam: float = setting(0.1, "Weight λ of the adversarial gradient.")
    loss: Literal["reversal", "entropy"] = setting(
        "reversal", "What the embedding maximises: the speaker loss (reversal), or the entropy of the speaker output."
    )
    schedule: Literal["constant", "ganin"] = setting("constant", "Schedule of λ over the training.")
    gamma: float = setting(10.0, "ganin: steepness γ of the rise of λ.")
    warmup: float = setting(0.0, "First share of the training, with λ = 0; the schedule covers the rest.", ge=0, lt=1)
    cap: float = setting(math.inf, "Upper bound of λ.")

    def at(self, progress: float) -> float:
        """Return λ at `progress` (0 to 1) of the training."""
        if progress < self.warmup:
            return 0.0
        p = (progress - self.warmup) / (1.0 - self.warmup)
        growth = 1.0 if self.schedule == "constant" else 2.0 / (1.0 + math.exp(-self.gamma * p)) - 1.0
        return min(self.lam * growth, self.cap)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, e: Tensor, lam: float) -> Tensor:
        ctx.lam = lam
        return e.view_as(e)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.lam * gradient, None


def reverse_gradient(e: Tensor, lam: float) -> Tensor:
    """Apply the gradient reversal layer GRL_λ to `e` of any shape: identity forwards, gradient times -λ backwards."""
    return _Reverse.apply(e, lam)  # type: ignore[no-any-return,no-untyped-call,unused-ignore]


def apply_frozen(head: Head, e: Tensor) -> Tensor:
    """Apply `head` to `e`, (B, E) -> (B, S), with constant weights: only `e` gets a gradient, no statistics change."""
    weights = {name: weight.detach() for name, weight in head.named_parameters()}
    statistics = {name: value.clone() for name, value in head.named_buffers()}
    return torch.func.functional_call(head, weights | statistics, (e,))  # type: ignore[no-any-return]


def entropy(logits: Tensor) -> Tensor:
    """Return the mean entropy in nats, 0 to log S, of the distributions softmax(`logits`), (B, S) -> ()."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1).mean()


@final
class DAT(Strategy):
    """Eq. 1 as a saddle point: L(Θ) = L_y(e) + L_s(GRL_λ(e)).

    The speaker head minimises L_s at full rate; the embedding network receives its gradient times -λ and so learns to
    remove the speaker. With the loss "entropy": L_y(e) + L_s(e constant) - λ H(ŝ(e)), the head constant in H.
    """

    def __init__(self, config: StrategyConfig, options: DATOptions = DATOptions()) -> None:
        super().__init__(config)
        self.speaker = head("speaker", config, config.speakers)
        self.options = options
        self.chance_entropy = math.log(config.speakers)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"emotion": L_y, "speaker": L_s(GRL_λ(e))}; loss "entropy": L_s(e), and "confusion": -λ H(ŝ(e))."""
        lam = self.options.at(self.progress)
        e = self.embed(batch.x, batch.lengths)  # (B, E)
        self.observe(lam=lam, chance_entropy=self.chance_entropy)
        if self.options.loss == "entropy":
            return {
                "emotion": emotion_loss(self, self.emotion(e), batch),
                "speaker": speaker_loss(self, self.speaker(e.detach()), batch),
                "confusion": -lam * entropy(apply_frozen(self.speaker, e)),
            }
        return {
            "emotion": emotion_loss(self, self.emotion(e), batch),
            "speaker": speaker_loss(self, self.speaker(reverse_gradient(e, lam)), batch),
        }
