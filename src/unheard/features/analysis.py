"""Feature extraction in the order of Kaldi's recipes: spectrum, deltas, pitch, removal of unvoiced frames."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from unheard import plugins
from unheard.audio import (
    SLACK,
    Samples,
    check_stretch,
    checked_rate,
    checked_source,
    finite,
    read_audio,
    resample,
    select_channel,
    to_float,
)
from unheard.errors import AudioError, ConfigError
from unheard.features.functionals import frame_settings, summarise
from unheard.features.kaldi import (
    VAD_PRESETS,
    Floats,
    add_deltas,
    frame_count,
    pitch_frames,
    spectral_frames,
    voiced_frames,
)
from unheard.features.normalise import pool
from unheard.features.settings import FeatureSettings
from unheard.streams import Source

if TYPE_CHECKING:
    from unheard.features.encoder import Encoder

Audio: TypeAlias = Source | npt.NDArray[Any]
Mask: TypeAlias = npt.NDArray[np.bool_]

INT16_SCALE = np.float32(32_768.0)
"""Kaldi's samples are 16-bit integers; at [-1, 1] its VAD would reject nearly every frame."""

LARGEST = 1 << 30  # upper limit for an array file, in bytes

_SILENCE = -15.0  # log energy below which a frame is digital silence (Kaldi's floor is -15.9)

_LEVEL = float(np.log(400 * (0.1 * INT16_SCALE) ** 2))  # log energy of a frame of 25 ms at an RMS of -20 dBFS

logger = logging.getLogger("unheard")


@dataclass(frozen=True, slots=True)
class Analysis:
    """Features (T, F) of one utterance, with the mask of the frames they were taken from.

    `kept` is bool over all frames; `voiced` is the number of voiced frames. If it is 0, every frame is kept: an
    utterance without voiced frames is quiet, not absent.
    """

    features: Floats
    kept: Mask
    voiced: int


def extract(
    audio: Audio,
    settings: FeatureSettings | None = None,
    *,
    sample_rate: int | None = None,
    start: float = 0.0,
    end: float | None = None,
    channel: str | int = "mix",
) -> Floats:
    """Return the features of one recording after VAD, not normalised: float32 (T, F).

    `audio` is a path, an open binary file, or samples (N,) or (N, channels): floats in [-1, 1] or integers, at
    `sample_rate` (default: the settings' rate). If no frame is voiced, all frames are kept and a warning is logged.
    Raises `AudioError` for audio that cannot be read or is shorter than one frame (25 ms).
    """
    if not isinstance(settings, FeatureSettings | None):
        mend = "Give FeatureSettings(...); a rate is sample_rate=16000."
        raise ConfigError(f"the settings are a {type(settings).__name__}", mend=mend)
    settings = settings or FeatureSettings()
    if isinstance(audio, np.ndarray):
        rate = settings.sample_rate if sample_rate is None else checked_rate(sample_rate)
        samples = _stretch(select_channel(to_float(audio), channel), rate, start, end)
        samples = resample(samples, rate, settings.sample_rate)
    else:
        audio = checked_source(audio)
        samples = read_audio(audio, start=start, end=end, sample_rate=settings.sample_rate, channel=channel)
    analysis = analyse(samples, settings)
    if settings.vad != "none" and not analysis.voiced:
        logger.warning("no frame is voiced; all %d are kept", len(analysis.features))
    return analysis.features


def _stretch(samples: Samples, rate: int, start: float, end: float | None) -> Samples:
    seconds = len(samples) / rate
    check_stretch(start, end)
    if start >= seconds > 0 or (end is not None and end > seconds + SLACK):
        what = f"the samples end at {seconds:.2f} s, before the stretch {start} to {end} s does"
        raise AudioError(what, mend="Correct start and end.")
    samples = samples[round(start * rate) : None if end is None else round(end * rate)]
    if not finite(samples):
        raise AudioError("the samples are not all numbers (NaN or infinite)")
    return samples


@lru_cache(maxsize=16)
def vad_settings(settings: FeatureSettings) -> FeatureSettings:
    """Return the settings of the VAD's frames, which are 10 ms apart if the features are an encoder's."""
    return FeatureSettings(vad=settings.vad) if settings.kind == "encoder" else settings


def log_energies(samples: Samples, settings: FeatureSettings) -> Floats:
    """Compute the log energy at 16-bit scale of the VAD's frames (see `vad_settings`): (N,) -> (T,).

    Raises `AudioError` like `analyse`.
    """
    return _spectral(samples, vad_settings(settings), energy_only=True)[:, 0]


