"""Score one window: features and voice activity of the window alone, then the graph."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unheard.features.analysis import analyse, log_energies, vad_settings
from unheard.features.kaldi import VAD_PRESETS, frame_count, voiced_frames
from unheard.features.settings import FeatureSettings
from unheard.recogniser.model import OnnxModel
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.speech import RATE, score
from unheard.recogniser.stream import Window, WindowResult

LEAST_SPEECH = 0.3
"""Seconds of voiced frames below which the recogniser abstains."""

STEADY = 0.45
"""Standard deviation of the log energy of voiced frames (natural logarithm) below which a sound is hum or noise."""

_SILENT = -15.0  # log energy: less than one unit of the 16-bit scale in every frame


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """Which frames are speech (T,), how many seconds, and the reason to abstain, if any."""

    frames: npt.NDArray[np.bool_]
    seconds: float
    too_little: str | None


def find_speech(log_energy: npt.NDArray[np.float32], settings: FeatureSettings, least: float = LEAST_SPEECH) -> Speech:
    """Find speech in frames with these log energies (T,), by the VAD of the model (`xvector` where it has none)."""
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


class WindowScorer:
    """Score windows with a model; `hop` is the distance between windows in samples.

    The graph runs once for each window, so that a result depends on the window alone, to the last bit.
    """

    def __init__(self, model: OnnxModel, hop: int, least_speech: float = LEAST_SPEECH) -> None:
        self._model, self._hop, self._least = model, hop, least_speech

    def __call__(self, window: Window, profile: SpeakerProfile | None = None) -> WindowResult:
        """Return the result of one window; raises `AudioError` for samples that are too large or not finite."""
        features = self._model.metadata.features
        settings = vad_settings(features)
        steps = -(-len(window.samples) // self._hop)
        if not frame_count(len(window.samples), settings):
            reason = f"too short: {len(window.samples) / settings.sample_rate:.3f} s"
            return WindowResult(window.index, window.first, 0.0, (0.0,) * steps, reason)
        log_energy = log_energies(window.samples, settings)
        speech = find_speech(log_energy, settings, self._least)
        # `score` was measured with log-mel bands with pitch and with an encoder; other models are not judged by it.
        measured = features.kind == "encoder" or features.pitch
        judged = measured and settings.sample_rate == RATE and settings.frame_shift_ms == 10
        if judged and not speech.too_little and score(window.samples, log_energy, speech.frames) < 0:
            speech = Speech(np.zeros_like(speech.frames), 0.0, "no voice: tones, noise or music")
        # A frame belongs to the step that its middle lies in.
        middles = np.arange(len(speech.frames)) * settings.samples_per_shift + settings.samples_per_frame // 2
        frames = np.bincount(middles[speech.frames] // self._hop, minlength=steps)
        activity = tuple((frames * settings.frame_shift_ms / 1000).tolist())
        if speech.too_little is not None:
            return WindowResult(window.index, window.first, speech.seconds, activity, speech.too_little)
        vector = profile.vector(self._model.metadata.shrinkage) if profile is not None and profile.utterances else None
        found = self._model.run(analyse(window.samples, features, self._model.encoder).features, vector)
        outputs = found.probabilities, found.embedding, found.description
        return WindowResult(window.index, window.first, speech.seconds, activity, None, *outputs)
