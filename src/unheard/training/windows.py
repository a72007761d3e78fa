"""The windows a time-delay layer looks through, of the valid frames of a batch."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unheard.training.compiled import as_array, kernels_serve
from unheard.training.frames import Frames


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
        from unheard.training.frame_kernels import gather_windows

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
        from unheard.training.frame_kernels import scatter_windows

        of_x = gradient.new_empty(ctx.frames)
        scatter_windows(as_array(gradient), *ctx.how, as_array(of_x))
        return of_x, None, None, None
