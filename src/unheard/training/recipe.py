"""The settings of a training, with the paper's values as defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from unheard.errors import ConfigError
from unheard.features.settings import Columns
from unheard.settings import check, setting

Decision = Literal["likeliest", "both", "even"]
DECISIONS = get_args(Decision)

AS_WRITTEN = "as written"
REESTIMATED = "batch norm re-estimated"
"""The two evaluations of a training; `TrainingSettings.batchnorm` selects them."""

START = 1 / 25  # the first learning rate of a one-cycle schedule, as a share of the highest; Smith and Topin 2018


def _half_cosine(share: float) -> float:
    """Rise from 0 to 1 along half a cosine, level at both ends."""
    return (1 - math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the changes by `unheard.training.augment` to training utterances; 0 turns a change off."""

    tract: float = setting(
        0.0, "Vocal tract length: stretch the mel bands by a factor drawn from 1 ± this.", ge=0, le=0.5
    )
    colour: float = setting(
        0.0, "Voice and microphone: standard deviation of random smooth curves added to the mel bands.", ge=0, le=100
    )
    pitch: float = setting(
        0.0, "Standard deviation of a random shift of log F0, in standard deviations of log F0.", ge=0, le=100
    )
    pace: float = setting(0.0, "Tempo: resample the frames by a factor drawn from 1 ± this.", ge=0, le=0.5)
    time_masks: int = setting(0, "Number of masks over time, each of fewer than 20 frames.", ge=0, le=100)
    band_masks: int = setting(0, "Number of masks over mel bands, each of at most 7 bands.", ge=0, le=100)

    def __post_init__(self) -> None:
        check(self)

    @property
    def on(self) -> bool:
        """Whether anything is changed."""
        return any(getattr(self, field.name) for field in fields(self))

    def check(self, columns: Columns) -> None:
        """Raise `ConfigError` where the features lack the columns that these settings change."""
        bands = columns.bands, "mel bands without deltas", "--features.kind fbank --features.deltas 0"
        pitch = columns.log_f0, "log F0 as it is", "--features.pitch --features.log-pitch both"
        needed = {"tract": bands, "colour": bands, "band_masks": bands, "pitch": pitch}
        for name, (column, what, flags) in needed.items():
            if getattr(self, name) and column is None:
                mend = f"Choose {flags}, or set --training.augment.{name.replace('_', '-')} 0."
                raise ConfigError(f"augmentation {name} needs features with {what}", mend=mend)


