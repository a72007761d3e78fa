"""SER_SR_CGT: cross-gradient training (Eq. 2-4; Shankar et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unheard.errors import ConfigError
from unheard.model.layers import frozen_statistics
from unheard.training.strategies.base import Batch, Setting, Strategy, emotion_entropy, emotion_loss, speaker_loss


@dataclass(frozen=True)
class CGTOptions:
    """`epsilon` ε of the perturbations, how it is measured, and `alpha` α, their share of the objective.

    `eps_mode` "rms": each utterance moves by ε standard deviations of the input, root mean square over its
    valid frames (and its summary, counted once); "raw": by ε times the gradient, as Eq. 2 and 3 stand. (At
    ε = 1 the raw step is a fraction of a percent of a standard deviation: a silent no-op.)
    `clean_statistics`: batch norm's running statistics follow the clean passes only.
    """

    epsilon: float = 0.3
    eps_mode: str = "rms"
    alpha: float = 0.5
    clean_statistics: bool = False

    def __post_init__(self) -> None:
        if self.eps_mode not in ("rms", "raw"):
            raise ConfigError(f"unknown eps_mode '{self.eps_mode}'", mend="Choose rms or raw.")
        if not 0.0 <= self.alpha <= 1.0:
            raise ConfigError(f"alpha {self.alpha} is out of range", mend="Choose from 0 to 1.")


@final
class CGT(Strategy):
    """(1-α)(L_y(X) + L_s(X)) + α(L_y(X_s) + L_s(X_y)).

    X_s = X + ε∇_X L_s and X_y = X + ε∇_X L_y are constants to the optimiser. The emotion head learns on utterances
    moved towards other speakers, the speaker head on ones moved towards other emotions; therefore label smoothing is
    in the objective's L_y and not in the one that X_y is moved by.
    """

    input_std: Tensor

    def __init__(self, setting: Setting, options: CGTOptions = CGTOptions()) -> None:
        super().__init__(setting)
        self.speaker = self._head("speaker", setting, setting.speakers)
        self.options = options
        self.register_buffer("input_std", torch.ones(setting.features))
        """Standard deviation of each input dimension (F,): 1 unless the features are not normalised."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The four terms of Eq. 4, weighted."""
        alpha = self.options.alpha
        x = batch.x.detach()
        x.requires_grad_(alpha > 0.0)
        e = self.embed(x, batch.lengths)
        logits_y = self.emotion(e)
        loss_y = emotion_loss(self, logits_y, batch)
        loss_s = speaker_loss(self, self.speaker(e), batch)
        if alpha == 0.0:
            return {"emotion": loss_y, "speaker": loss_s}
        parameters = [p for p in self.parameters() if p.requires_grad]
        # One walk back from each clean loss serves its perturbation and, with the parameters' share, its own term.
        if self.smoothing:
            # A smoothed loss falls again where an utterance is told too surely, and would point the wrong way there.
            (gradient_y,) = torch.autograd.grad(cross_entropy(logits_y, batch.y), x, retain_graph=True)
            clean_y = loss_y
        else:
            gradient_y, clean_y = _differentiated(loss_y, x, parameters, again=True)
        gradient_s, clean_s = _differentiated(loss_s, x, parameters, again=bool(self.smoothing))
        # Per-utterance gradients: of the sum, not of the mean, or ε would shrink with the batch.
        x_s = self._perturbed(x, gradient_s * len(x), batch.lengths)  # Eq. 2
        x_y = self._perturbed(x, gradient_y * len(x), batch.lengths)  # Eq. 3
        with frozen_statistics(self) if self.options.clean_statistics else nullcontext():
            e_s = self.embed(x_s, batch.lengths)
            perturbed_y = emotion_entropy(self, self.emotion(e_s), batch)
            e_y = self.embed(x_y, batch.lengths)
            perturbed_s = cross_entropy(self.speaker(e_y), batch.s)
        self._observe_gain(e_s, batch, clean_s.detach())
        return {
            "emotion": (1 - alpha) * clean_y,
            "speaker": (1 - alpha) * clean_s,
            "emotion_perturbed": alpha * perturbed_y,
            "speaker_perturbed": alpha * perturbed_s,
        }

    def _observe_gain(self, e_s: Tensor, batch: Batch, clean: Tensor) -> None:
        """Note L_s(X_s) - L_s(X): how much harder the speakers are to tell where the perturbation went."""
        stream = self.streams()["speaker"]
        state = stream.get_state()  # a figure for the history must not move the training's random stream
        with torch.no_grad(), frozen_statistics(self):
            self.observe(speaker_gain=cross_entropy(self.speaker(e_s), batch.s) - clean)
        stream.set_state(state)

    def _perturbed(self, x: Tensor, gradient: Tensor, lengths: Tensor) -> Tensor:
        """X + ε∇L (B, T, F), detached; zero on padding because the gradient is."""

        read = self.embed.numbers_read(lengths).view(-1, 1, 1)

        def rms(step: Tensor) -> Tensor:  # (B, 1, 1), over what is read: all else adds zero
            return (step.square().sum((1, 2), keepdim=True) / read).sqrt()

        if self.options.eps_mode == "rms":
            direction = gradient * self.input_std  # the gradient with respect to standardised inputs
            step = self.options.epsilon * direction / rms(direction).clamp(min=1e-20) * self.input_std
        else:
            step = self.options.epsilon * gradient
        self.observe(perturbation_rms=rms(step / self.input_std).mean())
        return (x + step).detach()


def _differentiated(
    loss: Tensor, x: Tensor, parameters: Sequence[Tensor], again: bool = False
) -> tuple[Tensor, Tensor]:
    """∇_x `loss` (B, T, F), and `loss` again as a scalar that already knows its gradients by `parameters`.

    `again`: what lies between x and the loss will be walked back once more.
    """
    of_x, *known = torch.autograd.grad(loss, [x, *parameters], retain_graph=again, allow_unused=True)
    return of_x, cast(Tensor, _Known.apply(loss.detach(), known, *parameters))  # type: ignore[no-untyped-call]


class _Known(torch.autograd.Function):
    """A scalar whose gradients by its parameters were computed before; None where it does not depend on one."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, known: Sequence[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.known = known
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(None if of is None else gradient * of for of in ctx.known)
