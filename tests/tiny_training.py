"""A tiny training task, and assertions that two trainings are equal to the bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unheard.model.network import NetworkSettings
from unheard.training.batches import Dataset
from unheard.training.evaluation import Scores
from unheard.training.recipe import TrainingSettings
from unheard.training.strategies import Batch, Strategy, StrategyConfig, build
from unheard.training.trainer import Evaluation, Trainer

F, C, S = 4, 3, 3
NETWORK = NetworkSettings(tdnn=((6, 5, 2), (5, 3, 4)), lstm=8, dense=6, hidden=(5, 5))
OPTIONS = {"dat": {"lam": 0.5, "schedule": "ganin"}}  # one that needs to know how far the training is
CPU = torch.device("cpu")


class InMemory:
    """Frames in a dictionary, with a list of what was read."""

    def __init__(self, arrays: dict[str, NDArray[np.float32]]) -> None:
        self.arrays, self.read = arrays, list[str]()

    def length(self, utterance: str) -> int:
        return len(self.arrays[utterance])

    def __getitem__(self, utterance: str) -> NDArray[np.float32]:
        self.read.append(utterance)
        return self.arrays[utterance]


def tiny(utterances: int = 26) -> tuple[Dataset, InMemory]:
    """Emotions that differ in mean and speakers that differ in slope, under noise."""
    random = np.random.default_rng(0)
    arrays, y, s = {}, {}, {}
    for i in range(utterances):
        name = f"u{i:02}"
        y[name], s[name] = i % C, (i // C) % S
        length = int(random.integers(3, 30))
        noise = random.standard_normal((length, F))
        arrays[name] = (noise + 0.5 * y[name] + np.linspace(0, s[name], length)[:, None]).astype(np.float32)
    frames = InMemory(arrays)
    return Dataset(frames, y, s), frames


IDS = [f"u{i:02}" for i in range(26)]
TRAIN, DEV, TEST = IDS[:14], tuple(IDS[14:20]), tuple(IDS[20:])
Directions = Mapping[str, tuple[Sequence[str], Sequence[str]]]
ONE: Directions = {"test": (DEV, TEST)}
BOTH: Directions = {"female": (DEV, TEST), "male": (TEST, DEV)}


def strategy(key: str, dropout: float = 0.5, cells: int = NETWORK.lstm) -> Strategy:
    config = StrategyConfig(F, C, S, NetworkSettings(**{**vars(NETWORK), "dropout": dropout, "lstm": cells}), 0)
    return build(key, config, OPTIONS.get(key))


def trainer(
    key: str,
    folder: Path,
    directions: Directions = ONE,
    *,
    on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
    cells: int = NETWORK.lstm,
    lr: float = 0.05,
) -> Trainer:
    recipe = TrainingSettings(epochs=4, batch_size=5, lr=lr)
    model = strategy(key, cells=cells)
    return Trainer(model, tiny()[0], TRAIN, directions, recipe, folder, key=(0, 0), on_epoch=on_epoch)


def figures(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A history without durations."""
    return [{name: v for name, v in record.items() if "seconds" not in name} for record in history]


def assert_same_tensors(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def assert_same_scores(one: Scores, other: Scores) -> None:
    assert one.ids == other.ids
    for name in ("truth", "logits", "embeddings"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def assert_same(one: Trainer, other: Trainer) -> None:
    """Everything a training is made of, equal to the bit."""
    assert one.epoch == other.epoch
    assert_same_tensors(one.strategy.state_dict(), other.strategy.state_dict())
    assert_same_tensors(one.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"])
    streams = other.strategy.streams()
    assert one.strategy.streams().keys() == streams.keys()
    for name, stream in one.strategy.streams().items():
        assert torch.equal(stream.get_state(), streams[name].get_state()), name
    assert figures(one.history) == figures(other.history)
    for name, best in one.best.items():
        assert (best.epoch, best.wa) == (other.best[name].epoch, other.best[name].wa)
        assert_same_tensors(best.weights, other.best[name].weights)


def assert_same_evaluations(one: Sequence[Evaluation], other: Sequence[Evaluation]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.direction, a.epochs, a.best_epoch) == (b.direction, b.epochs, b.best_epoch)
        assert_same_scores(a.dev, b.dev)
        assert_same_scores(a.test, b.test)


@final
class Scripted(Strategy):
    """Right about the first so many utterances of a list, how many depends on the epoch: a visible selection.

    Its frames hold (position in the list, truth); one step an epoch is counted in a buffer, which is restored with
    the weights.
    """

    clock: Tensor

    def __init__(self, right: Sequence[int]) -> None:
        super().__init__(StrategyConfig(2, 2, 2, NETWORK, 0))
        self.right = right
        self.register_buffer("clock", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.clock += 1
        return {"emotion": 0.0 * sum(p.sum() for p in self.parameters())}

    def logits(self, x: Tensor, lengths: Tensor, profile: Tensor | None = None) -> tuple[Tensor, Tensor]:
        place, truth = x[:, 0, 0], x[:, 0, 1].long()
        right = place < self.right[int(self.clock) - 1]
        return torch.eye(2)[torch.where(right, truth, 1 - truth)], self.clock.expand(len(x), 1).float()


def scripted(right: Sequence[int], folder: Path) -> tuple[Trainer, InMemory]:
    """Four validation and four test utterances, `right[epoch - 1]` of each classified right."""
    y = {f"{part}{i}": i % 2 for part in ("train", "dev", "test") for i in range(4)}
    frames = InMemory({name: np.array([[int(name[-1]), truth]] * 2, np.float32) for name, truth in y.items()})
    train, dev, test = ([name for name in y if name.startswith(part)] for part in ("train", "dev", "test"))
    recipe = TrainingSettings(epochs=len(right))
    return Trainer(Scripted(right), Dataset(frames, y, {}), train, {"test": (dev, test)}, recipe, folder), frames
