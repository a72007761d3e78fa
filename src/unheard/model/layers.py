"""Layers on the valid frames of a batch.

A padded batch (B, T, F) is converted once to its valid frames, utterance after utterance: (N, F). Layers see only
these, so padding cannot change an output. Batch normalisation over (N, C) is the ordinary one, a TDNN is a matrix
product over windows of frames, pooling is a sum over segments.

This module is plain PyTorch; if `cpu.kernels_serve` allows it, compiled kernels compute the same values faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from unheard.model.cpu import kernels_serve

VARIANCE_FLOOR = 1e-5  # lower bound of a pooled variance, which keeps the slope of the square root finite


@dataclass(frozen=True)
class Frames:
    """The valid frames of a batch: `values` (N, C), and the number of frames of each utterance, `lengths` (B,)."""

    values: Tensor
    lengths: Tensor

    @property
    def starts(self) -> Tensor:
        """Index of the first frame of each utterance, (B,) int64."""
        return torch.cumsum(self.lengths, 0) - self.lengths

    @property
    def owner(self) -> Tensor:
        """Index of the utterance that each frame belongs to, (N,) int64."""
        return torch.repeat_interleave(self.lengths)

    def position(self) -> Tensor:
        """Return the position of each frame in its utterance, from 0: (N,) int64."""
        owner = self.owner
        return torch.arange(len(owner), device=owner.device) - self.starts[owner]


def valid_frames(x: Tensor, lengths: Tensor, at_least: int = 1) -> Frames:
    """Return the valid frames (N, F) of a padded batch `x` (B, T, F) with `lengths` (B,).

    An utterance shorter than `at_least` frames repeats its edge frames up to that number, evenly on both sides and once
    more on the right if the number is odd; repeated frames count as valid.
    """
    target = Frames(x, lengths.clamp(min=at_least))
    owner, place = target.owner, target.position()
    missing = torch.div(target.lengths - lengths, 2, rounding_mode="floor")
    source = torch.minimum((place - missing[owner]).clamp(min=0), lengths[owner] - 1)
    return Frames(x.flatten(0, 1).index_select(0, owner * x.shape[1] + source), target.lengths)  # (N, F)


class TDNN(nn.Module):
    """Time-delay layer N-K-D: affine over K frames spaced D apart, then ReLU, batch norm, dropout.

    Equivalent to `Conv1d(F, N, K, dilation=D)` on valid frames: (N, F) -> (N', outputs). `padding` "valid" (the default
    of Kaldi and PyTorch) shortens each utterance by D(K-1) frames; "same" keeps its length by zeros on both sides.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, dilation: int, dropout: float, padding: str = "valid"
    ) -> None:
        super().__init__()
        self.kernel, self.dilation, self.padding = kernel, dilation, padding
        self.affine = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)  # only its parameters are used
        self.norm = nn.BatchNorm1d(outputs)
        self.dropout = Dropout(dropout)

    @property
    def shortens(self) -> int:
        """Number of frames by which an utterance is shortened."""
        return 0 if self.padding == "same" else self.dilation * (self.kernel - 1)

    def forward(self, frames: Frames) -> Frames:
        """Map (N, inputs) to (N', outputs)."""
        span = self.dilation * (self.kernel - 1)
        if self.padding == "same":
            frames = _with_zeros(frames, span // 2, span - span // 2)
        taps = self.affine.weight.transpose(1, 2).flatten(1)  # (outputs, K * inputs)
        assert self.affine.bias is not None
        columns = windows(frames, self.kernel, self.dilation)  # (N', at least K * inputs)
        taps = pad(taps, (0, columns.shape[1] - taps.shape[1]))
        y = affine_relu_norm_dropout(columns, taps, self.affine.bias, self.norm, self.dropout)  # (N', outputs)
        return Frames(y, frames.lengths - span)


def _with_zeros(frames: Frames, left: int, right: int) -> Frames:
    lengths = frames.lengths + left + right
    values = frames.values.new_zeros((int(lengths.sum()), frames.values.shape[1]))
    starts = torch.cumsum(lengths, 0) - lengths + left
    return Frames(values.index_copy(0, starts[frames.owner] + frames.position(), frames.values), lengths)


def windows(frames: Frames, taps: int, dilation: int) -> Tensor:
    """Return every window of `taps` frames, `dilation` apart, within an utterance: (N, C) -> (N', taps * C).

    An utterance of T frames has T - dilation (taps - 1) windows. The kernels append zeros up to a multiple of 8
    columns, which speeds up the matrix product by up to a half.
    """
    x, lengths = frames.values, frames.lengths
    if kernels_serve(x):
        from unheard.model.cpu import frames as kernels

        return kernels.windows(x, lengths, taps, dilation)
    span = dilation * (taps - 1)
    first = (frames.position() < (lengths - span)[frames.owner]).nonzero()  # (N', 1)
    rows = first + torch.arange(0, span + 1, dilation, device=x.device)  # (N', taps)
    return x.index_select(0, rows.flatten()).view(len(rows), -1)


class Dense(nn.Module):
    """Fully connected layer: affine, ReLU, batch norm, dropout; (N, inputs) -> (N, outputs)."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.affine = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs) to (N, outputs)."""
        return affine_relu_norm_dropout(x, self.affine.weight, self.affine.bias, self.norm, self.dropout)


def affine_relu_norm_dropout(x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm1d, dropout: Dropout) -> Tensor:
    """Compute dropout(norm(relu(x Wᵀ + b))): (N, inputs) -> (N, outputs); `weight` is (outputs, inputs)."""
    if _activation_kernel_serves(x, norm, dropout):
        from unheard.model.cpu.frames import activation

        y = x @ weight.t()
        return activation(y, bias, 0.0, norm, dropout.random_bytes(y))
    return cast(Tensor, dropout(norm(linear(x, weight, bias).relu())))


def norm_dropout(x: Tensor, norm: nn.Module, dropout: Dropout) -> Tensor:
    """Compute dropout(norm(x)): (N, C) -> (N, C)."""
    if isinstance(norm, nn.BatchNorm1d) and _activation_kernel_serves(x, norm, dropout):
        from unheard.model.cpu.frames import activation

        return activation(x, x.new_zeros(x.shape[1]), -math.inf, norm, dropout.random_bytes(x))
    return cast(Tensor, dropout(norm(x)))


def _activation_kernel_serves(x: Tensor, norm: nn.BatchNorm1d, dropout: Dropout) -> bool:
    """Return whether a kernel can compute this: only in training, with the statistics of the batch."""
    return norm.training and dropout.training and len(x) > 1 and norm.momentum is not None and kernels_serve(x)


class BiLSTM(nn.Module):
    """Bidirectional LSTM or GRU over each utterance's valid frames: (N, inputs) -> (N, 2 * cells).

    Forward states come first. The two directions are separate layers. The backward one starts at the last valid frame
    of each utterance, so neither reads padding before a valid frame, and no packing is needed.
    """

    def __init__(self, inputs: int, cells: int, cell: str = "lstm") -> None:
        super().__init__()
        make = nn.LSTM if cell == "lstm" else nn.GRU
        self.ahead = make(inputs, cells)
        self.back = make(inputs, cells)

    def forward(self, frames: Frames) -> Tensor:
        """Map (N, inputs) to (N, 2 * cells)."""
        if isinstance(self.ahead, nn.LSTM) and kernels_serve(frames.values, cells=self.ahead.hidden_size):
            from unheard.model.cpu.lstm import recur

            projected, weights = [], []
            for lstm in (self.ahead, self.back):
                of_input, of_state, bias, more_bias = lstm.all_weights[0]
                projected.append(linear(frames.values, of_input, bias + more_bias))  # (N, 4 * cells)
                weights.append(of_state.t().contiguous())  # (cells, 4 * cells)
            return recur(projected, weights, frames.lengths)
        x, lengths = frames.values, frames.lengths
        batch, longest = len(lengths), int(lengths.max())
        owner, place = frames.owner, frames.position()
        grid = place * batch + owner  # index of each frame in a (T, B) grid
        mirrored = (lengths[owner] - 1 - place) * batch + owner
        blank = x.new_zeros((longest * batch, x.shape[1]))
        ahead, _ = self.ahead(blank.index_copy(0, grid, x).view(longest, batch, -1))  # (T, B, cells)
        back, _ = self.back(blank.index_copy(0, mirrored, x).view(longest, batch, -1))
        return torch.cat([ahead.flatten(0, 1)[grid], back.flatten(0, 1)[mirrored]], 1)  # (N, 2 * cells)


class AttentivePooling(nn.Module):
    """Attentive statistics pooling (Okabe et al. 2018): (N, C) -> (B, 2C).

    Mean and standard deviation of each utterance's frames h_t, weighted by α_t = softmax_t(vᵀ tanh(W h_t + b)). The
    paper's offset k is omitted: it does not change the softmax. The variance is floored as in `mean_std_pooling`.
    """

    statistics = 2
    """Width of the output in units of C."""

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.affine = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, frames: Frames) -> Tensor:
        """Map (N, C) to (B, 2C)."""
        scores = self.score(self.affine(frames.values).tanh()).squeeze(1)  # (N,)
        owner, batch = frames.owner, len(frames.lengths)
        highest = scores.new_full((batch,), -math.inf).scatter_reduce(0, owner, scores.detach(), "amax")
        weights = (scores - highest[owner]).exp().unsqueeze(1)  # (N, 1)
        weights = weights / sum_frames(weights, frames)[owner]
        mean = sum_frames(weights * frames.values, frames)
        variance = sum_frames(weights * (frames.values - mean[owner]).square(), frames)
        return torch.cat([mean, variance.clamp(min=VARIANCE_FLOOR).sqrt()], dim=1)


