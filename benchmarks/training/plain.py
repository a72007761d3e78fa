"""The training loop a user would write first: random batches, padded, and a packed bidirectional LSTM.

It imports nothing from `unheard`: an independent implementation of the paper's network, to measure against.

    python -m benchmarks.training.plain --epochs 1

Shapes: B batch, T frames, N valid frames of a batch, F features, C channels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from benchmarks.training.shapes import EMOTIONS, FEATURES, Data, Part, random_data, read_fold

BATCH = 32
LEARNING_RATE = 1e-3
MOMENTUM = 0.9
VARIANCE_FLOOR = 1e-5

Batches = Callable[[Part, torch.Generator], Iterator[list[int]]]
History = list[dict[str, float]]


class OnValidFrames(nn.Module):
    """Apply a layer to the valid frames only, so that padding enters no statistic.

    forward((B, T, C), bool (B, T)) -> (B, T, C'), zero on padding.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        frames = self.layers(x[valid])  # (N, C')
        out: Tensor = frames.new_zeros(*valid.shape, frames.shape[-1])
        out[valid] = frames
        return out


class PackedBiLSTM(nn.Module):
    """A bidirectional LSTM over packed sequences: forward((B, T, C), (B,)) -> (B, T, 2·cells)."""

    def __init__(self, inputs: int, cells: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, cells, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])
        return out


