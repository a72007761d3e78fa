"""An upload in memory: bounded in bytes, refused when it trickles, never written to a file."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PureWindowsPath

import anyio
from prometheus_client import Gauge
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unheard.server.refusals import Refusal, busy
from unheard.server.settings import ServerSettings
from unheard.server.work import REGISTRY

UPLOADS = Gauge("unheard_upload_bytes", "Bytes held by uploads", registry=REGISTRY)

AUDIO_TYPES = (b"audio/", b"application/octet-stream")
"""Content types of a raw upload; the bytes say what it is. A form on another site can send none of these."""

RATE_GRACE = 5.0  # seconds before the rate of an upload is judged
MOST_CLIPS = 64  # parts of a multipart upload
PARTS = f"Send one part named file, and up to {MOST_CLIPS} named enrol or a file named segments."


@dataclass
class Upload:
    """The recording to score and its `name` in the form, clips of the same speaker to adapt to, the turns' file."""

    recording: bytes = b""
    name: str = ""
    enrol: list[bytes] = field(default_factory=list)
    segments: tuple[str, bytes] | None = None


class Budget:
    """Bytes that uploads hold together, from their first byte until they are answered."""

    def __init__(self, limit: float) -> None:
        self.limit, self.held = limit, 0

    @contextmanager
    def hold(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that holds more bytes until the block ends; it raises the `Refusal` 429 beyond the limit."""
        own = 0

        def hold_more(count: int) -> None:
            nonlocal own
            if count > 0 and self.held + count > self.limit:
                raise busy(5)
            own += count
            self.held += count
            UPLOADS.set(self.held)

        try:
            yield hold_more
        finally:
            hold_more(-own)


async def read_upload(request: Request, settings: ServerSettings, hold: Callable[[int], None]) -> Upload:
    """Read the body of a request: a raw recording, or a form with `file`, `segments`, `enrol`.

    Raises `Refusal`: 415 for a content type that is not audio, 413 for too many bytes, 408 for a client that is too
    slow, 422 for an empty body, 429 where `hold` refuses more bytes.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    multipart, boundary = kind == b"multipart/form-data", options.get(b"boundary", b"")
    if not multipart and not kind.lower().startswith(AUDIO_TYPES):
        raise Refusal("not_audio", kind.decode("latin-1") or "missing")
    if multipart and not boundary:
        raise Refusal("bad_form", "has no boundary")
    declared, too_large = request.headers.get("content-length", ""), ("too_large", settings.max_megabytes, "MB")
    if declared.isdecimal() and int(declared) > settings.bytes:
        raise Refusal(*too_large)
    body, began, stream = bytearray(), time.monotonic(), request.stream()
    try:
        while True:
            left = RATE_GRACE + len(body) / settings.min_rate - (time.monotonic() - began)
            with anyio.fail_after(max(left, 0)):
                chunk = await anext(stream, None)
            if chunk is None:
                break
            hold(len(chunk))
            body += chunk
            if len(body) > settings.bytes:
                raise Refusal(*too_large)
    except TimeoutError:
        raise Refusal("slow_upload", f"arrived at less than {settings.min_rate:g} bytes a second") from None
    except ClientDisconnect:
        raise Refusal("disconnected") from None
    upload = _parts(bytes(body), boundary) if multipart else Upload(bytes(body))
    if not upload.recording:
        raise Refusal("empty", "form has no part named file, or an empty one" if multipart else "upload is empty")
    return upload


def _parts(body: bytes, boundary: bytes) -> Upload:
    """The parts of a multipart body by name; names other than file, enrol and segments are refused."""
    upload = Upload()

    def take(part: Field | File) -> None:
        content = part.value if isinstance(part, Field) else part.file_object.getvalue()  # type: ignore[union-attr]
        name = "" if isinstance(part, Field) else (part.file_name or b"").decode("utf-8", "replace")
        if part.field_name == b"file" and not upload.recording:
            upload.recording = content or b""
            upload.name = "".join(filter(str.isprintable, PureWindowsPath(name).name))[-200:]
        elif part.field_name == b"enrol" and len(upload.enrol) < MOST_CLIPS:
            upload.enrol.append(content or b"")
        elif part.field_name == b"segments" and isinstance(part, File) and upload.segments is None:
            upload.segments = f"segments{PureWindowsPath(name).suffix[:20]}", content or b""
        else:
            name = (part.field_name or b"").decode("utf-8", "replace")[:40]
            raise Refusal("unexpected_part", f"unexpected part '{name}' in the form", PARTS)

    in_memory = {"MAX_MEMORY_FILE_SIZE": float("inf")}
    try:
        parser = FormParser("multipart/form-data", take, take, boundary=boundary, config=in_memory)
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise Refusal("bad_form", "cannot be parsed") from None
    if b"--" + boundary + b"--" not in body:
        raise Refusal("bad_form", "breaks off")
    return upload


class Drain:
    """ASGI middleware: read a request to its end, within bounds, before it is answered.

    Many clients listen only when they have sent everything. Refused earlier, they see a broken connection and never
    the reason. Nothing of what is read on is kept.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app = app
        self.bytes, self.seconds = 8 * settings.bytes, settings.timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and read on before the answer goes out."""
        ended = scope["type"] != "http" or "expect" in Headers(scope=scope)  # then a refused client sends nothing

        async def observed() -> Message:
            nonlocal ended
            message = await receive()
            ended = not message.get("more_body", False)
            return message

        async def last(message: Message) -> None:
            if message["type"] == "http.response.start" and not ended and message["status"] not in (408, 503):
                left = self.bytes
                with anyio.move_on_after(self.seconds):
                    while left > 0 and (rest := await receive()).get("more_body", False):
                        left -= len(rest.get("body", b""))
            await send(message)

        await self.app(scope, observed, last)
