"""The data both baselines train on: random features at IEMOCAP's shape, or one fold of real features.

Shapes: T frames, F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FRAMES_PER_SECOND = 100
FEATURES = 39
EMOTIONS = 4
RECEPTIVE_FIELD = 17  # frames that the two convolutions need for one output

UTTERANCES = 2400  # the training side of one fold of IEMOCAP's improvised dialogues
MEDIAN_SECONDS = 3.4
SHORTEST_SECONDS, LONGEST_SECONDS = 0.6, 29.0
# The longest of 2,400 draws then lies at 29 s by itself (3.3 standard deviations), so the clip hardly bites.
LOG_SPREAD = 0.65


@dataclass(frozen=True)
class Part:
    """Utterances and their emotions: `features` a list of float32 (T, F), `emotions` int64 (N,)."""

    features: list[Tensor]
    emotions: Tensor

    def __len__(self) -> int:
        return len(self.features)

    @property
    def frames(self) -> int:
        """Valid frames in one pass over this part."""
        return sum(len(x) for x in self.features)


@dataclass(frozen=True)
class Data:
    """One fold: what trains, and, for real data, what chooses the epoch and what is scored at it."""

    train: Part
    dev: Part | None = None
    test: Part | None = None


class Features(Protocol):
    """Anything that gives (T, F) for an id: an opened .npz, a dictionary, a feature store."""

    def __getitem__(self, id: str, /) -> Any: ...


def draw_lengths(utterances: int = UTTERANCES, seed: int = 0) -> NDArray[np.int64]:
    """Draw lengths in frames, int64 (utterances,): log-normal, median 3.4 s, clipped to 0.6 .. 29 s."""
    rng = np.random.default_rng(seed)
    seconds = MEDIAN_SECONDS * np.exp(LOG_SPREAD * rng.standard_normal(utterances))
    seconds = np.clip(seconds, SHORTEST_SECONDS, LONGEST_SECONDS)
    return np.round(seconds * FRAMES_PER_SECOND).astype(np.int64)


def random_data(utterances: int = UTTERANCES, seed: int = 0) -> Data:
    """Random features and emotions at IEMOCAP's lengths: for speed only, there is nothing in it to learn."""
    generator = torch.Generator().manual_seed(seed)
    lengths = draw_lengths(utterances, seed).tolist()
    features = [torch.randn(frames, FEATURES, generator=generator) for frames in lengths]
    return Data(Part(features, torch.randint(EMOTIONS, (utterances,), generator=generator)))


def fold_data(features: Features, rows: Iterable[Mapping[str, str]]) -> Data:
    """Real features of one fold, normalised by the mean and variance of its training side.

    `rows` carry `id`, `emotion` and `part` (train, dev or test). An emotion's index is its place in the
    alphabetical order of the training side's. Utterances shorter than the receptive field repeat their edges.
    Raises ValueError where no row trains, or an emotion or a part is unknown.
    """
    rows = list(rows)
    unknown = {row["part"] for row in rows} - {"train", "dev", "test"}
    if unknown:
        raise ValueError(f"part is one of train, dev, test; found {sorted(unknown)}")
    emotions = sorted({row["emotion"] for row in rows if row["part"] == "train"})
    if not emotions:
        raise ValueError("no row has part = train")
    unseen = {row["emotion"] for row in rows} - set(emotions)
    if unseen:
        raise ValueError(f"emotions {sorted(unseen)} are in no training row")
    loaded = {row["id"]: np.asarray(features[row["id"]], np.float32) for row in rows}

    train_frames = np.concatenate([loaded[row["id"]] for row in rows if row["part"] == "train"])
    mean = train_frames.mean(axis=0, dtype=np.float64)
    deviation = np.maximum(train_frames.std(axis=0, dtype=np.float64), 1e-8)

    def part(name: str) -> Part | None:
        chosen = [row for row in rows if row["part"] == name]
        if not chosen:
            return None
        normalised = (((loaded[row["id"]] - mean) / deviation).astype(np.float32) for row in chosen)
        return Part(
            [torch.from_numpy(_at_least_one_output(x)) for x in normalised],
            torch.tensor([emotions.index(row["emotion"]) for row in chosen]),
        )

    train = part("train")
    assert train is not None
    return Data(train, part("dev"), part("test"))


def _at_least_one_output(x: NDArray[np.float32]) -> NDArray[np.float32]:
    missing = max(0, RECEPTIVE_FIELD - len(x))
    return np.pad(x, ((missing // 2, missing - missing // 2), (0, 0)), mode="edge")