def _spectral(samples: Samples, settings: FeatureSettings, energy_only: bool = False) -> Floats:
    if not frame_count(len(samples), settings):
        what = f"too short: {1000 * len(samples) / settings.sample_rate:.1f} ms, less than one frame of "
        raise AudioError(f"{what}{settings.frame_length_ms:g} ms", mend="Use a longer recording.")
    with np.errstate(over="ignore", invalid="ignore"):
        spectral = spectral_frames(samples * INT16_SCALE, settings, energy_only=energy_only)
        if not np.isfinite(spectral.sum(dtype=np.float64)):
            raise AudioError("the samples are too large or not numbers", mend="Scale them to [-1, 1].")
    return spectral


def analyse(
    samples: Samples, settings: FeatureSettings, encoder: Encoder | None = None, log_energy: Floats | None = None
) -> Analysis:
    """Compute the features of samples (N,) in [-1, 1] at the settings' rate, and the decisions of the VAD.

    Functionals are a single frame, which is kept; `voiced` counts the voiced frames of the utterance. `encoder` is the
    encoder of the settings if it is open already, and `log_energy` the result of `log_energies` if it is available.
    Raises `AudioError` for less than one frame, and for samples so large that their power overflows.
    """
    if settings.foreign:
        return as_they_are(frames_of(samples, settings), settings)
    if settings.kind == "functionals":
        frames = analyse(samples, frame_settings(settings)).features
        kept, voiced = _kept(frames[:, 0], settings)
        return Analysis(summarise(frames, kept, settings)[None], np.ones(1, bool), voiced)
    if settings.kind == "encoder":
        return _encoded(
            samples, settings, encoder, log_energies(samples, settings) if log_energy is None else log_energy
        )
    spectral = _spectral(samples, settings)
    static = spectral if settings.kind == "mfcc" or settings.energy else spectral[:, 1:]
    features = add_deltas(static, settings.deltas, settings.delta_window)
    if settings.pitch:
        features = np.hstack([features, pitch_frames(samples * INT16_SCALE, settings)])
    kept, voiced = _kept(spectral[:, 0], settings)
    chosen = thinned(features[kept], settings.thin)
    if settings.summary:
        contours = np.delete(features, -3, axis=1) if settings.log_pitch == "both" else features
        vector = summarise(contours, kept, settings)
        chosen = np.hstack([chosen, np.broadcast_to(vector, (len(chosen), len(vector)))])
    return Analysis(chosen, kept, voiced)


def as_they_are(frames: Floats, settings: FeatureSettings) -> Analysis:
    """Return the analysis of precomputed frames (T, F), all of which are kept."""
    return Analysis(thinned(frames, settings.thin), np.ones(len(frames), bool), len(frames))


def thinned(features: Floats, n: int) -> Floats:
    """Average every `n` consecutive frames: (T, F) -> (ceil(T / n), F); the last mean is over the remaining frames."""
    if n == 1:
        return features
    starts = np.arange(0, len(features), n)
    sums: Floats = np.add.reduceat(features, starts, axis=0).astype(np.float32)
    counts = np.diff(np.append(starts, len(features))).astype(np.float32)
    return sums / counts[:, None]


def _encoded(samples: Samples, settings: FeatureSettings, encoder: Encoder | None, log_energy: Floats) -> Analysis:
    """Analyse with an encoder, a frame every 20 ms; a frame is kept if the VAD keeps its frame at that time."""
    if encoder is None:
        from unheard.features.encoder import encoder_of, resolve

        settings = resolve(settings)
        encoder = encoder_of(settings.encoder, settings.layer, settings.encoder_digest)
    if settings.level == "fixed":
        samples, log_energy = _at_level(samples, log_energy)
    features = encoder.frames(samples)
    # pitch and VAD get the same number of frames, the last one repeated: Whisper adds one for a rest below 25 ms
    indices = np.arange(len(features))
    if settings.pitch:
        pitch = pitch_frames(samples * INT16_SCALE, settings)
        features = np.hstack([features, pitch[np.minimum(indices, len(pitch) - 1)]])
    kept, voiced = _kept(log_energy, settings)
    every_20_ms = kept[::2]
    kept = every_20_ms[np.minimum(indices, len(every_20_ms) - 1)]
    voiced = int(np.count_nonzero(kept)) if voiced else 0
    if not voiced:
        kept = np.ones(len(features), bool)
    chosen = thinned(features[kept], settings.thin)
    if settings.pool != "none":
        vector, kept = pool(chosen).astype(np.float32)[None], np.ones(1, bool)
        chosen = vector if settings.pool == "statistics" else vector[:, : chosen.shape[1]]
    return Analysis(chosen, kept, voiced)


