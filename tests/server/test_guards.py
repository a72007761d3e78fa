"""What the server refuses, and what it never does: keep, leak, or do more than its limits say."""

from __future__ import annotations

import gc
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra `server`")

from serving import WAV, encoded, recogniser, speech_like
from starlette.requests import Request
from starlette.testclient import TestClient

from unheard.recogniser.recogniser import Recogniser
from unheard.server.app import create_app
from unheard.server.guard import SECURITY
from unheard.server.refusals import Refusal
from unheard.server.scoring import Scorer, inspect
from unheard.server.settings import ServerSettings
from unheard.server.upload import Budget, Recording, Upload, read_upload
from unheard.server.work import Job, Work

CLIP = encoded(speech_like(1.5))


def on(ear: Any, **settings: Any) -> TestClient:
    app, root = create_app(ear, ServerSettings(**settings)), settings.get("root_path", "")
    return TestClient(app, base_url="http://localhost", root_path=root)


@pytest.fixture(scope="module")
def ear() -> Recogniser:
    return recogniser()


@pytest.fixture(scope="module")
def client(ear: Recogniser) -> Iterator[TestClient]:
    with on(ear, max_megabytes=1, max_seconds=20) as client:
        yield client


def refusal(answer: Any) -> tuple[int, str]:
    """Status and text of a refusal, which always says what and mend, and carries no traceback."""
    said = answer.json()
    assert set(said) == {"code", "what", "mend"}
    assert all(said.values())
    assert not any(word in answer.text for word in ("Traceback", 'File "'))
    return answer.status_code, said["what"]


@pytest.mark.parametrize(
    ("bound", "known", "hosts"),
    [
        ("127.0.0.1", True, "localhost LOCALHOST:8000 127.0.0.1:8000 [::1]:8000 127.9.9.9 localhost. proxied.example"),
        ("127.0.0.1", True, "ported.example:8443"),
        ("127.0.0.1", False, "evil.example 192.168.1.5 localhost.evil.example localhost@evil.example localhost:x"),
        ("127.0.0.1", False, "evil.example#localhost"),
        ("0.0.0.0", True, "192.168.1.5:8000 proxied.example"),
        ("0.0.0.0", False, "evil.example"),
        ("box.lan", True, "box.lan:8000"),
    ],
)
def test_it_answers_to_its_own_names_only(ear: Recogniser, bound: str, known: bool, hosts: str) -> None:
    with on(ear, host=bound, name=("Proxied.example", "ported.example:8443")) as client:
        for host in [*hosts.split(), *([] if known else [""])]:
            answer = client.get("/health", headers={"Host": host})
            if known:
                assert answer.status_code == 200
            else:
                assert refusal(answer) == (421, "this server does not go by that name")


SITE = ("Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode")


