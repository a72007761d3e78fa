"""SER_SR_CGT: cross-gradient training (Eq. 2-4; Shankar et al. 2018)."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, cast, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unheard.model.layers import frozen_statistics
from unheard.settings import setting
from unheard.training.strategies.base import (
    Batch,
    Strategy,
    StrategyConfig,
    dropout_stream,
    emotion_cross_entropy,
    emotion_loss,
    head,
    per_member,
    speaker_loss,
)


@dataclass(frozen=True)
class CGTOptions:
    """Options of SER_SR_CGT: size ε of the perturbations, its unit, and their share α of the objective.

    `eps_mode` "rms": each utterance moves by ε standard deviations of the input, root mean square over its valid
    frames (and its functionals, counted once). "raw": by ε times the gradient, as Eq. 2 and 3 are written; at ε = 1
    this is a fraction of a percent of a standard deviation and has no effect.
    """

    epsilon: float = setting(0.3, "Size ε of the perturbations.")
    eps_mode: Literal["rms", "raw"] = setting(
        "rms", "Unit of ε: standard deviations of the input (rms), or the gradient (raw)."
    )
    alpha: float = setting(0.5, "Weight α of the losses on perturbed inputs; the others have 1 - α.", ge=0, le=1)
    clean_statistics: bool = setting(False, "Update batch norm's running statistics with unperturbed inputs only.")


@final
class CGT(Strategy):
    """Eq. 4: L(Θ) = (1-α)(L_y(X) + L_s(X)) + α(L_y(X_s) + L_s(X_y)).

    X_s = X + ε∇_X L_s (Eq. 2) and X_y = X + ε∇_X L_y (Eq. 3) are constants to the optimiser. The emotion head learns
    from utterances moved towards other speakers, the speaker head from utterances moved towards other emotions.
    """

    input_std: Tensor

    def __init__(self, config: StrategyConfig, options: CGTOptions = CGTOptions()) -> None:
        super().__init__(config)
        self.speaker = head("speaker", config, config.speakers)
        self.options = options
        self.register_buffer("input_std", torch.ones(config.features))
        """Standard deviation of each input dimension (F,): 1 unless the features are not normalised."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the four weighted terms of Eq. 4."""
        alpha = self.options.alpha
        x = batch.x.detach()
        x.requires_grad_(alpha > 0.0)
        e = self.embed(x, batch.lengths)  # (B, E)
        logits_y = self.emotion(e)
        loss_y = emotion_loss(self, logits_y, batch)
        loss_s = speaker_loss(self, self.speaker(e), batch)
        if alpha == 0.0:
            return {"emotion": loss_y, "speaker": loss_s}
        # one backward pass of each clean loss gives its gradients by the input and by the parameters
        parameters = [p for p in self.parameters() if p.requires_grad]
        if self.smoothing:
            # a smoothed loss rises again where the posterior is too high; there its gradient has the wrong sign
            (gradient_y,) = torch.autograd.grad(cross_entropy(*per_member(logits_y, batch.y)), x, retain_graph=True)
            clean_y = loss_y
        else:
            gradient_y, clean_y = _with_gradients(loss_y, x, parameters, retain_graph=True)
        gradient_s, clean_s = _with_gradients(loss_s, x, parameters, retain_graph=bool(self.smoothing))
        # times B: the gradient of each utterance's loss, since the losses are means over the batch
        x_s = self._perturbed(x, gradient_s * len(x), batch.lengths)  # Eq. 2
        x_y = self._perturbed(x, gradient_y * len(x), batch.lengths)  # Eq. 3
        with frozen_statistics(self) if self.options.clean_statistics else nullcontext():
            e_s = self.embed(x_s, batch.lengths)
            perturbed_y = emotion_cross_entropy(self, self.emotion(e_s), batch)
            e_y = self.embed(x_y, batch.lengths)
            perturbed_s = cross_entropy(self.speaker(e_y), batch.s)
        self._observe_gain(e_s, batch, clean_s.detach())
        return {
            "emotion": (1 - alpha) * clean_y,
            "speaker": (1 - alpha) * clean_s,
            "emotion_perturbed": alpha * perturbed_y,
            "speaker_perturbed": alpha * perturbed_s,
        }

    def _perturbed(self, x: Tensor, gradient: Tensor, lengths: Tensor) -> Tensor:
        """Return X + ε∇L (B, T, F), detached; padding does not move because its gradient is 0."""
        count = self.embed.inputs_read(lengths).view(-1, 1, 1)

        def rms(step: Tensor) -> Tensor:  # (B, 1, 1)
            return (step.square().sum((1, 2), keepdim=True) / count).sqrt()

        if self.options.eps_mode == "rms":
            direction = gradient * self.input_std  # the gradient with respect to standardised inputs
            step = self.options.epsilon * direction / rms(direction).clamp(min=1e-20) * self.input_std
        else:
            step = self.options.epsilon * gradient
        self.observe(perturbation_rms=rms(step / self.input_std).mean())
        return (x + step).detach()

    def _observe_gain(self, e_s: Tensor, batch: Batch, clean: Tensor) -> None:
        """Record L_s(X_s) - L_s(X), by which the perturbation raises the speaker loss."""
        stream = dropout_stream(self.speaker)
        state = None if stream is None else stream.get_state()  # recording a metric must not advance the stream
        with torch.no_grad(), frozen_statistics(self):
            self.observe(speaker_gain=cross_entropy(self.speaker(e_s), batch.s) - clean)
        if stream is not None and state is not None:
            stream.set_state(state)


def _with_gradients(loss: Tensor, x: Tensor, parameters: Sequence[Tensor], retain_graph: bool) -> tuple[Tensor, Tensor]:
    """Return ∇_x `loss` (B, T, F), and `loss` as a scalar with precomputed gradients by `parameters`."""
    by_x, *by_parameters = torch.autograd.grad(loss, [x, *parameters], retain_graph=retain_graph, allow_unused=True)
    return by_x, cast(Tensor, _Precomputed.apply(loss.detach(), by_parameters, *parameters))  # type: ignore[no-untyped-call]


class _Precomputed(torch.autograd.Function):
    """A scalar with precomputed gradients; None for a parameter that it does not depend on."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(None if g is None else gradient * g for g in ctx.gradients)
