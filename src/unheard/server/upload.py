"""An upload to predictions: decoded in memory, heard block by block, given up where nobody waits any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from threading import Event
from typing import TypeVar

import anyio
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unheard.audio import info, read_blocks
from unheard.errors import AudioError, TooLongError
from unheard.recogniser.prediction import Prediction, Segment
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.recogniser import Recogniser
from unheard.recogniser.sources import channels_of
from unheard.server.limits import Refusal, ServerSettings, refused, too_large, too_slow, upload_too_slow

T = TypeVar("T")

MOST_CHANNELS = 16
"""A compressed file can claim 255, and would take 255 times the memory while it is decoded."""

PIECE = 10
"""Seconds heard between two looks at whether anybody still waits."""


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """A prediction, the steps of one hop that its segments are made of, and a remark on the recording, if any."""

    prediction: Prediction
    steps: tuple[Segment, ...]
    remark: str | None = None


class Upload(BytesIO):
    """An upload as a file.

    A damaged recording can send its reader to before the start, which a `BytesIO` answers with an error that rises in
    a callback of libsndfile, where nobody can catch it.
    """

    def seek(self, offset: int, whence: int = 0) -> int:
        """Goes to the start instead of before it."""
        return super().seek(max(0, offset) if whence == 0 else offset, whence)


class Hearing:
    """One upload and what it may cost: at most `longest` seconds, and nothing more once `stop` is set.

    All raise a `Refusal`: 413 for too long a recording, 422 for what is none, holds too little speech to learn from or
    has no such channel, 504 when stopped.
    """

    def __init__(self, recogniser: Recogniser, body: bytes, longest: float, stop: Event) -> None:
        self._recogniser, self._longest, self._stop = recogniser, longest, stop
        self._file = Upload(body)
        self._remark: str | None = None

    def one(self, channel: str, voice: SpeakerProfile | None = None) -> Heard:
        """What is heard in one channel: mix, left, right or a number."""
        return self._answered(lambda: self._hear(channel, voice))

    def each(self) -> list[Heard]:
        """What is heard in every channel on its own."""
        return self._answered(lambda: [self._hear(channel) for channel in channels_of(self._file)])

    def learn(self, channel: str, known: SpeakerProfile | None) -> SpeakerProfile:
        """What one channel of the upload teaches of a voice, on top of what is `known`."""

        def enrol() -> SpeakerProfile:
            return self._recogniser.enrol(
                self._file, channel=channel, profile=known, longest=self._longest, progress=lambda _: self._go_on()
            )

        return self._answered(enrol)

    def _hear(self, channel: str, voice: SpeakerProfile | None = None) -> Heard:
        steps: list[Segment] = []
        stream = self._recogniser.stream(profile=voice, channel=channel, watch=steps.append)
        self._file.seek(0)
        for block in read_blocks(self._file, sample_rate=self._rate, channel=channel, longest=self._longest):
            for first in range(0, len(block), PIECE * self._rate):
                self._go_on()
                stream.push(block[first : first + PIECE * self._rate])
        prediction = stream.finish()
        if prediction.duration <= self._recogniser.windows.seconds:  # one utterance has one answer
            return Heard(prediction, prediction.segments, self._remark)
        steps[-1] = replace(steps[-1], end=prediction.duration)
        return Heard(prediction, tuple(steps), self._remark)

    @property
    def _rate(self) -> int:
        return self._recogniser.model.metadata.features.sample_rate

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise too_slow()

    def _answered(self, work: Callable[[], T]) -> T:
        """What `work` gives, its errors as refusals."""
        self._go_on()
        try:
            header = info(self._file)
            if header.channels > MOST_CHANNELS:
                raise AudioError(
                    f"has {header.channels} channels, more than the {MOST_CHANNELS} taken here", mend="Mix them first."
                )
            if header.sample_rate < self._rate:
                self._remark = (
                    f"recorded at {header.sample_rate:,} samples a second: what the model listens to is partly "
                    "missing, and it is right less often (see its card)"
                )
            self._file.seek(0)
            return work()
        except TooLongError:
            raise too_large("this recording", self._longest, "seconds") from None
        except AudioError as error:
            raise refused(error) from None


# An upload into memory: never more than the limit, never longer than the timeout, never to a file.

TYPES = ("audio/", "application/octet-stream")
"""Content types an upload may have; what it is, its bytes say. A form on another site can send none of these."""


async def read_body(request: Request, settings: ServerSettings) -> bytes:
    """The body of an upload.

    Raises `Refusal`: 415 for a content type that is no audio, 413 for too many bytes, 408 for a client that is too
    slow, 422 for an empty body.
    """
    kind = request.headers.get("content-type", "").lower()
    if not kind.startswith(TYPES):
        raise Refusal(
            415,
            f"an upload is the recording itself, not {kind.partition(';')[0] or 'something unnamed'}",
            "Send its bytes with a header such as Content-Type: audio/wav.",
        )
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > settings.bytes:
        raise too_large("this recording", settings.megabytes, "MB")
    body = bytearray()
    try:
        with anyio.fail_after(settings.timeout):
            async for chunk in request.stream():
                body += chunk
                if len(body) > settings.bytes:
                    raise too_large("this recording", settings.megabytes, "MB")
    except TimeoutError:
        raise upload_too_slow() from None
    except ClientDisconnect:  # nobody is left to hear it
        raise Refusal(400, "the connection ended before the recording did", "Send it again.") from None
    if not body:
        raise Refusal(422, "the upload is empty", "Send the bytes of a recording as the body of the request.")
    return bytes(body)


# Reading on: what a client still sends when its answer is already known.

UPLOADS = 8
"""So many times the largest upload are read on and thrown away."""


class Drain:
    """ASGI middleware: a request is read to its end, within bounds, before it is answered.

    Many clients listen only when they have sent everything. Refused earlier, they see a broken connection and never
    the reason. Nothing of what is read on is kept.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app = app
        self.bytes, self.seconds = UPLOADS * settings.bytes, settings.timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on, and reads on before the answer goes out."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        ended = "expect" in Headers(scope=scope)  # such a client asks first, and sends nothing when it is refused

        async def observed() -> Message:
            nonlocal ended
            message = await receive()
            ended = not message.get("more_body", False)
            return message

        async def last(message: Message) -> None:
            too_slow = message.get("status") == 408
            if message["type"] == "http.response.start" and not ended and not too_slow:
                await self._read_on(receive)
            await send(message)

        await self.app(scope, observed, last)

    async def _read_on(self, receive: Receive) -> None:
        left = self.bytes
        with anyio.move_on_after(self.seconds):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
