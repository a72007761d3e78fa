"""Statistics pooling: from frames to one vector an utterance."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unheard.model.cpu import as_array, kernels_serve
from unheard.model.layers import Frames

VARIANCE_FLOOR = 1e-5
"""Below this a variance counts as this: the square root keeps a finite slope."""


def mean_std_pooling(frames: Frames) -> Tensor:
    """Mean and standard deviation over each utterance's valid frames: (N, C) -> (B, 2C), mean first.

    The deviation is the biased one (divided by the number of frames), its variance floored at
    `VARIANCE_FLOOR`; the "Statistics Pooling" of Table 1.
    """
    if kernels_serve(frames.values):
        return cast(Tensor, _Pooling.apply(frames.values, frames.lengths))  # type: ignore[no-untyped-call]
    count = frames.lengths.to(frames.values.dtype).unsqueeze(1)
    mean = sum_frames(frames.values, frames) / count
    centred = frames.values - mean.index_select(0, frames.owner)
    variance = sum_frames(centred * centred, frames) / count
    return torch.cat([mean, variance.clamp(min=VARIANCE_FLOOR).sqrt()], dim=1)


def sum_frames(values: Tensor, frames: Frames) -> Tensor:
    """Sum of `values` (N, C) over each utterance's frames: (B, C)."""
    wide = torch.promote_types(values.dtype, torch.float32)  # bf16 would stand still after a few hundred frames
    sums = values.new_zeros((len(frames.lengths), values.shape[1]), dtype=wide)
    return sums.index_add(0, frames.owner, values.to(wide))


class _Pooling(torch.autograd.Function):
    """`mean_std_pooling` by kernels; it cannot be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lengths: Tensor) -> Tensor:
        from unheard.model.cpu.frames import pool

        pooled = x.new_empty((len(lengths), 2 * x.shape[1]))
        pool(as_array(x), lengths.numpy(), np.float32(VARIANCE_FLOOR), as_array(pooled))
        ctx.save_for_backward(x, lengths, pooled)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        from unheard.model.cpu.frames import pool_gradient

        x, lengths, pooled = ctx.saved_tensors
        of_x = torch.empty_like(x)
        floor = np.float32(VARIANCE_FLOOR)
        pool_gradient(as_array(x), lengths.numpy(), floor, as_array(pooled), as_array(gradient), as_array(of_x))
        return of_x, None
