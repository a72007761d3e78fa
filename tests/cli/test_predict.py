"""`unheard predict`, `embed` and `profiles` as people call them, on a tiny model."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_model
from sounds import call, murmur, silence, write

import unheard
from unheard.cli.common import recording_progress
from unheard.errors import AudioError, UnheardError
from unheard.recogniser.sources import is_single, recordings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and beside it recordings of which two are broken."""
    path = tmp_path_factory.mktemp("predict")
    tiny_model.write_tiny(path / "model" / "model.onnx")
    (path / "model" / "README.md").write_text("---\nlicense: other\n---\n\n# The card\n\x1b]0;other\x07 text\n")
    audio = path / "audio"
    (audio / "deep" / ".hidden").mkdir(parents=True)
    write(audio / "a.wav", murmur(2))
    write(audio / "deep" / "b c.flac", call())
    write(audio / "deep" / ".hidden" / "d.wav", murmur(1))
    write(audio / "stereo.wav", np.stack([murmur(4), silence(4)], axis=1))
    (audio / "empty.wav").touch()
    (audio / "notes.txt").write_text("no audio")
    (audio / "text.wav").write_text("no audio either")
    return path


@pytest.fixture
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def json_of(cli: Any) -> Callable[..., Any]:
    return lambda *words: json.loads(cli(*words, "--format", "json")[0])


def test_one_recording(there: Path, cli: Any, json_of: Any) -> None:
    found = json_of("predict", "model", "audio/a.wav")
    assert found == unheard.load("model").predict("audio/a.wav").as_dict()
    assert list(found["probabilities"]) == ["angry", "happy", "neutral", "sad"]
    lines = cli("predict", "model", "audio/deep/b c.flac")[0].splitlines()
    assert len(lines) > 3
    assert any("no speech" in line for line in lines)


def test_an_answer_loads_little(folder: Path) -> None:
    code = "import sys; from unheard.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    command = [sys.executable, "-c", code, "predict", "model", "audio/a.wav"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "onnxruntime" in loaded
    assert not loaded & {"rich", "yaml", "soxr", "torch", "sklearn", "scipy", "pydantic"}, "a cold start waits for this"


def test_a_folder_with_broken_files(there: Path, cli: Any) -> None:
    out, err = cli("predict", "model", "audio", "--format", "jsonl", code=1)
    lines = [json.loads(line) for line in out.splitlines()]
    names = [Path(line["file"]).name for line in lines]
    assert names == ["a.wav", "empty.wav", "stereo.wav", "text.wav", "b c.flac"]
    assert [Path(line["file"]).name for line in lines if "error" in line] == ["empty.wav", "text.wav"]
    assert "the file is empty" in err
    assert "2 recordings could not be read" in err


def test_patterns_and_lists(there: Path, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = b"\xef\xbb\xbfaudio/a.wav\r\n\naudio/deep/b c.flac\nmissing.wav\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    out, err = cli("predict", "model", "-", "audio/**/*.flac", "--format", "csv", code=1)
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["file"] for row in rows] == ["audio/a.wav", "audio/deep/b c.flac", "missing.wav", "audio/deep/b c.flac"]
    assert "missing.wav: there is no such file" in err
    for word, message in (("audio/*.mp3", "no file matches this pattern"), ("model", "no recording in this folder")):
        assert message in cli("predict", "model", word, code=1)[1]
    for pattern in ("audio/**", "./audio/**/*", "audio/**/*.flac", "**"):
        found = [str(Path(str(one))) for one in recordings([pattern])]
        assert len(found) == len(set(found)), pattern
        assert "audio/deep/b c.flac" in found


def test_names_with_brackets_and_zeros(tmp_path: Path) -> None:
    odd = write(tmp_path / "a[1].wav", murmur(1))
    assert list(recordings([str(odd)])) == [str(odd)]
    gone, pattern = str(tmp_path / "gone.wav"), str(tmp_path / "*.wav")
    cases = {(str(odd),): True, (gone,): True, (str(tmp_path),): False, (pattern,): False, ("-",): False}
    assert {words: is_single(words) for words in cases} == cases
    assert not is_single([str(odd), str(odd)])
    assert list(recordings(["-"], [b"FORMal.wav\n", b"-\n"])) == ["FORMal.wav", "./-"]
    for lines, message in (
        ([odd.read_bytes(), b"x.wav"], "this is a recording"),
        ([b"a\0b.wav\n"], "not a valid path"),
    ):
        (found,) = recordings(["-"], lines)
        assert isinstance(found, UnheardError)
        assert message in str(found)


