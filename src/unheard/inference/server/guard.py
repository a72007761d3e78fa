"""The door of the server: who may ask, and what every answer carries.

A page in somebody's browser can send requests to a server on their own machine. Two checks keep strangers' pages
out: the `Host` must be a name or address of this server (else another name was made to point here: DNS rebinding),
and the `Origin`, which browsers add and pages cannot change, must be this server itself (else another site is asking).
"""

from __future__ import annotations

import logging
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unheard.inference.server.refusals import Refusal, broken
from unheard.inference.server.settings import ServerSettings

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
