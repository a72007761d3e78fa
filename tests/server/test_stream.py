"""The WebSocket /stream and answers with progress: the same answer as the file's, and refusals that say why."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from serving import WAV, speech_like
from sounds import encoded
from starlette.testclient import TestClient, WebSocketDenialResponse

from unheard.server import live

LIMITS = {"max_seconds": 20, "token": "secret"}


def talk(client: TestClient, *messages: Any, **headers: str) -> list[dict[str, Any]]:
    """Send messages, and return what the server sent until it closed; the last item is the close code."""
    received: list[Any] = []
    with client.websocket_connect("ws://localhost/stream", headers=headers) as socket:
        for message in messages:
            socket.send_bytes(message) if isinstance(message, bytes) else socket.send_text(json.dumps(message))
        while (message := socket.receive())["type"] == "websocket.send":
            received.append(json.loads(message["text"]))
    return [*received, message["code"]]


def pcm(seconds: float, rate: int) -> np.ndarray:
    return (speech_like(seconds, seed=3, rate=rate) * 32767).astype("<i2")


BEGIN = {"sample_rate": 16_000, "token": "secret"}
END = {"end": True}


@pytest.mark.parametrize(("seconds", "rate", "block"), [(6.4, 48_000, 4800), (6.4, 16_000, 7001), (1.5, 8_000, 900)])
def test_the_answer_is_the_files(client: TestClient, seconds: float, rate: int, block: int) -> None:
    samples = pcm(seconds, rate)
    blocks = [samples[first : first + block].tobytes() for first in range(0, len(samples), block)]
    *updates, last, code = talk(client, {**BEGIN, "sample_rate": rate}, *blocks, END)
    file = client.post("/predict?steps=true", content=encoded(samples, rate), headers=WAV).json()
    assert last == {"answer": file}
    assert code == 1000
    steps = [step for update in updates for step in update["steps"]]
    assert steps == file["steps"][: len(steps)]
    assert len(steps) == max(0, int(seconds) - 2)  # a step is final when the window that begins with it is complete
    assert (file["remark"] is None) == (rate >= 16_000)


@pytest.mark.parametrize(
    ("messages", "status", "what"),
    [
        ([{"sample_rate": 16_000}], 401, "the access token is missing or wrong"),
        ([{"sample_rate": 3}], 422, "the message was not understood"),
        ([{**BEGIN, "channel": "left"}], 422, "the message was not understood"),
        ([b"\0\0"], 422, "the message is not a start"),
        ([BEGIN, BEGIN], 422, "the message is a second start"),
        ([BEGIN, {"end": False}], 422, "the message was not understood"),
        ([BEGIN, b"\0"], 422, "the message has an odd number of bytes"),
        ([BEGIN, END], 422, "holds no samples"),
        ([BEGIN, *[bytes(32_000 * 7)] * 3], 413, "the recording exceeds this server's limit of 20 seconds"),
        ([BEGIN], 408, "the upload is 0.2 seconds behind"),
    ],
)
def test_refusals(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, messages: list[Any], status: int, what: str
) -> None:
    monkeypatch.setattr(live, "BEHIND", 0.2 if status == 408 else 15.0)
    last, code = talk(client, *messages)[-2:]
    assert (code, last["problem"]["status"], last["problem"]["what"]) == (4000 + status, status, what)
    assert client.app.state.work.streams == 0  # type: ignore[attr-defined]


def test_no_more_streams_than_the_server_takes(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unheard.server.work.STREAMS_A_THREAD", 0)
    assert talk(client, BEGIN)[0]["problem"]["code"] == "busy"
    monkeypatch.undo()
    client.app.state.work.stopped.set()  # type: ignore[attr-defined]
    assert talk(client, BEGIN)[0]["problem"]["code"] == "stopping"
    client.app.state.work.stopped.clear()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("header", "status"), [({"Origin": "https://evil.example"}, 403), ({"Host": "evil.example"}, 421)]
)
def test_a_page_of_another_site_cannot_connect(client: TestClient, header: dict[str, str], status: int) -> None:
    with pytest.raises(WebSocketDenialResponse) as denied:
        talk(client, BEGIN, **header)
    assert denied.value.status_code == status


def lines(client: TestClient, path: str, body: bytes) -> tuple[int, list[dict[str, Any]]]:
    answer = client.post(path, content=body, headers={**WAV, "Accept": "application/x-ndjson"})
    return answer.status_code, [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("path", ["/predict", "/channels"])
def test_progress(client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr("unheard.server.app.EVERY", 0.0)
    body = encoded(np.stack([speech_like(15.0), speech_like(15.0, seed=2)], axis=1))
    status, (*progress, last) = lines(client, path, body)
    plain = client.post(path, content=body, headers=WAV).json()
    assert (status, last) == (200, {"answer": plain if path == "/channels" else [plain]})
    shares = [line["progress"] for line in progress]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1


def test_progress_that_ends_badly(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unheard.server.app.EVERY", 0.0)
    cut = encoded(speech_like(15.0))[:400_000]
    status, (*_, last) = lines(client, "/predict", cut)
    assert (status, last["problem"]["status"]) == (200, 422)
    assert "cut short" in last["problem"]["what"]
    status, (refusal,) = lines(client, "/predict", b"no audio")  # before admission: its own status
    assert (status, refusal["code"]) == (422, "unusable_audio")
