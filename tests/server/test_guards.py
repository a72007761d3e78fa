"""Whom the server answers, and what it refuses."""

from __future__ import annotations

import struct
from typing import Any

import anyio
import numpy as np
import pytest
from serving import WAV, on, refusal, speech_like
from sounds import encoded
from starlette.requests import Request
from starlette.testclient import TestClient

from unheard.recogniser.recogniser import Recogniser
from unheard.server.guard import SECURITY
from unheard.server.refusals import Refusal
from unheard.server.settings import ServerSettings
from unheard.server.upload import Budget, read_upload

CLIP, LIMITS = encoded(speech_like(1.5)), {"max_megabytes": 1, "max_seconds": 20}


@pytest.mark.parametrize(
    ("bound", "status", "hosts"),
    [
        ("127.0.0.1", 200, "localhost LOCALHOST:8000 127.0.0.1:8000 [::1]:8000 127.9.9.9 localhost. proxied.example"),
        ("127.0.0.1", 200, "ported.example:8443"),
        ("127.0.0.1", 421, "evil.example 192.168.1.5 localhost.evil.example localhost@evil.example localhost:x"),
        ("127.0.0.1", 421, "evil.example#localhost "),
        ("0.0.0.0", 200, "192.168.1.5:8000 proxied.example"),
        ("0.0.0.0", 421, "evil.example"),
        ("box.lan", 200, "box.lan:8000"),
    ],
)
def test_it_answers_to_its_own_names_only(ear: Recogniser, bound: str, status: int, hosts: str) -> None:
    with on(ear, host=bound, name=("https://Proxied.example/", "ported.example:8443")) as client:
        for host in hosts.split(" "):
            answer = client.get("/health", headers={"Host": host})
            assert answer.status_code == status
            assert status == 200 or refusal(answer) == (421, "this server does not go by that name")


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
        ("POST", "/predict", {"Content-Length": "3", "Transfer-Encoding": "chunked"}, 400),
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
        (CLIP[:44], "holds no samples"),
        (CLIP[: len(CLIP) // 2], "is cut short"),
        (CLIP[:24] + struct.pack("<II", 1, 2) + CLIP[32:], "has a sample rate of 1 Hz"),
        (encoded(np.append(speech_like(1.0), np.nan), subtype="FLOAT"), "holds samples that are not numbers"),
        (b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 99, "needs a conversion first"),
        (encoded(np.zeros((800, 20), np.float32)), "has 20 channels"),
    ],
)
def test_what_is_no_recording(client: TestClient, body: bytes, what: str) -> None:
    for path in ("/predict", "/channels"):
        status, said = refusal(client.post(path, content=body, headers=WAV))
        assert status == 422
        assert what in said


@pytest.mark.parametrize(
    ("query", "kind", "status", "what"),
    [
        # types that a form of another site can send
        *(("", kind, 415, "content") for kind in ("", "text/plain", "application/x-www-form-urlencoded", "video/webm")),
        *((f"?channel={channel}", "audio/wav", 422, "") for channel in ("0", "each", "", "-1", "3")),
        *((f"?min_confidence={wrong}", "audio/wav", 422, "min_confidence") for wrong in ("60", "-1", "high")),
        ("?steps=maybe", "audio/wav", 422, "steps"),
        ("?stepz=1", "audio/wav", 422, "unknown parameter 'stepz'"),
    ],
)
def test_types_and_parameters_that_do_not_exist(
    client: TestClient, query: str, kind: str, status: int, what: str
) -> None:
    answer = client.post(f"/predict{query}", content=CLIP, headers={"Content-Type": kind})
    found, said = refusal(answer)
    assert (found, what in said) == (status, True)
    assert "stepz" not in query or answer.json()["mend"].startswith("Did you mean 'steps'")
    unknown = client.post("/channels?channel=left", content=CLIP, headers=WAV)
    assert refusal(unknown) == (422, "unknown parameter 'channel'")


def test_too_many_bytes_or_seconds(client: TestClient) -> None:
    large, what = b"\x00" * 1_000_001, "the recording exceeds this server's limit of"
    pieces = (large[first : first + 65_536] for first in range(0, len(large), 65_536))
    for content in (large, pieces):  # with a length said before, and without
        assert refusal(client.post("/predict", content=content, headers=WAV)) == (413, f"{what} 1 MB")
    assert client.post("/predict", content=large[:1_000_000], headers=WAV).status_code == 422  # read, and no audio
    hours = encoded(np.zeros(3600 * 4000, np.int16), 4000, "FLAC")
    for body in (hours, encoded(np.zeros(21 * 8000, np.float32), 8000)):
        assert len(body) < 1_000_000
        for path in ("/predict", "/channels"):
            assert refusal(client.post(path, content=body, headers=WAV)) == (413, f"{what} 20 seconds")


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
