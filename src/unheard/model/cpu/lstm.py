"""The recurrence of a bidirectional LSTM on ragged frames (N, C), without padding, gathering or flipping.

`torch.nn.LSTM` needs a padded copy. Here the utterances advance in parallel, longest first, so that step t processes
only utterances longer than t. Non-recurrent operations (products with the inputs, gradients of the weights) are single
large matrix products. The steps are compiled by numba on first use and cached on disk. Sums are taken in a fixed order,
so the same frames give the same bits, independently of the rest of the batch.

Shapes: N frames of a batch, H cells; an utterance's step t is row `first + t * stride`. Sizes are constants for the
compiler, which vectorises the loops over cells; a kernel must not capture anything else, or numba would not find it in
the cache.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from unheard.model.cpu import as_array

# mypy: allow-untyped-defs, allow-untyped-calls

TILE = 64  # rows and columns of the tiles in which weights are multiplied: 16 KiB, which fit in the first-level cache

# "contract" fuses multiplications with additions; other "fast" flags would reorder sums or lose NaN.
HOW: dict[str, Any] = {"fastmath": {"contract", "nsz"}, "error_model": "numpy", "nogil": True}

ONE, TWO, HALF = np.float32(1), np.float32(2), np.float32(0.5)
LOG2_E, LN_2 = np.float32(1 / np.log(2)), np.float32(np.log(2))
LOWEST, HIGHEST = np.float32(-126), np.float32(127)  # exponents of normal numbers
C3, C4, C5, C6 = (np.float32(1 / n) for n in (6, 24, 120, 720))


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile `function`; the machine code is cached on disk if a folder is writable."""
    try:
        return njit(cache=True, **HOW)(function)  # type: ignore[no-any-return]
    except RuntimeError:
        return njit(**HOW)(function)  # type: ignore[no-any-return]


@njit(inline="always", **HOW)
def exp(x):
    """Compute exp(x) as 2^n by bits times a Taylor series, to 2e-7 of 1 / (1 + exp(x)); NaN stays NaN."""
    y = x * LOG2_E
    n = np.floor(y + HALF)
    r = (y - n) * LN_2
    series = ONE + r * (ONE + r * (HALF + r * (C3 + r * (C4 + r * (C5 + r * C6)))))
    n = n if n > LOWEST else LOWEST
    n = n if n < HIGHEST else HIGHEST
    return series * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(inline="always", **HOW)
def sigmoid(x):
    """Compute 1 / (1 + exp(-x))."""
    return ONE / (ONE + exp(-x))


@njit(inline="always", **HOW)
def tanh(x):
    """Compute tanh(x) = 2 sigmoid(2x) - 1."""
    return TWO / (ONE + exp(-TWO * x)) - ONE


@njit(inline="always", **HOW)
def product(a, b, out, rows, inner, outer, tile):
    """Compute out[:rows] = a[:rows] @ b, of (., inner) and (inner, outer).

    Rows are processed in pairs, an odd last one with a spare row, with eight products per pass over a tile's columns:
    scalars stay in registers, and columns are vectors.
    """
    for k0 in range(0, inner, tile):
        for j0 in range(0, outer, tile):
            for m in range(0, rows, 2):
                if k0 == 0:
                    for j in range(j0, j0 + tile):
                        out[m, j] = 0.0
                        out[m + 1, j] = 0.0
                for k in range(k0, k0 + tile, 4):
                    a0, a1, a2, a3 = a[m, k], a[m, k + 1], a[m, k + 2], a[m, k + 3]
                    b0, b1, b2, b3 = a[m + 1, k], a[m + 1, k + 1], a[m + 1, k + 2], a[m + 1, k + 3]
                    for j in range(j0, j0 + tile):
                        w0, w1, w2, w3 = b[k, j], b[k + 1, j], b[k + 2, j], b[k + 3, j]
                        out[m, j] = out[m, j] + a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3
                        out[m + 1, j] = out[m + 1, j] + b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3


