"""Voices kept on disk: small files that nothing can lead out of their folder."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unheard.errors import ConfigError
from unheard.recogniser import SpeakerProfile
from unheard.recogniser.profiles import ProfileStore, default_folder

DIGEST, OTHER = "a" * 64, "b" * 64


def profile(name: str = "Anna", digest: str = DIGEST) -> SpeakerProfile:
    rng = np.random.default_rng(0)
    found = SpeakerProfile.unknown(digest, 3, name)
    for _ in range(5):
        found = found.learnt(rng.standard_normal(3).astype(np.float32))
    return found


def test_the_mean_is_a_mean_and_believed_little_at_first() -> None:
    descriptions = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
    found = SpeakerProfile.unknown(DIGEST, 3)
    assert not found.vector(4.0).any()
    for count, description in enumerate(descriptions, start=1):
        found = found.learnt(description)
        mean = descriptions[:count].mean(axis=0)
        np.testing.assert_allclose(found.vector(4.0), count / (count + 4) * mean, rtol=1e-5)
        np.testing.assert_allclose(found.vector(0.0), mean, rtol=1e-5)


def test_what_is_kept_comes_back_exactly(tmp_path: Path) -> None:
    book = ProfileStore(tmp_path / "profiles")
    path = book.keep(profile(), "tiny")
    found = book.get(" aNNa ", DIGEST, 3)
    assert found.mean.tobytes() == profile().mean.tobytes()
    assert (found.utterances, found.name, found.digest) == (5, "Anna", DIGEST)
    assert book.get("Anna", OTHER, 3).utterances == 0
    book.keep(profile(digest=OTHER), "other")
    assert book.get("Anna", DIGEST, 3).utterances == 5
    assert {entry["model"] for entry in book.entries("anna").values()} == {"tiny", "other"}
    assert book.names() == ["Anna"]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    book.forget("ANNA")
    assert book.names() == []
    with pytest.raises(ConfigError, match="no speaker profile 'anna'"):
        book.entries("anna")


@given(st.text(min_size=1, max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    book = ProfileStore(tmp_path / "profiles")
    before = set(tmp_path.iterdir()) | {tmp_path / "profiles"}
    try:
        path = book.keep(profile(name))
    except ConfigError as error:
        assert "not a valid profile name" in error.what  # noqa: PT017 - either is right
        return
    assert path.parent == tmp_path / "profiles"
    assert set(tmp_path.iterdir()) <= before
    assert book.get(name, DIGEST, 3).utterances == 5
    book.forget(name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", ".", "a/b", "a\\b", "C:", "con", "~", "%2e%2e%2f"])
def test_names_that_look_like_paths_are_names(tmp_path: Path, name: str) -> None:
    book = ProfileStore(tmp_path / "profiles")
    assert book.keep(profile(name)).parent == tmp_path / "profiles"
    assert book.names() == [name]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[2J", "x" * 500, "\N{SNOWMAN}" * 100])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="not a valid profile name"):
        ProfileStore(tmp_path).get(name, DIGEST, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"name": 3},
        {"name": "a\nb"},
        {"models": []},
        {"models": {DIGEST: {"model": "m", "utterances": -1, "mean": [0, 0, 0]}}},
        {"models": {DIGEST: {"model": "m", "utterances": 1, "mean": [0, 0]}}},
        {"models": {DIGEST: {"model": "m", "utterances": 1, "mean": [0, 0, "1"]}}},
        {"models": {DIGEST: {"model": "m", "utterances": 1, "mean": [0, 0, 1e999]}}},
        {"models": {DIGEST: {"utterances": 1, "mean": [0, 0, 0]}}},
        {"models": {DIGEST: {"model": "m", "utterances": 1, "mean": [10**400, 0, 0]}}},
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    book = ProfileStore(tmp_path)
    path = book.keep(profile())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match="not a speaker profile, or a broken one"):
        book.get("anna", DIGEST, 3)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b" " * (1 << 21)])
def test_a_file_of_something_else_is_refused_and_not_listed(tmp_path: Path, content: bytes) -> None:
    book = ProfileStore(tmp_path)
    book.keep(profile()).write_bytes(content)
    with pytest.raises(ConfigError, match="not a speaker profile, or a broken one"):
        book.get("anna", DIGEST, 3)
    assert book.names() == []
    assert [problem.where for problem in book.broken()] == [str(tmp_path / "profile-anna.json")]
    book.forget("anna")
    assert not book.broken()


def test_the_folder_is_the_systems_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "unheard" / "profiles"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert default_folder() == tmp_path / "local" / "unheard" / "profiles"
    monkeypatch.setattr("sys.platform", "darwin")
    assert default_folder().parts[-4:] == ("Library", "Application Support", "unheard", "profiles")


def test_an_utterance_that_is_enrolled_again_counts_once(tmp_path: Path) -> None:
    one, two = np.random.default_rng(3).standard_normal((2, 3)).astype(np.float32)
    found = SpeakerProfile.unknown(DIGEST, 3, "anna").enrol(one).enrol(two).enrol(one)
    assert found.utterances == 2
    book = ProfileStore(tmp_path / "profiles")
    book.keep(found)
    kept = book.get("anna", DIGEST, 3)
    assert kept.enrol(two).utterances == 2
    assert kept.learnt(two).utterances == 3  # heard again along the way: the person did speak again
    path = book.keep(found)
    broken = json.loads(path.read_text())
    broken["models"][DIGEST]["enrolled"] = [1]
    path.write_text(json.dumps(broken))
    with pytest.raises(ConfigError, match="a broken one"):
        book.get("anna", DIGEST, 3)