@dataclass(frozen=True)
class TrainingSettings:
    """The paper's recipe: SGD with Nesterov momentum 0.9, constant learning rate 1e-3, 100 epochs.

    The paper gives no batch size; 32 is ours. AdamW (Loshchilov and Hutter 2019) has no momentum setting and decays
    weight matrices only. The one-cycle schedule (Smith and Topin 2018) rises from a 25th of `lr` to `lr` and falls to
    0, both along half a cosine. Raises `ConfigError` for values out of range or that contradict each other.
    """

    epochs: int = setting(
        100,
        "Epochs of each training; a longer run continues a shorter one, unless a schedule depends on the length.",
        ge=1,
        common=True,
    )
    updates: int | None = setting(
        None,
        "Largest number of updates: on large training sets it limits the number of epochs (default: no limit).",
        ge=1,
    )
    # batches of 2 would leave a single utterance if their number is odd: no batch norm
    batch_size: int = setting(32, "Utterances in a batch.", ge=3, common=True)
    lr: float = setting(1e-3, "Learning rate; with a schedule, the highest.", gt=0, common=True)
    momentum: float = setting(0.9, "sgd: momentum.", ge=0, lt=1)
    nesterov: bool = setting(True, "sgd: use Nesterov momentum.")
    weight_decay: float = setting(0.0, "sgd: L2 penalty; adamw: decoupled decay of weight matrices.", ge=0)
    precision: Literal["fp32", "bf16"] = setting("fp32", "bf16: automatic mixed precision.")
    report_epochs: tuple[int, ...] = setting(
        (), "Also report results after these epochs, as if the training had ended there."
    )
    optimizer: Literal["sgd", "adamw"] = setting("sgd", "Optimiser.")
    schedule: Literal["constant", "onecycle"] = setting("constant", "Schedule of the learning rate.")
    warmup: float = setting(0.2, "onecycle: share of all updates during which the learning rate rises.", ge=0, lt=1)
    label_smoothing: float = setting(
        0.0, "Probability that is taken from the true emotion and spread over all emotions.", ge=0, lt=1
    )
    class_weights: Literal["none", "balanced"] = setting(
        "none", "balanced: every emotion has the same total weight in the loss, however rare it is."
    )
    sampling: Literal["once", "balanced"] = setting(
        "once",
        "once: an epoch has every utterance once; balanced: as many are drawn, each emotion of each corpus as often.",
    )
    select: Literal["best", "last"] = setting("best", "Epoch to use: the best on the validation speakers, or the last.")
    augment: Augmentation = setting(Augmentation, "Augmentation: random changes of the voice of training utterances.")
    copies: int = setting(
        0,
        "Number of augmented copies of each recording (voice, microphone, room, noise, telephone) to train on as well; "
        "each has a feature store of its own.",
        ge=0,
        le=100,
    )
    networks: int = setting(
        1,
        "Number of networks to train independently, each with its own initial weights and batches, and to join in one "
        "network that averages their logits (needs linear heads, and neither TDNN nor recurrent layer).",
        ge=1,
        le=100,
    )
    enrol: float = setting(
        0.0,
        "Share of training utterances that are normalised with other utterances of their speaker (enrolment).",
        ge=0,
        le=1,
    )
    batchnorm: Literal["running", "reestimate", "both"] = setting(
        "running",
        "Batch-norm statistics in evaluation: running averages, re-estimated without dropout, or both (two results).",
    )
    decision: Decision = setting(
        "likeliest",
        "Decision rule: likeliest, the most probable emotion; even, maximise UAR; both, maximise (WA + UAR) / 2.",
    )

    def __post_init__(self) -> None:
        check(self)
        if any(epochs < 1 for epochs in self.report_epochs):
            raise ConfigError(f"report_epochs = {self.report_epochs} is out of range", mend="Give at least 1.")
        if self.nesterov and self.momentum == 0 and self.optimizer == "sgd":
            raise ConfigError("Nesterov needs a momentum", mend="Set momentum above 0, or nesterov to false.")
        if self.schedule == "constant" and self.warmup != TrainingSettings.warmup:
            what = f"warmup = {self.warmup} has no effect with a constant learning rate"
            raise ConfigError(what, mend="Add training.schedule onecycle, or leave out training.warmup.")
        paper = (TrainingSettings.momentum, TrainingSettings.nesterov)
        if self.optimizer == "adamw" and (self.momentum, self.nesterov) != paper:
            mend = "Leave out training.momentum and training.nesterov, or choose training.optimizer sgd."
            raise ConfigError("momentum and nesterov are settings of sgd", mend=mend)
        if self.decision != "likeliest" and "balanced" in (self.class_weights, self.sampling):
            what = f"balanced class weights or sampling and decision {self.decision} would both compensate"
            mend = "Set training.decision likeliest, or training.class-weights none and training.sampling once."
            raise ConfigError(f"{what} for rare emotions", mend=mend)
        if not self.extensible and any(epochs < self.epochs for epochs in self.report_epochs):
            what = "a training with a learning-rate schedule does not contain a shorter one"
            raise ConfigError(what, mend="Leave out training.report-epochs, or choose the constant schedule.")

    def limited(self, utterances: int) -> TrainingSettings:
        """Return the settings for so many training utterances, with the epochs that `updates` allow, at least 1."""
        if self.updates is None:
            return self
        return replace(self, epochs=min(self.epochs, math.ceil(self.updates / self.steps(utterances))))

    def steps(self, utterances: int) -> int:
        """Return the number of updates in an epoch of so many utterances."""
        return math.ceil(utterances / self.batch_size)

    @property
    def evaluations(self) -> tuple[str, ...]:
        """The evaluations of a training, by their names in tables."""
        both = (AS_WRITTEN, REESTIMATED)
        return {"running": both[:1], "reestimate": both[1:]}.get(self.batchnorm, both)

    @property
    def extensible(self) -> bool:
        """Whether a longer training contains a shorter one: no step depends on the length."""
        return self.schedule == "constant"

    def lr_at(self, progress: float) -> float:
        """Return the learning rate at `progress` (0 to 1) of the training."""
        if self.schedule == "constant":
            return self.lr
        if progress < self.warmup:
            return self.lr * (START + (1 - START) * _half_cosine(progress / self.warmup))
        return self.lr * (1 - _half_cosine((progress - self.warmup) / (1 - self.warmup)))

    @property
    def budgets(self) -> tuple[int, ...]:
        """The numbers of epochs to report, ascending; the last is `epochs`."""
        return tuple(sorted({epochs for epochs in self.report_epochs if epochs < self.epochs} | {self.epochs}))


def follows_a_schedule(options: Mapping[str, Any], schedule: str) -> bool:
    """Return whether a training depends on its length, so that a longer one does not continue it.

    `options` are those of its strategy, `schedule` that of its learning rate.
    """
    return schedule != "constant" or options.get("schedule", "constant") != "constant" or bool(options.get("warmup"))
