"""Everything that changes a feature's value, in one frozen dataclass with a short digest."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from typing import Any

from unheard.errors import ConfigError, did_you_mean
from unheard.features.vad import VAD_PRESETS

VERSION = 1
"""Part of every digest; raised when the same settings give other values than before."""


def _whole(value: Any) -> int:
    if int(value) != float(value):
        raise ValueError
    return int(value)


_CONVERT: dict[Any, Callable[[Any], Any]] = {"int": _whole, "float": float, "str": str}


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """MFCC, their deltas and the energy VAD; the defaults are Kaldi's, the VAD that of its x-vector recipes.

    `high_hz` 0 means the Nyquist frequency; `deltas` is the highest order (0: none); `vad` is a name in
    `VAD_PRESETS` or `none`. `dither` is in units of the 16-bit scale: Kaldi's own default is 1, ours 0 so
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

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            try:
                object.__setattr__(self, field.name, _CONVERT[field.type](value))
            except (TypeError, ValueError):
                raise ConfigError(f"feature setting {field.name} = {value!r} has the wrong type") from None
        nyquist = self.sample_rate / 2
        checks = {
            "sample_rate": 1000 <= self.sample_rate <= 384_000,
            "frame_length_ms": self.samples_per_frame >= 2 and self.frame_length_ms <= 1000,
            "frame_shift_ms": self.samples_per_shift >= 1 and self.frame_shift_ms <= 1000,
            "preemphasis": 0 <= self.preemphasis <= 1,
            "mel_bins": 3 <= self.mel_bins <= 256,
            "low_hz": 0 <= self.low_hz < nyquist,
            "high_hz": self.high_hz == 0 or self.low_hz < self.high_hz <= nyquist,
            "cepstra": 1 <= self.cepstra <= self.mel_bins,
            "lifter": self.lifter >= 0,
            "deltas": 0 <= self.deltas <= 4,
            "delta_window": 1 <= self.delta_window <= 50,
            "dither": 0 <= self.dither < 32_768,
            "dither_seed": self.dither_seed >= 0,
        }
        for name, fine in checks.items():
            if not fine:
                raise ConfigError(f"feature setting {name} = {getattr(self, name)} is out of range")
        if self.vad != "none" and self.vad not in VAD_PRESETS:
            raise ConfigError(f"unknown VAD '{self.vad}'", mend=did_you_mean(self.vad, [*VAD_PRESETS, "none"]))

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
        """F, the number of features in a frame."""
        return self.cepstra * (1 + self.deltas)

    @property
    def digest(self) -> str:
        """Twelve hex digits that differ whenever any value above differs."""
        text = json.dumps({"version": VERSION, **asdict(self)}, sort_keys=True)
        return blake2b(text.encode(), digest_size=6).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values, for JSON and YAML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FeatureSettings:
        """The settings from plain values; raises `ConfigError` for an unknown name."""
        known = {field.name for field in fields(cls)}
        for name in values:
            if name not in known:
                raise ConfigError(f"unknown feature setting '{name}'", mend=did_you_mean(name, known))
        return cls(**values)
