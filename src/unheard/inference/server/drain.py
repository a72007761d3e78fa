"""Reading on: what a client still sends when its answer is already known."""

from __future__ import annotations

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unheard.inference.server.settings import ServerSettings

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