def test_a_list_is_answered_line_by_line(folder: Path) -> None:
    command = [sys.executable, "-m", "unheard", "predict", "model", "-", "--format", "jsonl"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=folder, **pipes) as running:
        for name in (b"audio/a.wav", b"gone.wav", b"\xff\xfe.wav", b"audio/a.wav"):
            running.stdin.write(name + b"\n")
            running.stdin.flush()
            answer = json.loads(running.stdout.readline())  # before the list ends
            assert ("error" in answer) == (name != b"audio/a.wav")
        running.stdin.close()
        assert running.wait(timeout=30) == 1
        assert b"Traceback" not in running.stderr.read()


def test_channels_and_windows(there: Path, cli: Any, json_of: Any) -> None:
    left, right = json_of("predict", "model", "audio/stereo.wav", "--channel", "each")
    assert (left["channel"], right["channel"], right["abstained"]) == ("left", "right", "silence")
    _, err = cli("predict", "model", "audio/stereo.wav", "--channel", "7", code=1)
    assert "has 2 channels, not a channel '7'" in err
    assert "1 recording with several channels, mixed into one" in cli("predict", "model", "audio", code=1)[1]
    out, _ = cli("predict", "model", "audio/deep", "--window", "60", "--timeline", "--format", "csv")
    assert [(row["start"], row["end"]) for row in csv.DictReader(out.splitlines())] == [("0.000", "20.000")]


def test_output_files(there: Path, cli: Any) -> None:
    cli("predict", "model", "audio/a.wav", "--format", "rttm", "-o", "out/a.rttm")
    assert (there / "out" / "a.rttm").read_text().startswith("SPEAKER audio/a 1 0.000 2.000 ")
    cli("predict", "model", "audio", "--format", "audformat", "-o", "audio", code=1)
    table = (there / "audio" / "db.files.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in table] == ["file", "a.wav", "stereo.wav", "deep/b c.flac"]


def test_version_shows_licence_and_card(there: Path, cli: Any) -> None:
    text, _ = cli("predict", "model", "--version")
    assert "licence of the weights: CC BY-NC-SA 4.0" in text
    assert "# The card\n" in text
    assert "license: other" not in text
    assert not {"\x1b", "\x07"} & set(text)
    assert unheard.__version__ in cli("predict", "--version")[0]


A = "audio/a.wav"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict"], "no model given"),
        (["predict", "model"], "no recording given"),
        (["predict", "one clip.wav"], "Write: unheard predict starter 'one clip.wav'"),
        (["embed", "a.flac", "b.flac"], "the model comes first, and 'a.flac' is a recording"),
        (["predict", "nothing", "a.wav"], "there is no model of this name"),
        (["predict", "model", A, "--fromat", "json"], "Did you mean '--format'"),
        (["predict", "model", A, "--format", "audformat"], "--output FOLDER"),
        (["predict", "model", A, "-o", "audio"], "folder"),
        (["predict", "model", A, "-o", "x.xlsx"], "no format has the ending '.xlsx'"),
        (["predict", "model", A, "--hop", "4"], "hop = 4.0 is out of range"),
        (["predict", "model", A, "--profile", "nobody", "--profiles", "none"], "nobody"),
        (["predict", "model", A, "--profile", "a\nb", "--profiles", "none"], "not a valid profile name"),
        (["predict", "model", A, "--enrol", "audio/text.wav"], "audio/text.wav"),
        (["predict", "model", "audio", "--channel", "each", "--enrol", A], "--channel"),
        (
            ["predict", "model", "audio", "--channel", "each", "--format", "audformat", "-o", "x"],
            "cannot hold channels",
        ),
        (["predict", "model", A, "audio/stereo.wav", "--channel", "foo"], "unknown channel 'foo'"),
        (["predict", "model", A, "--threads", "2147483648"], "threads = 2147483648 is out of range"),
        (["embed", "model", A, "-o", "x.txt"], "no format of embeddings"),
        (["embed", "model", "--outptu", "x"], "Did you mean '--output'"),
        (["profiles", "--profiles", "none", "--forget", "bob"], "no speaker profile 'bob'"),
    ],
)
def test_mistakes_give_one_line(there: Path, cli: Any, arguments: list[str], message: str) -> None:
    out, err = cli(*arguments, code=2)
    assert out == ""
    assert len(err.splitlines()) == 1
    assert message in err


