"""The server's answers: the recogniser's own, over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import WAV, model_folder, on, recogniser, refusal, serving, speech_like
from sounds import encoded
from starlette.testclient import TestClient
from tiny_model import LABELS

from unheard.cli import main
from unheard.errors import ConfigError
from unheard.recogniser.recogniser import Recogniser, load
from unheard.server.app import rendered
from unheard.server.settings import ServerSettings

CLIP = encoded(speech_like(2.0, seed=1))
LONG = encoded(np.concatenate([speech_like(5.0, seed=2), np.zeros(4 * 16_000, np.float32), speech_like(4.5, seed=3)]))
CALL = encoded(np.stack([speech_like(4.0, seed=4), speech_like(4.0, seed=5)], axis=1), format="FLAC")


def answered(client: TestClient, body: bytes, path: str = "/predict", **headers: str) -> Any:
    answer = client.post(path, content=body, headers={**WAV, **headers})
    assert answer.status_code == 200, answer.text
    return answer.json()


def library(ear: Recogniser, body: bytes, tmp_path: Path, **options: Any) -> dict[str, Any]:
    """What the library says of the same bytes on disk, in the server's words."""
    file = tmp_path / "same.wav"
    file.write_bytes(body)
    said = ear.predict(file, **options).as_dict()
    profile = said.pop("profile")
    return {**said, "file": None, "profile": profile and {"utterances": profile["utterances"]}}


@pytest.mark.parametrize("body", [CLIP, LONG])
def test_the_answer_is_the_librarys(client: TestClient, ear: Recogniser, body: bytes, tmp_path: Path) -> None:
    answer = answered(client, body)
    assert answer.pop("embedding") is None
    assert answer.pop("steps") is None
    assert answer.pop("remark") is None
    assert {**answer, "file": None} == library(ear, body, tmp_path)


def test_steps_are_what_segments_are_made_of(client: TestClient) -> None:
    answer = answered(client, LONG, "/predict?steps=true")
    steps, segments = answer["steps"], answer["segments"]
    assert [(one["start"], one["end"]) for one in steps] == [(n, min(n + 1, 13.5)) for n in range(14)]
    runs = [list(run) for _, run in groupby(steps, key=lambda step: step["label"])]
    assert [(run[0]["start"], run[-1]["end"], run[0]["label"]) for run in runs] == [
        (segment["start"], segment["end"], segment["label"]) for segment in segments
    ]
    assert {segment["label"] for segment in segments} > {None}  # the pause
    answer = answered(client, CLIP, "/predict?steps=true")  # one utterance is one step
    assert (len(answer["steps"]), answer["steps"]) == (1, answer["segments"])


def test_uncertain_answers(client: TestClient, ear: Recogniser, tmp_path: Path) -> None:
    answer = answered(client, LONG, "/predict?min_confidence=0.9999&steps=true")
    expected = library(ear, LONG, tmp_path, min_confidence=0.9999)
    assert answer["abstained"].startswith("uncertain")
    assert (answer["segments"], answer["summary"]) == (expected["segments"], {})
    assert not [one for one in (*answer["steps"], *answer["segments"]) if one["label"]]


def test_the_embedding_where_it_is_asked_for(client: TestClient, ear: Recogniser) -> None:
    answer = answered(client, CLIP, "/predict?embedding=true")
    np.testing.assert_allclose(answer["embedding"], ear.predict(speech_like(2.0, seed=1)).embedding, atol=2e-2)


def test_channels(client: TestClient, ear: Recogniser, tmp_path: Path) -> None:
    left, right = answered(client, CALL, "/channels")
    assert (left["channel"], right["channel"]) == ("left", "right")
    assert left["probabilities"] != right["probabilities"]
    assert answered(client, CALL, "/predict?channel=right")["probabilities"] == right["probabilities"]
    assert answered(client, CALL, "/predict?channel=2")["probabilities"] == right["probabilities"]
    assert (left["remark"], (mixed := answered(client, CALL))["remark"][:22]) == (None, "the mean of 2 channels")
    assert mixed["probabilities"] == library(ear, CALL, tmp_path)["probabilities"]
    (alone,) = answered(client, CLIP, "/channels")
    assert alone["channel"] == "mix"


@pytest.mark.parametrize(("rate", "said"), [(8000, "sampled at 8,000 Hz"), (16_000, ""), (44_100, "")])
def test_a_recording_that_lacks_what_the_model_listens_to_is_remarked(client: TestClient, rate: int, said: str) -> None:
    body = encoded(speech_like(2.0, rate=rate), rate)
    for answer in (answered(client, body), *answered(client, body, "/channels")):
        assert said in (answer["remark"] or "")
        assert bool(said) == bool(answer["remark"])


