"""Speech recognised as it arrives, over the WebSocket `/stream`.

    client: {"sample_rate": 48000, "token": "", "min_confidence": 0}, then binary messages (16-bit little-endian mono),
            then {"end": true}
    server: {"seconds": 4.1, "steps": […]} for each message that completes a step, then {"answer": {…}}

The answer equals that of `/predict?steps=true` for the same samples in a WAV file. A refusal is `{"problem": {…}}`, and
the connection is closed with the code 4000 + its status.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import anyio
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from unheard.errors import AudioError
from unheard.recogniser.prediction import Segment
from unheard.recogniser.recogniser import Recogniser
from unheard.server.answers import Answer, SegmentAnswer
from unheard.server.guard import check_token
from unheard.server.refusals import Refusal, unusable
from unheard.server.scoring import Scored
from unheard.server.settings import ServerSettings
from unheard.server.work import Work

log = logging.getLogger("unheard.server")

LONGEST_MESSAGE = 1_000_000
"""Bytes of one message."""

BEHIND = 15.0
"""Seconds that the audio may lag behind the clock, as in a connection that is slow or silent."""


class Begin(BaseModel):
    """The first message."""

    model_config = ConfigDict(extra="forbid")
    sample_rate: int = Field(ge=4000, le=384_000)
    token: str = ""
    min_confidence: float = Field(default=0.0, ge=0, le=1)


class End(BaseModel):
    """The last message."""

    end: bool


MESSAGE: TypeAdapter[Begin | End] = TypeAdapter(Begin | End)


async def converse(socket: WebSocket) -> None:
    """Serve one connection to its end."""
    await socket.accept()
    code, last = 1000, {}
    try:
        with socket.app.state.work.streaming():
            last = {"answer": await _listen(socket, **socket.app.state._state)}
    except WebSocketDisconnect:
        return
    except Refusal as refusal:
        code, last = 4000 + refusal.status, {"problem": refusal.as_dict()}
    except Exception:
        log.exception("a stream failed")
        code, last = 4500, {"problem": Refusal("internal").as_dict()}
    try:
        await socket.send_json(last)
        await socket.close(code)
    except (WebSocketDisconnect, RuntimeError):  # it has left
        pass


async def _listen(
    socket: WebSocket, recogniser: Recogniser, settings: ServerSettings, work: Work, **_: Any
) -> dict[str, Any]:
    """Score what arrives; returns the answer."""
    began, sent = time.monotonic(), 0
    steps: list[Segment] = []
    first = await _next(socket, BEHIND)
    if not isinstance(first, Begin):
        raise Refusal("bad_message", "is not a start")
    check_token(settings, first.token)
    options = first.model_dump(include={"sample_rate", "min_confidence"})
    stream, received = recogniser.stream(**options, watch=steps.append), 0.0
    try:
        while isinstance(data := await _next(socket, BEHIND + received + began - time.monotonic()), bytes):
            if work.stopped.is_set():
                raise Refusal("stopping")
            if len(data) % 2:
                raise Refusal("bad_message", "has an odd number of bytes")
            received += len(data) / 2 / first.sample_rate
            if received > settings.max_seconds:
                raise Refusal("too_large", settings.max_seconds, "seconds")
            await asyncio.to_thread(stream.push, np.frombuffer(data, "<i2"))
            if len(steps) > sent:
                new = [SegmentAnswer(**step.as_dict()).model_dump() for step in steps[sent:]]
                await socket.send_json({"seconds": round(stream.seconds, 3), "steps": new})
                sent = len(steps)
        if not isinstance(data, End):
            raise Refusal("bad_message", "is a second start")
        scored = await asyncio.to_thread(Scored.of, recogniser, stream, steps, first.sample_rate)
    except AudioError as error:
        raise unusable(error) from None
    return Answer.of(scored, steps=True).model_dump()


async def _next(socket: WebSocket, seconds: float) -> bytes | Begin | End:
    """The next message; raises `Refusal` where it is late or not understood."""
    try:
        with anyio.fail_after(max(seconds, 0)):
            message = await socket.receive()
    except TimeoutError:
        raise Refusal("slow_upload", f"is {BEHIND:g} seconds behind") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    if (data := message.get("bytes")) is not None:
        return bytes(data)
    try:
        return MESSAGE.validate_json(message["text"])
    except ValidationError:
        raise Refusal("bad_message", "was not understood") from None
