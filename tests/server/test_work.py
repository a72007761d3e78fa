"""What the server does under load and while it stops, and what it never does: keep what it is sent."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from serving import WAV, on, refusal, send, speech_like
from sounds import encoded
from starlette.testclient import TestClient

from unheard.recogniser.recogniser import Recogniser
from unheard.server.app import create_app
from unheard.server.refusals import Refusal
from unheard.server.scoring import inspect, score
from unheard.server.settings import ServerSettings
from unheard.server.upload import Upload
from unheard.server.work import Job, Work
from unheard.streams import _Bytes

CLIP = encoded(speech_like(1.5))


class Slow:
    """A recogniser that goes on as soon as it may."""

    def __init__(self, ear: Recogniser) -> None:
        self.model, self.windows, self._ear = ear.model, ear.windows, ear
        self.may, self.begun, self.ended = threading.Event(), threading.Semaphore(0), 0

    def predict(self, *audio: Any, **options: Any) -> Any:
        self.begun.release()
        self.may.wait(20)
        self.ended += 1
        return self._ear.predict(*audio, **options)


@pytest.fixture
def slow(ear: Recogniser) -> Slow:
    return Slow(ear)


def until(true: Callable[[], bool]) -> None:
    for _ in range(400):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


def test_too_much_to_do(slow: Slow) -> None:
    with on(slow, concurrency=1, waiting=1) as client, ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(send, client, CLIP) for _ in range(2)]
        until(lambda: client.app.state.work.taken == 2)
        answer = send(client, CLIP)
        assert (answer.status_code, answer.json()["code"]) == (429, "busy")
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/health").json()["busy"] == 2  # which is answered all the same
        slow.may.set()
        assert [one.result().status_code for one in waiting] == [200, 200]
        assert send(client, CLIP).status_code == 200
        assert client.app.state.work.taken == 0


def test_what_would_wait_too_long_is_refused_with_the_time(slow: Slow) -> None:
    with on(slow, concurrency=1, max_wait=2) as client, ThreadPoolExecutor(1) as threads:
        client.app.state.work.speed = 1.0  # a second of work for a second of audio
        long = threads.submit(send, client, body := encoded(speech_like(9.0)))
        until(lambda: client.app.state.work.taken == 1)
        answer = send(client, body)
        assert answer.status_code == 429
        assert 7 <= int(answer.headers["retry-after"]) <= 8
        slow.may.set()
        assert long.result().status_code == 200


def test_an_answer_that_takes_too_long(slow: Slow) -> None:
    client = on(slow, concurrency=1, timeout=0.1)  # without a context, each request has an event loop of its own
    answer = send(client, CLIP)
    assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
    slow.may.set()
    until(lambda: slow.ended == 1)
    assert send(client, CLIP).status_code == 200


def test_waiting_does_not_count_as_work(slow: Slow) -> None:
    with on(slow, concurrency=1, timeout=1.0) as client, ThreadPoolExecutor(3) as threads:
        threading.Timer(0.7, slow.may.set).start()
        assert [one.status_code for one in threads.map(lambda _: send(client, CLIP), range(3))] == [200, 200, 200]


def test_a_server_that_stops(slow: Slow) -> None:
    with on(slow, concurrency=1) as client, ThreadPoolExecutor(2) as threads:
        both = [threads.submit(send, client, CLIP) for _ in range(2)]
        until(lambda: client.app.state.work.taken == 2)
        client.app.state.work.stopped.set()
        until(lambda: client.app.state.work.taken == 1)
        assert client.get("/ready").json()["code"] == "stopping"
        assert send(client, CLIP).status_code == 503
        client.app.state.work.expired.set()
        assert {one.result().status_code for one in both} == {503}
        slow.may.set()


def test_a_client_that_leaves_frees_its_place(slow: Slow) -> None:
    work = create_app(slow, ServerSettings(concurrency=1)).state.work  # type: ignore[arg-type]
    stopped = threading.Event()

    job = Job(seconds=10)

    def score() -> None:
        until(lambda: job.stop)
        stopped.set()

    async def leave() -> None:
        with pytest.raises(Refusal):
            await work.run(score, job, anyio.sleep(0.05))

    anyio.run(leave)
    assert stopped.wait(2)
    assert work.taken == 0


def test_a_short_recording_overtakes_a_long_one_between_its_pieces() -> None:
    work, order = Work(ServerSettings(concurrency=1)), []

    async def score(name: str, seconds: float, pieces: int) -> None:
        job = Job(seconds)

        def steps() -> None:
            for _ in range(pieces):
                order.append(name)
                time.sleep(0.02)
                job.pause()

        await work.run(steps, job, anyio.sleep(20))

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(score, "long", 60.0, 12)
            await anyio.sleep(0.05)
            group.start_soon(score, "short", 1.0, 2)
            group.start_soon(score, "longer", 90.0, 1)

    anyio.run(both)
    assert 0 < order.index("short") < 11
    assert order[order.index("short") + 1] == "short"  # and is not overtaken itself
    assert order[-2:] == ["long", "longer"]


def test_what_goes_wrong_inside_stays_inside(ear: Recogniser, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Slow):
        def predict(self, *audio: Any, **options: Any) -> Any:
            raise RuntimeError("a secret of /home/somebody")

    with on(Broken(ear)) as client:
        answer = send(client, CLIP)
        assert refusal(answer) == (500, "the server failed")
        assert "secret" not in answer.text
        assert "secret" in caplog.text  # the log has it
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert client.get("/health").json()["busy"] == 0


WRITTEN: list[str] = []
WATCHING = threading.Event()


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and WATCHING.is_set():
        path, mode, flags = arguments
        if (isinstance(mode, str) and set(mode) & set("wax+")) or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            WRITTEN.append(str(path))


def test_nothing_is_kept(client: TestClient, ear: Recogniser) -> None:
    sys.addaudithook(_watch)
    headers = {**WAV, "Content-Disposition": 'attachment; filename="../../evil.wav"'}
    WATCHING.set()
    try:
        with Path(os.devnull).open("w"):  # what watches, sees
            assert WRITTEN.pop() == os.devnull
        for path in ("/predict", "/channels", "/predict?channel=7"):
            client.post(path, content=encoded(np.zeros((32_000, 2)) + 0.001), headers=headers)
        client.post("/predict", content=b"nonsense", headers=headers)
        client.post("/predict", files={"file": ("evil.wav", encoded(speech_like(90.0)))})  # beyond a megabyte
    finally:
        WATCHING.clear()
    assert WRITTEN == []


def test_no_upload_stays_in_memory(slow: Slow) -> None:
    with on(slow, concurrency=1, timeout=0.2, max_seconds=2) as client:
        assert send(client, CLIP).status_code == 504
        slow.may.set()
        until(lambda: client.app.state.work.taken == 0)
        for body in (CLIP, CLIP[:44], encoded(speech_like(3.0))):
            send(client, body)

    def kept() -> list[object]:
        gc.collect()
        return [one for one in gc.get_objects() if type(one) in (_Bytes, Upload)]

    until(lambda: not kept())  # a thread may be putting its last one down
    assert client.app.state.budget.held == 0


def test_scoring_is_given_up_where_nobody_waits(ear: Recogniser) -> None:
    job, upload = Job(), Upload(encoded(speech_like(60.0)))

    def leave() -> None:
        job.stop = (job.share or 0) > 0.1

    job.pause = leave
    with pytest.raises(Refusal) as raised:
        score(ear, upload, inspect(upload, 900), 900, job, "mix")
    assert raised.value.status == 504
    assert 0.1 < (job.share or 0) < 0.2


STOPPED_AS_THEY_BEGIN = """
import os, signal, time
from multiprocessing.context import ForkProcess
from unheard.server.run import _supervise

start, begun = ForkProcess.start, []

def started(process):
    begun.append(start(process))
    if len(begun) == 2:
        os.kill(os.getpid(), signal.SIGTERM)

ForkProcess.start = started
_supervise(3, lambda: time.sleep(60))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_workers_stop_even_where_they_just_begin() -> None:
    subprocess.run([sys.executable, "-c", STOPPED_AS_THEY_BEGIN], check=True, timeout=30)