def test_abstention_is_an_answer(client: TestClient) -> None:
    answer = answered(client, encoded(np.zeros(16_000, np.float32)))
    assert (answer["label"], answer["probabilities"], answer["abstained"]) == (None, {}, "silence")


def form(client: TestClient, path: str = "/predict", **parts: Any) -> Any:
    """The answer to a multipart request; parts are bytes, or lists of bytes."""
    files = [
        (name, ("clip.wav", body, "audio/wav"))
        for name, value in parts.items()
        for body in (value if isinstance(value, list) else [value])
    ]
    return client.post(path, files=files)


def test_a_form_is_answered_as_raw_bytes_are(client: TestClient) -> None:
    assert form(client, file=CLIP).json() == answered(client, CLIP)
    for parts, code in (
        ({"enrol": CLIP}, "empty"),
        ({"file": CLIP, "other": CLIP}, "unexpected_part"),
        ({"file": [CLIP, CLIP]}, "unexpected_part"),
    ):
        answer = form(client, **parts)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
    cut = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (n, CLIP) for n in (b"file", b"enrol")
    )
    for content in (b"no form", cut[:-99]):  # of the second, the clip to adapt to would be left out in silence
        broken = client.post("/predict", content=content, headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert (broken.status_code, broken.json()["code"]) == (400, "bad_form")


def test_answers_adapt_to_enrolled_clips(client: TestClient, ear: Recogniser, tmp_path: Path) -> None:
    clips = [encoded(speech_like(2.0, seed=seed), subtype="FLOAT") for seed in (6, 7)]
    adapted = form(client, file=CLIP, enrol=clips).json()
    profile = ear.enrol([speech_like(2.0, seed=6), speech_like(2.0, seed=7)])
    assert adapted["profile"] == {"utterances": 2}
    assert adapted["probabilities"] == library(ear, CLIP, tmp_path, profile=profile)["probabilities"]
    assert adapted["probabilities"] != answered(client, CLIP)["probabilities"]
    left, right = (form(client, f"/predict?channel={side}", file=CALL, enrol=CALL).json() for side in ("left", "right"))
    assert left["probabilities"] != right["probabilities"]


def test_enrolment_that_cannot_be_used(client: TestClient) -> None:
    silent = form(client, file=CLIP, enrol=[CLIP, encoded(np.zeros(32_000, np.float32))])
    assert silent.status_code == 422
    assert silent.json()["what"].startswith("enrolment clip 2: ")
    assert form(client, "/channels", file=CALL, enrol=CLIP).json()["code"] == "unexpected_part"
    with on(recogniser(profile=False)) as fixed:
        assert not fixed.get("/health").json()["adapts"]
        assert form(fixed, file=CLIP, enrol=CLIP).json()["code"] == "no_adaptation"


TURNS = "start,end,speaker\n0,2,Anna\n2.5,4.5,Bo\n5,7,Anna\n9,9.5,Bo\n9.5,,Anna\n"


def with_turns(client: TestClient, text: str, name: str = "a.csv", query: str = "", body: bytes = LONG) -> Any:
    return client.post(f"/predict{query}", files={"file": ("a.wav", body), "segments": (name, text.encode())})


def test_turns_are_answered_as_on_the_command_line(
    client: TestClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.wav").write_bytes(LONG)
    (tmp_path / "a.csv").write_text(TURNS)
    command = ["predict", str(model_folder(tmp_path / "tiny")), str(tmp_path / "a.wav")]
    command += ["--segments", str(tmp_path / "a.csv"), "--format"]

    def said(format: str) -> str:
        assert main([*command, format]) == 0
        return capsys.readouterr().out.replace(f"{tmp_path}/", "")

    answer = with_turns(client, TURNS).json()
    assert {**answer, "file": "a.wav"} == {**json.loads(said("json")), "embedding": None, "steps": None, "remark": None}
    assert [one["speaker"] for one in answer["segments"]] == ["Anna", "Bo", "Anna", "Bo", "Anna"]
    assert list(answer["speakers"]) == ["Anna", "Bo"]
    assert answer["probabilities"] != answered(client, LONG)["probabilities"]
    assert with_turns(client, TURNS, query="?format=csv").text == said("csv")
    assert with_turns(client, TURNS, query="?format=rttm").text == said("rttm")
    rttm = "SPEAKER any 1 0 2 <NA> <NA> Anna <NA> <NA>\n"  # of one recording, whatever it is called
    assert with_turns(client, rttm, "x.RTTM").json()["segments"][0]["speaker"] == "Anna"


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("a.csv", TURNS + "7,6,Bo\n", "segments.csv, row 7: it ends at 6.0 s but starts at 7.0 s"),
        ("a.csv", "start,end,speaker\n14,15,Bo\n", "a turn begins at 14.0 s, and the recording ends at 13.5 s"),
        ("a.csv", "file,start,end,speaker\na,0,1,A\nb,0,1,A\n", "segments.csv: the turns of 2 recordings"),
        ("a.csv", "start,end,speaker\n" + "0,13,A\n" * 5, "segments.csv: 5 turns of 65 s in all are too many"),
        ("a.csv", "start,end,speaker\n" + "0,0.001,A\n" * 5001, "segments.csv: 5001 turns of 5 s in all are too many"),
        ("a.rttm", f"SPEAKER a 1 0 1 x x {'x' * 101} x", "segments.rttm: a speaker's name has more than 100 letters"),
        ("a.srt", "\n" * 1_000_001, "a file of turns must not exceed 1 MB"),
        ("db.yaml", "x", "segments.yaml: no format of turns has the ending '.yaml'"),
        ("/etc/passwd", "x", "segments: no format of turns has the ending ''"),
        ("a.jsonl", "[" * 100_000, "segments.jsonl, line 1: not JSON"),
    ],
    ids=range(10),
)
def test_turns_that_cannot_be_used(client: TestClient, name: str, text: str, what: str) -> None:
    answer = with_turns(client, text, name)
    status, said = refusal(answer)
    assert (status, answer.json()["code"], said[: len(what)]) == (422, "unusable_segments", what)
    assert "folder" not in answer.text  # which nobody can send
    assert client.app.state.budget.held == 0  # type: ignore[attr-defined]