def _at_level(samples: Samples, log_energy: Floats) -> tuple[Samples, Floats]:
    """Scale samples to an RMS of -20 dBFS, and adjust their log energies."""
    gain = _LEVEL - np.log(np.mean(np.exp(log_energy, dtype=np.float64)))
    scaled = np.where(log_energy > _SILENCE, log_energy + gain, log_energy)
    return samples * np.float32(np.exp(gain / 2)), scaled.astype(np.float32)


def _kept(log_energy: Floats, settings: FeatureSettings) -> tuple[Mask, int]:
    """Return the mask of kept frames and the number of voiced frames; if no frame is voiced, all are kept."""
    kept = np.ones(len(log_energy), bool)
    if settings.vad != "none":
        kept = voiced_frames(log_energy, VAD_PRESETS[settings.vad])
    voiced = int(np.count_nonzero(kept))
    return (kept if voiced else ~kept), voiced


# Frames computed outside this package: by functions of plug-ins, or read from folders of `.npy` files.


def resolve_foreign(settings: FeatureSettings) -> FeatureSettings:
    """Fill in the width of a frame, and the hash of a plug-in's source.

    Raises `ConfigError` for an unknown plug-in, a plug-in that does not return frames, and a folder without arrays.
    """
    if settings.kind == "npy":
        first = next(iter(sorted(Path(settings.folder).rglob("*.npy"))), None)
        if first is None:
            raise ConfigError("no .npy file in this folder", where=settings.folder, mend="Write one per utterance.")
        try:
            return replace(settings, width=frames_in(first).shape[1])
        except AudioError as error:
            raise ConfigError(error.what, where=error.where, mend=error.mend) from None
    plugin = plugins.required("feature", settings.kind, "kind of features")
    noise = np.random.default_rng(0).normal(0, 0.1, settings.sample_rate).astype(np.float32)
    try:
        return replace(settings, width=_checked_frames(plugin.thing(noise), settings.kind).shape[1], code=plugin.digest)
    except Exception as error:  # a third-party function may raise anything
        what = f"the function '{settings.kind}' fails on a second of noise ({type(error).__name__}: {error})"
        raise ConfigError(what, mend="It takes samples (N,) and returns frames (T, F).") from error


def frames_of(samples: npt.NDArray[Any], settings: FeatureSettings) -> Floats:
    """Apply the function of a plug-in to samples (N,): (T, F); raises `AudioError` for a result of another shape."""
    if settings.kind == "npy":
        raise ConfigError("features of kind npy come from files, not from audio", mend="Choose another kind.")
    settings = settings if settings.resolved else resolve_foreign(settings)
    plugin = plugins.required("feature", settings.kind, "kind of features")
    if plugin.digest != settings.code:
        what = f"the function '{settings.kind}' has changed since these features were made"
        raise ConfigError(what, mend="Use another store.")
    return _checked_frames(plugin.thing(samples), settings.kind, settings.width)


def frames_in(path: str | Path, width: int = 0) -> Floats:
    """Read the array (T, `width`) of an utterance (`width` 0: any); raises `AudioError` if it is missing or invalid."""
    try:
        if Path(path).stat().st_size > LARGEST:
            raise AudioError(f"an array file must not exceed {LARGEST >> 20} MiB", where=path)
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise AudioError("no such file", where=path) from None
    except (OSError, ValueError, EOFError) as error:
        raise AudioError(f"this is not a .npy file ({error})", where=path) from None
    return _checked_frames(array, str(path), width)


def _checked_frames(frames: Any, where: str, width: int = 0) -> Floats:
    valid = isinstance(frames, np.ndarray) and frames.ndim == 2 and frames.dtype.kind in "fiu" and frames.size
    if not valid or (width and frames.shape[1] != width):
        shape = f"{frames.shape} of {frames.dtype}" if isinstance(frames, np.ndarray) else type(frames).__name__
        what = f"frames (T, {width or 'F'}) of numbers are needed, not {shape}"
        raise AudioError(what, where=where, mend="A vector (F,) is one frame: x[None].")
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(frames, np.float32)
    if not np.isfinite(single).all():
        raise AudioError("the frames are not all numbers (NaN or infinite) in single precision", where=where)
    return single