@pytest.mark.parametrize(
    ("values", "own"),
    [
        ((), True), (("http://localhost:8000",), True), (("https://localhost:8000",), True),  # a proxy that speaks TLS
        (("http://localhost:8000", "same-origin", "cors"), True),
        ((None, "cross-site", "navigate"), True), ((None, "none", "navigate"), True),  # a link; the address bar
        (("http://localhost:3000",), False), (("http://localhost",), False), (("https://evil.example",), False),
        (("null",), False), (("",), False), (("file://localhost:8000",), False),
        (("http://localhost:8000.evil.example",), False), ((None, "cross-site", "no-cors"), False),
        ((None, "same-site", "cors"), False), (("https://evil.example", "cross-site", "navigate"), False),
    ],
)  # fmt: skip
def test_pages_of_other_sites_get_nothing(client: TestClient, values: tuple[str | None, ...], own: bool) -> None:
    site = {name: value for name, value in zip(SITE, values, strict=False) if value is not None}
    answer = client.post("/predict", content=CLIP, headers={**WAV, "Host": "localhost:8000", **site})
    assert answer.status_code == (200 if own else 403), answer.text
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 200), ("GET", "/main.js", {}, 200), ("GET", "/health", {}, 200), ("HEAD", "/", {}, 200),
        ("GET", "/nothing", {}, 404), ("GET", "/../pyproject.toml", {}, 404), ("GET", "/page/main.js", {}, 404),
        ("GET", "/__init__.py", {}, 404), ("DELETE", "/predict", {}, 405), ("POST", "/predict", {}, 415),
        ("GET", "/", {"Host": "evil.example"}, 421), ("GET", "/", {"Origin": "https://evil.example"}, 403),
    ],
)  # fmt: skip
def test_every_answer_carries_the_security_headers(
    client: TestClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = client.request(method, path, headers=headers)
    assert answer.status_code == status
    for name, value in SECURITY.items():
        if name != "cache-control":
            assert answer.headers[name] == value, name
    assert answer.headers["cache-control"] in ("no-store", "no-cache")
    assert "http" not in SECURITY["content-security-policy"]
    if status >= 400:
        refusal(answer)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "the upload is empty"),
        (b"no sound at all", "cannot be read as audio"),
        (os.urandom(5000), "cannot be read as audio"),
        (b"\x00" * 5000, "cannot be read as audio"),
        (CLIP[:44], "holds no samples"),
        (CLIP[: len(CLIP) // 2], "is cut short"),
        (encoded(speech_like(1.0), format="FLAC")[:9000], ""),
        (encoded(np.append(speech_like(1.0), np.nan), subtype="FLOAT"), "holds samples that are not numbers"),
        (b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 99, "needs a conversion first"),
        (b"\x1aE\xdf\xa3" + b"\x00" * 99, "needs a conversion first"),
        (encoded(np.zeros((800, 20), np.float32)), "has 20 channels"),
        (b"../../etc/passwd", "cannot be read as audio"),
    ],
)
def test_what_is_no_recording(client: TestClient, body: bytes, what: str) -> None:
    for path in ("/predict", "/channels"):
        status, said = refusal(client.post(path, content=body, headers=WAV))
        assert status == 422
        assert what in said


@pytest.mark.parametrize(
    ("samples", "rate", "options"),
    [
        (speech_like(3.0, rate=4000), 4000, {"subtype": "PCM_U8"}),
        (np.stack([speech_like(1.0, seed=seed) for seed in range(8)], axis=1), 16_000, {}),
        (speech_like(1.0, rate=48_000), 48_000, {"subtype": "PCM_24"}),
        *((speech_like(1.0), 16_000, {"format": format}) for format in ("OGG", "FLAC", "MP3")),
        (speech_like(1.0), 16_000, {"subtype": "ULAW"}),
        (np.zeros(10, np.float32), 16_000, {}),  # too short to say anything of
    ],
)
def test_odd_recordings_are_answered(client: TestClient, samples: Any, rate: int, options: dict[str, str]) -> None:
    assert client.post("/predict", content=encoded(samples, rate, **options), headers=WAV).status_code == 200


@pytest.mark.parametrize(
    ("query", "kind", "status"),
    [
        # types that a form of another site can send
        *(("", kind, 415) for kind in ("", "text/plain", "application/x-www-form-urlencoded", "video/webm")),
        *((f"?channel={channel}", "audio/wav", 422) for channel in ("0", "each", "", "-1", "3")),
        ("?steps=maybe", "audio/wav", 422),
    ],
)
def test_types_and_parameters_that_do_not_exist(client: TestClient, query: str, kind: str, status: int) -> None:
    answer = client.post(f"/predict{query}", content=CLIP, headers={"Content-Type": kind})
    assert refusal(answer)[0] == status


@pytest.mark.parametrize("rate", [1, 2, 100, 1_000_000, 2**31 - 1])
def test_absurd_rates_are_answered_or_refused(client: TestClient, rate: int) -> None:
    wav = bytearray(encoded(speech_like(0.5)))
    wav[24:32] = struct.pack("<II", rate, 2 * rate % 2**32)
    answer = client.post("/predict", content=bytes(wav), headers=WAV)
    assert answer.status_code in (200, 413, 422), answer.text


def test_too_many_bytes(client: TestClient) -> None:
    large = b"\x00" * 1_000_001
    pieces = (large[first : first + 65_536] for first in range(0, len(large), 65_536))
    for content in (large, pieces):  # with a length said before, and without
        answer = client.post("/predict", content=content, headers=WAV)
        assert refusal(answer) == (413, "the recording exceeds this server's limit of 1 MB")
    assert client.post("/predict", content=large[:1_000_000], headers=WAV).status_code == 422  # read, and no audio


