"""Requests that get no answer: a status, a code for programs, what is wrong and how to mend it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from unheard.errors import UnheardError

STATUSES = {
    400: "The request is malformed, or the connection ended before the upload did.",
    401: "The bearer token is missing or wrong.",
    403: "A page of another site sent the request.",
    404: "There is nothing at this address.",
    405: "This address does not support the method.",
    408: "The upload arrived too slowly.",
    413: "The recording has too many bytes or seconds.",
    415: "The content type is not audio.",
    421: "The Host header is not a name of this server.",
    422: "The recording cannot be read, or a parameter is wrong.",
    429: "Too much work is waiting; `Retry-After` says when to try again.",
    500: "The server failed.",
    503: "The server is stopping.",
    504: "Scoring took longer than the server allows.",
}
"""Status -> its description in the OpenAPI document."""


class Refusal(Exception):
    """A request refused with `status`; `code` is for programs, `what` and `mend` for the person who sent it.

    Create a new one every time: a raised exception holds on to its traceback, uploads included.
    """

    def __init__(self, status: int, code: str, what: str, mend: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(what)
        self.status, self.code, self.what, self.mend = status, code, what, mend
        self.headers = dict(headers or {})

    def as_dict(self) -> dict[str, Any]:
        """Return the refusal as part of an answer whose status is another one."""
        return {"status": self.status, "code": self.code, "what": self.what, "mend": self.mend}

    def response(self) -> Response:
        """Return the refusal as JSON: code, what, mend."""
        body = json.dumps({"code": self.code, "what": self.what, "mend": self.mend}, ensure_ascii=False)
        return Response(body, self.status, self.headers, media_type="application/json")


def unusable(error: UnheardError, what: str = "") -> Refusal:
    """422 for a library error; `where` is left out, since it can name places on this machine."""
    return Refusal(422, "unusable_audio", f"{what}{error.what}", error.mend or "Send another recording.")


def too_large(limit: float, unit: str) -> Refusal:
    """413: more bytes or seconds than the server takes."""
    return Refusal(
        413,
        "too_large",
        f"the recording exceeds this server's limit of {limit:g} {unit}",
        "Send it in shorter pieces, or start the server with a higher limit.",
    )


def busy(seconds: float) -> Refusal:
    """429: the work in hand leaves no room for another `seconds`."""
    wait = str(max(1, round(seconds + 0.5)))
    return Refusal(
        429,
        "busy",
        "the server has as much work as it can finish in time",
        f"Try again in {wait} s.",
        {"Retry-After": wait},
    )


def too_slow() -> Refusal:
    """504: scoring took longer than the server allows."""
    return Refusal(
        504, "timeout", "scoring took longer than this server allows", "Send a shorter recording, or raise --timeout."
    )


def stopping() -> Refusal:
    """503: the server is about to stop."""
    return Refusal(
        503,
        "stopping",
        "the server is stopping",
        "Send it again in a moment.",
        {"Connection": "close", "Retry-After": "5"},
    )


def broken() -> Refusal:
    """500: a fault of the server."""
    return Refusal(500, "internal", "the server failed", "Try again; if it fails again, see the server's log.")
