"""The server's answers: the recogniser's own, over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra `server`")

from serving import WAV, encoded, model_folder, recogniser, serving, speech_like
from starlette.testclient import TestClient
from tiny_model import LABELS

from unheard.cli import main
from unheard.errors import ConfigError
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.recogniser import Recogniser
from unheard.server.app import create_app
from unheard.server.limits import ServerSettings
from unheard.server.tokens import write_token

CLIP = encoded(speech_like(2.0, seed=1))
LONG = encoded(np.concatenate([speech_like(5.0, seed=2), np.zeros(4 * 16_000, np.float32), speech_like(4.5, seed=3)]))
CALL = encoded(np.stack([speech_like(4.0, seed=4), speech_like(4.0, seed=5)], axis=1), format="FLAC")


@pytest.fixture(scope="module")
def ear() -> Recogniser:
    return recogniser()


@pytest.fixture(scope="module")
def client(ear: Recogniser) -> Iterator[TestClient]:
    with TestClient(create_app(ear), base_url="http://localhost") as client:
        yield client


def heard(client: TestClient, body: bytes, path: str = "/predict", **headers: str) -> Any:
    answer = client.post(path, content=body, headers={**WAV, **headers})
    assert answer.status_code == 200, answer.text
    return answer.json()


def library(ear: Recogniser, body: bytes, tmp_path: Path, **options: Any) -> dict[str, Any]:
    """What the library says of the same bytes on disk, in the server's words."""
    file = tmp_path / "same.wav"
    file.write_bytes(body)
    said = ear.predict(file, **options).as_dict()
    voice = said.pop("profile")
    return {**said, "file": None, "voice": voice and {"utterances": voice["utterances"]}}


@pytest.mark.parametrize("body", [CLIP, LONG])
def test_the_answer_is_the_librarys(client: TestClient, ear: Recogniser, body: bytes, tmp_path: Path) -> None:
    answer = heard(client, body)
    assert answer.pop("embedding") is None
    assert answer.pop("steps") is None
    assert answer.pop("remark") is None
    assert {**answer, "file": None} == library(ear, body, tmp_path)


def test_steps_are_what_segments_are_made_of(client: TestClient) -> None:
    answer = heard(client, LONG, "/predict?steps=true")
    steps, segments = answer["steps"], answer["segments"]
    assert len(steps) == 14
    assert [step["start"] for step in steps] == [float(second) for second in range(14)]
    assert [step["end"] for step in steps] == [*map(float, range(1, 14)), 13.5]
    runs = [list(run) for _, run in groupby(steps, key=lambda step: step["label"])]
    assert [(run[0]["start"], run[-1]["end"], run[0]["label"]) for run in runs] == [
        (segment["start"], segment["end"], segment["label"]) for segment in segments
    ]
    assert {segment["label"] for segment in segments} > {None}  # the pause


def test_one_utterance_is_one_step(client: TestClient) -> None:
    answer = heard(client, CLIP, "/predict?steps=true")
    assert answer["steps"] == answer["segments"]
    assert len(answer["steps"]) == 1


def test_the_embedding_where_it_is_asked_for(client: TestClient, ear: Recogniser) -> None:
    answer = heard(client, CLIP, "/predict?embedding=true")
    np.testing.assert_allclose(answer["embedding"], ear.predict(speech_like(2.0, seed=1)).embedding, atol=2e-2)


def test_channels(client: TestClient, ear: Recogniser, tmp_path: Path) -> None:
    left, right = heard(client, CALL, "/channels")
    assert (left["channel"], right["channel"]) == ("left", "right")
    assert left["probabilities"] != right["probabilities"]
    assert heard(client, CALL, "/predict?channel=right")["probabilities"] == right["probabilities"]
    assert heard(client, CALL, "/predict?channel=2")["probabilities"] == right["probabilities"]
    assert heard(client, CALL)["probabilities"] == library(ear, CALL, tmp_path)["probabilities"]
    (alone,) = heard(client, CLIP, "/channels")
    assert alone["channel"] == "mix"


@pytest.mark.parametrize(
    ("rate", "said"), [(8000, "recorded at 8,000 samples a second"), (16_000, None), (44_100, None)]
)
def test_a_recording_that_lacks_what_the_model_listens_to_is_remarked(
    client: TestClient, rate: int, said: str | None
) -> None:
    for path in ("/predict", "/channels"):
        answer = client.post(path, content=encoded(speech_like(2.0, rate=rate), rate), headers=WAV).json()
        remark = (answer if path == "/predict" else answer[0])["remark"]
        assert remark is None if said is None else said in remark


def test_channels_that_cancel_each_other(client: TestClient) -> None:
    one = speech_like(2.0)
    body = encoded(np.stack([one, -one], axis=1))
    refused = client.post("/predict", content=body, headers=WAV)
    assert refused.status_code == 422
    assert "cancel each other out" in refused.json()["what"]
    assert client.post("/predict?channel=left", content=body, headers=WAV).status_code == 200


def test_abstention_is_an_answer(client: TestClient) -> None:
    answer = heard(client, encoded(np.zeros(16_000, np.float32)))
    assert answer["label"] is None
    assert answer["abstained"]
    assert answer["probabilities"] == {}


