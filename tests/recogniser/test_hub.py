"""Models on the Hugging Face hub, played by a server on this machine that speaks its protocol."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
import tiny_model
from sounds import murmur, write

import unheard
from unheard.errors import ConfigError, MissingExtra, ModelError
from unheard.recogniser import hub

huggingface_hub = pytest.importorskip("huggingface_hub", reason="needs the extra `hub`")
constants = pytest.importorskip("huggingface_hub.constants")

COMMIT, NOWHERE = "c0ffee" + 34 * "0", "http://127.0.0.1:9"


class Hub(ThreadingHTTPServer):
    """Repositories by name, each with the content of its files; `asked` are the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        parts = self.path.partition("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        files = self.server.repositories.get("/".join(parts[2:4] if api else parts[:2]))
        if files is None:
            self.answer(404, X_Error_Code="RepoNotFound")
        elif api and parts[4:5] == ["tree"]:
            self.answer_json(
                [{"type": "file", "path": name, "size": len(of), "oid": "0"} for name, of in files.items()]
            )
        elif api:
            siblings = [{"rfilename": name} for name in files]
            self.answer_json({"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings})
        else:
            content = files["/".join(parts[4:])]
            self.answer(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET


@pytest.fixture
def server() -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder with a file that is nobody's business."""
    folder = tiny_model.write_tiny(tmp_path / "model" / "model.onnx").parent
    (folder / "README.md").write_text("---\nlicense: other\n---\n# The card\n")
    (folder / "secret.txt").write_text("not for the hub")
    return folder


@pytest.fixture
def at(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets the hub's package ask an address and keep what it gets in a folder of the test; models are not tried out."""

    def change(address: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        path = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")[2]
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{{repo_id}}{path}")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("unheard.recogniser.model.try_out", lambda path: None)
    change(f"http://127.0.0.1:{server.server_port}")
    return change


def test_a_model_comes_from_the_hub(server: Hub, model: Path, tmp_path: Path, at: Callable[[str], None]) -> None:
    files = {name: (model / name).read_bytes() for name in ("model.onnx", "README.md")}
    server.repositories["anna/tiny"] = {**files, "huge.bin": b"not asked for"}
    recording = write(tmp_path / "a.wav", murmur(2))
    expected = unheard.load(model).predict(recording).as_dict()
    assert unheard.load("hf:anna/tiny").predict(recording).as_dict() == expected
    assert not [one for one in server.asked if "huge.bin" in one and "resolve" in one]
    assert unheard.load("hf:anna/tiny@v1").predict(recording).as_dict() == expected
    assert any("/v1" in one for one in server.asked)
    at(NOWHERE)
    assert unheard.load("hf:anna/tiny").predict(recording).as_dict() == expected


def test_what_the_hub_does_not_have(server: Hub, at: Callable[[str], None]) -> None:
    server.repositories["anna/empty"] = {"README.md": b"nothing"}
    with pytest.raises(ModelError, match=r"no model\.onnx in this folder"):
        unheard.load("hf:anna/empty")
    for change in (lambda: None, lambda: at(NOWHERE)):
        change()
        with pytest.raises(ModelError, match="hf:anna/none: the Hugging Face hub gives no such model"):
            unheard.load("hf:anna/none")


def test_a_model_goes_to_the_hub(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = create_autospec(huggingface_hub.HfApi)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    api.create_repo.return_value = "https://hub.example/anna/tiny"
    assert hub.push(model, "anna/tiny") == "https://hub.example/anna/tiny"
    api.create_repo.assert_called_once_with("anna/tiny", private=True, exist_ok=True)
    given = api.upload_folder.call_args.kwargs
    assert (given["repo_id"], given["folder_path"]) == ("anna/tiny", str(model))
    names = [path.name for path in model.iterdir()]
    uploaded = huggingface_hub.utils.filter_repo_objects(names, allow_patterns=given["allow_patterns"])
    assert set(uploaded) == {"model.onnx", "README.md"}
    api.create_repo.side_effect = ConnectionError("401")
    with pytest.raises(ModelError, match="the Hugging Face hub did not take the model"):
        hub.push(model, "anna/tiny")


def test_a_model_from_the_hub_is_tried_out_first(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    def refuse(path: Path) -> None:
        raise ModelError("takes all memory", where=path)

    monkeypatch.setattr("unheard.recogniser.model.download", lambda name: model)
    monkeypatch.setattr("unheard.recogniser.model.try_out", refuse)
    with pytest.raises(ModelError, match="takes all memory"):
        unheard.load("hf:anna/tiny")


@pytest.mark.parametrize("name", ["tiny", "anna/tiny/x", "../tiny", "anna/..", "anna/a b", ""])
def test_names_of_repositories(name: str) -> None:
    with pytest.raises(ConfigError, match="not the name of a repository"):
        unheard.load(f"hf:{name}")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for job in (lambda: unheard.load("hf:anna/tiny"), lambda: hub.check("anna/tiny")):
        with pytest.raises(MissingExtra, match=r"unheard\[hub\]"):
            job()
