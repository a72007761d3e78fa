"""Whether there is speech to judge: an answer on silence would be an answer all the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unheard.features.settings import FeatureSettings
from unheard.features.vad import VAD_PRESETS, voiced_frames

LEAST_SPEECH = 0.3
"""Seconds of voiced frames below which the recogniser abstains."""

STEADY = 0.45
"""Deviation of the log energy of voiced frames (natural logarithm) below which a sound is a hum or noise."""

_SILENT = -15.0  # log energy: below one unit of the 16-bit scale in every frame


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """Which frames are speech (T,), how many seconds, and why that is too little, if it is."""

    frames: npt.NDArray[np.bool_]
    seconds: float
    too_little: str | None


def find_speech(log_energy: npt.NDArray[np.float32], settings: FeatureSettings, least: float = LEAST_SPEECH) -> Speech:
    """The speech in frames with these log energies (T,), by the model's own VAD (by `xvector` where it has none)."""
    preset = settings.vad if settings.vad in VAD_PRESETS else "xvector"
    voiced = voiced_frames(log_energy, VAD_PRESETS[preset])
    seconds = float(np.count_nonzero(voiced)) * settings.frame_shift_ms / 1000
    found = Speech(voiced, seconds, None)
    if log_energy.max() < _SILENT:
        return replace(found, frames=np.zeros_like(voiced), seconds=0.0, too_little="silence")
    if seconds < least:
        return replace(found, too_little=f"too little speech: {seconds:.2f} s, at least {least:g} s are needed")
    if float(log_energy[voiced].std(dtype=np.float64)) < STEADY:
        return replace(found, frames=np.zeros_like(voiced), seconds=0.0, too_little="a steady sound, no speech")
    return found