@lru_cache
def forward_kernel(cells: int) -> Callable[..., None]:
    """Return the forward kernel: it turns projected (N, 4H) into gates, and fills states (N, 2H) and memory (2, N, 2H).

    It writes from column `at` on. Memory contains c and tanh c; without `keep` it has one row.
    """
    H, gates4, tile = cells, 4 * cells, min(cells, TILE)

    @compiled
    def forward(projected, weight, states, memory, first, active, stride, at, keep):
        spare = len(first) + 1
        hidden = np.zeros((spare, H), np.float32)
        cell = np.zeros((spare, H), np.float32)
        recurrent = np.empty((spare, gates4), np.float32)
        for t in range(len(active)):
            product(hidden, weight, recurrent, active[t], H, gates4, tile)
            for m in range(active[t]):
                row = first[m] + t * stride
                kept = row if keep else 0
                gate, add, c, h = projected[row], recurrent[m], cell[m], hidden[m]
                out = states[row, at : at + H]
                c_kept, tanh_kept = memory[0, kept, at : at + H], memory[1, kept, at : at + H]
                for j in range(H):
                    i = sigmoid(gate[j] + add[j])
                    f = sigmoid(gate[H + j] + add[H + j])
                    g = tanh(gate[2 * H + j] + add[2 * H + j])
                    o = sigmoid(gate[3 * H + j] + add[3 * H + j])
                    gate[j], gate[H + j], gate[2 * H + j], gate[3 * H + j] = i, f, g, o
                    new = f * c[j] + i * g
                    squashed = tanh(new)
                    c[j] = new
                    h[j] = o * squashed
                    c_kept[j] = new
                    tanh_kept[j] = squashed
                    out[j] = o * squashed

    return forward


@lru_cache
def backward_kernel(cells: int) -> Callable[..., None]:
    """Return the backward kernel: gradients of `projected` from gates (N, 4H), memory and gradients (N, 2H) of states.

    `weight` is W_hh as in PyTorch, (4H, H).
    """
    H, gates4, tile = cells, 4 * cells, min(cells, TILE)

    @compiled
    def backward(gates, weight, memory, gradient, of_gates, first, active, stride, at):
        spare = len(first) + 1
        of_hidden = np.zeros((spare, H), np.float32)
        of_cell = np.zeros((spare, H), np.float32)
        of_gate = np.zeros((spare, gates4), np.float32)
        nothing = np.zeros(H, np.float32)
        for t in range(len(active) - 1, -1, -1):
            for m in range(active[t]):
                row = first[m] + t * stride
                gate, d, e_before, c_before = gates[row], of_gate[m], of_hidden[m], of_cell[m]
                came_from = memory[0, row - stride, at : at + H] if t > 0 else nothing
                squashed, e_out = memory[1, row, at : at + H], gradient[row, at : at + H]
                for j in range(H):
                    i, f, g, o = gate[j], gate[H + j], gate[2 * H + j], gate[3 * H + j]
                    e = e_before[j] + e_out[j]
                    s = squashed[j]
                    c = c_before[j] + e * o * (ONE - s * s)
                    d[j] = c * g * i * (ONE - i)
                    d[H + j] = c * came_from[j] * f * (ONE - f)
                    d[2 * H + j] = c * i * (ONE - g * g)
                    d[3 * H + j] = e * s * o * (ONE - o)
                    c_before[j] = c * f
                of_gates[row] = d
            if t > 0:
                product(of_gate, weight, of_hidden, active[t], gates4, H, tile)

    return backward


# The recurrence as an autograd function.


class Walk(NamedTuple):
    """The order of one direction through a batch: the first row of each utterance, longest first.

    Step t of an utterance is row `first + t * stride`; at step t the first `active[t]` utterances continue.
    """

    first: NDArray[np.int64]
    active: NDArray[np.int64]
    stride: int


