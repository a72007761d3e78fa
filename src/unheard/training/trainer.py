"""The loop: it trains whichever strategy it is given, and never learns which.

    epoch -> validate -> remember the best -> (now and then) checkpoint -> ... -> score the test once

A training is exact to the bit on a CPU: killed and started again it gives the numbers of one never killed.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unheard.errors import TrainingError
from unheard.files import write_text, write_whole
from unheard.training.batches import Task
from unheard.training.batchnorm import statistics_anew
from unheard.training.device import autocast
from unheard.training.metrics import decided, macro_f1, unweighted_average_recall, weighted_accuracy, worth
from unheard.training.recipe import READING, Recipe
from unheard.training.strategies import Strategy

CHECKPOINT_SECONDS = 20.0
"""A checkpoint is written when this much work would be lost without one, and at the end."""

LATE = 5
"""A best epoch among the last so many says that the training could have gone on."""


@dataclass
class Best:
    """The best epoch so far of one reading: its validation accuracy and the weights it had."""

    epoch: int = 0
    wa: float = -1.0
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """Utterances that choose the epoch (`dev`) and those scored once, at that epoch (`test`)."""

    name: str
    dev: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Readout:
    """What a training of `epochs` epochs came to for one reading."""

    reading: str
    epochs: int
    best_epoch: int
    dev: Scores
    test: Scores
    chosen: bool = True
    """Whether validation speakers chose the epoch; else it is the last."""

    @property
    def under_trained(self) -> bool:
        """Whether validation was still getting better: the best epoch is among the last five."""
        return self.chosen and self.best_epoch > self.epochs - LATE and self.epochs > LATE


class Trainer:
    """One training: its strategy, optimiser, history and best epochs, in a folder it can be resumed from.

    `train` are the ids trained on; `key` seeds the order of the batches (say fold and seed, never the
    strategy, so that systems are compared in pairs).
    """

    def __init__(
        self,
        strategy: Strategy,
        task: Task,
        train: Sequence[str],
        readings: Sequence[Reading],
        recipe: Recipe,
        folder: Path,
        *,
        key: tuple[object, ...] = (),
        device: torch.device | None = None,
        on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        if len(train) < 2:
            raise TrainingError("there are fewer than two utterances to train on", mend="Check the split.")
        for reading in readings:
            if not reading.dev or not reading.test:
                raise TrainingError(
                    f"reading '{reading.name}' has nobody to validate on or to test", mend="Check the split."
                )
        self.device = device or torch.device("cpu")
        self.strategy = strategy.place(self.device)
        self.task, self.train_ids, self.readings, self.recipe = task, tuple(train), tuple(readings), recipe
        self.folder, self.key, self.on_epoch = folder, key, on_epoch
        self.optimizer = make_optimizer(strategy, recipe)
        self.epoch = 0
        self.best = {reading.name: Best() for reading in readings}
        self.history: list[dict[str, Any]] = []
        self._saved_at = time.monotonic()

    def run(self, until: int) -> list[Readout]:
        """Train up to epoch `until` and score the test of every reading at its best epoch so far."""
        while self.epoch < until:
            self._one_epoch()
            if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
                self.save()
        self.save()
        return [self._read_out(reading) for reading in self.readings]

    def _one_epoch(self) -> None:
        began = time.perf_counter()
        self.strategy.train()
        steps = math.ceil(len(self.train_ids) / self.recipe.batch_size)
        sums: dict[str, float] = {}
        frames = 0
        parameters = list(self.strategy.parameters())
        batches = self.task.epoch(self.train_ids, self.recipe.batch_size, *self.key, self.epoch)
        for step, batch in enumerate(batches):
            progress = (self.epoch + step / steps) / self.recipe.epochs
            self.strategy.progress = progress
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.lr_at(progress)
            frames += int(batch.lengths.sum())
            batch = batch.to(self.device)
            with autocast(self.device, self.recipe.precision):
                terms = self.strategy(batch)
            loss = torch.stack(list(terms.values())).sum()
            if not torch.isfinite(loss):
                said = f"the loss became {float(loss.detach())} in epoch {self.epoch + 1}, step {step + 1}"
                raise self._diverged(said)
            self.optimizer.zero_grad(set_to_none=True)
            # The parameters' gradients alone: a strategy may have needed those of the input, but only on its way.
            loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
            self.optimizer.step()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + float(term.detach())
        self.epoch += 1
        trained = time.perf_counter() - began
        record: dict[str, Any] = {"epoch": self.epoch, "steps": steps}
        record |= {f"loss_{name}": total / steps for name, total in sums.items()}
        record |= self.strategy.observations()
        record |= self._validate()
        record |= {"frames": frames, "train_seconds": trained, "seconds": time.perf_counter() - began}
        self.history.append(record)
        if self.on_epoch is not None:
            self.on_epoch(record)

    def _validate(self) -> dict[str, Any]:
        """Score every reading's validation speakers; keep the weights of the epoch that `select` asks for."""
        figures: dict[str, Any] = {}
        with self._in_use():
            for reading in self.readings:
                scores = self._score(reading.dev)
                if not np.isfinite(scores.logits).all():
                    raise self._diverged(f"what the network says is no number after epoch {self.epoch}")
                best = self.best[reading.name]
                if self.recipe.select == "last" or scores.wa > best.wa:  # strictly: the earliest epoch wins a tie
                    weights = {k: v.detach().cpu().clone() for k, v in self.strategy.state_dict().items()}
                    self.best[reading.name] = Best(self.epoch, scores.wa, weights)
                suffix = "" if len(self.readings) == 1 else f"_{reading.name}"
                figures |= {
                    f"val_wa{suffix}": scores.wa,
                    f"val_uar{suffix}": scores.uar,
                    f"val_loss{suffix}": scores.loss,
                }
        return figures

    def _diverged(self, said: str) -> TrainingError:
        return TrainingError(
            said,
            where=self.folder,
            mend="Lower the learning rate (--training.lr), λ or ε; check the features with `unheard doctor`.",
        )

    def _in_use(self) -> AbstractContextManager[object]:
        """The network as it would be used now."""
        use = ExitStack()
        if self.recipe.statistics == "anew":
            size, precision = self.recipe.batch_size, self.recipe.precision
            use.enter_context(
                statistics_anew(self.strategy, self.task, self.train_ids, size, device=self.device, precision=precision)
            )
        if self.recipe.decision != "likeliest":
            head = self.strategy.emotion
            counts = np.bincount([self.task.y[name] for name in self.train_ids], minlength=head.output.out_features)
            use.enter_context(decided(head, worth(self.recipe.decision, counts.tolist())))
        return use

    def _score(self, ids: Sequence[str]) -> Scores:
        return score(self.strategy, self.task, ids, device=self.device, precision=self.recipe.precision)

    def _read_out(self, reading: Reading) -> Readout:
        """The one place where test utterances are scored: with the weights of the best or the last epoch."""
        now = {k: v.detach().clone() for k, v in self.strategy.state_dict().items()}
        best = self.best[reading.name]
        self.strategy.load_state_dict(best.weights)
        try:
            dev, test = self._score(reading.dev), self._score(reading.test)
        finally:
            self.strategy.load_state_dict(now)
        return Readout(reading.name, self.epoch, best.epoch, dev, test, self.recipe.select == "best")

    def save(self) -> None:
        """Write the checkpoint and the history, each in one step."""
        state = {
            "whose": self._whose(),
            "epoch": self.epoch,
            "weights": self.strategy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "streams": {name: s.get_state() for name, s in self.strategy.streams().items()},
            "best": {n: {"epoch": b.epoch, "wa": b.wa, "weights": b.weights} for n, b in self.best.items()},
            "history": json.dumps(self.history),
        }
        whole = io.BytesIO()  # torch's own writer reports a full disk as a RuntimeError
        torch.save(state, whole)
        write_whole(self.folder / "checkpoint.pt", lambda path: path.write_bytes(whole.getbuffer()))
        lines = "".join(json.dumps(record) + "\n" for record in self.history)
        write_text(self.folder / "history.jsonl", lines)
        self._saved_at = time.monotonic()

    def _whose(self) -> str:
        """What a checkpoint must agree on to be gone on with; the number of epochs may differ."""
        deciding = asdict(replace(self.recipe, epochs=1 if self.recipe.extensible else self.recipe.epochs, readouts=()))
        for name, first in (("statistics", "running"), ("decision", "likeliest")):
            if deciding[name] == first:  # not known to checkpoints from before there was a choice
                del deciding[name]
        parts = {"strategy": type(self.strategy).__name__, "key": list(map(str, self.key)), "recipe": deciding}
        return json.dumps(parts, sort_keys=True)

    def resume(self) -> bool:
        """Go on from the folder's checkpoint; False where there is none.

        Only tensors and plain values are read (`weights_only`): no code runs from a checkpoint. Raises `TrainingError`
        for one that is damaged or of another training.
        """
        path = self.folder / "checkpoint.pt"
        for leftover in self.folder.glob(".*.tmp"):  # of a process killed while it wrote
            leftover.unlink(missing_ok=True)
        if not path.exists():
            return False
        self._load(path, lambda whose: whose == self._whose(), "Delete it to train this one anew.")
        return True

    def take_over(self, folder: Path) -> None:
        """Go on from the checkpoint of another folder: of this very training, read in another way there.

        Its recipe may differ in `READING` alone. The best epoch there was is not the best one here: the last weights
        are judged anew, and the histories of before say nothing of validation. Raises `TrainingError` as `resume`.
        """
        path = folder / "checkpoint.pt"
        self._load(path, lambda whose: _steps(whose) == _steps(self._whose()), "Leave out --weights-from to train.")
        self.best = {name: Best() for name in self.best}
        self.history = [{k: v for k, v in record.items() if not k.startswith("val_")} for record in self.history]
        if self.history:
            self.history[-1] |= self._validate()

    def _load(self, path: Path, ours: Callable[[str], bool], mend: str) -> None:
        """Take over the state that a checkpoint holds, if it is one of `ours`."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if not ours(state["whose"]):
                raise ValueError(f"it belongs to {state['whose']}, this is {self._whose()}")
            self.strategy.load_state_dict(state["weights"])
            self.optimizer.load_state_dict(state["optimizer"])
            for name, stream in self.strategy.streams().items():
                stream.set_state(state["streams"][name])
            self.best = {name: Best(**state["best"][name]) for name in self.best}
            self.history = json.loads(state["history"])
            self.epoch = int(state["epoch"])
        except Exception as error:
            raise TrainingError(
                f"the checkpoint cannot be used ({type(error).__name__}: {error})",
                where=path,
                mend=mend,
            ) from error


def _steps(whose: str) -> dict[str, Any]:
    """What of a checkpoint's `whose` decides the steps of its training."""
    parts: dict[str, Any] = json.loads(whose)
    return parts | {"recipe": {name: value for name, value in parts["recipe"].items() if name not in READING}}


