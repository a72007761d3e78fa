"""Everything that changes a feature's value, in one frozen dataclass with a short digest."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from typing import Any

from unheard.errors import ConfigError, did_you_mean
from unheard.features.vad import VAD_PRESETS

VERSION = 1
"""Part of every digest; raised when the same settings give other values than before."""

KINDS = ("mfcc", "fbank", "functionals", "ssl")
LEARNED = "learned"
"""The `layer` that is all of them, for a network to weigh."""

LOG_PITCH = ("normalised", "raw", "both")

_LATER = frozenset(
    {"kind", "energy", "pitch", "log_pitch", "pitch_low_hz", "pitch_high_hz", "layer", "encoder_digest",
     "encoder_width", "encoder_layers", "thin", "summary"}
)  # fmt: skip
"""Settings that came after results had been published: they enter a digest only where they are not the default."""


def _whole(value: Any) -> int:
    if int(value) != float(value):
        raise ValueError
    return int(value)


def _truth(value: Any) -> bool:
    if value not in (True, False):
        raise ValueError
    return bool(value)


_CONVERT: dict[Any, Callable[[Any], Any]] = {"int": _whole, "float": float, "str": str, "bool": _truth}


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """MFCC, their deltas and the energy VAD; the defaults are Kaldi's, the VAD that of its x-vector recipes.

    `kind` `functionals` is one vector an utterance (see `functionals.py`; energy and pitch are always in it). Else
    it is `mfcc` (c0 is the raw log energy) or `fbank`: the logarithms of `mel_bins` mel bands, after the raw
    log energy where `energy` is set. `pitch` appends Kaldi's pitch features after the deltas, which are not taken
    of them (see `pitch.py`); `log_pitch` is `normalised`, `raw` or `both`; F0 is searched from `pitch_low_hz` to
    `pitch_high_hz`.

    `kind` `ssl` is the frames of a pretrained encoder on disk (see `ssl.py`): `encoder` is its folder; `layer` a
    number, `mean`, or `learned`: all of them side by side, for a network that learns their weights. What the encoder is
    follows from its files, not from where it lies: `encoder_digest`, `encoder_width` and, of `learned`,
    `encoder_layers` are found when they are not given, and so are its frames, 25 ms every 20 ms; the VAD listens as it
    does to MFCC by default, and the spectral settings are not at work.

    `thin` is how many frames in a row, after VAD, become their mean: one of 20 ms where it is 2. `summary` appends the
    functionals of the whole utterance to each of its frames, for networks that look at both; they are made of the same
    frames, which have to be of kind `fbank` with energy, without deltas, and with raw log pitch.

    `high_hz` 0 means the Nyquist frequency; `deltas` is the highest order (0: none); `vad` is a
    name in `VAD_PRESETS` or `none`. `dither` is in units of the 16-bit scale: Kaldi's own default is 1, ours 0 so
    that features can be repeated; with dither, the noise of a recording follows from `dither_seed` and its
    samples. Raises `ConfigError` for values out of range.
    """

    sample_rate: int = 16_000
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    preemphasis: float = 0.97
    mel_bins: int = 23
    low_hz: float = 20.0
    high_hz: float = 0.0
    cepstra: int = 13
    lifter: float = 22.0
    deltas: int = 2
    delta_window: int = 2
    dither: float = 0.0
    dither_seed: int = 0
    vad: str = "xvector"
    kind: str = "mfcc"
    energy: bool = False
    pitch: bool = False
    log_pitch: str = "normalised"
    pitch_low_hz: float = 50.0
    pitch_high_hz: float = 400.0
    encoder: str = field(default="", compare=False)
    layer: str = "mean"
    encoder_digest: str = ""
    encoder_width: int = 0
    encoder_layers: int = 0
    thin: int = 1
    summary: bool = False

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            try:
                object.__setattr__(self, f.name, _CONVERT[f.type](value))
                if f.type == "float" and not math.isfinite(getattr(self, f.name)):
                    raise ValueError
            except (TypeError, ValueError, OverflowError):
                raise ConfigError(f"feature setting {f.name} = {value!r} has the wrong type") from None
        if self.kind == "ssl":
            self._find_encoder()
        elif self.encoder or self.encoder_digest or self.encoder_width or self.encoder_layers or self.layer != "mean":
            raise ConfigError(f"features of kind {self.kind} have no encoder", mend="Choose kind ssl.")
        nyquist = self.sample_rate / 2
        checks = {
            "sample_rate": 1000 <= self.sample_rate <= 384_000,
            "frame_length_ms": self.samples_per_frame >= 2 and self.frame_length_ms <= 1000,
            "frame_shift_ms": self.samples_per_shift >= 1 and self.frame_shift_ms <= 1000,
            "preemphasis": 0 <= self.preemphasis <= 1,
            "mel_bins": 3 <= self.mel_bins <= 256,
            "low_hz": 0 <= self.low_hz < nyquist,
            "high_hz": self.high_hz == 0 or self.low_hz < self.high_hz <= nyquist,
            "cepstra": 1 <= self.cepstra <= self.mel_bins or (self.kind == "fbank" and self.cepstra >= 1),
            "lifter": self.lifter >= 0,
            "deltas": 0 <= self.deltas <= 4,
            "thin": 1 <= self.thin <= 100 and (self.thin == 1 or self.kind != "functionals"),
            "delta_window": 1 <= self.delta_window <= 50,
            "dither": 0 <= self.dither < 32_768,
            "dither_seed": self.dither_seed >= 0,
            "pitch_low_hz": 20 <= self.pitch_low_hz < self.pitch_high_hz,
            "pitch_high_hz": self.pitch_high_hz <= 1000,
        }
        for name, fine in checks.items():
            if not fine:
                raise ConfigError(f"feature setting {name} = {getattr(self, name)} is out of range")
        names = {"VAD": (self.vad, [*VAD_PRESETS, "none"]), "kind of features": (self.kind, KINDS)}
        names["log_pitch"] = (self.log_pitch, LOG_PITCH)
        for what, (name, known) in names.items():
            if name not in known:
                raise ConfigError(f"unknown {what} '{name}'", mend=did_you_mean(name, known))
        if self.energy and self.kind == "ssl":
            raise ConfigError("the frames of an encoder have no energy beside them", mend="Leave energy out.")
        if self.energy and self.kind == "mfcc":
            raise ConfigError("MFCC hold the energy already, as c0", mend="Leave energy out, or choose kind fbank.")
        if self.summary and not (
            self.kind == "fbank" and self.energy and self.pitch and self.log_pitch != "normalised" and not self.deltas
        ):
            raise ConfigError(
                "a summary is made of mel bands, energy and log F0 as it is, without deltas",
                mend="Choose kind fbank, energy true, pitch true, log_pitch both, deltas 0; or leave summary out.",
            )
        if self.needs_pitch:
            self._check_pitch()

    def _find_encoder(self) -> None:
        """What the encoder decides; where that is known already its folder need not be there."""
        from unheard.features.encoder import FRAME_LENGTH_MS, FRAME_SHIFT_MS, SAMPLE_RATE, identify

        if self.layer != LEARNED:
            object.__setattr__(self, "encoder_layers", 0)
        if not (self.encoder_digest and self.encoder_width and (self.encoder_layers or self.layer != LEARNED)):
            if not self.encoder:
                raise ConfigError("features of kind ssl need an encoder", mend="Name its folder: --features.encoder.")
            found = identify(self.encoder)
            single = self.layer.isdigit() and int(self.layer) <= found.layers
            if not single and self.layer not in ("mean", LEARNED):
                raise ConfigError(
                    f"the encoder has no layer '{self.layer}'", mend=f"Choose mean, {LEARNED}, or 0 to {found.layers}."
                )
            object.__setattr__(self, "encoder_digest", found.digest)
            object.__setattr__(self, "encoder_width", found.width)
            # hidden states: the transformer's input and what each layer makes of it
            object.__setattr__(self, "encoder_layers", found.layers + 1 if self.layer == LEARNED else 0)
        if self.sample_rate != SAMPLE_RATE:
            raise ConfigError(f"encoders hear {SAMPLE_RATE} Hz, not {self.sample_rate}", mend="Leave sample_rate out.")
        object.__setattr__(self, "frame_length_ms", FRAME_LENGTH_MS)
        object.__setattr__(self, "frame_shift_ms", FRAME_SHIFT_MS)

    def _check_pitch(self) -> None:
        """Pitch is found at 4 kHz: the frames of both kinds must be able to lie over each other."""
        rate, shift = self.sample_rate, self.frame_shift_ms
        if rate < 4000 or not 10 <= self.frame_length_ms <= 100:
            raise ConfigError("pitch needs at least 4 kHz and frames of 10 to 100 ms")
        if not ((shift * 4).is_integer() and (shift * rate / 1000).is_integer() and shift >= 1):
            raise ConfigError(
                f"pitch cannot follow frames {shift:g} ms apart at {rate} Hz",
                mend="Use a shift that is a whole number of samples and of quarters of a millisecond.",
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
        """F, the number of features in a frame; of functionals, their number."""
        if self.kind == "functionals":
            from unheard.features.functionals import names

            return len(names(self))
        if self.kind == "ssl":
            return self.encoder_width * max(self.encoder_layers, 1) + self.pitch_dim
        spectral = self.cepstra if self.kind == "mfcc" else self.mel_bins + self.energy
        return spectral * (1 + self.deltas) + self.pitch_dim + self.summary_dim

    @property
    def summary_dim(self) -> int:
        """The columns, the last ones, that are the same in every frame of an utterance."""
        if not self.summary:
            return 0
        from unheard.features.functionals import names

        return len(names(self))

    @property
    def needs_pitch(self) -> bool:
        """Whether kaldi-native-fbank has to be there."""
        return self.pitch or self.kind == "functionals"

    @property
    def pitch_dim(self) -> int:
        """The columns that pitch adds: voicing, its change, and one or two of log pitch."""
        return (4 if self.log_pitch == "both" else 3) if self.pitch else 0

    @property
    def digest(self) -> str:
        """Twelve hex digits that differ whenever any value above differs."""
        same = {f.name for f in fields(self) if getattr(self, f.name) == f.default}
        left_out = _LATER & same | {"encoder"}  # where it lies changes nothing
        values = {name: value for name, value in asdict(self).items() if name not in left_out}
        if self.kind == "ssl" and self.thin > 1:
            values["thinned"] = True  # earlier versions left an encoder's frames as they were
        text = json.dumps({"version": VERSION, **values}, sort_keys=True)
        return blake2b(text.encode(), digest_size=6).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values, for JSON and YAML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FeatureSettings:
        """The settings from plain values; raises `ConfigError` for an unknown name."""
        known = {f.name for f in fields(cls)}
        for name in values:
            if name not in known:
                raise ConfigError(f"unknown feature setting '{name}'", mend=did_you_mean(name, known))
        return cls(**values)


# Which columns of a frame are what.


@dataclass(frozen=True)
class Columns:
    """Where in a frame the mel bands, the log energy and log F0 as it is are; None where there are none.

    The last `summary` columns are the same in all frames of an utterance.
    """

    bands: slice | None = None
    energy: int | None = None
    log_f0: int | None = None
    summary: int = 0


def columns_of(settings: FeatureSettings) -> Columns:
    """The columns of frames with `settings`; those of which deltas are taken too are not given.

    >>> columns_of(FeatureSettings(kind="fbank", mel_bins=40, energy=True, deltas=0, pitch=True, log_pitch="both"))
    Columns(bands=slice(1, 41, None), energy=0, log_f0=44, summary=0)
    """
    if settings.kind == "functionals":
        return Columns()
    frame = settings.dim - settings.summary_dim
    log_f0 = frame - 1 if settings.pitch and settings.log_pitch != "normalised" else None
    if settings.kind != "fbank" or settings.deltas:
        return Columns(log_f0=log_f0)
    first = int(settings.energy)
    return Columns(
        slice(first, first + settings.mel_bins), 0 if settings.energy else None, log_f0, settings.summary_dim
    )
