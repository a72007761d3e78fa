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

import torch
from torch import Tensor, nn

from unheard.training import recurrence


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
        kept_of_256 = max(1, round(256 * (1.0 - self.p)))
        if kept_of_256 == 256:  # which no byte can be compared with
            return x
        words = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int32)
        # [-2^31, 2^31): all 32 bits are random, read as four bytes each
        words.random_(-(2**31), 2**31 - 1, generator=self.generator)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) < kept_of_256
        return x * keep.to(x.dtype).mul_(256.0 / kept_of_256)


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


def use_stream(module: nn.Module, generator: torch.Generator) -> None:
    """Let every `Dropout` inside `module` draw its masks from `generator`."""
    for layer in module.modules():
        if isinstance(layer, Dropout):
            layer.generator = generator


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
        x, lengths = frames.values, frames.lengths - span
        windows = len(x) - span  # windows across two utterances are computed too, and dropped below
        taps = self.affine.weight  # (outputs, inputs, K)
        columns = torch.cat([x[k * self.dilation : k * self.dilation + windows] for k in range(self.kernel)], 1)
        y = nn.functional.linear(columns, taps.transpose(1, 2).flatten(1), self.affine.bias)
        inside = frames.position()[:windows] < lengths[frames.owner[:windows]]
        y = y.index_select(0, inside.nonzero().squeeze(1))
        return Frames(self.dropout(self.norm(y.relu())), lengths)


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
        return self.dropout(self.norm(self.affine(x).relu()))  # type: ignore[no-any-return]


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
