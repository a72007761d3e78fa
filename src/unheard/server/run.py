"""A server in this process, or in several forked from it, until it is stopped."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from unheard.errors import ConfigError
from unheard.recogniser.recogniser import Recogniser
from unheard.server.app import create_app
from unheard.server.live import LONGEST_MESSAGE
from unheard.server.refusals import Refusal
from unheard.server.settings import ServerSettings

MOST_IDLE = 256  # connections without a request that are kept; beyond, the oldest is closed
READY_FIRST = 0.5  # seconds between /ready turning red and the listening socket closing


def serve(recogniser: Recogniser, settings: ServerSettings, *, ready: Callable[[str], object]) -> None:
    """Answer until Ctrl-C or SIGTERM; `ready` receives the server's address once it listens.

    SIGTERM turns /ready red, refuses new work with 503, finishes what is running within the grace, and answers the
    rest 503. Raises `ConfigError` where the address cannot be listened on.
    """
    with closing(_listen(settings)) as listening:
        host, port = listening.getsockname()[:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
        if settings.workers == 1:
            _run(recogniser, settings, listening)
        else:
            _supervise(settings.workers, lambda: _run(recogniser, settings, listening))


def _run(recogniser: Recogniser, settings: ServerSettings, listening: socket.socket) -> None:
    app = create_app(recogniser, settings)

    class Protocol(BoundedProtocol):
        header_timeout = settings.header_timeout

    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="wsproto",
        ws_max_size=LONGEST_MESSAGE,
        ws_per_message_deflate=False,
        http=Protocol,
        root_path=settings.root_path,
        timeout_graceful_shutdown=round(settings.grace) + 5,
    )
    with suppress(KeyboardInterrupt):  # how uvicorn passes on the Ctrl-C that it has already obeyed
        _Server(config, app.state.work, settings.grace).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Stops in order: refuse new work, close the listening socket, end what runs longer than the grace."""

    def __init__(self, config: uvicorn.Config, work: Any, grace: float) -> None:
        super().__init__(config)
        self._work, self._grace = work, grace

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._work.stopped.is_set():  # a second signal: at once
            super().handle_exit(sig, frame)
            self._work.expired.set()
            return
        loop = asyncio.get_running_loop()
        self._work.stopped.set()
        loop.call_later(READY_FIRST, super().handle_exit, signal.SIGTERM, frame)
        loop.call_later(READY_FIRST + self._grace, self._work.expired.set)


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol with a timeout for request heads, and a bound on connections without a request."""

    header_timeout = 10.0
    idle: OrderedDict[BoundedProtocol, None] = OrderedDict()  # noqa: RUF012 - one for all connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request's head."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._wait()
        if len(self.idle) > MOST_IDLE:
            next(iter(self.idle)).transport.close()

    def handle_events(self) -> None:
        """Stop the clock where a request has begun."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request of HTTP."""
        refusal = Refusal("bad_request", msg.rstrip(".")).response()
        headers = [*refusal.raw_headers, (b"connection", b"close")]
        head = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (head, h11.Data(data=bytes(refusal.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Stop the clock: another protocol takes over."""
        self._forget()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Start the clock of the next request's head."""
        super().on_response_complete()
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._forget()
        self.idle[self] = None
        self._timer = self.loop.call_later(self.header_timeout, self.transport.close)

    def _forget(self) -> None:
        self.idle.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _listen(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it keep-alive answers wait 40 ms
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(1024)
        return listening
    except (OSError, OverflowError) as error:
        listening.close()
        what = f"cannot listen on {settings.host} port {settings.port} ({getattr(error, 'strerror', None) or error})"
        raise ConfigError(what, mend="Choose another with --port (0: any free one) or --host.") from None


def _supervise(workers: int, run: Callable[[], None]) -> None:
    """Fork `workers` processes, start one again that dies, pass on SIGTERM and Ctrl-C, and wait for all."""
    if not hasattr(os, "fork"):
        raise ConfigError("several workers need a system that can fork", mend="Use --workers 1.")
    signals, stopping = (signal.SIGTERM, signal.SIGINT), False
    processes: list[BaseProcess] = []

    def begin() -> None:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        run()

    def start() -> None:
        process = multiprocessing.get_context("fork").Process(target=begin)
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # a process that just begins would lose one
        process.start()
        processes.append(process)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        if stopping:  # since before `stop` knew this one
            process.terminate()

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for process in processes:
            process.terminate()

    for number in signals:
        signal.signal(number, stop)
    for _ in range(workers):
        start()
    while processes:
        wait([process.sentinel for process in processes])
        time.sleep(0 if stopping else 1)  # one that cannot start is not started in a tight loop
        processes[:] = [process for process in processes if process.is_alive()]
        for _ in range(0 if stopping else workers - len(processes)):
            start()
