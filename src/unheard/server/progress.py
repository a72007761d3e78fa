"""An answer that tells how far the work is: JSON lines, as percentages on a page need."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from unheard.server.answers import Answer
from unheard.server.refusals import Refusal
from unheard.server.scoring import Scored
from unheard.server.work import Job

LINES = "application/x-ndjson"

EVERY = 0.2
"""Seconds between two lines."""


class Progress(Response):
    """Lines of `{"progress": 0.4}`, then one of `{"answer": […]}` or `{"problem": {…}}`.

    A request refused before it is admitted has the status of the refusal, as without progress.
    """

    def __init__(self, job: Job, scored: Callable[[], Awaitable[list[Scored]]], of: Callable[[Scored], Answer]) -> None:
        super().__init__(media_type=LINES, headers={"X-Accel-Buffering": "no"})  # nginx sends each line at once
        del self.headers["content-length"]
        self.job, self.scored, self.of = job, scored, of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines; raises `Refusal` before the first one."""
        began = False

        async def line(value: dict[str, Any], more: bool = True) -> None:
            nonlocal began
            if not began:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                began = True
            await send({"type": "http.response.body", "body": json.dumps(value).encode() + b"\n", "more_body": more})

        task = asyncio.ensure_future(self.scored())
        try:
            while not (await asyncio.wait({task}, timeout=EVERY))[0]:
                if self.job.share is not None:
                    await line({"progress": round(self.job.share, 3)})
            last: dict[str, Any] = {"answer": [self.of(one).model_dump() for one in task.result()]}
        except Exception as error:
            if not began:
                raise
            refusal = error if isinstance(error, Refusal) else Refusal("internal")
            last = {"problem": refusal.as_dict()}
        finally:
            task.cancel()
        await line(last, more=False)