def mean_std_pooling(frames: Frames) -> Tensor:
    """Compute the mean and standard deviation of each utterance's frames (Table 1): (N, C) -> (B, 2C).

    The variance is biased (divided by the number of frames) and floored at `VARIANCE_FLOOR`.
    """
    if kernels_serve(frames.values):
        from unheard.model.cpu import frames as kernels

        return kernels.pooling(frames.values, frames.lengths, VARIANCE_FLOOR)
    count = frames.lengths.to(frames.values.dtype).unsqueeze(1)
    mean = sum_frames(frames.values, frames) / count
    centred = frames.values - mean.index_select(0, frames.owner)
    variance = sum_frames(centred * centred, frames) / count
    return torch.cat([mean, variance.clamp(min=VARIANCE_FLOOR).sqrt()], dim=1)


def sum_frames(values: Tensor, frames: Frames) -> Tensor:
    """Sum `values` (N, C) over each utterance's frames: (B, C)."""
    wide = torch.promote_types(values.dtype, torch.float32)  # a bf16 sum stops growing after a few hundred frames
    sums = values.new_zeros((len(frames.lengths), values.shape[1]), dtype=wide)
    return sums.index_add(0, frames.owner, values.to(wide))


class Dropout(nn.Module):
    """Inverted dropout whose masks come from a separate random stream, set by `use_stream`.

    Without a stream, the default generator is used. On a CPU a mask takes one random byte per element, so the drop
    probability is rounded to a multiple of 1/256 (0.5 is exact); the scale follows the rounded value, so that the
    expectation is unbiased. On other devices, PyTorch's dropout is used.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"the drop probability must be in [0, 1), not {p}")
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout to a tensor of any shape."""
        if not self.training or self.p == 0.0:
            return x
        if x.device.type != "cpu":
            keep = torch.empty_like(x).bernoulli_(1.0 - self.p, generator=self.generator)
            return x * keep.div_(1.0 - self.p)
        if (drawn := self.random_bytes(x)) is None:
            return x
        random, kept = drawn
        return x * (random < kept).to(x.dtype).mul_(256.0 / kept)

    def random_bytes(self, x: Tensor) -> tuple[Tensor, int] | None:
        """Return a random byte (uint8) for each element of `x`, and how many of 256 keep it; None without dropout."""
        kept = max(1, round(256 * (1.0 - self.p)))
        if kept == 256:  # not representable as a byte
            return None
        words = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int32)
        # [-2^31, 2^31): all 32 bits are random, and read as four bytes
        words.random_(-(2**31), 2**31 - 1, generator=self.generator)
        return words.view(torch.uint8)[: x.numel()].view(x.shape), kept


def use_stream(module: nn.Module, generator: torch.Generator) -> None:
    """Let every `Dropout` in `module` draw its masks from `generator`."""
    for layer in module.modules():
        if isinstance(layer, Dropout):
            layer.generator = generator


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Suspend updates of the running statistics of the batch norms in `module`, which otherwise normalise as usual."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
