"""Logits of a network on a list of utterances, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from unheard.training.batches import Task
from unheard.training.device import autocast
from unheard.training.metrics import macro_f1, unweighted_average_recall, weighted_accuracy
from unheard.training.strategies import Strategy


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
