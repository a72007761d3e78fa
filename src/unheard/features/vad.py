"""Kaldi's energy-based voice activity detection (`compute-vad`)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class EnergyVad:
    """A frame is voiced when enough of its neighbours exceed `threshold + mean_scale · mean(log energy)`.

    Neighbours are the frames t - `context` … t + `context` that exist; enough is `proportion` of them.
    """

    threshold: float
    mean_scale: float
    context: int
    proportion: float


VAD_PRESETS = MappingProxyType(
    {
        "xvector": EnergyVad(threshold=5.5, mean_scale=0.5, context=2, proportion=0.12),
        "ivector": EnergyVad(threshold=5.5, mean_scale=0.5, context=0, proportion=0.6),
        "kaldi_default": EnergyVad(threshold=5.0, mean_scale=0.5, context=0, proportion=0.6),
    }
)
"""The settings of Kaldi's x-vector recipes, of its i-vector recipes, and of `compute-vad` itself."""


def voiced_frames(log_energy: npt.NDArray[np.float32], vad: EnergyVad) -> npt.NDArray[np.bool_]:
    """Which frames are voiced: log energies (T,) at 16-bit scale -> bool (T,).

    Source: Kaldi, `ComputeVadEnergy` in ivector/voice-activity-detection.cc.
    """
    frames = len(log_energy)
    if not frames:
        return np.zeros(0, bool)
    mean = log_energy.sum(dtype=np.float64) / frames
    threshold = np.float32(vad.threshold + vad.mean_scale * mean)
    loud = np.concatenate([[0], np.cumsum(log_energy > threshold)])
    at = np.arange(frames)
    first = np.maximum(at - vad.context, 0)
    last = np.minimum(at + vad.context + 1, frames)
    # Kaldi compares in single precision, and so do we: 5 · 0.6f is not 3.
    needed = (last - first).astype(np.float32) * np.float32(vad.proportion)
    voiced: npt.NDArray[np.bool_] = (loud[last] - loud[first]).astype(np.float32) >= needed
    return voiced
