"""An upload into memory: never more than the limit, never longer than the timeout, never to a file."""

from __future__ import annotations

import anyio
from starlette.requests import ClientDisconnect, Request

from unheard.inference.server.refusals import Refusal, too_large, upload_too_slow
from unheard.inference.server.settings import ServerSettings

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
