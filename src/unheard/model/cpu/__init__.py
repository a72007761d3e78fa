"""Where kernels compiled by numba may stand in for PyTorch's operations."""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]


def kernels_serve(x: Tensor) -> bool:
    """Whether the kernels can work on `x`: they need numba, and float32 on a CPU.

    A network that is being traced or exported needs operations of PyTorch alone.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._get_tracing_state()
        and not torch.compiler.is_compiling()  # which exporting is a kind of
        and not torch.onnx.is_in_onnx_export()
        and _numba_is_here()
    )


@lru_cache(maxsize=1)
def _numba_is_here() -> bool:
    try:
        from unheard.model.cpu import lstm  # noqa: F401
    except ImportError:  # not there, or not made for this Python or numpy
        return False
    return True


def as_array(x: Tensor) -> Array:
    """The numbers of `x` as the kernels take them: contiguous, and shared where they are so already."""
    return cast(Array, x.detach().contiguous().numpy())