def test_too_many_seconds(client: TestClient) -> None:
    told = "the recording exceeds this server's limit of 20 seconds"
    hours = np.zeros(3600 * 4000, np.int16)
    for body in (encoded(hours, 4000, "FLAC"), encoded(np.zeros(21 * 8000, np.float32), 8000)):
        assert len(body) < 1_000_000
        for path in ("/predict", "/channels"):
            assert refusal(client.post(path, content=body, headers=WAV)) == (413, told)


def test_a_client_that_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unheard.server.upload.RATE_GRACE", 0.05)
    pieces = iter([b"RIFF", b"x"])

    async def trickle() -> dict[str, Any]:
        if (piece := next(pieces, None)) is None:
            await anyio.sleep(10)
        return {"type": "http.request", "body": piece, "more_body": True}

    async def read() -> None:
        scope = {"type": "http", "headers": [(b"content-type", b"audio/wav")]}
        with Budget(100).hold() as hold:
            await read_upload(Request(scope, trickle), ServerSettings(), hold)  # type: ignore[arg-type]

    with pytest.raises(Refusal) as raised:
        anyio.run(read)
    assert (raised.value.status, raised.value.code) == (408, "slow_upload")


def test_uploads_hold_no_more_bytes_than_the_budget() -> None:
    budget = Budget(10)
    with budget.hold() as one, budget.hold() as other:
        one(6)
        other(4)
        with pytest.raises(Refusal, match="as much work"):
            other(1)
    assert budget.held == 0


def test_a_length_that_is_stated_in_two_ways(client: TestClient) -> None:
    headers = {**WAV, "Content-Length": "3", "Transfer-Encoding": "chunked"}
    answer = client.post("/predict", content=CLIP, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "ambiguous_length")


@pytest.mark.parametrize("root", ["", "/emotions"])
def test_a_token(ear: Recogniser, root: str) -> None:
    with on(ear, token="secret", root_path=root) as client:
        for given, status in ((None, 401), ("Bearer wrong", 401), ("secret", 401), ("bearer secret", 200)):
            headers = WAV | ({"Authorization": given} if given else {})
            assert client.post(f"{root}/predict", content=CLIP, headers=headers).status_code == status
        assert [client.get(f"{root}{path}").status_code for path in ("/health", "/metrics")] == [200, 401]


def test_pages_that_are_allowed(ear: Recogniser, client: TestClient) -> None:
    asked = {"Access-Control-Request-Method": "POST"}
    own = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    evil = {"Origin": "https://evil.example"}
    with on(ear, cors=("https://app.example",)) as open_one:
        answer = open_one.post("/predict", content=CLIP, headers={**WAV, **own})
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        preflight = open_one.options("/predict", headers=own | asked)
        assert preflight.status_code == 204
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        assert open_one.post("/predict", content=CLIP, headers={**WAV, **evil}).status_code == 403
        for server in (open_one, client):
            said = refusal(server.options("/predict", headers=evil | asked))
            assert said == (403, "a page of another site sent this")


class Slow:
    """A recogniser that goes on as soon as it may."""

    def __init__(self, ear: Recogniser) -> None:
        self.model, self.windows, self._ear = ear.model, ear.windows, ear
        self.may, self.begun, self.ended = threading.Event(), threading.Semaphore(0), 0

    def stream(self, **options: Any) -> Any:
        self.begun.release()
        self.may.wait(20)
        self.ended += 1
        return self._ear.stream(**options)


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
        waiting = [threads.submit(client.post, "/predict", content=CLIP, headers=WAV) for _ in range(2)]
        until(lambda: client.app.state.work.taken == 2)
        answer = client.post("/predict", content=CLIP, headers=WAV)
        assert (answer.status_code, answer.json()["code"]) == (429, "busy")
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/health").json()["busy"] == 2  # which is answered all the same
        slow.may.set()
        assert [one.result().status_code for one in waiting] == [200, 200]
        assert client.post("/predict", content=CLIP, headers=WAV).status_code == 200
        assert client.app.state.work.taken == 0


def test_what_would_wait_too_long_is_refused_with_the_time(slow: Slow) -> None:
    with on(slow, concurrency=1, max_wait=2) as client, ThreadPoolExecutor(1) as threads:
        client.app.state.work.speed = 1.0  # a second of work for a second of audio
        body = encoded(speech_like(9.0))
        long = threads.submit(client.post, "/predict", content=body, headers=WAV)
        until(lambda: client.app.state.work.taken == 1)
        answer = client.post("/predict", content=body, headers=WAV)
        assert answer.status_code == 429
        assert 7 <= int(answer.headers["retry-after"]) <= 8
        slow.may.set()
        assert long.result().status_code == 200


