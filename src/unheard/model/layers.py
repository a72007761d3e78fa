"""Layers that work on the valid frames of a batch and on nothing else.

A padded batch (B, T, F) is laid out once as its valid frames, utterance after utterance: (N, F). Every later
layer sees only those, so padding cannot change an answer: there is none. Batch normalisation over (N, C) is
the plain one, a TDNN is a sum of matrix products over shifted windows, pooling is a sum over segments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from unheard.model import recurrence
from unheard.model.cpu import as_array, kernels_serve

__all__ = ["TDNN", "BiLSTM", "Dense", "Dropout", "Frames", "frozen_statistics", "use_stream", "valid_frames"]


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """While it lasts, batch norm inside `module` normalises as ever but its running statistics stand still."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


class TDNN(nn.Module):
    """Time-delay layer N-K-D: affine over K frames spaced D apart, then ReLU, batch norm, dropout.

    The same numbers as `Conv1d(F, N, K, dilation=D)`, computed on the valid frames: (N, F) -> (N', outputs).
    `padding` "valid" (Kaldi's and PyTorch's default) shortens each utterance by D(K-1) frames; "same" keeps
    its length by zeros on both sides.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, dilation: int, dropout: float, padding: str = "valid"
    ) -> None:
        super().__init__()
        self.kernel, self.dilation, self.padding = kernel, dilation, padding
        self.affine = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)  # parameters and initialisation
        self.norm = nn.BatchNorm1d(outputs)
        self.dropout = Dropout(dropout)

    @property
    def shortens(self) -> int:
        """By how many frames an utterance gets shorter."""
        return 0 if self.padding == "same" else self.dilation * (self.kernel - 1)

    def forward(self, frames: Frames) -> Frames:
        """(N, inputs) -> (N', outputs)."""
        span = self.dilation * (self.kernel - 1)
        if self.padding == "same":
            frames = _with_zeros(frames, span // 2, span - span // 2)
        taps = self.affine.weight.transpose(1, 2).flatten(1)  # (outputs, K * inputs)
        assert self.affine.bias is not None
        columns = windows(frames, self.kernel, self.dilation)
        taps = nn.functional.pad(taps, (0, columns.shape[1] - taps.shape[1]))
        y = affine_relu_norm_dropout(columns, taps, self.affine.bias, self.norm, self.dropout)
        return Frames(y, frames.lengths - span)


def _with_zeros(frames: Frames, left: int, right: int) -> Frames:
    """Each utterance with `left` and `right` frames of zeros around it."""
    lengths = frames.lengths + left + right
    values = frames.values.new_zeros((int(lengths.sum()), frames.values.shape[1]))
    starts = torch.cumsum(lengths, 0) - lengths + left
    return Frames(values.index_copy(0, starts[frames.owner] + frames.position(), frames.values), lengths)


class Dense(nn.Module):
    """Fully connected layer: affine, ReLU, batch norm, dropout; (N, inputs) -> (N, outputs)."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.affine = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs) -> (N, outputs)."""
        return affine_relu_norm_dropout(x, self.affine.weight, self.affine.bias, self.norm, self.dropout)


class BiLSTM(nn.Module):
    """Bidirectional LSTM over each utterance's valid frames: (N, inputs) -> (N, 2 * cells).

    Two one-directional LSTMs; the backward one reads each utterance from its own last valid frame, so neither ever
    reads padding before a valid frame, and no packing is needed. On a CPU `unheard.training.recurrence` computes the
    same numbers in less time where it can.
    """

    def __init__(self, inputs: int, cells: int) -> None:
        super().__init__()
        self.ahead = nn.LSTM(inputs, cells)
        self.back = nn.LSTM(inputs, cells)

    def forward(self, frames: Frames) -> Tensor:
        """(N, inputs) -> (N, 2 * cells), forward states first."""
        if recurrence.usable(frames.values, self.ahead.hidden_size):
            return self._on_ragged_frames(frames)
        return self._on_a_grid(frames)

    def _on_ragged_frames(self, frames: Frames) -> Tensor:
        projected, weights = [], []
        for lstm in (self.ahead, self.back):
            of_input, of_state, bias, more_bias = lstm.all_weights[0]
            projected.append(nn.functional.linear(frames.values, of_input, bias + more_bias))
            weights.append(of_state.t().contiguous())
        return recurrence.recur(projected, weights, frames.lengths)

    def _on_a_grid(self, frames: Frames) -> Tensor:
        x, lengths = frames.values, frames.lengths
        batch, longest = len(lengths), int(lengths.max())
        owner, place = frames.owner, frames.position()
        there = place * batch + owner  # cell of the (T, B) grid each frame goes to
        mirrored = (lengths[owner] - 1 - place) * batch + owner
        blank = x.new_zeros((longest * batch, x.shape[1]))
        ahead, _ = self.ahead(blank.index_copy(0, there, x).view(longest, batch, -1))
        back, _ = self.back(blank.index_copy(0, mirrored, x).view(longest, batch, -1))
        return torch.cat([ahead.flatten(0, 1)[there], back.flatten(0, 1)[mirrored]], 1)


# The valid frames of a batch laid end to end, and nothing else of it.
#
# A padded batch (B, T, F) is laid out once as its valid frames, utterance after utterance: (N, F). Every later
# layer sees only those, so padding cannot change an answer: there is none.


@dataclass(frozen=True)
class Frames:
    """The valid frames of a batch: `values` (N, C) and how many belong to each utterance, `lengths` (B,)."""

    values: Tensor
    lengths: Tensor

    @property
    def starts(self) -> Tensor:
        """Index of each utterance's first frame, (B,) int64."""
        return torch.cumsum(self.lengths, 0) - self.lengths

    @property
    def owner(self) -> Tensor:
        """Which utterance each frame belongs to, (N,) int64."""
        return torch.repeat_interleave(self.lengths)

    def position(self) -> Tensor:
        """Each frame's place in its utterance, from 0, (N,) int64."""
        return torch.arange(len(self.values), device=self.values.device) - self.starts[self.owner]


def valid_frames(x: Tensor, lengths: Tensor, at_least: int = 1) -> Frames:
    """The valid frames of a padded batch `x` (B, T, F) with `lengths` (B,) as (N, F).

    An utterance shorter than `at_least` frames repeats its edge frames up to that many, evenly on both sides
    and once more on the right where the number is odd; those repeated frames count as valid.
    """
    target = lengths.clamp(min=at_least)
    owner = torch.repeat_interleave(target)
    starts = torch.cumsum(target, 0) - target
    place = torch.arange(len(owner), device=x.device) - starts[owner]
    missing = torch.div(target - lengths, 2, rounding_mode="floor")
    source = torch.minimum((place - missing[owner]).clamp(min=0), lengths[owner] - 1)
    return Frames(x.flatten(0, 1).index_select(0, owner * x.shape[1] + source), target)


# The windows a time-delay layer looks through, of the valid frames of a batch.


def windows(frames: Frames, taps: int, dilation: int) -> Tensor:
    """Every window of `taps` frames, `dilation` apart, that lies in one utterance: (N, C) -> (W, taps * C).

    An utterance of T frames has T - dilation (taps - 1). The kernels fill up with zeros to a multiple of 8 columns,
    whose matrix products are up to half as fast again.
    """
    x, lengths = frames.values, frames.lengths
    if kernels_serve(x):
        return cast(Tensor, _Windows.apply(x, lengths, taps, dilation))  # type: ignore[no-untyped-call]
    span = dilation * (taps - 1)
    first = (frames.position() < (lengths - span)[frames.owner]).nonzero()  # (W, 1)
    rows = first + torch.arange(0, span + 1, dilation, device=x.device)  # (W, taps)
    return x.index_select(0, rows.flatten()).view(len(rows), -1)


class _Windows(torch.autograd.Function):
    """`windows` by kernels; it cannot be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lengths: Tensor, taps: int, dilation: int) -> Tensor:
        from unheard.model.cpu.frames import gather_windows

        ctx.frames, ctx.how = x.shape, (lengths.numpy(), taps, dilation)
        count = len(x) - len(lengths) * dilation * (taps - 1)
        columns = taps * x.shape[1]
        out = x.new_empty((count, columns + -columns % 8))
        out[:, columns:] = 0.0
        gather_windows(as_array(x), *ctx.how, as_array(out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        from unheard.model.cpu.frames import scatter_windows

        of_x = gradient.new_empty(ctx.frames)
        scatter_windows(as_array(gradient), *ctx.how, as_array(of_x))
        return of_x, None, None, None


# What follows an affine map in every layer: its bias, ReLU, batch normalisation and dropout.
#
# As PyTorch's operations these read and write the frames some fifteen times a training step; the kernels do it in five.


def affine_relu_norm_dropout(x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm1d, dropout: Dropout) -> Tensor:
    """dropout(norm(relu(x Wᵀ + b))): `x` (N, inputs), `weight` (outputs, inputs), `bias` (outputs,) -> (N, outputs)."""
    if _serve(x, norm, dropout):
        return _activate(x @ weight.t(), bias, 0.0, norm, dropout)
    return cast(Tensor, dropout(norm(linear(x, weight, bias).relu())))


def norm_dropout(x: Tensor, norm: nn.Module, dropout: Dropout) -> Tensor:
    """dropout(norm(x)): (N, C) -> (N, C)."""
    if isinstance(norm, nn.BatchNorm1d) and _serve(x, norm, dropout):
        return _activate(x, x.new_zeros(x.shape[1]), -math.inf, norm, dropout)
    return cast(Tensor, dropout(norm(x)))


def _serve(x: Tensor, norm: nn.BatchNorm1d, dropout: Dropout) -> bool:
    """Whether the kernels can: they are for training, where the batch gives the statistics."""
    return norm.training and dropout.training and len(x) > 1 and norm.momentum is not None and kernels_serve(x)


def _activate(y: Tensor, bias: Tensor, floor: float, norm: nn.BatchNorm1d, dropout: Dropout) -> Tensor:
    from unheard.model.cpu.frames import statistics

    count, channels = y.shape
    mean, squares = np.empty(channels), np.empty(channels)
    statistics(as_array(y), as_array(bias), np.float32(floor), mean, squares)
    _follow(norm, mean, squares / (count - 1))
    deviation = np.sqrt(squares / count + norm.eps)
    random, kept = dropout.random_bytes(y) or (torch.empty((0, channels), dtype=torch.uint8), 256)
    return cast(
        Tensor,
        _Activation.apply(  # type: ignore[no-untyped-call]
            y, bias, norm.weight, norm.bias, floor, mean.astype(np.float32), deviation.astype(np.float32), random, kept
        ),
    )


def _follow(norm: nn.BatchNorm1d, mean: Any, variance: Any) -> None:
    """Let the running statistics follow a batch's, as PyTorch's batch norm does."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked.add_(1)
    for running, of_batch in ((norm.running_mean, mean), (norm.running_var, variance)):
        running.mul_(1.0 - norm.momentum).add_(torch.from_numpy(of_batch).to(running.dtype), alpha=norm.momentum)


class _Activation(torch.autograd.Function):
    """weight · (r - mean) / deviation + shift with r = max(y + bias, floor), dropped where the random byte says so.

    `y` (N, C); the others (C,) or, the `random` bytes, (N, C). Mean and deviation are the batch's own: the gradient
    of `y` goes through them. It cannot be differentiated twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        bias: Tensor,
        weight: Tensor,
        shift: Tensor,
        floor: float,
        mean: Any,
        deviation: Any,
        random: Tensor,
        kept: int,
    ) -> Tensor:
        from unheard.model.cpu.frames import activate

        scale = np.float32(256.0 / kept)
        slope = as_array(weight) / deviation * scale
        offset = as_array(shift) * scale - mean * slope
        out = torch.empty_like(y, memory_format=torch.contiguous_format)
        activate(as_array(y), as_array(bias), np.float32(floor), slope, offset, random.numpy(), kept, as_array(out))
        ctx.save_for_backward(y, bias, random)
        ctx.rest = np.float32(floor), mean, deviation, slope, scale, kept
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from unheard.model.cpu.frames import activation_gradient, activation_sums

        y, bias, random = ctx.saved_tensors
        floor, mean, deviation, slope, scale, kept = ctx.rest
        frames, channels = y.shape
        before = as_array(y), as_array(bias), floor, mean, random.numpy(), kept, as_array(gradient)
        total, along, of_bias = np.empty(channels), np.empty(channels), np.empty(channels)
        activation_sums(*before, total, along)
        level = (slope * total / frames).astype(np.float32)
        tilt = (slope * along / (frames * deviation.astype(np.float64) ** 2)).astype(np.float32)
        of_y = torch.empty_like(y, memory_format=torch.contiguous_format)
        activation_gradient(*before, slope, level, tilt, as_array(of_y), of_bias)
        of_weight, of_shift = along * scale / deviation, total * scale
        sums = (torch.from_numpy(values.astype(np.float32)) for values in (of_bias, of_weight, of_shift))
        return (of_y, *sums, None, None, None, None, None)


# Dropout whose masks come from a random stream of their own.


class Dropout(nn.Module):
    """Inverted dropout whose masks come from a random stream of its own.

    The stream is handed over by `use_stream`; without one the default generator serves. On a CPU a mask costs
    one random byte an element, so the drop probability is a multiple of 1/256 there (0.5 is exact) and the
    scale is that multiple's: the expectation is unbiased. Elsewhere the device's own kernel is used.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"a drop probability lies in [0, 1), not {p}")
        self.p = p
        self.generator: torch.Generator | None = None

    def extra_repr(self) -> str:
        """The drop probability, for printing."""
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        """Any shape in, the same shape out."""
        if not self.training or self.p == 0.0:
            return x
        if x.device.type != "cpu":
            keep = torch.empty_like(x).bernoulli_(1.0 - self.p, generator=self.generator)
            return x * keep.div_(1.0 - self.p)
        drawn = self.random_bytes(x)
        if drawn is None:
            return x
        random, kept = drawn
        return x * (random < kept).to(x.dtype).mul_(256.0 / kept)

    def random_bytes(self, x: Tensor) -> tuple[Tensor, int] | None:
        """A random byte for each number of `x`, uint8, and how many of 256 keep it; None where nothing is dropped."""
        kept = max(1, round(256 * (1.0 - self.p)))
        if kept == 256:  # which no byte can be compared with
            return None
        words = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int32)
        # [-2^31, 2^31): all 32 bits are random, read as four bytes each
        words.random_(-(2**31), 2**31 - 1, generator=self.generator)
        return words.view(torch.uint8)[: x.numel()].view(x.shape), kept


def use_stream(module: nn.Module, generator: torch.Generator) -> None:
    """Let every `Dropout` inside `module` draw its masks from `generator`."""
    for layer in module.modules():
        if isinstance(layer, Dropout):
            layer.generator = generator