class Network(nn.Module):
    """TDNN, BiLSTM, statistics pooling and the emotion head: forward((B, T, F), (B,)) -> logits (B, 4).

    Tu et al. 2019, Table 1, first column; each layer is affine, ReLU, batch norm, dropout.
    """

    def __init__(self, bilstm: Callable[[int, int], nn.Module] = PackedBiLSTM, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(FEATURES, 128, kernel_size=5, dilation=2)
        self.norm1 = OnValidFrames(nn.ReLU(), nn.BatchNorm1d(128), nn.Dropout(dropout))
        self.conv2 = nn.Conv1d(128, 64, kernel_size=3, dilation=4)
        self.norm2 = OnValidFrames(nn.ReLU(), nn.BatchNorm1d(64), nn.Dropout(dropout))
        self.bilstm = bilstm(64, 64)
        self.frame = OnValidFrames(
            *(nn.BatchNorm1d(128), nn.Dropout(dropout)),
            *(nn.Linear(128, 256), nn.ReLU(), nn.BatchNorm1d(256), nn.Dropout(dropout)),
        )
        self.head = nn.Sequential(
            *(nn.Linear(512, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Dropout(dropout)),
            *(nn.Linear(64, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Dropout(dropout)),
            nn.Linear(64, EMOTIONS),
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        # The convolutions are not padded: a valid output sees valid inputs only, and each shortens T by 8.
        x = self.conv1(x.transpose(1, 2)).transpose(1, 2)  # (B, T-8, 128)
        x = self.norm1(x, mask(lengths - 8, x.shape[1]))
        x = self.conv2(x.transpose(1, 2)).transpose(1, 2)  # (B, T-16, 64)
        lengths = lengths - 16
        valid = mask(lengths, x.shape[1])
        x = self.norm2(x, valid)
        x = self.bilstm(x, lengths)  # (B, T-16, 128)
        x = self.frame(x, valid)  # (B, T-16, 256)
        logits: Tensor = self.head(pool(x, valid))
        return logits


def mask(lengths: Tensor, frames: int) -> Tensor:
    """Where frames are valid: bool (B, frames)."""
    return torch.arange(frames) < lengths[:, None]


def pool(x: Tensor, valid: Tensor) -> Tensor:
    """Mean and biased standard deviation over valid frames; x is zero on padding. Returns (B, 2·C)."""
    count = valid.sum(dim=1, keepdim=True)  # (B, 1)
    mean = x.sum(dim=1) / count
    deviation = (x - mean[:, None]) * valid[..., None]
    variance = deviation.square().sum(dim=1) / count
    return torch.cat([mean, variance.clamp(min=VARIANCE_FLOOR).sqrt()], dim=1)


def cut(order: list[int]) -> list[list[int]]:
    """Cut an order into batches of 32; a single last utterance, of no batch variance, joins its neighbour."""
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2] += batches.pop()
    return batches


def random_batches(part: Part, generator: torch.Generator) -> Iterator[list[int]]:
    """Batches of utterances in random order, new ones every epoch."""
    yield from cut(torch.randperm(len(part), generator=generator).tolist())


def collate(part: Part, batch: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Pad a batch with zeros: features (B, T, F), lengths (B,), emotions (B,)."""
    features = [part.features[i] for i in batch]
    lengths = torch.tensor([len(x) for x in features])
    return pad_sequence(features, batch_first=True), lengths, part.emotions[batch]


@torch.no_grad()
def accuracy(network: nn.Module, part: Part) -> float:
    """Fraction of utterances whose emotion is recognised, in eval mode."""
    network.eval()
    right = 0
    # Sorted by length, so that scoring wastes little on padding.
    for batch in cut(sorted(range(len(part)), key=lambda i: len(part.features[i]))):
        x, lengths, emotions = collate(part, batch)
        right += int((network(x, lengths).argmax(dim=1) == emotions).sum())
    return right / len(part)


def fit(
    network: nn.Module, batches: Batches, data: Data, epochs: int, seed: int, lr: float = LEARNING_RATE
) -> tuple[float, History]:
    """Train, and return the valid frames per second and one record an epoch.

    Scoring dev and test is not counted in the time.
    """
    optimiser = torch.optim.SGD(network.parameters(), lr=lr, momentum=MOMENTUM, nesterov=True)
    generator = torch.Generator().manual_seed(seed)
    history: History = []
    for epoch in range(1, epochs + 1):
        network.train()
        total = 0.0
        start = time.perf_counter()
        for batch in batches(data.train, generator):
            x, lengths, emotions = collate(data.train, batch)
            loss = functional.cross_entropy(network(x, lengths), emotions)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.item() * len(batch)
        record = {"epoch": epoch, "loss": total / len(data.train), "seconds": time.perf_counter() - start}
        if data.dev is not None:
            record["dev"] = accuracy(network, data.dev)
        if data.test is not None:
            record["test"] = accuracy(network, data.test)
        history.append(record)
    seconds = sum(record["seconds"] for record in history)
    return epochs * data.train.frames / seconds, history


def train_epochs(
    data: Data, epochs: int, seed: int = 0, threads: int = 2, lr: float = LEARNING_RATE, dropout: float = 0.5
) -> tuple[float, History]:
    """Train SER_only with the plain loop: (valid frames per second, history)."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    return fit(Network(dropout=dropout), random_batches, data, epochs, seed, lr)


def best_epoch(history: History) -> dict[str, float]:
    """The record of the best dev accuracy, the earliest on a tie; the last one where there is no dev."""
    return max(history, key=lambda record: record["dev"]) if "dev" in history[0] else history[-1]


def main(train: Callable[[Data, int, int, int], tuple[float, History]], description: str) -> None:
    """Command line shared by the baselines."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--utterances", type=int, default=2400, help="of random features, where no real ones are given")
    parser.add_argument("--features", type=Path, help="an .npz of id -> (T, 39), to train on real data")
    parser.add_argument("--table", type=Path, help="a CSV with id, emotion, part for --features")
    options = parser.parse_args()
    if (options.features is None) != (options.table is None):
        parser.error("--features and --table go together")
    data = read_fold(options.features, options.table) if options.features else random_data(options.utterances)
    rate, history = train(data, options.epochs, options.seed, options.threads)
    for record in history:
        print("  ".join(f"{name} {value:.4g}" for name, value in record.items()))
    if data.dev is not None:
        print("chosen on dev:", best_epoch(history))
    print(f"{rate:,.0f} valid frames per second, {options.threads} threads, {data.train.frames:,} frames a pass")


if __name__ == "__main__":
    main(train_epochs, "random batches of 32, pad_sequence, pack_padded_sequence, fp32")
