"""What a client is told when it gets no answer: a status, what is wrong, how to mend it. Never a traceback."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response

from unheard.errors import UnheardError


class Refusal(Exception):
    """A request that is refused with a `status`; `what` and `mend` are for the person who sent it.

    Made anew every time: an error that is raised again keeps what it was raised with before, uploads included.
    """

    def __init__(self, status: int, what: str, mend: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(what)
        self.status, self.what, self.mend, self.headers = status, what, mend, dict(headers or {})

    def response(self) -> Response:
        """The refusal as JSON: `{"what": …, "mend": …}`."""
        body = json.dumps({"what": self.what, "mend": self.mend}, ensure_ascii=False)
        return Response(body, self.status, self.headers, media_type="application/json")


def refused(error: UnheardError, status: int = 422) -> Refusal:
    """An error of the library as a refusal; `where` is left out, since it can name places of this machine."""
    return Refusal(status, error.what, error.mend or "Send another recording.")


def too_large(what: str, limit: float, unit: str) -> Refusal:
    """413: more bytes or seconds than this server takes."""
    return Refusal(
        413,
        f"{what} is more than the {limit:g} {unit} this server takes at once",
        "Send it in shorter pieces, or start the server with a higher limit.",
    )


def busy() -> Refusal:
    """429: all places are taken."""
    return Refusal(
        429,
        "the server has as much to do as it takes at once",
        "Try again in a few seconds.",
        {"Retry-After": "2"},
    )


def too_slow() -> Refusal:
    """504: the work took longer than the timeout."""
    return Refusal(
        504,
        "no answer was found in the time this server allows",
        "Send a shorter recording, or start the server with a longer timeout.",
    )


def upload_too_slow() -> Refusal:
    """408: the upload took longer than the timeout."""
    return Refusal(
        408,
        "the recording did not arrive in the time this server allows",
        "Send it again, smaller or over a faster connection.",
        {"Connection": "close"},
    )


def broken() -> Refusal:
    """500: a fault of the server's own."""
    return Refusal(
        500,
        "something went wrong in the server",
        "Try again; if it stays, the server's own log says why.",
    )
