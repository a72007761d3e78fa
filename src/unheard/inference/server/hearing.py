"""An upload to predictions: decoded in memory, heard block by block, given up where nobody waits any more."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from threading import Event
from typing import TypeVar

from unheard.audio import info, read_audio
from unheard.errors import AudioError, TooLongError
from unheard.inference.prediction import Prediction
from unheard.inference.recogniser import Recogniser, channels_of
from unheard.inference.server.refusals import TOO_SLOW, refused, too_large
from unheard.inference.voices import Voice

T = TypeVar("T")

MOST_CHANNELS = 16
"""A compressed file can claim 255, and would take 255 times the memory while it is decoded."""


class Hearing:
    """One upload and what it may cost: at most `longest` seconds, and nothing more once `stop` is set.

    All raise a `Refusal`: 413 for too long a recording, 422 for what is none, holds too little speech to learn from or
    has no such channel, 504 when stopped.
    """

    def __init__(self, recogniser: Recogniser, body: bytes, longest: float, stop: Event) -> None:
        self._recogniser, self._longest, self._stop = recogniser, longest, stop
        self._file = BytesIO(body)

    def one(self, channel: str, voice: Voice | None = None) -> Prediction:
        """The prediction for one channel: mix, left, right or a number."""
        return self._answered(lambda: self._predict(channel, voice))

    def each(self) -> list[Prediction]:
        """A prediction for every channel on its own."""
        return self._answered(lambda: [self._predict(channel) for channel in channels_of(self._file)])

    def learn(self, known: Voice | None) -> Voice:
        """What the upload teaches of a voice, on top of what is `known`."""

        def enrol() -> Voice:
            rate = self._recogniser.model.metadata.features.sample_rate
            samples = read_audio(self._file, sample_rate=rate, longest=self._longest)
            return self._recogniser.enrol(samples, sample_rate=rate, voice=known)

        return self._answered(enrol)

    def _predict(self, channel: str, voice: Voice | None = None) -> Prediction:
        return self._recogniser.predict(
            self._file, channel=channel, voice=voice, longest=self._longest, progress=self._go_on
        )

    def _go_on(self, _: float) -> None:
        if self._stop.is_set():
            raise TOO_SLOW

    def _answered(self, work: Callable[[], T]) -> T:
        """What `work` gives, its errors as refusals."""
        self._go_on(0.0)
        try:
            channels = info(self._file).channels
            if channels > MOST_CHANNELS:
                raise AudioError(
                    f"has {channels} channels, more than the {MOST_CHANNELS} taken here", mend="Mix them first."
                )
            self._file.seek(0)
            return work()
        except TooLongError:
            raise too_large("this recording", self._longest, "seconds") from None
        except AudioError as error:
            raise refused(error) from None
