"""The server under load: latencies by number of clients, and a soak. Only loopback addresses are used.

python -m benchmarks.server load --model starter
python -m benchmarks.server soak --model starter --seconds 600
"""

from __future__ import annotations

import argparse
import http.client
import io
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import soundfile

from unheard.samples import samples


def recording(seconds: float, seed: int) -> bytes:
    """The packaged samples of real speech as a WAV file, in an order drawn from `seed` and again until it is full."""
    clips = [soundfile.read(sample.path, dtype="float32") for sample in samples()]
    assert len({rate for _, rate in clips}) == 1
    rate, wanted, joined = clips[0][1], round(seconds * clips[0][1]), np.zeros(0, np.float32)
    draw = np.random.default_rng(seed)
    while len(joined) < wanted:
        joined = np.concatenate([joined, *(clips[i][0] for i in draw.permutation(len(clips)))])
    file = io.BytesIO()
    soundfile.write(file, joined[:wanted], rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


class Server:
    """`unheard serve` in a process of its own on a free port."""

    def __init__(self, model: str, port: str = "0") -> None:
        command = [sys.executable, "-m", "unheard", "serve", model, "--port", port]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        text = ""
        while not (found := re.search(r"http://\S+/", text)):
            line = self.process.stderr.readline()
            if not line:
                raise SystemExit(f"the server ended: {text}")
            text += line
        parts = urlsplit(found[0])
        self.host, self.port = str(parts.hostname), int(parts.port or 80)

    def connect(self, timeout: float = 120) -> http.client.HTTPConnection:
        """A connection to the server."""
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def memory(self) -> float:
        """Resident megabytes of the server process."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1000

    def stop(self) -> str:
        """Send SIGTERM, wait, and return what the server wrote to standard error."""
        self.process.send_signal(signal.SIGTERM)
        with self.process:
            return self.process.communicate(timeout=60)[1] or ""


@contextmanager
def serving(model: str) -> Iterator[Server]:
    """A server that is stopped at the end."""
    server = Server(model)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def post(connection: http.client.HTTPConnection, body: bytes) -> int:
    """Send one recording and return the status."""
    connection.request("POST", "/predict", body, {"Content-Type": "audio/wav"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def load(model: str, seconds: float, clients: tuple[int, ...]) -> None:
    """Print p50, p95 and p99 of /health and of 3 s recordings over keep-alive connections."""
    clip = recording(3.0, 1)
    print("| clients | request | p50 ms | p95 ms | p99 ms | answered | 429 |\n|---:|---|---:|---:|---:|---:|---:|")
    with serving(model) as server:
        for count in clients:
            for name in ("/health", "/predict, 3 s"):
                times: list[float] = []
                statuses: Counter[int] = Counter()
                until = time.monotonic() + seconds

                def client(name: str = name, until: float = until, times: list[float] = times,
                           statuses: Counter[int] = statuses) -> None:  # fmt: skip
                    connection = server.connect()
                    while time.monotonic() < until:
                        began = time.perf_counter()
                        if name == "/health":
                            connection.request("GET", "/health")
                            answer = connection.getresponse()
                            answer.read()
                            status = answer.status
                        else:
                            status = post(connection, clip)
                        statuses[status] += 1
                        if status == 200:
                            times.append(1000 * (time.perf_counter() - began))
                        else:
                            time.sleep(0.2)
                    connection.close()

                _together([client] * count)
                p50, p95, p99 = np.percentile(times or [np.nan], [50, 95, 99])
                print(
                    f"| {count} | {name} | {p50:.1f} | {p95:.1f} | {p99:.1f} | {statuses[200]:,} | {statuses[429]:,} |"
                )


@dataclass
class Seen:
    """What the clients of a soak saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    short: list[float] = field(default_factory=list)
    lost: int = 0


def soak(model: str, seconds: float, clients: int = 16) -> bool:
    """Mixed clients, two that trickle, two that leave, one restart; print a table and return whether all held."""
    bodies = [recording(length, seed) for seed, length in enumerate((2.0, 2.0, 3.0, 20.0, 120.0))]
    server = Server(model)
    idle, alone = [], server.connect()
    for _ in range(20):
        began = time.perf_counter()
        post(alone, bodies[0])
        idle.append(time.perf_counter() - began)
    alone.close()
    seen, memory, restarting = Seen(), [server.memory()], threading.Event()
    until = time.monotonic() + seconds

    def mixed(seed: int) -> None:
        draw, connection = random.Random(seed), server.connect()
        while time.monotonic() < until:
            number = draw.randrange(len(bodies))
            began = time.perf_counter()
            try:
                status = post(connection, bodies[number])
                seen.statuses[str(status) + (" while stopping" if status == 503 and restarting.is_set() else "")] += 1
                if status == 200 and number < 2:
                    seen.short.append(time.perf_counter() - began)
                if status in (429, 503):
                    time.sleep(draw.uniform(0.5, 1.5))
            except (OSError, http.client.HTTPException):
                if not restarting.is_set():
                    seen.lost += 1
                connection.close()
                time.sleep(0.3)
                connection = server.connect()
        connection.close()

    def trickle() -> None:
        while time.monotonic() < until:
            try:
                with socket.create_connection((server.host, server.port), timeout=30) as one:
                    one.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"
                                b"Content-Length: 100000\r\n\r\n")  # fmt: skip
                    while time.monotonic() < until:
                        one.sendall(b"x")
                        time.sleep(1)
            except OSError:
                time.sleep(0.5)

    def leave() -> None:
        while time.monotonic() < until:
            try:
                with socket.create_connection((server.host, server.port), timeout=30) as one:
                    one.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"
                                + f"Content-Length: {len(bodies[4])}\r\n\r\n".encode() + bodies[4])  # fmt: skip
                    time.sleep(0.3)
            except OSError:
                pass
            time.sleep(1)

    def watch() -> None:
        nonlocal server
        half = time.monotonic() + seconds / 2
        restarted = False
        while time.monotonic() < until:
            time.sleep(min(1.0, seconds / 20))
            if not restarting.is_set() and server.process.poll() is None:
                memory.append(server.memory())
            if not restarted and time.monotonic() > half:
                restarting.set()
                port = str(server.port)
                log = server.stop()
                seen.statuses["traceback"] += log.count("Traceback")
                server = Server(model, port)
                restarted = True
                time.sleep(min(2.0, seconds / 20))
                restarting.clear()

    jobs: list[Callable[[], None]] = [partial(mixed, seed) for seed in range(clients)]
    jobs += [trickle, trickle, leave, leave, watch]
    _together(jobs)
    server.stop()
    failures = {name: count for name, count in seen.statuses.items() if name[0] == "5" and "stopping" not in name}
    p95 = float(np.percentile(seen.short or [np.nan], 95))
    settled = memory[len(memory) // 4 : len(memory) // 2] or memory
    growth = (max(settled) - settled[0]) / settled[0]
    rows = {
        "seconds, clients": f"{seconds:.0f}, {clients} + 4",
        "answers": ", ".join(f"{name}: {count:,}" for name, count in sorted(seen.statuses.items())),
        "5xx other than 503 while stopping": sum(failures.values()) + seen.statuses["traceback"],
        "answers lost": seen.lost,
        "memory, settled": f"{settled[0]:.0f} to {max(settled):.0f} MB ({growth:+.0%})",
        "p95 of 2 s recordings / idle": f"{1000 * p95:.0f} / {1000 * float(np.median(idle)):.0f} ms",
    }
    print("| | |\n|---|---:|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items()))
    return not failures and not seen.lost and growth < 0.2


def _together(jobs: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("load", "soak"))
    parser.add_argument("--model", default="starter")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", default="1,4,16,64")
    given = parser.parse_args(arguments)
    counts = tuple(int(word) for word in given.clients.split(","))
    if given.what == "load":
        load(given.model, given.seconds, counts)
        return 0
    return int(not soak(given.model, given.seconds, max(counts[:1]) if given.clients != "1,4,16,64" else 16))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