def test_turns_and_other_parts(client: TestClient) -> None:
    segments = ("segments", ("a.csv", TURNS.encode()))
    for path, other in (("/predict", ("enrol", CLIP)), ("/predict", segments), ("/channels", ("file", b""))):
        answer = client.post(path, files=[("file", CALL), segments, other])
        assert refusal(answer)[0] == 422
        assert answer.json()["code"] == "unexpected_part"
    assert with_turns(client, TURNS, body=b"no sound").json()["code"] == "unusable_audio"


@pytest.mark.parametrize(("format", "accept"), [("csv", "text/csv"), ("rttm", "application/x-rttm")])
def test_other_formats(client: TestClient, format: str, accept: str) -> None:
    by_parameter = client.post(f"/predict?format={format}", content=LONG, headers=WAV)
    by_header = client.post("/predict", content=LONG, headers={**WAV, "Accept": accept})
    assert by_parameter.status_code == 200
    assert by_parameter.text == by_header.text
    assert len(by_parameter.text.splitlines()) >= len(answered(client, LONG)["segments"]) - (format == "rttm") * 2
    assert any(label in by_parameter.text for label in LABELS)
    for name, shown in (
        ("my call.wav", "my call.wav"),
        ("C:\\calls\\a.flac", "a.flac"),
        ("../\u00e4.mp3", "\u00e4.mp3"),
    ):
        named = client.post(f"/predict?format={format}", files={"file": (name, LONG)}).text
        place = f"{shown}," if format == "csv" else f"SPEAKER {shown.rpartition('.')[0].replace(' ', '%20')} "
        assert all(line.startswith(place) for line in named.splitlines()[format == "csv" :])


def test_control_characters_in_the_name_of_a_form(client: TestClient) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a\0\x1bb.wav"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post("/predict?format=csv", content=head + CLIP + b"\r\n--x--\r\n", headers=headers)
    assert answer.text.splitlines()[1].startswith("ab.wav,")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "json"), ("application/json, text/plain, */*", "json"), ("TEXT/CSV", "csv"), ("image/png", "json"),
        ("text/csv;q=0, application/json", "json"), ("application/json, text/csv;q=0.5", "json"), ("", "json"),
        ("application/json;q=0.2, text/csv; header=present; q=0.9", "csv"), ("application/x-ndjson", "x-ndjson"),
        ("text/csv;q=0", "json"), ("application/json;q=0.1,*/*;q=0.9", "json"), ("text/csv;q=1.1.1", "csv"),
    ],
)  # fmt: skip
def test_the_format_that_the_client_prefers(client: TestClient, accept: str, kind: str) -> None:
    answer = client.post("/predict", content=CLIP, headers={**WAV, "Accept": accept})
    assert answer.headers["content-type"].partition(";")[0].rpartition("/")[2] == kind


