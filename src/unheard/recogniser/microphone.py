"""Record from a microphone; needs the extra `microphone` (sounddevice, which brings PortAudio)."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np

from unheard.audio import Samples
from unheard.errors import AudioError, MissingExtra

BLOCK_SECONDS = 0.1
_MOST_WAITING = 600  # blocks, a minute; further ones are dropped


class Microphone:
    """An input device, open inside `with`, at the sample rate `wanted` or else at its own, `rate`.

    `lost` counts blocks that were dropped because they were not read in time, `overflows` those that the device lost.
    Raises `MissingExtra` without sounddevice, `AudioError` without a microphone.
    """

    def __init__(self, wanted: int, device: str | int | None = None) -> None:
        try:
            import sounddevice
        except ModuleNotFoundError:
            raise MissingExtra("sounddevice", "microphone") from None
        except OSError as problem:
            what = f"the microphone needs PortAudio ({problem})"
            raise AudioError(what, mend="On Debian: apt install libportaudio2") from None
        self._blocks: queue.Queue[Samples | None] = queue.Queue(_MOST_WAITING)
        self.lost = self.overflows = 0

        def opened(rate: int) -> Any:
            sound = {"samplerate": rate, "blocksize": round(BLOCK_SECONDS * rate), "channels": 1, "dtype": "float32"}
            calls = {"callback": self._take, "finished_callback": lambda: self._put(None)}
            return sounddevice.InputStream(device=device, **sound, **calls)

        try:
            try:
                self.rate, self._stream = wanted, opened(wanted)
            except sounddevice.PortAudioError:
                self.rate = int(sounddevice.query_devices(device, "input")["default_samplerate"])
                self._stream = opened(self.rate)
        except (sounddevice.PortAudioError, ValueError) as problem:
            what = f"no microphone can be used ({str(problem).splitlines()[0]})"
            raise AudioError(what, mend="Connect one, choose it with --device, or send samples with --pcm.") from None

    def __enter__(self) -> Microphone:
        self._stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.stop()
        self._stream.close()

    def blocks(self, patience: float = 5.0) -> Iterator[Samples]:
        """Yield blocks (N,) as they are recorded; raises `AudioError` when none comes for `patience` seconds."""
        while True:
            try:
                block = self._blocks.get(timeout=patience)
            except queue.Empty:
                raise AudioError("the microphone is gone", mend="Check that it is connected.") from None
            if block is None:
                return
            yield block

    def _take(self, samples: np.ndarray, frames: int, time: object, status: object) -> None:
        """Called by PortAudio in its own thread, with a buffer that it reuses."""
        self.overflows += bool(getattr(status, "input_overflow", False))
        self._put(samples[:, 0].copy())

    def _put(self, block: Samples | None) -> None:
        try:
            self._blocks.put_nowait(block)
        except queue.Full:
            self.lost += 1
