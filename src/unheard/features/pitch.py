"""Kaldi's pitch features (`compute-and-process-kaldi-pitch-feats`), computed by kaldi-native-fbank.

Columns, in Kaldi's order:

    voicing    Kaldi's POV feature: the normalised cross-correlation at the pitch's lag, warped; -1.5 for a
               perfectly periodic frame, 0 for one without period
    log pitch  2 · (log F0 - its mean over 1.5 s, weighted by voicing); with `log_pitch` normalised or both
    change     10 · the slope of log F0 over five frames, with Kaldi's noise of 0.005 (a fixed sequence)
    raw        log F0, F0 in Hz; with `log_pitch` raw or both

F0 is a number in every frame: where there is no voice it goes on from the frames that have one. Source:
Ghahremani et al. 2014, A pitch extraction algorithm tuned for automatic speech recognition.
"""

from __future__ import annotations

from array import array
from importlib import import_module
from typing import Any

import numpy as np

from unheard.errors import FeatureError
from unheard.features.kaldi import Floats, frame_count
from unheard.features.settings import FeatureSettings


def pitch_frames(samples: Floats, settings: FeatureSettings) -> Floats:
    """Pitch features of samples (N,) at 16-bit scale: float32 (T, 3), or (T, 4) with both kinds of log pitch.

    T is that of the spectral features. Pitch is found at 4 kHz, where rounding may give one frame more or less:
    then the last one is dropped or repeated. Raises `FeatureError` without kaldi-native-fbank.
    """
    knf = library()
    search = knf.PitchExtractionOptions(
        samp_freq=settings.sample_rate,
        frame_shift_ms=settings.frame_shift_ms,
        frame_length_ms=settings.frame_length_ms,
        min_f0=settings.pitch_low_hz,
        max_f0=settings.pitch_high_hz,
    )
    process = knf.ProcessPitchOptions(
        add_normalized_log_pitch=settings.log_pitch != "raw", add_raw_log_pitch=settings.log_pitch != "normalised"
    )
    frames = frame_count(len(samples), settings)
    found = knf.compute_and_process_kaldi_pitch(search, process, array("f", samples.tobytes()))  # quicker than a list
    out = np.zeros((frames, settings.pitch_dim), np.float32)
    common = min(frames, len(found))
    out[:common] = found[:common]
    if common:
        out[common:] = found[common - 1]
    return out


def library() -> Any:
    """The module kaldi_native_fbank; raises `FeatureError` where it is missing or knows no pitch yet."""
    try:
        module = import_module("kaldi_native_fbank")
    except ImportError:
        module = None
    if not hasattr(module, "compute_and_process_kaldi_pitch"):
        raise FeatureError(
            "pitch needs kaldi-native-fbank 1.23 or later, which is not installed",
            mend='Install it with: pip install -U "kaldi-native-fbank>=1.23", or leave pitch out.',
        )
    return module
