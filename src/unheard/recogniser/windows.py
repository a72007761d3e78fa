"""Cut audio into windows, and score each: features and voice activity of the window alone, then the graph."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unheard.audio import Samples
from unheard.features.analysis import analyse, log_energies, vad_settings
from unheard.features.kaldi import VAD_PRESETS, frame_count, voiced_frames
from unheard.features.settings import FeatureSettings
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.speech import RATE, score
from unheard.settings import check_number

if TYPE_CHECKING:
    from unheard.recogniser.model import OnnxModel

SHORTEST, LONGEST = 0.5, 60.0  # range of the window length, seconds
LEAST_SPEECH = 0.3  # seconds of voiced frames below which the recogniser abstains

STEADY = 0.45
"""Standard deviation of the log energy of voiced frames (natural logarithm) below which a sound is hum or noise."""

_SILENT = -15.0  # log energy: less than one unit of the 16-bit scale in every frame


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """Windows of `seconds`, a new one every `hop` seconds.

    Window k covers [k·hop, k·hop + seconds); the last one is shorter where the audio ends inside it. Raises
    `ConfigError` for windows outside 0.5 to 60 s, and a hop below 0.1 s or above the window.
    """

    seconds: float = 3.0
    hop: float = 1.0

    def __post_init__(self) -> None:
        check_number("window", self.seconds, SHORTEST, LONGEST)
        check_number("hop", self.hop, 0.1, self.seconds)

    @property
    def reach(self) -> int:
        """The most windows that cover one hop."""
        return math.ceil(round(self.seconds / self.hop, 9))


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Samples (N,) of window number `index`, the first of them sample number `first` of the stream."""

    index: int
    first: int
    samples: Samples


class WindowCutter:
    """Cut windows out of blocks of any size; only the samples that are still needed are kept."""

    def __init__(self, settings: WindowSettings, sample_rate: int) -> None:
        self.length, self.hop = round(settings.seconds * sample_rate), round(settings.hop * sample_rate)
        self.samples = 0
        """Number of samples so far."""
        self._next = 0
        self._kept: Samples = np.zeros(0, np.float32)  # from sample `_next * hop` on

    def push(self, block: Samples) -> list[Window]:
        """Return the windows that `block` completes."""
        self.samples += len(block)
        self._kept = np.concatenate([self._kept, block])
        found = []
        while len(self._kept) >= self.length:
            found.append(Window(self._next, self._next * self.hop, self._kept[: self.length]))
            self._kept = self._kept[self.hop :]
            self._next += 1
        return found

    def finish(self) -> list[Window]:
        """Return the last, shorter window, where some samples are in no window yet."""
        covered = (self._next - 1) * self.hop + self.length if self._next else 0
        return [Window(self._next, self._next * self.hop, self._kept)] if self.samples > covered else []


def cut(blocks: Iterable[Samples], settings: WindowSettings, sample_rate: int) -> Iterator[Window]:
    """Yield the windows of a whole recording."""
    cutter = WindowCutter(settings, sample_rate)
    for block in blocks:
        yield from cutter.push(block)
    yield from cutter.finish()


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """A mask of the frames of speech (T,), their duration in seconds, and the reason to abstain, if any."""

    frames: npt.NDArray[np.bool_]
    seconds: float
    too_little: str | None = None

    def none_as(self, reason: str) -> Speech:
        """Return the same frames without any speech, for this reason."""
        return Speech(np.zeros_like(self.frames), 0.0, reason)


def find_speech(log_energy: npt.NDArray[np.float32], settings: FeatureSettings, least: float = LEAST_SPEECH) -> Speech:
    """Find speech in frames with these log energies (T,), by the VAD of the model (`xvector` where it has none)."""
    voiced = voiced_frames(log_energy, VAD_PRESETS[settings.vad if settings.vad in VAD_PRESETS else "xvector"])
    found = Speech(voiced, float(np.count_nonzero(voiced)) * settings.frame_shift_ms / 1000)
    if log_energy.max() < _SILENT:
        return found.none_as("silence")
    if found.seconds < least:
        what = f"too little speech: {found.seconds:.2f} s, at least {least:g} s are needed"
        return replace(found, too_little=what)
    if float(log_energy[voiced].std(dtype=np.float64)) < STEADY:
        return found.none_as("a steady sound, no speech")
    return found


@dataclass(frozen=True, slots=True, eq=False)
class WindowResult:
    """The result of one window: seconds of `speech`, in each of its steps `activity`.

    `probabilities` (C,), `embedding` (E,) and `description` (V,) are None where it `abstained`.
    """

    index: int
    speech: float
    activity: tuple[float, ...]
    abstained: str | None = None
    probabilities: npt.NDArray[np.float32] | None = None
    embedding: npt.NDArray[np.float32] | None = None
    description: npt.NDArray[np.float32] | None = None


def score_window(
    model: OnnxModel, window: Window, hop: int, least_speech: float, profile: SpeakerProfile | None = None
) -> WindowResult:
    """Score one window; `hop` is the distance between windows in samples.

    The graph runs once for each window, so that a result depends on the window alone, to the last bit.
    Raises `AudioError` for samples that are too large or not finite.
    """
    features, settings = model.metadata.features, vad_settings(model.metadata.features)
    steps = -(-len(window.samples) // hop)
    if not frame_count(len(window.samples), settings):
        reason = f"too short: {len(window.samples) / settings.sample_rate:.3f} s"
        return WindowResult(window.index, 0.0, (0.0,) * steps, reason)
    log_energy = log_energies(window.samples, settings)
    speech = find_speech(log_energy, settings, least_speech)
    # `score` was measured with log-mel bands with pitch and with an encoder; other models are not judged by it.
    measured = features.kind == "encoder" or features.pitch
    judged = measured and settings.sample_rate == RATE and settings.frame_shift_ms == 10
    if judged and not speech.too_little and score(window.samples, log_energy, speech.frames) < 0:
        speech = speech.none_as("no voice: tones, noise or music")
    # A frame belongs to the step that its middle lies in.
    middles = np.arange(len(speech.frames)) * settings.samples_per_shift + settings.samples_per_frame // 2
    frames = np.bincount(middles[speech.frames] // hop, minlength=steps)
    activity = tuple((frames * settings.frame_shift_ms / 1000).tolist())
    if speech.too_little is not None:
        return WindowResult(window.index, speech.seconds, activity, speech.too_little)
    vector = profile.vector(model.metadata.shrinkage) if profile is not None and profile.utterances else None
    _, *outputs = model.run(analyse(window.samples, features, model.encoder, log_energy).features, vector)
    return WindowResult(window.index, speech.seconds, activity, None, *outputs)
