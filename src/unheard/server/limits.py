"""What a server allows: where it listens, whom it answers, how much it takes at once."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from threading import Event
from typing import Any, TypeVar
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unheard.errors import ConfigError, UnheardError


def loopback(host: str) -> bool:
    """Whether an address or name means this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _cores() -> int:
    return max(1, min(4, os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits of a server; the defaults suit one person on one machine.

    The two sizes belong together: fifteen minutes at 16 kHz and 16 bits are 29 MB. Raises `ConfigError` for
    values that no server can work with.
    """

    host: str = "127.0.0.1"
    """Address to listen on; anything but a loopback address opens the server to others."""
    port: int = 8000
    """0 takes a free one."""
    names: tuple[str, ...] = ()
    """Host names it answers to beside `localhost`; addresses need no name."""
    megabytes: float = 32.0
    """The largest upload."""
    seconds: float = 900.0
    """The longest recording, decoded."""
    timeout: float = 30.0
    """Seconds for an upload to arrive, and seconds for an answer to be found."""
    concurrency: int = _cores()
    """Recordings worked on at once."""
    waiting: int = 8
    """Recordings that may wait for their turn; one more is answered 429."""

    def __post_init__(self) -> None:
        for name in ("megabytes", "seconds", "timeout"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}", mend="Give a number above 0.")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}", mend="Give a number from 0 (any free one) to 65535.")
        if self.concurrency < 1 or self.waiting < 0:
            raise ConfigError(
                f"{self.concurrency} at once and {self.waiting} waiting answer nobody",
                mend="Give concurrency of at least 1 and waiting of at least 0.",
            )

    @property
    def bytes(self) -> int:
        """The largest upload, in bytes."""
        return round(self.megabytes * 1_000_000)

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        return loopback(self.host)


# What a client is told when it gets no answer: a status, what is wrong, how to mend it. Never a traceback.


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


# The door of the server: who may ask, and what every answer carries.
#
# A page in somebody's browser can send requests to a server on their own machine. Two checks keep strangers' pages
# out: the `Host` must be a name or address of this server (else another name was made to point here: DNS rebinding),
# and the `Origin`, which browsers add and pages cannot change, must be this server itself (else another site is
# asking).

log = logging.getLogger("unheard.server")

SECURITY = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=(), payment=(), usb=()",
    "cache-control": "no-store",
}
"""Headers of every answer; `cache-control` only where the answer has none of its own."""


class Guard:
    """ASGI middleware: checks Host and Origin, adds the security headers, lets no traceback out."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app = app
        self.local = settings.local
        self.names = {bare(name) for name in ("localhost", settings.host, *settings.names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, refuses, or hands on one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self.check(Headers(scope=scope))
            await self.app(scope, receive, guarded)
        except Refusal as refusal:
            await refusal.response()(scope, receive, guarded)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if begun:  # half an answer is out: the connection ends, and the client sees that it broke off
                raise
            await broken().response()(scope, receive, guarded)

    def check(self, headers: Headers) -> None:
        """Raises `Refusal` for a request that was not meant for this server or comes from another site."""
        host = headers.getlist("host")
        if len(host) != 1 or not self.known(_split(host[0])[0]):
            raise Refusal(
                421,
                "this server does not go by that name",
                "Use its address or localhost; a name of its own is given with --name.",
            )
        site = headers.get("sec-fetch-site", "same-origin")
        asks = headers.get("sec-fetch-mode", "cors") != "navigate"
        foreign = any(_origin(origin) != _split(host[0]) for origin in headers.getlist("origin"))
        if foreign or (asks and site not in ("same-origin", "none")):
            raise Refusal(403, "another site is asking", "Open the server's own page, or ask from a program.")

    def known(self, host: str) -> bool:
        """Whether `host` is this server: a name it was given, or an address, which nobody can rebind."""
        if host in self.names:
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return address.is_loopback or not self.local


def bare(name: str) -> str:
    """A name given for this server as a request's Host is compared: without port, brackets and capitals."""
    return _split(name)[0] or name.lower().strip("[]").rstrip(".")


def _split(netloc: str) -> tuple[str, str]:
    """Host, without brackets and in lower case, and port; 80 and 443 are the same as none."""
    try:
        parts = urlsplit(f"//{netloc}")
        port = "" if parts.port in (None, 80, 443) else str(parts.port)
        return (parts.hostname or "").rstrip("."), port if parts.netloc == netloc else "?"
    except ValueError:
        return "", "?"


def _origin(origin: str) -> tuple[str, str]:
    scheme, mark, netloc = origin.partition("://")
    return _split(netloc) if mark and scheme in ("http", "https") else ("", "?")


# Bounded work: so many recordings at once, so many waiting, one more is told to come back later.

T = TypeVar("T")


class Work:
    """The places of a server and the threads that work in them.

    A place is taken before an upload is read, so that uploads in memory are bounded too. A thread cannot be
    stopped from outside: a job that missed its time keeps its place until it notices `stop` or is done, whether
    or not its client was answered.
    """

    def __init__(self, concurrency: int, waiting: int) -> None:
        self.places = concurrency + waiting
        self.taken = 0
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="unheard")

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """A place for one request; raises the `Refusal` 429 when all are taken."""
        if self.taken >= self.places:
            raise busy()
        self.taken += 1
        place = Place(self._threads)
        try:
            yield place
        finally:
            place.leave(self._free)

    def _free(self) -> None:
        self.taken -= 1


class Place:
    """One request's place: it can have one job done."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._stop = Event()
        self._job: Future[Any] | None = None
        self._ended: asyncio.Future[Any] | None = None

    async def run(self, job: Callable[[Event], T], timeout: float) -> T:
        """The result of `job`, which is given an event that is set when nobody waits for it any more.

        Raises what the job raises, or the `Refusal` 504 after `timeout` seconds, those of waiting included.
        """
        future = self._threads.submit(job, self._stop)
        self._job, self._ended = future, asyncio.wrap_future(future)
        self._ended.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # a late one is nobody's
        done, _ = await asyncio.wait({self._ended}, timeout=timeout)
        if not done:
            raise too_slow()
        return future.result()

    def leave(self, free: Callable[[], None]) -> None:
        """Frees the place: now, or when the job that nobody waits for any more has ended."""
        self._stop.set()
        if self._job is None or self._ended is None or self._ended.done():
            free()
            return
        self._ended.add_done_callback(lambda _: free())
        self._job.cancel()  # where it has not begun
