"""Speech recognised as it arrives, over the WebSocket `/stream`.

    client: {"sample_rate": 48000, "token": "", "min_confidence": 0}, then binary messages (16-bit little-endian mono),
            then {"end": true}
    server: {"seconds": 4.1, "steps": […]} for each message that completes a step, then {"answer": {…}}

The answer equals that of `/predict?steps=true` for the same samples in a WAV file. A refusal is `{"problem": {…}}`, and
the connection is closed with the code 4000 + its status.
"""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any, Literal

import anyio
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from unheard.recogniser.prediction import Segment
from unheard.server.answers import Answer
from unheard.server.guard import check_token
from unheard.server.refusals import Refusal
from unheard.server.scoring import Scored, usable

log = logging.getLogger("unheard.server")

LONGEST_MESSAGE = 1_000_000  # bytes of one message
BEHIND = 15.0  # seconds that the audio may lag behind the clock, as in a connection that is slow or silent


class Begin(BaseModel):
    """The first message."""

    model_config = ConfigDict(extra="forbid")
    sample_rate: int = Field(ge=4000, le=384_000)
    token: str = ""
    min_confidence: float = Field(default=0.0, ge=0, le=1)


class End(BaseModel):
    """The last message."""

    end: Literal[True]


MESSAGE: TypeAdapter[Begin | End] = TypeAdapter(Begin | End)


async def converse(socket: WebSocket) -> None:
    """Serve one connection to its end."""
    await socket.accept()
    code, last = 1000, {}
    try:
        with socket.app.state.work.streaming():
            last = {"answer": await _listen(socket)}
    except WebSocketDisconnect:
        return
    except Refusal as refusal:
        code, last = 4000 + refusal.status, {"problem": refusal.as_dict()}
    except Exception:
        log.exception("a stream failed")
        code, last = 4500, {"problem": Refusal("internal").as_dict()}
    with suppress(WebSocketDisconnect, RuntimeError):  # it has left
        await socket.send_json(last)
        await socket.close(code)


async def _listen(socket: WebSocket) -> dict[str, Any]:
    """Score what arrives; returns the answer."""
    state = socket.app.state
    began, received, sent = time.monotonic(), 0.0, 0
    steps: list[Segment] = []
    first = await _next(socket, BEHIND)
    if not isinstance(first, Begin):
        raise Refusal("bad_message", "is not a start")
    check_token(state.settings, first.token)
    stream = state.recogniser.stream(**first.model_dump(exclude={"token"}), watch=steps.append)
    with usable():
        while isinstance(data := await _next(socket, BEHIND + received + began - time.monotonic()), bytes):
            state.work.check_running()
            if len(data) % 2:
                raise Refusal("bad_message", "has an odd number of bytes")
            received += len(data) / 2 / first.sample_rate
            if received > state.settings.max_seconds:
                raise Refusal("too_large", state.settings.max_seconds, "seconds")
            await asyncio.to_thread(stream.push, np.frombuffer(data, "<i2"))
            if new := steps[sent:]:
                await socket.send_json({"seconds": round(stream.seconds, 3), "steps": [one.as_dict() for one in new]})
                sent = len(steps)
        if not isinstance(data, End):
            raise Refusal("bad_message", "is a second start")
        prediction = await asyncio.to_thread(stream.finish)
    return Answer.of(Scored.of(state.recogniser, prediction, steps, first.sample_rate), steps=True)


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
