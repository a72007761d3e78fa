"""How a network is trained: every knob, with the paper's values as defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from unheard.errors import ConfigError


@dataclass(frozen=True)
class Recipe:
    """The paper's recipe: SGD with Nesterov momentum 0.9, constant learning rate 1e-3, 100 epochs.

    The batch size is not in the paper; 32 is ours. `readouts` are earlier numbers of epochs whose
    results are wanted too, as if the training had stopped there (the learning rate is constant, so a long training
    contains the shorter one). `precision` is `fp32` or `bf16`.
    """

    epochs: int = 100
    batch_size: int = 32
    lr: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    precision: str = "fp32"
    readouts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        checks = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 3,  # pairs would leave one of an odd number alone: no batch norm
            "lr": 0 < self.lr < math.inf,
            "momentum": 0 <= self.momentum < 1,
            "weight_decay": 0 <= self.weight_decay < math.inf,
            "precision": self.precision in ("fp32", "bf16"),
            "readouts": all(r >= 1 for r in self.readouts),
        }
        for field in fields(self):
            if not checks.get(field.name, True):
                raise ConfigError(
                    f"recipe setting {field.name} = {getattr(self, field.name)} is out of range",
                    mend="See `unheard experiment --help` for what it may be.",
                )
        if self.nesterov and self.momentum == 0:
            raise ConfigError("Nesterov needs a momentum", mend="Set momentum above 0, or nesterov to false.")

    @property
    def budgets(self) -> tuple[int, ...]:
        """The numbers of epochs whose results are wanted, ascending; the last is `epochs`."""
        return tuple(sorted({r for r in self.readouts if r < self.epochs} | {self.epochs}))