def test_enrolment_and_stored_profiles(there: Path, tmp_path: Path, cli: Any, json_of: Any) -> None:
    profiles = ["--profiles", tmp_path / "profiles"]
    plain, enrol = ["predict", "model", A], ["--enrol", A, "--enrol", "audio/deep/b c.flac"]
    count = unheard.load("model").enrol([A, "audio/deep/b c.flac"]).utterances
    first = json_of(*plain, *enrol)
    assert first["profile"] == {"name": "", "utterances": count, "adapting": False}
    stored = json_of(*plain, *enrol, "--profile", "Anna", *profiles)
    again = json_of(*plain, "--profile", "anna", *profiles)
    assert stored["probabilities"] == again["probabilities"] == first["probabilities"]
    assert again["profile"]["name"] == "Anna"
    (tmp_path / "profiles" / "profile-bob.json").write_text("half of i")
    out, err = cli("profiles", *profiles)
    assert out == f"Anna: {count} utterances with tiny\n"
    assert "profile-bob.json: this is not a speaker profile, or a broken one" in err
    for name in ("bob", "ANNA"):
        cli("profiles", *profiles, "--forget", name)
    assert "Anna" not in cli("profiles", *profiles)[0]


def test_adapting_is_shown_and_goes_on_with_a_profile(there: Path, tmp_path: Path, cli: Any) -> None:
    adapt = ["predict", "model", A, A, "--adapt"]
    out, err = cli(*adapt, "--format", "jsonl")
    assert [json.loads(line)["profile"]["utterances"] for line in out.splitlines()] == [1, 1]
    assert "adapting" in err
    first, second = cli(*adapt, "--profile", "anna", "--profiles", tmp_path)[0].splitlines()
    assert "[adapted to anna, 1 utterance, learning]" in first
    assert "[adapted to anna, 2 utterances, learning]" in second
    assert cli("profiles", "--profiles", tmp_path)[0] == "anna: 2 utterances with tiny\n"


def test_clips_without_speech_are_named(there: Path, cli: Any, json_of: Any) -> None:
    quiet, short = (str(write(there / name, murmur(2) * 0)) for name in ("quiet.wav", "short.wav"))
    expected = json_of("predict", "model", A, "--enrol", A)
    for clips in ([quiet, "--enrol", A], [A, "--enrol", quiet]):
        out, err = cli("predict", "model", A, "--format", "json", "--enrol", *clips)
        assert json.loads(out) == expected
        assert f"{quiet}: too little speech" in " ".join(err.split())
    _, err = cli("predict", "model", A, "--enrol", quiet, "--enrol", short, code=2)
    assert "no clip holds enough speech" in err


def test_embed(there: Path, tmp_path: Path, cli: Any) -> None:
    expected = unheard.load("model").embed(A)
    lines = [json.loads(line) for line in cli("embed", "model", "audio", code=1)[0].splitlines()]
    np.testing.assert_array_equal(np.array(lines[0]["embedding"], np.float32), expected)
    assert [line["file"] for line in lines if "error" in line] == ["audio/empty.wav", "audio/text.wav"]
    _, err = cli("embed", "model", "audio/stereo.wav", A, "--channel", "each", "-o", tmp_path / "e.npz")
    assert "audio/stereo.wav (right) has no embedding and no row" in err
    with np.load(tmp_path / "e.npz") as found:
        assert found["files"].tolist() == ["audio/stereo.wav", A]  # the right channel is silent
        assert found["channels"].tolist() == ["left", "mix"]
        np.testing.assert_array_equal(found["embeddings"][1], expected)
    cli("embed", "model", A, "-o", tmp_path / "e.csv")
    header, row = csv.reader((tmp_path / "e.csv").read_text().splitlines())
    assert (header[:3], row[0]) == (["file", "channel", "e0"], A)
    np.testing.assert_allclose(np.array(row[2:], float), expected, rtol=1e-6)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(there: Path, tmp_path: Path, cli: Any) -> None:
    path = write(tmp_path / "a.wav", murmur(1))
    path.chmod(0)
    assert "Permission denied" in cli("predict", "model", path, code=1)[1]


def test_recordings_of_a_lower_rate_are_counted_once(there: Path, tmp_path: Path, cli: Any) -> None:
    low = write(tmp_path / "low.wav", np.stack([murmur(2, rate=8000), murmur(2, 1, rate=8000)], axis=1), 8000)
    for channel in ("each", "mix"):
        _, err = cli("predict", "model", low, A, "--channel", channel)
        assert "1 recording below 16,000 Hz" in " ".join(err.split())
    assert cli("predict", "model", A)[1] == ""


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX's")
def test_a_pipe_is_opened_once_only(there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal too, where the progress bar needs a length; and where channels are asked for."""
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with recording_progress() as bar:
        assert bar(str(pipe)) is None
    with pytest.raises(AudioError, match=r"pipe.wav: cannot count the channels of a pipe"):
        unheard.load("model").predict_channels(pipe)
