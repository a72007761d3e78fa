"""Speaker profiles on disk: small files that no name can place outside their folder."""

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
DESCRIPTIONS = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


def profile(name: str = "Anna", digest: str = DIGEST) -> SpeakerProfile:
    found = SpeakerProfile.unknown(digest, 3, name)
    for description in DESCRIPTIONS:
        found = found.learnt(description)
    return found


def test_a_stored_profile_comes_back_exactly(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path / "profiles")
    path = store.keep(profile(), "tiny")
    found = store.get(" aNNa ", DIGEST, 3)
    assert found.mean.tobytes() == profile().mean.tobytes()
    assert (found.utterances, found.name, found.digest) == (5, "Anna", DIGEST)
    assert store.get("Anna", OTHER, 3).utterances == 0
    with pytest.raises(ConfigError, match="a broken one"):
        store.get("anna", DIGEST, 2)
    store.keep(profile(digest=OTHER), "other")
    assert store.get("Anna", DIGEST, 3).utterances == 5
    assert {entry["model"] for entry in store.entries("anna").values()} == {"tiny", "other"}
    assert store.names() == ["Anna"]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store.forget("ANNA")
    assert store.names() == []
    for unknown in (store.entries, store.forget):
        with pytest.raises(ConfigError, match="no speaker profile 'anna'"):
            unknown("anna")


def test_an_utterance_that_is_enrolled_again_counts_once(tmp_path: Path) -> None:
    one, two = DESCRIPTIONS[:2]
    found = SpeakerProfile.unknown(DIGEST, 3, "anna").enrol(one).enrol(two).enrol(one)
    assert found.utterances == 2
    store = ProfileStore(tmp_path)
    store.keep(found)
    kept = store.get("anna", DIGEST, 3)
    assert kept.enrol(two).utterances == 2
    assert kept.learnt(two).utterances == 3  # in a recording: the person did speak again


def test_processes_that_adapt_one_profile_keep_each_others_updates(tmp_path: Path) -> None:
    store, (one, two, three, *_) = ProfileStore(tmp_path), DESCRIPTIONS
    store.keep(begin := SpeakerProfile.unknown(DIGEST, 3, "anna").enrol(one))
    ours = store.get("anna", DIGEST, 3).enrol(two)
    store.keep(begin.enrol(three), base=begin)  # by another process
    store.keep(ours, base=begin)
    store.keep(ours, base=ours)
    store.keep(ours.learnt(one), base=ours)
    found = store.get("anna", DIGEST, 3)
    assert (found.utterances, len(found.enrolled)) == (4, 3)
    np.testing.assert_allclose(found.mean, np.mean([one, two, three, one], axis=0), rtol=1e-6)
    store.forget("anna")
    store.keep(found.learnt(two), base=found)
    assert (again := store.get("anna", DIGEST, 3)).mean == pytest.approx(two, rel=1e-6)
    assert again.enrol(one).utterances == 2  # the utterances that were forgotten can be enrolled anew


@given(st.text(min_size=1, max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    store = ProfileStore(tmp_path / "profiles")
    before = set(tmp_path.iterdir()) | {tmp_path / "profiles"}
    try:
        path = store.keep(profile(name))
    except ConfigError as error:
        assert "not a valid profile name" in error.what  # noqa: PT017 - either is right
        return
    assert path.parent == tmp_path / "profiles"
    assert set(tmp_path.iterdir()) <= before
    assert store.get(name, DIGEST, 3).utterances == 5
    store.forget(name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", ".", "a/b", "a\\b", "C:", "con", "~", "%2e%2e%2f"])
def test_names_that_look_like_paths_are_names(tmp_path: Path, name: str) -> None:
    store = ProfileStore(tmp_path / "profiles")
    assert store.keep(profile(name)).parent == tmp_path / "profiles"
    assert store.names() == [name]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[2J", "x" * 500, "\N{SNOWMAN}" * 100])
def test_invalid_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="not a valid profile name"):
        ProfileStore(tmp_path).get(name, DIGEST, 3)


ENTRY = {"model": "m", "utterances": 1, "mean": [0, 0, 0], "enrolled": []}
VALID = {"format": 1, "name": "anna", "models": {DIGEST: ENTRY}}


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"\xff", b"[" * 100_000, b" " * (1 << 21)),
        *(
            json.dumps(VALID | change).encode()
            for change in ({"format": 2}, {"name": 3}, {"name": "a\nb"}, {"models": []})
        ),
        *(
            json.dumps(VALID | {"models": {DIGEST: ENTRY | change}}).encode()
            for change in (
                *({"utterances": -1}, {"mean": [0, 0, "1"]}, {"mean": [0, 0, 1e999]}, {"mean": [10**400, 0, 0]}),
                *({"model": None}, {"enrolled": [1]}, {"enrolled": None}),
            )
        ),
    ],
)
def test_a_broken_file_is_refused_and_not_listed(tmp_path: Path, content: bytes) -> None:
    store, path = ProfileStore(tmp_path), tmp_path / "profile-anna.json"
    path.write_text(json.dumps(VALID))
    assert store.get("anna", DIGEST, 3).utterances == 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not a speaker profile, or a broken one"):
        store.get("anna", DIGEST, 3)
    assert store.names() == []
    assert [problem.where for problem in store.broken()] == [str(path)]
    store.forget("anna")
    assert not store.broken()


@pytest.mark.parametrize(
    ("platform", "variable", "parts"),
    [
        ("linux", "XDG_DATA_HOME", ("unheard", "profiles")),
        ("win32", "LOCALAPPDATA", ("unheard", "profiles")),
        ("darwin", "HOME", ("Library", "Application Support", "unheard", "profiles")),
    ],
)
def test_the_folder_is_the_systems_own(
    platform: str, variable: str, parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert default_folder() == tmp_path.joinpath(*parts)
