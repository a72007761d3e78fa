"""Requests that get no answer: a status, a code for programs, what is wrong and how to mend it."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

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
    422: "The recording or its turns cannot be read, or a parameter is wrong.",
    429: "Too much work is waiting; `Retry-After` says when to try again.",
    500: "The server failed.",
    503: "The server is stopping.",
    504: "Scoring took longer than the server allows.",
}
"""Status -> its description in the OpenAPI document."""

REFUSALS = {
    "ambiguous_length": (400, "the request has both Content-Length and Transfer-Encoding", "Send one of them."),
    "bad_form": (400, "the form {}", "Check how it is encoded; let your client set the header Content-Type."),
    "bad_request": (400, "{}", "See /docs for what there is."),
    "disconnected": (400, "the connection ended before the upload did", "Send it again."),
    "unauthorised": (401, "the access token is missing or wrong",
                     "Send the header Authorization: Bearer TOKEN (to /stream: in the first message)."),
    "wrong_origin": (403, "a page of another site sent this", "Open the server's own page, or allow it: --cors."),
    "not_found": (404, "{}", "See /docs for what there is."),
    "wrong_method": (405, "{}", "See /docs for what there is."),
    "slow_upload": (408, "the upload {}", "Send it again, smaller or over a faster connection."),
    "too_large": (413, "the recording exceeds this server's limit of {:g} {}",
                  "Send it in shorter pieces, or start the server with a higher limit."),
    "not_audio": (415, "the content type is {}",
                  "Send the bytes of a recording as Content-Type: audio/wav, or a form with a part named file."),
    "wrong_host": (421, "this server does not go by that name",
                   "Use its address or localhost; add another name with --name."),
    "bad_message": (422, "the message {}", "See the documentation of /stream."),
    "empty": (422, "the {}", "Send the bytes of a recording."),
    "no_adaptation": (422, "this model cannot adapt to a speaker", "Leave the enrol parts out."),
    "unexpected_part": (422, "{}", "{}"),
    "unknown_parameter": (422, "unknown parameter '{}'", "{}"),
    "unusable_audio": (422, "{}", "{}"),
    "unusable_segments": (422, "{}", "{}"),
    "wrong_parameter": (422, "{}", "See /docs for what it can be."),
    "busy": (429, "the server has as much work as it can finish in time", "Try again in {} s."),
    "internal": (500, "the server failed", "Try again; if it fails again, see the server's log."),
    "stopping": (503, "the server is stopping", "Send it again in a moment."),
    "timeout": (504, "scoring took longer than this server allows", "Send a shorter recording, or raise --timeout."),
}  # fmt: skip
"""Code -> status, what is wrong and how to mend it; `{}` are values of the request."""

HEADERS = {
    "ambiguous_length": {"Connection": "close"},
    "unauthorised": {"WWW-Authenticate": "Bearer"},
    "slow_upload": {"Connection": "close"},
    "stopping": {"Connection": "close", "Retry-After": "5"},
}


class Refusal(Exception):
    """A request refused for the reason `code`; `what` and `mend` are for the person who sent it.

    Create a new one every time: a raised exception holds on to its traceback, uploads included.
    """

    def __init__(self, code: str, *values: object, headers: Mapping[str, str] | None = None) -> None:
        self.code, (self.status, what, mend) = code, REFUSALS[code]
        self.what, self.mend = what.format(*values), mend.format(*values[-1:])  # the last value may be how to mend it
        self.headers = {**HEADERS.get(code, {}), **(headers or {})}
        super().__init__(self.what)

    def as_dict(self) -> dict[str, Any]:
        """Return the refusal as part of an answer whose status is another one."""
        return {"status": self.status, "code": self.code, "what": self.what, "mend": self.mend}

    def response(self) -> Response:
        """Return the refusal as JSON: code, what, mend."""
        body = json.dumps({"code": self.code, "what": self.what, "mend": self.mend}, ensure_ascii=False)
        return Response(body, self.status, self.headers, media_type="application/json")


def busy(seconds: float) -> Refusal:
    """Return the refusal for work in hand that leaves no room for another `seconds`."""
    wait = str(max(1, round(seconds + 0.5)))
    return Refusal("busy", wait, headers={"Retry-After": wait})