def test_a_voice_is_learnt_kept_by_the_client_and_used(client: TestClient, ear: Recogniser, tmp_path: Path) -> None:
    one, two = (encoded(speech_like(2.0, seed=seed), subtype="FLOAT") for seed in (6, 7))
    first = heard(client, one, "/voice")
    both = heard(client, two, "/voice", Voice=first["token"])
    assert (first["utterances"], both["utterances"]) == (1, 2)
    assert heard(client, one, "/voice", Voice=both["token"]) == both  # it was there already
    voice = ear.enrol([speech_like(2.0, seed=6), speech_like(2.0, seed=7)])
    adapted = heard(client, CLIP, Voice=both["token"])
    assert adapted["voice"] == {"utterances": 2}
    assert adapted["probabilities"] == library(ear, CLIP, tmp_path, profile=voice)["probabilities"]
    assert adapted["probabilities"] != heard(client, CLIP)["probabilities"]


def test_a_voice_of_more_clips_than_anybody_gives(client: TestClient, ear: Recogniser) -> None:
    """An edited token is refused, and not carried on until its count overflows."""
    voice = replace(SpeakerProfile.unknown(ear.model.digest, ear.model.profile_width), utterances=2**32 - 1)
    answer = client.post("/voice", content=CLIP, headers={**WAV, "Voice": write_token(voice)})
    assert (answer.status_code, answer.json()["what"]) == (422, "the voice is damaged")


def test_voices_that_cannot_be_used(client: TestClient) -> None:
    token = heard(client, CLIP, "/voice")["token"]
    with TestClient(create_app(recogniser(name="another")), base_url="http://localhost") as other:
        answer = other.post("/predict", content=CLIP, headers={**WAV, "Voice": token})
        assert (answer.status_code, answer.json()["what"]) == (422, "the voice was learnt by another model")
    for damaged in (token[:-4], token[:40], "x", "", "é".encode(), token[:-8] + "AAAAAPh_"):
        answer = client.post("/predict", content=CLIP, headers={**WAV, "Voice": damaged})
        assert (answer.status_code, answer.json()["what"]) == (422, "the voice is damaged"), damaged
    with TestClient(create_app(recogniser(voice=False)), base_url="http://localhost") as deaf:
        assert not deaf.get("/health").json()["adapts"]
        answer = deaf.post("/voice", content=CLIP, headers=WAV)
        assert (answer.status_code, answer.json()["what"]) == (422, "this model cannot adapt to a voice")


def test_health(client: TestClient) -> None:
    answer = client.get("/health").json()
    assert answer["status"] == "ok"
    assert (answer["model"], answer["labels"], answer["adapts"]) == ("tiny", list(LABELS), True)
    assert answer["licence"] == "CC BY-NC-SA 4.0"
    assert answer["limits"]["bytes"] == 32_000_000
    assert answer["busy"] == 0


def test_the_card(client: TestClient, tmp_path: Path) -> None:
    assert client.get("/card").text == "This model came without a card.\n"
    from unheard.recogniser.recogniser import load

    with TestClient(create_app(load(model_folder(tmp_path / "tiny"))), base_url="http://localhost") as with_card:
        answer = with_card.get("/card")
        assert answer.text.startswith("# tiny\n")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_the_interface_describes_itself(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/predict", "/channels", "/voice", "/health", "/card"}
    refusals = set(described["paths"]["/predict"]["post"]["responses"]) - {"200"}
    assert refusals == {"400", "403", "408", "413", "415", "421", "422", "429", "500", "504"}
    for loads_from_elsewhere in ("/docs", "/redoc"):
        assert client.get(loads_from_elsewhere).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 65536}, {"port": -1}, {"megabytes": 0}, {"seconds": float("inf")}, {"timeout": float("nan")},
        {"concurrency": 0}, {"waiting": -1},
    ],
)  # fmt: skip
def test_settings_no_server_can_work_with(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ServerSettings(**wrong)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model_folder(tmp_path / "tiny")
    with serving(folder) as (address, _):
        assert address.startswith("http://127.0.0.1:")
        request = urllib.request.Request(f"{address}predict", data=CLIP, headers=WAV)
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert json.load(answer)["label"] in LABELS
        port = address.rsplit(":", 1)[1].rstrip("/")
        assert main(["serve", str(folder), "--port", port]) == 2
        assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "nothing")]) == 2
    assert "there is no model" in capsys.readouterr().err


def test_without_the_extra_it_says_which(tmp_path: Path) -> None:
    code = "import sys; sys.modules['fastapi'] = None; from unheard.cli import main; sys.exit(main(['serve', 'x']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert 'pip install "unheard[server]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_voice_is_learnt_from_one_side_of_a_call(client: TestClient, ear: Recogniser) -> None:
    left, right, mix = (heard(client, CALL, f"/voice?channel={one}") for one in ("left", "right", "mix"))
    assert len({left["token"], right["token"], mix["token"]}) == 3
    assert heard(client, CALL, "/voice") == mix
    answer = client.post("/voice?channel=both", content=CALL, headers=WAV)
    assert answer.status_code == 422


def test_health_for_those_who_ask_no_more(client: TestClient) -> None:
    answer = client.head("/health")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    ("path", "headers", "says"),
    [
        ("/predict?stepz=1", {}, "Did you mean 'steps'"),
        ("/voice?window=60", {}, "unknown parameter 'window'"),
        ("/channels?channel=left", {}, "unknown parameter 'channel'"),
        ("/channels", {"Voice": "x"}, "one voice was sent"),
    ],
)
def test_what_nothing_would_hear_is_refused(client: TestClient, path: str, headers: dict[str, str], says: str) -> None:
    answer = client.post(path, content=CALL, headers={**WAV, **headers})
    assert answer.status_code == 422
    assert says in " ".join(map(str, answer.json().values()))
