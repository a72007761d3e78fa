"""Statistics pooling: from frames to one vector an utterance."""

from __future__ import annotations

import torch
from torch import Tensor

from unheard.training.layers import Frames

VARIANCE_FLOOR = 1e-5
"""Below this a variance counts as this: the square root keeps a finite slope."""


def mean_std_pooling(frames: Frames) -> Tensor:
    """Mean and standard deviation over each utterance's valid frames: (N, C) -> (B, 2C), mean first.

    The deviation is the biased one (divided by the number of frames), its variance floored at
    `VARIANCE_FLOOR`; the "Statistics Pooling" of Table 1.
    """
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
