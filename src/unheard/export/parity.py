"""Compare an exported model with the PyTorch model it was made from, before anybody uses it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession, SessionOptions

from unheard.errors import ExportError
from unheard.model.saving import Model

TOLERANCE = 1e-4
LENGTHS = (1, 2, 17, 60, 301)
"""Frames of the utterances compared: below, at and above the receptive field."""

OUTPUTS = ("logits", "embedding", "description")

Floats = NDArray[np.float32]


def check(model: Model, content: bytes, tolerance: float = TOLERANCE) -> float:
    """Return the largest difference between the ONNX file `content` and `model`, relative to outputs above 1.

    Raises `ExportError` where it is above `tolerance`.
    """
    random, run, worst = np.random.default_rng(0), session(content), 0.0
    for length in LENGTHS:
        frames = random.normal(0, 1, (length, model.features.dim)).astype(np.float32)
        if model.normaliser.kind == "train" and model.normaliser.mean is not None and model.normaliser.std is not None:
            frames = frames * model.normaliser.std[0] + model.normaliser.mean[0]
        profile = None
        if model.adapts:
            profile = random.normal(0, 1, model.features.dim).astype(np.float32)
        for ours, theirs in zip(by_onnx(run, frames, profile), by_torch(model, frames, profile), strict=True):
            difference = float(np.max(np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))))
            worst = max(worst, difference if np.isfinite(difference) else float("inf"))
    if not worst <= tolerance:
        raise ExportError(
            f"the exported model differs from the trained one by {worst:.2g}, more than {tolerance:g}",
            mend="Nothing was written. Check that the training converged: its weights are far out of the usual range.",
        )
    return worst


def by_torch(model: Model, frames: Floats, profile: Floats | None = None) -> list[Floats]:
    """Compute `OUTPUTS` with PyTorch for one utterance (T, F) that is not normalised."""
    x = torch.from_numpy(model.normaliser.apply(frames))[None]
    lengths, known = torch.tensor([len(frames)]), None if profile is None else torch.from_numpy(profile)[None]
    with torch.inference_mode():
        logits, embedding = model.network.logits(x, lengths, known)
        description = model.network.embed.describe(x, lengths)
    return [value[0].numpy() for value in (logits, embedding, description)]


def by_onnx(run: InferenceSession, frames: Floats, profile: Floats | None = None) -> list[Floats]:
    """Compute `OUTPUTS` with an ONNX session for the same utterance."""
    given = {"features": frames} | ({} if profile is None else {"profile": profile})
    return list(run.run(list(OUTPUTS), given))


def session(content: bytes) -> InferenceSession:
    """Open the ONNX file `content` on the CPU."""
    options = SessionOptions()
    options.log_severity_level = 3  # it warns that `profile` is both a constant and an input
    return InferenceSession(content, options, providers=["CPUExecutionProvider"])
