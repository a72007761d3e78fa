"""Layers that work on the valid frames of a batch and on nothing else.

A padded batch (B, T, F) is laid out once as its valid frames, utterance after utterance: (N, F). Every later
layer sees only those, so padding cannot change an answer: there is none. Batch normalisation over (N, C) is
the plain one, a TDNN is a sum of matrix products over shifted windows, pooling is a sum over segments.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from unheard.training import recurrence
from unheard.training.activation import affine_relu_norm_dropout
from unheard.training.dropout import Dropout, use_stream
from unheard.training.frames import Frames, valid_frames
from unheard.training.windows import windows

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
