"""All settings that affect the values of features, in one frozen dataclass with a short digest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from typing import Any, Literal

from unheard import plugins
from unheard.errors import ConfigError, did_you_mean
from unheard.settings import check, setting

VERSION = 1  # part of every digest; incremented when the same settings give different values than before

KINDS = ("mfcc", "fbank", "functionals", "encoder", "npy")
LEARNED = "learned"  # the `layer` for all layers, weighted by the network

ENCODER_RATE, ENCODER_FRAME_MS, ENCODER_SHIFT_MS = 16_000, 25.0, 20.0
"""Sample rate and frames of every supported encoder."""

_LATER = frozenset(
    {"kind", "energy", "pitch", "log_pitch", "pitch_low_hz", "pitch_high_hz", "layer", "encoder_digest",
     "encoder_width", "encoder_layers", "level", "thin", "summary", "folder", "width", "code", "pool", "copy"}
)  # fmt: skip
"""Settings that enter a digest only if they differ from the default."""


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """Settings of features and VAD; the defaults are Kaldi's MFCC with deltas and the VAD of its x-vector recipes.

    Kind `npy` reads precomputed frames, FOLDER/<utterance id>.npy; any name not built in is a plug-in, a function of
    the samples (see `unheard.register`). Both keep all frames; only `sample_rate` and `thin` affect them.

    Creating settings opens no file. `unheard.features.encoder.resolve` reads `encoder_digest`, `encoder_width` and
    `encoder_layers` from an encoder's files; `dim` and `digest` of kind `encoder` need them. An encoder is identified
    by its files, not by its folder. Its frames are 25 ms every 20 ms, the VAD uses the energy of default MFCC frames,
    and the spectral settings have no effect.

    The dither noise of a recording depends on `dither_seed` and its samples. Kaldi's default dither is 1; here it is 0,
    so that features are repeatable. Raises `ConfigError` for values that are out of range or contradict each other.
    """

    sample_rate: int = setting(16_000, "Sample rate in Hz; recordings are resampled.", ge=1000, le=384_000)
    frame_length_ms: float = setting(25.0, "Frame length in ms.", gt=0, le=1000)
    frame_shift_ms: float = setting(10.0, "Distance between frames in ms.", gt=0, le=1000)
    preemphasis: float = setting(0.97, "Coefficient of the pre-emphasis.", ge=0, le=1)
    mel_bins: int = setting(23, "Number of mel bands.", ge=3, le=256)
    low_hz: float = setting(20.0, "Lower edge of the mel bands in Hz.", ge=0)
    high_hz: float = setting(0.0, "Upper edge of the mel bands in Hz (0: the Nyquist frequency).", ge=0)
    cepstra: int = setting(13, "mfcc: number of coefficients, including c0, which is replaced by the log energy.", ge=1)
    lifter: float = setting(22.0, "mfcc: cepstral lifter (0: none).", ge=0)
    deltas: int = setting(2, "Highest order of deltas (0: none).", ge=0, le=4)
    delta_window: int = setting(2, "Number of frames on each side that a delta is computed from.", ge=1, le=50)
    dither: float = setting(0.0, "Dither in units of the 16-bit scale.", ge=0, lt=32_768)
    dither_seed: int = setting(0, "Seed of the dither.", ge=0)
    vad: Literal["xvector", "ivector", "kaldi_default", "none"] = setting(
        "xvector", "Energy VAD, with the settings of a Kaldi recipe.", common=True
    )
    kind: str = setting(
        "mfcc",
        "mfcc, fbank (log-mel bands), functionals (one vector per utterance), encoder (a pretrained one), npy (arrays "
        "of your own), or the name of a registered function.",
        common=True,
    )
    energy: bool = setting(False, "fbank: put the raw log energy before the bands.")
    pitch: bool = setting(False, "Append Kaldi's pitch features after the deltas.", common=True)
    log_pitch: Literal["normalised", "raw", "both"] = setting(
        "normalised", "pitch: log F0 to append, normalised as in Kaldi, raw, or both."
    )
    pitch_low_hz: float = setting(50.0, "Lowest F0 in Hz.", ge=20)
    pitch_high_hz: float = setting(400.0, "Highest F0 in Hz.", le=1000)
    encoder: str = setting(
        "",
        "encoder: its folder, or its id on the Hugging Face hub, such as openai/whisper-base.",
        common=True,
        compare=False,
    )
    layer: str = setting(
        "mean",
        "encoder: number of a layer (0: the transformer's input), mean (of all), or several (2,3,4) or all (learned), "
        "of which the network learns a weighted mean.",
        common=True,
    )
    encoder_digest: str = setting("", "encoder: hash of the encoder's files.", derived=True)
    encoder_width: int = setting(0, "encoder: width of a layer.", ge=0, derived=True)
    encoder_layers: int = setting(0, "encoder: number of layers side by side, if several.", ge=0, derived=True)
    level: Literal["recorded", "fixed"] = setting(
        "recorded",
        "encoder: level of a recording: as it is, or fixed, an RMS of -20 dBFS, for microphones that differ.",
    )
    folder: str = setting(
        "", "npy: folder with an array (T, F) for each utterance, ID.npy.", common=True, compare=False
    )
    width: int = setting(0, "npy and plug-ins: number of features in a frame.", ge=0, derived=True)
    code: str = setting("", "plug-ins: hash of the function's source.", derived=True)
    thin: int = setting(1, "Average this many consecutive frames into one, after the VAD.", ge=1, le=100)
    pool: Literal["none", "mean", "statistics"] = setting(
        "none",
        "encoder: one vector per utterance: the mean of its frames, or mean and standard deviation (statistics).",
    )
    copy: int = setting(
        0, "Number of the augmented copy that is analysed (0: the recording itself).", ge=0, derived=True
    )
    summary: bool = setting(
        False, "Append the functionals of the whole utterance to each frame (fbank, energy, raw log pitch, no deltas)."
    )

    def __post_init__(self) -> None:
        check(self)
        if self.foreign:
            object.__setattr__(self, "vad", "none")
        if self.kind == "encoder":
            frames = {"frame_length_ms": ENCODER_FRAME_MS, "frame_shift_ms": ENCODER_SHIFT_MS}
            for name, value in (frames if self._several else {"encoder_layers": 0, **frames}).items():
                object.__setattr__(self, name, value)
        for what, mend in self._problems():
            raise ConfigError(what, mend=mend)

    def _problems(self) -> Iterator[tuple[str, str | None]]:
        """Yield each problem and how to mend it."""
        kind, nyquist = self.kind, self.sample_rate / 2
        if self.foreign:
            known = (*KINDS, *plugins.names("feature"))
            if kind not in known and not self.code:  # with code, a function that another program registered
                yield f"unknown kind of features '{kind}'", did_you_mean(kind, known)
            if (kind == "npy") != bool(self.folder):
                yield "features of kind npy need a folder", "Name it: --features.folder."
            if self.energy or self.pitch or self.summary:
                yield f"features of kind {kind} are used as they are", "Leave out energy, pitch and summary."
        elif self.folder or self.width or self.code:
            yield f"features of kind {kind} do not use a folder of arrays", "Choose kind npy, or leave out the folder."
        if kind == "encoder":
            if not (self.encoder or self.resolved):
                yield "features of kind encoder need an encoder", "Name its folder: --features.encoder."
            if self.layer not in ("mean", LEARNED) and not all(word.isdecimal() for word in self.layer.split(",")):
                yield f"unknown layer '{self.layer}'", f"Choose a number, several (2,3), mean or {LEARNED}."
            if self.sample_rate != ENCODER_RATE:
                yield f"encoders take {ENCODER_RATE} Hz, not {self.sample_rate}", "Leave out sample_rate."
        elif self.encoder or self.encoder_digest or self.encoder_width or self.encoder_layers or self.layer != "mean":
            yield f"features of kind {kind} have no encoder", "Choose kind encoder, or leave out encoder and layer."
        checks = {
            "frame_length_ms": self.samples_per_frame >= 2,
            "frame_shift_ms": self.samples_per_shift >= 1,
            "low_hz": self.low_hz < nyquist,
            "high_hz": self.high_hz == 0 or self.low_hz < self.high_hz <= nyquist,
            "cepstra": self.cepstra <= self.mel_bins or kind == "fbank",
            "thin": self.thin == 1 or (kind != "functionals" and self.pool == "none"),
            "pool": self.pool == "none" or (kind == "encoder" and self.layer != LEARNED),
            "pitch_low_hz": self.pitch_low_hz < self.pitch_high_hz,
        }
        for name in (name for name, valid in checks.items() if not valid):
            yield f"feature setting {name} = {getattr(self, name)} is out of range", None
        if self.level != "recorded" and kind != "encoder":
            yield f"the level of features of kind {kind} cannot be fixed", "Choose kind encoder, or leave out level."
        if self.energy and kind == "encoder":
            yield "energy cannot be appended to the frames of an encoder", "Leave out energy."
        if self.energy and kind == "mfcc":
            yield "MFCC include the energy already, as c0", "Leave out energy, or choose kind fbank."
        complete = kind == "fbank" and self.energy and self.pitch and self.log_pitch != "normalised" and not self.deltas
        if self.summary and not complete:
            mend = "Choose kind fbank, energy true, pitch true, log_pitch both, deltas 0; or leave out summary."
            yield "a summary needs mel bands, energy and raw log F0, without deltas", mend
        if self.needs_pitch:  # extracted at 4 kHz: its frames must coincide with the spectral frames
            shift, samples = self.frame_shift_ms, self.frame_shift_ms * self.sample_rate / 1000
            if self.sample_rate < 4000 or not 10 <= self.frame_length_ms <= 100:
                yield "pitch needs at least 4 kHz and frames of 10 to 100 ms", None
            if not ((shift * 4).is_integer() and samples.is_integer() and shift >= 1):
                mend = "Use a shift that is a whole number of samples and of quarters of a millisecond."
                yield f"pitch cannot follow frames {shift:g} ms apart at {self.sample_rate} Hz", mend

    @property
    def foreign(self) -> bool:
        """Whether the frames come from a folder of arrays or a plug-in."""
        return self.kind == "npy" or self.kind not in KINDS

    @property
    def resolved(self) -> bool:
        """Whether the settings derived from an encoder's files, arrays or a plug-in are filled in."""
        if self.kind == "encoder":
            return bool(self.encoder_digest and self.encoder_width and (self.encoder_layers or not self._several))
        return bool(self.width) or not self.foreign

    @property
    def _several(self) -> bool:
        return self.pool == "none" and (self.layer == LEARNED or "," in self.layer)

    def _check_resolved(self) -> None:
        if not self.resolved:
            where = self.encoder or self.folder or self.kind
            raise ConfigError(
                "these feature settings are not resolved yet", where=where, mend="Call resolve(settings)."
            )

    @property
    def samples_per_frame(self) -> int:
        """The length of a frame, truncated to whole samples as Kaldi does."""
        return int(self.sample_rate * 0.001 * self.frame_length_ms)

    @property
    def samples_per_shift(self) -> int:
        """The distance between frames in samples."""
        return int(self.sample_rate * 0.001 * self.frame_shift_ms)

    @property
    def dim(self) -> int:
        """F, the number of features in a frame, or the number of functionals."""
        self._check_resolved()
        if self.foreign:
            return self.width
        if self.kind == "functionals":
            return self._functionals
        if self.kind == "encoder":
            frame = self.encoder_width * max(self.encoder_layers, 1) + self.pitch_dim
            return frame * (2 if self.pool == "statistics" else 1)
        spectral = self.cepstra if self.kind == "mfcc" else self.mel_bins + self.energy
        return spectral * (1 + self.deltas) + self.pitch_dim + self.summary_dim

    @property
    def _functionals(self) -> int:
        from unheard.features.functionals import names

        return len(names(self))

    @property
    def summary_dim(self) -> int:
        """Number of trailing columns that are the same in every frame of an utterance."""
        return self._functionals if self.summary else 0

    @property
    def needs_pitch(self) -> bool:
        """Whether kaldi-native-fbank is required."""
        return self.pitch or self.kind == "functionals"

    @property
    def pitch_dim(self) -> int:
        """Number of pitch columns: voicing, the change of pitch, and one or two of log pitch."""
        return (4 if self.log_pitch == "both" else 3) if self.pitch else 0

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that identify the values of the settings."""
        self._check_resolved()
        same = {f.name for f in fields(self) if getattr(self, f.name) == f.default}
        left_out = _LATER & same | {"encoder", "folder"}  # locations do not affect values
        values = {name: value for name, value in asdict(self).items() if name not in left_out}
        text = json.dumps({"version": VERSION, **values}, sort_keys=True)
        return blake2b(text.encode(), digest_size=6).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for JSON and YAML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FeatureSettings:
        """Create settings from plain values; raises `ConfigError` for an unknown name."""
        known = [f.name for f in fields(cls)]
        for name in (name for name in values if name not in known):
            raise ConfigError(f"unknown feature setting '{name}'", mend=did_you_mean(name, known))
        return cls(**values)


@dataclass(frozen=True)
class Columns:
    """Columns of a frame that hold the mel bands, the log energy and the raw log F0; None if absent.

    The last `summary` columns are the same in all frames of an utterance.
    """

    bands: slice | None = None
    energy: int | None = None
    log_f0: int | None = None
    summary: int = 0


def columns_of(settings: FeatureSettings) -> Columns:
    """Return the columns of frames with `settings`, except those that have deltas.

    >>> columns_of(FeatureSettings(kind="fbank", mel_bins=40, energy=True, deltas=0, pitch=True, log_pitch="both"))
    Columns(bands=slice(1, 41, None), energy=0, log_f0=44, summary=0)
    """
    if settings.kind == "functionals":
        return Columns()
    frame = settings.dim - settings.summary_dim
    log_f0 = frame - 1 if settings.pitch and settings.log_pitch != "normalised" else None
    if settings.kind != "fbank" or settings.deltas:
        return Columns(log_f0=log_f0)
    bands = slice(int(settings.energy), settings.energy + settings.mel_bins)
    return Columns(bands, 0 if settings.energy else None, log_f0, settings.summary_dim)
