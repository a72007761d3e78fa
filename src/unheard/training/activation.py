"""What follows an affine map in every layer: its bias, ReLU, batch normalisation and dropout.

As PyTorch's operations these read and write the frames some fifteen times a training step; the kernels do it in five.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from unheard.training.compiled import as_array, kernels_serve
from unheard.training.dropout import Dropout


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
    from unheard.training.frame_kernels import statistics

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
        from unheard.training.frame_kernels import activate

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
        from unheard.training.frame_kernels import activation_gradient, activation_sums

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