# The optimiser a recipe asks for.


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD over all parameters, or AdamW, whose decay spares biases and the weights of batch norm."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.lr)


# Logits of a network on a list of utterances, and what they are worth.


@dataclass(frozen=True)
class Scores:
    """What a network said of `ids`, in their order: `truth` (n,), `logits` (n, C), `embeddings` (n, E)."""

    ids: tuple[str, ...]
    truth: NDArray[np.int64]
    logits: NDArray[np.float32]
    embeddings: NDArray[np.float32]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The likeliest emotion of each utterance (n,); the first one on a tie."""
        return np.asarray(self.logits.argmax(axis=1), np.int64)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the logits (n, C)."""
        shifted = np.exp(self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

    @property
    def wa(self) -> float:
        """Weighted accuracy."""
        return weighted_accuracy(self.truth, self.predicted)

    @property
    def uar(self) -> float:
        """Unweighted average recall."""
        return unweighted_average_recall(self.truth, self.predicted, self.logits.shape[1])

    @property
    def macro_f1(self) -> float:
        """Macro-averaged F1."""
        return macro_f1(self.truth, self.predicted, self.logits.shape[1])

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        chosen = self.probabilities[np.arange(len(self.truth)), self.truth]
        return float(-np.log(np.maximum(chosen, 1e-300)).mean())


@torch.no_grad()
def score(
    strategy: Strategy,
    task: Task,
    ids: Sequence[str],
    *,
    device: torch.device,
    precision: str = "fp32",
    size: int = 64,
    voices: Mapping[str, NDArray[np.float32]] | None = None,
) -> Scores:
    """Evaluate `strategy` on `ids` in evaluation mode; the mode it was in is restored.

    `voices` gives for each utterance what is known of its speaker's voice (V,).
    """
    was_training = strategy.training
    strategy.eval()
    logits: NDArray[np.float32] | None = None
    embeddings: NDArray[np.float32] | None = None
    for positions, batch in task.in_order(ids, size):
        batch = batch.to(device)
        with autocast(device, precision):
            voice = None
            if voices is not None:
                voice = torch.from_numpy(np.stack([voices[ids[i]] for i in positions])).to(device)
            out, e = strategy.logits(batch.x, batch.lengths, voice)
        if logits is None or embeddings is None:
            logits = np.empty((len(ids), out.shape[1]), np.float32)
            embeddings = np.empty((len(ids), e.shape[1]), np.float32)
        logits[positions] = out.float().cpu().numpy()
        embeddings[positions] = e.float().cpu().numpy()
    strategy.train(was_training)
    if logits is None or embeddings is None:
        raise ValueError("no utterance to score")
    truth = np.array([task.y[name] for name in ids])
    return Scores(tuple(ids), truth, logits, embeddings)
