"""A microphone as blocks of samples; needs the extra `microphone` (sounddevice, which brings PortAudio)."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np

from unheard.channels import Samples
from unheard.errors import AudioError, MissingExtra

BLOCK_SECONDS = 0.1
_MOST_WAITING = 600  # blocks: a minute, after which sound is lost rather than memory


class Microphone:
    """An input device, open from `with` to its end; `rate` is what it records at, `wanted` where it can.

    `lost` counts blocks that could not be taken in time, `overflows` how often the device itself lost sound.

    Raises `MissingExtra` without sounddevice, and `AudioError` where there is no microphone.
    """

    def __init__(self, wanted: int, device: str | int | None = None) -> None:
        self._sound = _sounddevice()
        self._blocks: queue.Queue[Samples | None] = queue.Queue(_MOST_WAITING)
        self.lost = self.overflows = 0
        self.rate, self._stream = self._opened(wanted, device)

    def __enter__(self) -> Microphone:
        self._stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.stop()
        self._stream.close()

    def blocks(self, patience: float = 5.0) -> Iterator[Samples]:
        """Blocks (N,) as they are recorded, until the device ends; raises `AudioError` when none comes any more."""
        while True:
            try:
                block = self._blocks.get(timeout=patience)
            except queue.Empty:
                raise AudioError("the microphone is gone", mend="Check that it is connected.") from None
            if block is None:
                return
            yield block

    def _opened(self, wanted: int, device: str | int | None) -> tuple[int, Any]:
        """The stream at the rate `wanted`, else at the device's own."""
        try:
            try:
                return wanted, self._input(wanted, device)
            except self._sound.PortAudioError:
                own = int(self._sound.query_devices(device, "input")["default_samplerate"])
                return own, self._input(own, device)
        except (self._sound.PortAudioError, ValueError) as problem:
            raise AudioError(
                f"no microphone can be used ({str(problem).splitlines()[0]})",
                mend="Connect one, choose it with --device, or send samples with --pcm.",
            ) from None

    def _input(self, rate: int, device: str | int | None) -> Any:
        return self._sound.InputStream(
            samplerate=rate,
            blocksize=round(BLOCK_SECONDS * rate),
            device=device,
            channels=1,
            dtype="float32",
            callback=self._take,
            finished_callback=self._end,
        )

    def _take(self, samples: np.ndarray, frames: int, time: object, status: object) -> None:
        """Called by PortAudio in a thread of its own, with a buffer that is its own."""
        self.overflows += bool(getattr(status, "input_overflow", False))
        try:
            self._blocks.put_nowait(samples[:, 0].copy())
        except queue.Full:
            self.lost += 1

    def _end(self) -> None:
        try:
            self._blocks.put_nowait(None)
        except queue.Full:
            self.lost += 1


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise MissingExtra("sounddevice", "microphone") from None
    except OSError as problem:
        raise AudioError(
            f"the microphone needs PortAudio ({problem})", mend="Install it, on Debian with: apt install libportaudio2"
        ) from None
    return sounddevice