def test_health(client: TestClient) -> None:
    answer = client.get("/health").json()
    assert answer["status"] == "ok"
    assert (answer["model"], answer["labels"], answer["adapts"]) == ("tiny", list(LABELS), True)
    assert answer["licence"] == "CC BY-NC-SA 4.0"
    assert answer["limits"]["bytes"] == 32_000_000
    assert answer["busy"] == 0
    assert client.get("/ready").json() == {"ready": True}
    assert client.head("/health").content == b""
    assert client.head("/health").headers["content-length"] != "0"


def test_metrics_and_request_ids(client: TestClient) -> None:
    answer = client.post("/predict", content=CLIP, headers={**WAV, "X-Request-Id": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    assert len(client.get("/health", headers={"X-Request-Id": "no <spaces>"}).headers["x-request-id"]) == 32
    client.get("/made-up", headers={"Host": "elsewhere.example"})  # each made-up address would be kept for ever
    text = client.get("/metrics").text
    assert 'unheard_requests_total{method="POST",path="/predict",status="200"}' in text
    assert 'path="other",status="421"' in text
    assert "made-up" not in text
    assert "unheard_work_seconds_bucket" in text


def test_the_card(client: TestClient, tmp_path: Path) -> None:
    assert client.get("/card").text == "This model came without a card.\n"
    with on(load(model_folder(tmp_path / "tiny"))) as with_card:
        answer = with_card.get("/card")
        assert answer.text.startswith("# tiny\n")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert "<h1>tiny</h1>" in with_card.get("/card?format=html").text


def test_markdown_from_strangers_cannot_do_anything() -> None:
    text = "---\nlicence: x\n---\n# a\n<script>1</script> [x](javascript:alert(1)) ![i](http://e/x.png)\n\n|a|b|\n|-|-|\n|1|2|\n"
    html = rendered(text)
    assert "<table>" in html
    assert "licence: x" not in html
    assert not any(word in html for word in ("<script", 'href="javascript', "<img"))


def test_the_interface_describes_itself(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/predict", "/channels", "/health", "/ready", "/card", "/metrics"}
    refusals = set(described["paths"]["/predict"]["post"]["responses"]) - {"200"}
    assert refusals == {"400", "401", "403", "408", "413", "415", "421", "422", "429", "500", "503", "504"}
    page = client.get("/docs").text
    assert "POST /predict" in page
    assert "WS /stream" in page
    assert "<script" not in page
    assert client.get("/redoc").status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 65536}, {"port": -1}, {"max_megabytes": 0}, {"max_seconds": float("inf")}, {"timeout": float("nan")},
        {"concurrency": -1}, {"waiting": -1}, {"workers": 0}, {"cors": ("example.org",)}, {"grace": -1.0},
        {"token": "two words"}, {"token": "secret\n"}, {"token": "\u00e4"},
    ],
)  # fmt: skip
def test_settings_no_server_can_work_with(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ServerSettings(**wrong)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model_folder(tmp_path / "tiny")
    with serving(folder) as (address, pid), ExitStack() as silent:
        assert address.startswith("http://127.0.0.1:")
        port = address.rsplit(":", 1)[1].rstrip("/")
        for _ in range(300):  # connections that send nothing shut nobody out
            silent.enter_context(socket.create_connection(("127.0.0.1", int(port)), timeout=5))
        request = urllib.request.Request(f"{address}predict", data=CLIP, headers=WAV)
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert json.load(answer)["label"] in LABELS
        with socket.create_connection(("127.0.0.1", int(port)), timeout=5) as odd:
            odd.sendall(b"GET /health HTTP/1.1\r\n\r\n")  # without a host it is no request
            head, _, body = odd.makefile("rb").read().partition(b"\r\n\r\n")
        assert (head.partition(b"\r\n")[0], json.loads(body)["code"]) == (b"HTTP/1.1 400 Bad Request", "bad_request")
        assert main(["serve", str(folder), "--port", port]) == 2
        assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)
        with pytest.raises(urllib.error.HTTPError, match="503"):  # before it stops listening
            urllib.request.urlopen(f"{address}ready", timeout=5)
    assert main(["serve", str(tmp_path / "nothing")]) == 2
    assert "there is no model" in capsys.readouterr().err


def test_without_the_extra_it_says_which(tmp_path: Path) -> None:
    code = "import sys; sys.modules['fastapi'] = None; from unheard.cli import main; sys.exit(main(['serve', 'x']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert 'pip install "unheard[server]"' in done.stderr
    assert "Traceback" not in done.stderr
