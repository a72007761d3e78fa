"""The server under what schemathesis invents from its own description, and under bytes that almost are audio."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import WAV, recogniser, speech_like
from sounds import encoded
from starlette.testclient import TestClient

import unheard
from unheard.errors import UnheardError
from unheard.recogniser.hub import try_out
from unheard.server.app import create_app
from unheard.server.settings import ServerSettings

schemathesis = pytest.importorskip("schemathesis", reason="needs the extra `fuzz`")

LIMITS = {"max_megabytes": 1, "max_seconds": 30}
APP = create_app(recogniser(), ServerSettings(**LIMITS))  # type: ignore[arg-type]
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP, headers={"Host": "localhost"})
KINDS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM")]
KINDS += [(kind, None) for kind in ("FLAC", "OGG", "MP3", "AIFF")]
FILES = [encoded(speech_like(0.5), format=format, subtype=subtype) for format, subtype in KINDS]

pytestmark = pytest.mark.slow


@schemathesis.serializer("audio/wav", "audio/flac", "audio/ogg", "audio/mpeg")
def as_it_is(_: object, value: bytes) -> bytes:
    return value


@pytest.fixture(scope="module")
def session() -> Iterator[object]:
    """One client for all calls: a server lives in one event loop, and would refuse work from another."""
    with schemathesis.python.asgi.get_client(APP) as client:
        yield client


@SCHEMA.parametrize()
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_its_own_description_allows(session: object, case: schemathesis.Case) -> None:
    checks = schemathesis.specs.openapi.checks
    # any bytes are an upload by the description, but few are a recording
    case.call_and_validate(
        session=session, headers={"Host": "localhost"}, excluded_checks=[checks.positive_data_acceptance]
    )


@given(data=st.data())
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
def test_damaged_recordings(client: TestClient, data: st.DataObject) -> None:
    """Bytes of real files, some of them changed or missing: an answer or a refusal, never a failure."""
    body = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, min(len(body), 600) - 1) | st.integers(0, len(body) - 1))
        body[at : at + 1] = data.draw(st.binary(max_size=8))
        if not body:
            body = bytearray(b"\0")
    answer = client.post(data.draw(st.sampled_from(["/predict", "/channels"])), content=bytes(body), headers=WAV)
    assert answer.status_code in (200, 413, 422), answer.text


@given(data=st.data())
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
def test_damaged_models(data: st.DataObject) -> None:
    """A model folder with changed bytes, its checksums as changed or made again, is loaded or refused by name."""
    with TemporaryDirectory() as folder:
        model = Path(shutil.copytree(Path(unheard.__file__).parent / "models" / "tiny", Path(folder) / "model"))
        files = sorted(path for path in model.iterdir() if path.is_file())
        for _ in range(data.draw(st.integers(1, 5))):
            path = data.draw(st.sampled_from(files))
            body = path.read_bytes() or b"\0"
            at = data.draw(st.integers(0, min(len(body), 3000) - 1) | st.integers(0, len(body) - 1))
            gone = data.draw(st.sampled_from([0, 1, 8, len(body)]))
            path.write_bytes(body[:at] + data.draw(st.binary(max_size=30)) + body[at + gone :])
        if data.draw(st.booleans()):
            graphs = [path for path in files if path.suffix == ".onnx"]
            sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in graphs]
            (model / "SHA256SUMS").write_text("".join(sums))
        refused = ""
        try:
            try_out(model)
        except UnheardError as error:
            refused = str(error)
        assert "Traceback" not in refused
