"""The server under more than it takes: it refuses in time, its memory stays bounded, and afterwards it is as before."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from serving import WAV, model_folder, serving, speech_like
from sounds import encoded

pytestmark = pytest.mark.slow

CLIENTS, SECONDS = 24, 12


def resident(pid: int) -> float:
    """MB of memory a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def send(address: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of one upload."""
    try:
        request = urllib.request.Request(f"{address}predict", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        refused.read()
        return refused.code


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to watch memory")
def test_many_at_once(tmp_path: Path) -> None:
    minutes = encoded(np.concatenate([speech_like(30.0, seed=seed) for seed in range(4)]))  # two, 3.8 MB
    bomb = encoded(np.zeros(3 * 3600 * 4000, np.int16), 4000, "FLAC")
    kinds = [(minutes, WAV)] * 5 + [(bomb, WAV), (b"x" * 9_000_000, WAV), (minutes, {"Content-Type": "text/plain"})]
    limits = ["--concurrency=2", "--waiting=4", "--max-wait=20", "--max-megabytes=8", "--max-seconds=300"]
    with serving(model_folder(tmp_path / "tiny"), *limits) as (address, pid):
        assert send(address, minutes, WAV) == 200
        before, most, said = resident(pid), 0.0, Counter[int]()
        until = time.monotonic() + SECONDS

        def client(number: int) -> Counter[int]:
            seen = Counter[int]()
            while time.monotonic() < until:
                seen[send(address, *kinds[(number + sum(seen.values())) % len(kinds)])] += 1
            return seen

        with ThreadPoolExecutor(CLIENTS) as threads:
            clients = [threads.submit(client, number) for number in range(CLIENTS)]
            while not all(one.done() for one in clients):
                most = max(most, resident(pid))
                with urllib.request.urlopen(f"{address}health", timeout=10) as alive:  # also meanwhile
                    assert alive.status == 200
                time.sleep(0.05)
            for one in clients:
                said += one.result()
        assert set(said) <= {200, 413, 415, 429, 504}
        assert said[200] > 0
        assert said[429] > 0
        # places x (an upload as it grows, and its copy) + work x (a minute decoded and resampled), and some
        assert most < before + 6 * 2 * 4 + 2 * 40 + 60, f"{before:.0f} MB before, {most:.0f} MB at most, {said}"
        rounds = []
        for _ in range(3):
            assert [send(address, minutes, WAV) for _ in range(4)] == [200] * 4
            rounds.append(resident(pid))
        assert rounds[-1] < most + 10, rounds
        assert rounds[-1] < rounds[0] + 10, rounds  # what the allocator keeps is used again
        print(f"{before:.0f} MB before, {most:.0f} MB at most, {rounds} MB after, {dict(said)}")
