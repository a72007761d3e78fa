"""The training loop a user would write first: random batches, padded, and a packed bidirectional LSTM.

It imports nothing from `unheard`: an independent implementation of the paper's network, to measure against in
`benchmarks.training.run` and `benchmarks.training.accuracy`.

Shapes: B batch, T frames, N valid frames of a batch, F features, C channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from benchmarks.training.shapes import EMOTIONS, FEATURES, Data, Part

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
