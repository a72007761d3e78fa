"""Evaluation: scores of a network on utterances, with optional batch-norm re-estimation and decision rule.

(optionally) re-estimated batch norm, decision rule -> forward passes in evaluation mode -> Scores
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unheard.errors import ConfigError
from unheard.model.network import EmotionNetwork, Head
from unheard.training.batches import Dataset, draw_batches
from unheard.training.metrics import AccuracyMetrics


@dataclass(frozen=True)
class Scores(AccuracyMetrics):
    """Outputs for the utterances `ids` in order: `truth` (n,), `logits` (n, C), `embeddings` (n, E)."""

    ids: tuple[str, ...]
    truth: NDArray[np.int64]
    logits: NDArray[np.float32]
    embeddings: NDArray[np.float32]

    @property
    def none(self) -> "Scores":
        """Empty scores of the same widths."""
        return Scores((), self.truth[:0], self.logits[:0], self.embeddings[:0])

    @cached_property
    def predicted(self) -> NDArray[np.int64]:  # type: ignore[override]
        """The most probable emotion of each utterance (n,); the first on a tie."""
        return np.asarray(self.logits.argmax(axis=1), np.int64)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:  # type: ignore[override]
        """Softmax of the logits (n, C)."""
        shifted = np.exp(self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        p = self.probabilities[np.arange(len(self.truth)), self.truth]
        return float(-np.log(np.maximum(p, 1e-300)).mean())


@torch.no_grad()
def score(
    network: EmotionNetwork,
    dataset: Dataset,
    ids: Sequence[str],
    *,
    device: torch.device,
    precision: str = "fp32",
    size: int = 64,
    profiles: Mapping[str, NDArray[np.float32]] | None = None,
) -> Scores:
    """Score `ids` (at least one) with `network` in evaluation mode; its mode is restored afterwards.

    `profiles` maps each utterance to its speaker profile (F,), see `EmbeddingNetwork.forward`.
    """
    was_training = network.training
    network.eval()
    order: list[int] = []
    outputs: list[tuple[Tensor, Tensor]] = []
    for positions, batch in dataset.in_order(ids, size):
        batch = batch.to(device)
        profile = None
        if profiles is not None:
            profile = torch.from_numpy(np.stack([profiles[ids[i]] for i in positions])).to(device)
        with autocast(device, precision):
            outputs.append(network.logits(batch.x, batch.lengths, profile))
        order += positions
    network.train(was_training)
    inverse = np.argsort(order)
    logits, e = (torch.cat(parts).float().cpu().numpy()[inverse] for parts in zip(*outputs, strict=True))
    return Scores(tuple(ids), np.array([dataset.y[name] for name in ids]), logits, e)


# Batch-norm re-estimation.
#
# Running statistics are estimated in training, after dropout. In evaluation nothing is dropped, so the standard
# deviation pooled over an utterance, and everything after it, has another distribution (Li et al. 2019, Understanding
# the disharmony between dropout and batch normalization by variance shift). Kaldi's `nnet3-combine` re-estimates the
# statistics in the same way.


@contextmanager
def reestimated_batchnorm(
    network: EmotionNetwork, dataset: Dataset, ids: Sequence[str], size: int, *, device: torch.device, precision: str
) -> Iterator[None]:
    """Replace the batch-norm statistics in this context by those of `ids`, in batches of `size` without dropout.

    Each batch is weighted by its number of utterances. Weights and random streams are not changed; the running
    statistics are restored on exit.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm1d)]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    momenta = [norm.momentum for norm in norms]
    was_training = network.training
    try:
        network.eval()
        for norm in norms:
            norm.train()
        n = 0
        for chosen in draw_batches(len(ids), size, 0):  # shuffled: each batch mixes emotions and speakers
            n += len(chosen)
            for norm in norms:
                norm.momentum = len(chosen) / n
            batch = dataset.batch([ids[i] for i in chosen]).to(device)
            with torch.no_grad(), autocast(device, precision):
                network.logits(batch.x, batch.lengths)
        network.train(was_training)
        yield
    finally:
        network.train(was_training)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.load_state_dict(state)


@contextmanager
def decision_rule(head: Head, factors: Sequence[float]) -> Iterator[None]:
    """Multiply the probabilities of the emotion head by `factors` (C,) in this context, through its bias."""
    bias = head.output.bias
    original = bias.detach().clone()
    with torch.no_grad():
        bias.add_(torch.tensor([math.log(factor) for factor in factors], dtype=bias.dtype, device=bias.device))
    try:
        yield
    finally:
        with torch.no_grad():
            bias.copy_(original)


# Device and precision.


def choose_device(name: str = "auto") -> torch.device:
    """Return the device; `auto` prefers CUDA, then Apple's MPS, then the CPU.

    Raises `ConfigError` for a device that this machine does not have.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if not available.get(name.split(":")[0], False):
        devices = ", ".join(kind for kind, exists in available.items() if exists)
        raise ConfigError(f"there is no device '{name}' on this machine", mend=f"Choose auto, {devices}.")
    return torch.device(name)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context for a forward pass: no-op for `fp32`, automatic mixed precision for `bf16`."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, dtype=torch.bfloat16)
