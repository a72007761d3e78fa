"""Samples of any type and any number of channels as one channel of float32."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from unheard.errors import AudioError

Samples: TypeAlias = npt.NDArray[np.float32]


MOST_CHANNELS = 64
"""No recording has more; what seems to is transposed."""


LOUDEST = 100.0
"""Float samples beyond 1 are amplified; beyond this (40 dB) they are integers as floats, at another scale."""


_CANCELLED = 1e-4
"""Power of a mix against that of its loudest channel from which on the channels cancel each other: 40 dB."""
_AUDIBLE = 1e-6  # power of a channel below which it is silence anyway: 60 dB below full scale
_ENOUGH = 4000  # samples from which on two channels are not opposite by chance


def to_float(samples: npt.NDArray[Any]) -> Samples:
    """Samples of any number type as float32 in [-1, 1]; integers are divided by their full scale.

    Raises `AudioError` for what holds no real numbers, is not (N,) or (N, channels), whose full scale nobody knows,
    and for floats at another scale.
    """
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "fiu":
        mend = "Give floats in [-1, 1] or integers, of shape (samples,) or (samples, channels)."
        raise AudioError(f"samples of shape {samples.shape} and type {samples.dtype} are no sound", mend=mend)
    if samples.ndim == 2 and samples.shape[1] > max(MOST_CHANNELS, samples.shape[0]):
        raise AudioError(
            f"samples of shape {samples.shape} have {samples.shape[1]} channels", mend="Give (samples, channels): x.T."
        )
    if samples.dtype.kind in "iu" and samples.dtype.itemsize > 4:
        mend = "Give them as what they were recorded in, say x.astype(numpy.int16), or floats in [-1, 1]."
        raise AudioError(f"samples of type {samples.dtype} do not say how loud the loudest is", mend=mend)
    if samples.dtype.kind == "f":
        check_scale(samples)
        return samples.astype(np.float32, copy=False)
    scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    middle = scale if samples.dtype.kind == "u" else 0.0
    return ((samples - middle) / scale).astype(np.float32)


def check_scale(samples: npt.NDArray[Any], name: str | None = None) -> None:
    """Raises `AudioError` for floats at another scale than [-1, 1], such as integers that became floats."""
    loudest = float(np.abs(samples).max(initial=0.0))
    if LOUDEST < loudest < np.inf:
        what = f"the samples are too large: floats lie in [-1, 1], and these reach {loudest:.4g}"
        mend = "Divide them by full scale (32768 of 16-bit ones), or give them as integers."
        raise AudioError(what, where=name, mend=mend)


def select_channel(samples: Samples, channel: str | int, name: str = "the samples") -> Samples:
    """One channel (N,) of samples (N,) or (N, channels); raises `AudioError` where it does not exist."""
    table = samples[:, None] if samples.ndim == 1 else samples
    mix = Mix(channel_index(channel, table.shape[1], name), name)
    chosen = mix(table)
    mix.check()
    return chosen


def channel_name(channel: str | int) -> str:
    """A channel as it is written in answers: ` Right` is right, `02` is 2."""
    word = str(channel).strip().lower()
    return str(int(word)) if word.isdecimal() else word


def channel_index(channel: str | int, channels: int, name: str) -> int | None:
    """The index of a channel; None: mix them all."""
    words = {"mix": 0, "left": 1, "right": 2}
    word = channel_name(channel)
    number = words[word] if word in words else int(word) if word.isdecimal() else -1
    if number == 0 and word == "mix":
        return None
    if number < 1:
        raise AudioError(
            f"unknown channel '{channel}'",
            where=name,
            mend="Channels: mix, left, right, or a number counted from 1."
            + (" Each on its own: `unheard predict`, or predict_channels." if word == "each" else ""),
        )
    if number > channels:
        what = f"has {channels} channel{'s' * (channels != 1)}, not a channel '{channel}'"
        mend = "Choose mix." if channels == 1 else f"Choose mix, or a number from 1 to {channels}."
        raise AudioError(what, where=name, mend=mend)
    return number - 1


class Mix:
    """Blocks (N, channels) or (N,) as blocks of one channel (N,): that of `index`, or (None) the mean of all.

    `check` afterwards says whether the mean of all was silence only because one channel is another upside down, as
    from a balanced line or a plug that is wired wrong. It does not depend on the blocks that the samples came in.
    """

    def __init__(self, index: int | None, name: str | None = None) -> None:
        self._index, self._name = index, name
        self._samples = 0
        self._of_mix = 0.0
        self._of_each: npt.NDArray[np.float64] = np.zeros(0)

    def __call__(self, block: Samples) -> Samples:
        """The channel of the next block (N, channels) or (N,): (N,)."""
        if block.ndim == 1:
            return block
        if block.shape[1] == 1:
            return block[:, 0]
        if self._index is not None:
            return np.ascontiguousarray(block[:, self._index])
        with np.errstate(invalid="ignore", over="ignore"):  # whether it is finite is asked later
            mixed: Samples = block.mean(axis=1, dtype=np.float32)
            if len(self._of_each) != block.shape[1]:
                self._samples, self._of_mix, self._of_each = 0, 0.0, np.zeros(block.shape[1])
            self._samples += len(mixed)
            self._of_mix += float(np.square(mixed).sum(dtype=np.float64))
            self._of_each = self._of_each + np.square(block).sum(axis=0, dtype=np.float64)
        return mixed

    def check(self) -> None:
        """Raises `AudioError` where the channels have cancelled each other out."""
        loudest = self._of_each.max(initial=0.0)
        if self._samples < _ENOUGH or loudest <= _AUDIBLE * self._samples or self._of_mix >= _CANCELLED * loudest:
            return
        what = "its channels cancel each other out when they are mixed: one is another upside down"
        raise AudioError(what, where=self._name, mend="Choose one channel, such as left.")


def finite(samples: npt.NDArray[Any]) -> bool:
    """Whether all samples are numbers. One reduction instead of a mask: a sum is finite only when every sample is."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(samples.sum(dtype=np.float64)))
