"""A server in this process, until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing, suppress

import uvicorn

from unheard.errors import ConfigError
from unheard.recogniser.recogniser import Recogniser
from unheard.server.app import create_app
from unheard.server.limits import ServerSettings

CONNECTIONS = 256
"""Open connections at once; more are answered 503 before anything is read of them."""


def serve(recogniser: Recogniser, settings: ServerSettings, *, ready: Callable[[str], object]) -> None:
    """Answer until Ctrl-C or SIGTERM; `ready` is told the server's address once it listens.

    Raises `ConfigError` where the address cannot be listened on.
    """
    with closing(_listen(settings)) as listening:
        host, port = listening.getsockname()[:2]
        config = uvicorn.Config(
            create_app(recogniser, settings),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=5,
        )
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
        with suppress(KeyboardInterrupt):  # how uvicorn passes on the Ctrl-C that it has already obeyed
            uvicorn.Server(config).run(sockets=[listening])


def _listen(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=CONNECTIONS)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {settings.host} port {settings.port} ({getattr(error, 'strerror', None) or error})",
            mend="Choose another with --port (0: any free one) or --host.",
        ) from None
