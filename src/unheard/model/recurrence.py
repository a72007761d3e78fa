"""The LSTM's recurrence on a CPU, straight on the ragged frames (N, C): no padding, no gathering, no flipping.

`torch.nn.LSTM` wants a padded copy. Here the utterances advance side by side, longest first, so that step t touches
only those longer than t; everything that is no recurrence (the products with the inputs, the weights' gradients) stays
one large matrix product. The recurrence itself is in `kernels`, compiled by numba; where that is missing, `usable` says
so and `layers.BiLSTM` takes `torch.nn.LSTM`.

Each sum is taken in one fixed order, so the same frames give the same bits, whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from unheard.model.cpu import Array, kernels_serve

Indices = NDArray[np.int64]


def usable(x: Tensor, cells: int) -> bool:
    """Whether the kernels can serve `x` (N, C) and an LSTM of so many `cells`.

    Beside what every kernel needs they need whole vectors: the cells a multiple of 8, and of 64 above 64.
    """
    return kernels_serve(x) and cells % 8 == 0 and cells % min(cells, 64) == 0


@lru_cache
def _kernels(cells: int) -> tuple[Callable[..., None], Callable[..., None]]:
    from unheard.model.cpu.lstm import backward_kernel, forward_kernel

    return forward_kernel(cells), backward_kernel(cells)


class Walk(NamedTuple):
    """The order in which a batch is walked: per utterance, longest first, its first row and its length.

    Step t of an utterance is row `first + t * stride`; at step t the first `active[t]` utterances are still going.
    """

    first: Indices
    active: Indices
    stride: int


def walks(lengths: Tensor) -> tuple[Walk, Walk]:
    """The walks of both directions through utterances of `lengths` (B,) that lie one after another."""
    frames = lengths.numpy()
    ends = np.cumsum(frames)
    order = np.argsort(-frames, kind="stable")
    # active[t] = how many lengths exceed t
    active = len(frames) - np.searchsorted(np.sort(frames), np.arange(frames.max()), side="right")
    return Walk((ends - frames)[order], active, 1), Walk(ends[order] - 1, active, -1)


def recur(projected: Sequence[Tensor], weights: Sequence[Tensor], lengths: Tensor) -> Tensor:
    """`Recurrence` of both directions (see there); what its backward pass needs is kept only where there can be one."""
    keep = torch.is_grad_enabled()
    return cast(Tensor, Recurrence.apply(*projected, *weights, lengths, keep))  # type: ignore[no-untyped-call]


class Recurrence(torch.autograd.Function):
    """h_t = LSTM(projected_t, h_t-1) in both directions: two (N, 4H) and two (H, 4H) -> (N, 2H), forward states first.

    `projected` = W_ih x + both biases, gates in PyTorch's order (i, f, g, o); it is overwritten with the gates' values.
    `weight` is W_hh transposed; it must not be a leaf, for only then does autograd tell whether its gradient
    is asked for (cross-gradient training wants that of the input alone). It cannot be differentiated twice.
    """

    @staticmethod
    def forward(
        ctx: Any, ahead: Tensor, back: Tensor, weight_ahead: Tensor, weight_back: Tensor, lengths: Tensor, keep: bool
    ) -> Tensor:
        """Walk both directions; `keep` what the backward pass needs."""
        frames, cells = len(ahead), len(weight_ahead)
        states = ahead.new_empty((frames, 2 * cells))
        memory = ahead.new_empty((2, frames if keep else 1, 2 * cells))  # c and tanh c
        kernel = _kernels(cells)[0]
        ways = walks(lengths)
        for at, (projected, weight, walk) in enumerate(
            zip((ahead, back), (weight_ahead, weight_back), ways, strict=True)
        ):
            kernel(*map(_numpy, (projected, weight, states, memory)), *walk, at * cells, keep)
        if keep:
            ctx.save_for_backward(ahead, back, weight_ahead, weight_back, states, memory)
            ctx.ways, ctx.starts = ways, torch.cumsum(lengths, 0) - lengths
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of `projected` always; of a weight only where this pass asks for it."""
        ahead, back, weight_ahead, weight_back, states, memory = ctx.saved_tensors
        gradient = gradient.contiguous()
        cells = len(weight_ahead)
        kernel = _kernels(cells)[1]
        of_projected: list[Tensor] = []
        of_weight: list[Tensor | None] = []
        for at, (gates, weight) in enumerate(((ahead, weight_ahead), (back, weight_back))):
            of_gates = torch.empty_like(gates)
            rows = weight.t().contiguous()  # (4H, H)
            kernel(*map(_numpy, (gates, rows, memory, gradient, of_gates)), *ctx.ways[at], at * cells)
            of_projected.append(of_gates)
            wanted = ctx.needs_input_grad[2 + at] and _is_wanted(ctx.next_functions[2 + at][0])
            of_weight.append(_before(states, ctx.starts, at, cells).t() @ of_gates if wanted else None)
        return (*of_projected, *of_weight, None, None)


def _is_wanted(node: Any) -> bool:
    """Whether the running backward pass goes on to `node` (which is not a leaf's)."""
    ask = getattr(torch._C, "_will_engine_execute_node", None)
    return ask is None or bool(ask(node))


def _before(states: Tensor, starts: Tensor, at: int, cells: int) -> Tensor:
    """The state each frame came from, zero where an utterance begins: (N, H)."""
    own = states[:, at * cells : (at + 1) * cells]
    if at == 0:
        before = torch.cat([own[:1], own[:-1]])
        return before.index_fill_(0, starts, 0.0)
    before = torch.cat([own[1:], own[:1]])
    return before.index_fill_(0, torch.cat([starts[1:], starts[:1]]) - 1, 0.0)  # -1: the last frame of all


def _numpy(x: Tensor) -> Array:
    return cast(Array, x.detach().numpy())
