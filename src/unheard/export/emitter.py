"""Writing an ONNX graph node by node: names are made up, constants are kept, the caller writes what is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper


class Emitter:
    """Collects nodes and constants; every value is known by its name.

    `emit("Relu", x)` appends a node and returns the name of its output.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def __call__(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Append a node with one output; `name` is the output's, made up where it is empty."""
        output = name or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def weight(self, name: str, values: ArrayLike) -> str:
        """A float32 constant under a name of its own."""
        if name in self.constants:
            raise ValueError(f"two constants are called '{name}'")
        self.constants[name] = np.ascontiguousarray(values, np.float32)
        return name

    def scalar(self, value: float) -> str:
        """A float32 scalar, kept once however often it is asked for."""
        return self._shared(f"float_{value:g}", np.array(value, np.float32))

    def whole(self, *values: int, alone: bool = False) -> str:
        """An int64 vector (axes, a shape), or with `alone` an int64 scalar; kept once."""
        name = "_".join(["int" if alone else "ints", *map(str, values)])
        return self._shared(name, np.array(values[0] if alone else values, np.int64))

    def _shared(self, name: str, value: NDArray[Any]) -> str:
        self.constants.setdefault(name, value)
        return name

    def initializers(self) -> list[onnx.TensorProto]:
        """The constants as ONNX keeps them."""
        return [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
