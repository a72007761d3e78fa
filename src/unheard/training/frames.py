"""The valid frames of a batch laid end to end, and nothing else of it.

A padded batch (B, T, F) is laid out once as its valid frames, utterance after utterance: (N, F). Every later
layer sees only those, so padding cannot change an answer: there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
