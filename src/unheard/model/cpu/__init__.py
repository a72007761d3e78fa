"""Kernels compiled by numba, and the switch that decides whether they replace PyTorch's operations."""

from functools import lru_cache
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]


def kernels_serve(x: Tensor, cells: int = 8) -> bool:
    """Return whether the kernels can compute on `x`: they need numba, and float32 on a CPU.

    The LSTM kernels need full vectors: `cells` must be a multiple of 8, and above 64 a multiple of 64.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and cells % 8 == 0
        and cells % min(cells, 64) == 0
        and not torch.is_autocast_enabled("cpu")
        and _numba_is_here()
    )


@lru_cache(maxsize=1)
def _numba_is_here() -> bool:
    try:
        from unheard.model.cpu import lstm  # noqa: F401
    except ImportError:  # not installed, or not built for this Python or numpy
        return False
    return True


def as_array(x: Tensor) -> Array:
    """Return `x` as a contiguous array, which shares memory if `x` is contiguous."""
    return cast(Array, x.detach().contiguous().numpy())
