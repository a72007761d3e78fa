"""How a network is trained: every knob, with the paper's values as defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from unheard.errors import ConfigError
from unheard.training.augment import Augmentation

SELECT = ("best", "last")
STATISTICS = ("running", "anew", "both")
DECISIONS = ("likeliest", "both", "even")

START = 1 / 25
"""The share of the highest learning rate that a cycle begins with; Smith and Topin's."""


def _half_cosine(share: float) -> float:
    """From 0 to 1, level at both ends."""
    return (1 - math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Recipe:
    """The paper's recipe: SGD with Nesterov momentum 0.9, constant learning rate 1e-3, 100 epochs.

    The batch size is not in the paper; 32 is ours. `readouts` are earlier numbers of epochs whose
    results are wanted too, as if the training had stopped there (the learning rate is constant, so a long training
    contains the shorter one). `precision` is `fp32` or `bf16`.

    `optimizer` `adamw` (Loshchilov and Hutter 2019) leaves momentum and Nesterov aside and decays weight matrices only.
    `schedule` `onecycle` (Smith and Topin 2018) warms up over the share `warmup` of all steps, from a 25th of `lr` to
    `lr`, and then falls to nothing, both along half a cosine. `label_smoothing` moves that share of each emotion's
    probability to all of them. `class_weights` `balanced` gives every emotion the same say in the loss, however many
    utterances it has. `select` says whose weights are read out: those of the `best` epoch on the validation
    speakers, or of the `last`, which needs nobody to judge. `augment` invents speakers (see `augment.py`); `enrol` is
    the share of utterances that are heard as if some others of their speaker had been heard before (see `enrol.py`).
    `statistics` are those of batch norm in evaluation: the `running` ones of training, or re-estimated (`anew`) without
    dropout, in validation too, or `both`: as `running`, and the last epoch re-estimated (see `trainer.py`).
    `decision` is the decision rule: the `likeliest` emotion, `even`, for UAR, or `both`, for the mean of WA and UAR
    (see `metrics.py`).
    """

    epochs: int = 100
    batch_size: int = 32
    lr: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    precision: str = "fp32"
    readouts: tuple[int, ...] = ()
    optimizer: str = "sgd"
    schedule: str = "constant"
    warmup: float = 0.2
    label_smoothing: float = 0.0
    class_weights: str = "none"
    select: str = "best"
    augment: Augmentation = field(default_factory=Augmentation)
    enrol: float = 0.0
    statistics: str = "running"
    decision: str = "likeliest"

    def __post_init__(self) -> None:
        checks = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 3,  # pairs would leave one of an odd number alone: no batch norm
            "lr": 0 < self.lr < math.inf,
            "momentum": 0 <= self.momentum < 1,
            "weight_decay": 0 <= self.weight_decay < math.inf,
            "precision": self.precision in ("fp32", "bf16"),
            "readouts": all(r >= 1 for r in self.readouts),
            "optimizer": self.optimizer in ("sgd", "adamw"),
            "schedule": self.schedule in ("constant", "onecycle"),
            "warmup": 0 <= self.warmup < 1,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "class_weights": self.class_weights in ("none", "balanced"),
            "enrol": 0 <= self.enrol <= 1,
            "select": self.select in SELECT,
            "statistics": self.statistics in STATISTICS,
            "decision": self.decision in DECISIONS,
        }
        for knob in fields(self):
            if not checks.get(knob.name, True):
                raise ConfigError(
                    f"recipe setting {knob.name} = {getattr(self, knob.name)} is out of range",
                    mend="See `unheard experiment --help` for what it may be.",
                )
        if self.nesterov and self.momentum == 0 and self.optimizer == "sgd":
            raise ConfigError("Nesterov needs a momentum", mend="Set momentum above 0, or nesterov to false.")
        if self.schedule == "constant" and self.warmup != Recipe.warmup:
            raise ConfigError(
                f"warmup = {self.warmup} is of a schedule, and a constant learning rate has none to warm up",
                mend="Add training.schedule onecycle, or leave out training.warmup.",
            )
        if self.optimizer == "adamw" and (self.momentum, self.nesterov) != (Recipe.momentum, Recipe.nesterov):
            raise ConfigError(
                "momentum and nesterov are of sgd; adamw has two momenta of its own",
                mend="Leave out training.momentum and training.nesterov, or choose training.optimizer sgd.",
            )
        if self.class_weights == "balanced" and self.decision != "likeliest":
            raise ConfigError(
                f"class_weights balanced and decision {self.decision} would both make up for how rare an emotion is",
                mend="Set training.decision to likeliest, or training.class-weights to none.",
            )
        if not self.extensible and any(r < self.epochs for r in self.readouts):
            raise ConfigError(
                "a training whose learning rate follows a schedule holds no shorter one",
                mend="Leave out training.readouts, or choose the constant schedule.",
            )

    @property
    def extensible(self) -> bool:
        """Whether a longer training contains a shorter one: its steps do not depend on how long it will be."""
        return self.schedule == "constant"

    def lr_at(self, progress: float) -> float:
        """The learning rate at `progress` (0 to 1) of the training."""
        if self.schedule == "constant":
            return self.lr
        if progress < self.warmup:
            return self.lr * (START + (1 - START) * _half_cosine(progress / self.warmup))
        return self.lr * (1 - _half_cosine((progress - self.warmup) / (1 - self.warmup)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe from plain values, as JSON or YAML give them; what is not named is at its default."""
        chosen = dict(values)
        chosen["readouts"] = tuple(chosen.get("readouts", ()))
        chosen["augment"] = Augmentation(**chosen.get("augment", {}))
        return cls(**chosen)

    @property
    def budgets(self) -> tuple[int, ...]:
        """The numbers of epochs whose results are wanted, ascending; the last is `epochs`."""
        return tuple(sorted({r for r in self.readouts if r < self.epochs} | {self.epochs}))


def follows_a_schedule(options: Mapping[str, Any], schedule: str) -> bool:
    """Whether a training depends on how long it is going to be, so that a longer one does not continue it.

    By the options of its strategy, or by the schedule of its learning rate.
    """
    return schedule != "constant" or options.get("schedule", "constant") != "constant" or bool(options.get("warmup"))