def walks(lengths: Tensor) -> tuple[Walk, Walk]:
    """Return the walks of both directions through concatenated utterances of `lengths` (B,)."""
    frames = lengths.numpy()
    ends = np.cumsum(frames)
    order = np.argsort(-frames, kind="stable")
    # active[t] = how many lengths exceed t
    active = len(frames) - np.searchsorted(np.sort(frames), np.arange(frames.max()), side="right")
    return Walk((ends - frames)[order], active, 1), Walk(ends[order] - 1, active, -1)


def recur(projected: Sequence[Tensor], weights: Sequence[Tensor], lengths: Tensor) -> Tensor:
    """Apply `Recurrence` in both directions; values for the backward pass are kept only if gradients are enabled."""
    return cast(Tensor, Recurrence.apply(*projected, *weights, lengths, torch.is_grad_enabled()))


class Recurrence(torch.autograd.Function):
    """h_t = LSTM(projected_t, h_t-1) in both directions: two (N, 4H) and two (H, 4H) -> (N, 2H), forward states first.

    `projected` = W_ih x + both biases, gates in PyTorch's order (i, f, g, o); it is overwritten with the gates' values.
    `weight` is W_hh transposed. It must not be a leaf: otherwise autograd cannot tell whether its gradient is needed
    (cross-gradient training needs only the gradient of the input). It cannot be differentiated twice.
    """

    @staticmethod
    def forward(
        ctx: Any, ahead: Tensor, back: Tensor, weight_ahead: Tensor, weight_back: Tensor, lengths: Tensor, keep: bool
    ) -> Tensor:
        """Compute states (N, 2H); `keep` stores values for the backward pass."""
        frames, cells = len(ahead), len(weight_ahead)
        states = ahead.new_empty((frames, 2 * cells))
        memory = ahead.new_empty((2, frames if keep else 1, 2 * cells))  # c and tanh c
        kernel = forward_kernel(cells)
        ways = walks(lengths)
        for at, (projected, weight) in enumerate(((ahead, weight_ahead), (back, weight_back))):
            kernel(*map(as_array, (projected, weight, states, memory)), *ways[at], at * cells, keep)
        if keep:
            ctx.save_for_backward(ahead, back, weight_ahead, weight_back, states, memory)
            ctx.ways, ctx.starts = ways, torch.cumsum(lengths, 0) - lengths
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Compute gradients of `projected`, and of weights if needed."""
        ahead, back, weight_ahead, weight_back, states, memory = ctx.saved_tensors
        gradient = gradient.contiguous()
        cells = len(weight_ahead)
        kernel = backward_kernel(cells)
        of_projected: list[Tensor] = []
        of_weight: list[Tensor | None] = []
        for at, (gates, weight) in enumerate(((ahead, weight_ahead), (back, weight_back))):
            of_gates = torch.empty_like(gates)
            rows = weight.t().contiguous()  # (4H, H)
            kernel(*map(as_array, (gates, rows, memory, gradient, of_gates)), *ctx.ways[at], at * cells)
            of_projected.append(of_gates)
            wanted = ctx.needs_input_grad[2 + at] and _is_wanted(ctx.next_functions[2 + at][0])
            of_weight.append(_before(states, ctx.starts, at, cells).t() @ of_gates if wanted else None)
        return (*of_projected, *of_weight, None, None)


def _is_wanted(node: Any) -> bool:
    """Return whether the running backward pass continues to `node`, which is not a leaf."""
    ask = getattr(torch._C, "_will_engine_execute_node", None)
    return ask is None or bool(ask(node))


def _before(states: Tensor, starts: Tensor, at: int, cells: int) -> Tensor:
    """Return the state before each frame, zero at the beginning of an utterance: (N, H)."""
    hidden = states[:, at * cells : (at + 1) * cells]
    if at == 0:
        return hidden.roll(1, 0).index_fill_(0, starts, 0.0)
    return hidden.roll(-1, 0).index_fill_(0, starts.roll(-1) - 1, 0.0)  # -1: the last frame of all
