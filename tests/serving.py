"""Servers, clients and recordings that the tests of the server and its page share."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient
from tiny_model import LABELS, metadata, tiny_proto

from unheard.recogniser.model import OnnxModel
from unheard.recogniser.recogniser import Recogniser
from unheard.server.app import create_app
from unheard.server.settings import ServerSettings

WAV = {"Content-Type": "audio/wav"}


def speech_like(seconds: float, seed: int = 0, rate: int = 16_000) -> np.ndarray:
    """Syllables of coloured noise, four a second: as loud and as changeable as speech."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = 110 + 40 * np.sin(2 * np.pi * 0.7 * time + seed)
    voice = np.sign(np.sin(2 * np.pi * np.cumsum(pitch) / rate)) + draw.standard_normal(len(time))
    loudness = np.clip(np.sin(2 * np.pi * 2 * time), 0.02, None) * (0.6 + 0.4 * np.sin(2 * np.pi * 0.3 * time))
    return (0.1 * voice * loudness).astype(np.float32)


def recogniser(**options: Any) -> Recogniser:
    """The tiny model in use."""
    return Recogniser(OnnxModel(tiny_proto(**options).SerializeToString(), "tiny"))


def on(ear: Any, **settings: Any) -> TestClient:
    """A client of a server with this recogniser."""
    app = create_app(ear, ServerSettings(**settings))
    return TestClient(app, base_url="http://localhost", root_path=settings.get("root_path", ""))


def refusal(answer: Any) -> tuple[int, str]:
    """Status and text of a refusal, which always says what and mend, and carries no traceback."""
    said = answer.json()
    assert set(said) == {"code", "what", "mend"}
    assert all(said.values())
    assert not any(word in answer.text for word in ("Traceback", 'File "'))
    return answer.status_code, said["what"]


def send(client: TestClient, body: bytes) -> Any:
    """Upload a recording; returns the answer."""
    return client.post("/predict", content=body, headers=WAV)


def model_folder(folder: Path) -> Path:
    """A folder as `unheard export` leaves it, with the tiny model and a card."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(tiny_proto().SerializeToString())
    (folder / "README.md").write_text(f"# tiny\n\nKnows {', '.join(LABELS)}. Licence: {metadata()['licence']}\n")
    return folder


@contextmanager
def serving(model: Path, *options: str) -> Iterator[tuple[str, int]]:
    """`unheard serve` in a process of its own on a free port: its address and its process id."""
    command = [sys.executable, "-m", "unheard", "serve", str(model), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        said = ""
        while not (found := re.search(r"http://\S+/", said)):
            line = process.stderr.readline()
            assert line, f"the server ended: {said}"
            said += line
        yield found[0], process.pid
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        finally:
            process.kill()
            process.stderr.close()
