"""The outer layer of the server: who may ask, what every answer carries, request ids, log and metrics.

A page in somebody's browser can send requests to a server on their own machine. Two checks keep strangers' pages out:
the `Host` must be a name or address of this server (else another name was made to point here: DNS rebinding), and the
`Origin`, which browsers add and pages cannot change, must be this server or a site allowed with --cors.
"""

import hmac
import json
import logging
import re
import sys
import time
import uuid
from ipaddress import ip_address
from urllib.parse import urlsplit

from prometheus_client import Counter
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unheard.server.refusals import Refusal
from unheard.server.settings import ServerSettings
from unheard.server.work import REGISTRY

REQUESTS = Counter("unheard_requests", "Requests answered", ("method", "path", "status"), registry=REGISTRY)

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
"""Headers of every answer that does not set them itself."""

PREFLIGHT = {
    "access-control-allow-methods": "GET, POST",
    "access-control-allow-headers": "authorization, content-type, x-request-id",
    "access-control-max-age": "600",
}
"""Headers of the answer to a site allowed with --cors that asks whether it may send a request."""

PROTECTED = ("/predict", "/channels", "/metrics")
"""Addresses that need the token, where there is one; /stream gets it in its first message, the rest is open."""


class Guard:
    """ASGI middleware: checks Host, Origin and token; adds headers; counts and logs; lets no traceback out."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app, self.settings = app, settings
        self.names = {
            _split(name)[0] or name.lower().strip("[]").rstrip(".")
            for name in ("localhost", settings.host, *(one.rpartition("//")[2].rstrip("/") for one in settings.name))
        }
        self.foreign = {origin.rstrip("/").lower() for origin in settings.cors}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse or pass on one request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        scope.setdefault("method", "GET")  # a WebSocket begins as one
        headers, began, status = Headers(scope=scope), time.perf_counter(), 0
        given = headers.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[\w.-]{1,64}", given) else uuid.uuid4().hex
        origin = headers.get("origin", "").rstrip("/").lower()
        head = scope["method"] == "HEAD"

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "websocket.accept":
                status = 101
            elif message["type"].endswith("http.response.start"):
                status = message["status"]
                answer = MutableHeaders(scope=message)
                answer["x-request-id"] = request_id
                for name, value in SECURITY.items():
                    answer.setdefault(name, value)
                if origin in self.foreign:
                    answer["access-control-allow-origin"] = headers["origin"]
                    answer["access-control-expose-headers"] = "retry-after, x-request-id"
                    answer["cross-origin-resource-policy"] = "cross-origin"
                    answer.add_vary_header("Origin")
            elif head:
                message = {**message, "body": b""}
            await send(message)

        try:
            self.check(scope, headers)
            if scope["method"] == "OPTIONS" and origin in self.foreign:
                await Response(status_code=204, headers=PREFLIGHT)(scope, receive, guarded)
            else:
                await self.app({**scope, "method": "GET"} if head else scope, receive, guarded)
        except Refusal as refusal:
            await refusal.response()(scope, receive, guarded)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if status:  # half an answer is out: ending the connection shows that it broke off
                raise
            await Refusal("internal").response()(scope, receive, guarded)
        finally:
            self._observe(scope, status, request_id, time.perf_counter() - began)

    def check(self, scope: Scope, headers: Headers) -> None:
        """Raise `Refusal` for a request that is ambiguous, not meant for this server, or not allowed."""
        if "transfer-encoding" in headers and "content-length" in headers:
            raise Refusal("ambiguous_length")
        host = headers.getlist("host")
        if len(host) != 1 or not self.known(_split(host[0])[0]):
            raise Refusal("wrong_host")
        origins = headers.getlist("origin")
        allowed = len(origins) == 1 and origins[0].rstrip("/").lower() in self.foreign
        site = headers.get("sec-fetch-site", "same-origin")
        asks = headers.get("sec-fetch-mode", "cors") != "navigate"
        other = any(_origin(origin) != _split(host[0]) for origin in origins)
        if not allowed and (other or (asks and site not in ("same-origin", "none"))):
            raise Refusal("wrong_origin")
        if scope["path"].removeprefix(self.settings.root_path).startswith(PROTECTED) and scope["method"] != "OPTIONS":
            kind, _, token = headers.get("authorization", "").partition(" ")
            check_token(self.settings, token if kind.lower() == "bearer" else "")

    def known(self, host: str) -> bool:
        """Whether `host` is this server: a name it was given, or an address, which nobody can rebind."""
        if host in self.names:
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return address.is_loopback or not self.settings.local

    def _observe(self, scope: Scope, status: int, request_id: str, seconds: float) -> None:
        method, status = scope["method"], status or 499
        known = scope["path"] if "endpoint" in scope else "other"  # made-up addresses would be kept for ever
        path = getattr(scope.get("route"), "path", known)
        REQUESTS.labels(method if method in ("GET", "POST", "HEAD", "OPTIONS") else "other", path, str(status)).inc()
        if self.settings.access_log:
            line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "id": request_id, "method": method}
            line |= {"path": scope["path"][:200], "status": status, "ms": round(1000 * seconds, 1)}
            print(json.dumps(line), file=sys.stderr, flush=True)


def check_token(settings: ServerSettings, given: str) -> None:
    """Raise `Refusal` 401 where the server asks for another token."""
    if settings.token and not hmac.compare_digest(given.encode(), settings.token.encode()):
        raise Refusal("unauthorised")


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