def test_an_answer_that_takes_too_long(slow: Slow) -> None:
    client = on(slow, concurrency=1, timeout=0.1)  # without a context, each request has an event loop of its own
    answer = client.post("/predict", content=CLIP, headers=WAV)
    assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
    slow.may.set()
    until(lambda: slow.ended == 1)
    assert client.post("/predict", content=CLIP, headers=WAV).status_code == 200


def test_waiting_does_not_count_as_work(slow: Slow) -> None:
    with on(slow, concurrency=1, timeout=1.0) as client, ThreadPoolExecutor(3) as threads:
        threading.Timer(0.7, slow.may.set).start()
        answers = [threads.submit(client.post, "/predict", content=CLIP, headers=WAV) for _ in range(3)]
        assert [one.result().status_code for one in answers] == [200, 200, 200]


def test_a_server_that_stops(slow: Slow) -> None:
    with on(slow, concurrency=1) as client, ThreadPoolExecutor(2) as threads:
        running, queued = (threads.submit(client.post, "/predict", content=CLIP, headers=WAV) for _ in range(2))
        until(lambda: client.app.state.work.taken == 2)
        client.app.state.work.stopped.set()
        until(lambda: client.app.state.work.taken == 1)
        assert client.get("/ready").json()["code"] == "stopping"
        assert client.post("/predict", content=CLIP, headers=WAV).status_code == 503
        client.app.state.work.expired.set()
        assert {running.result().status_code, queued.result().status_code} == {503}
        slow.may.set()


def test_a_client_that_leaves_frees_its_place(slow: Slow) -> None:
    work = create_app(slow, ServerSettings(concurrency=1)).state.work  # type: ignore[arg-type]
    stopped = threading.Event()

    def score(job: Job) -> None:
        until(lambda: job.stop)
        stopped.set()

    async def leave() -> None:
        with pytest.raises(Refusal):
            await work.run(score, Job(seconds=10), anyio.sleep(0.05))

    anyio.run(leave)
    assert stopped.wait(2)
    assert work.taken == 0


def test_a_short_recording_overtakes_a_long_one_between_its_pieces() -> None:
    work, order = Work(ServerSettings(concurrency=1)), []

    async def score(name: str, seconds: float, pieces: int) -> None:
        def steps(job: Job) -> None:
            for _ in range(pieces):
                order.append(name)
                time.sleep(0.02)
                job.pause()

        await work.run(steps, Job(seconds), anyio.sleep(20))

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
        def stream(self, **options: Any) -> Any:
            raise RuntimeError("a secret of /home/somebody")

    with on(Broken(ear)) as client:
        answer = client.post("/predict", content=CLIP, headers=WAV)
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
    finally:
        WATCHING.clear()
    assert WRITTEN == []


def test_no_upload_stays_in_memory(slow: Slow) -> None:
    with on(slow, concurrency=1, timeout=0.2, max_seconds=2) as client:
        assert client.post("/predict", content=CLIP, headers=WAV).status_code == 504
        slow.may.set()
        until(lambda: client.app.state.work.taken == 0)
        for body in (CLIP, CLIP[:44], encoded(speech_like(3.0))):
            client.post("/predict", content=body, headers=WAV)

    def kept() -> list[object]:
        gc.collect()
        return [one for one in gc.get_objects() if type(one) in (Recording, Upload)]

    until(lambda: not kept())  # a thread may be putting its last one down
    assert client.app.state.budget.held == 0


def test_scoring_is_given_up_where_nobody_waits(ear: Recogniser) -> None:
    class Soon(Job):
        looks = 0

        @property
        def stop(self) -> bool:
            self.looks += 1
            return self.looks > 3

        @stop.setter
        def stop(self, value: bool) -> None:
            pass

    stop, upload = Soon(), Upload(encoded(speech_like(60.0)))
    with pytest.raises(Refusal) as raised:
        Scorer(ear, upload, inspect(upload, 900), 900, stop).score("mix")
    assert raised.value.status == 504
    assert stop.looks == 4  # of twenty pieces
