"""`unheard predict`, `embed` and `profiles` as people call them, on a tiny model."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from sounds import call, murmur, silence, write

import unheard
from unheard.cli import main
from unheard.cli.common import progress_bar
from unheard.errors import AudioError, UnheardError
from unheard.recogniser.inputs import is_single, recordings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and beside it recordings of which two are broken."""
    path = tmp_path_factory.mktemp("predict")
    tiny_model.write_tiny(path / "model" / "model.onnx")
    (path / "model" / "README.md").write_text("---\nlicense: other\n---\n\n# The card\n")
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


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


def standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_the_call_of_the_documentation(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "model", "audio/a.wav", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = unheard.load("model").predict("audio/a.wav")
    assert found == expected.as_dict()
    assert (found["file"], found["label"]) == ("audio/a.wav", expected.label)
    assert list(found["probabilities"]) == ["angry", "happy", "neutral", "sad"]
    assert len(found["segments"]) == 1


def test_an_answer_loads_little(folder: Path) -> None:
    code = "import sys; from unheard.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    command = [sys.executable, "-c", code, "predict", "model", "audio/a.wav"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "onnxruntime" in loaded
    assert not loaded & {"rich", "yaml", "soxr", "torch", "sklearn", "scipy"}, "a cold start waits for this"


def test_a_folder_with_broken_files(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "model", "audio", "--format", "jsonl"]) == 1
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    names = [Path(line["file"]).name for line in lines]
    assert names == ["a.wav", "empty.wav", "stereo.wav", "text.wav", "b c.flac"]
    assert [Path(line["file"]).name for line in lines if "error" in line] == ["empty.wav", "text.wav"]
    assert "the file is empty" in err
    assert "2 recordings could not be read" in err


def test_patterns_and_lists(there: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    standard_input(monkeypatch, b"audio/a.wav\r\n\naudio/deep/b c.flac\nmissing.wav\n")
    assert main(["predict", "model", "-", "audio/**/*.flac", "--format", "csv"]) == 1
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["file"] for row in rows] == ["audio/a.wav", "audio/deep/b c.flac", "missing.wav", "audio/deep/b c.flac"]
    assert "missing.wav: there is no such file" in err
    assert main(["predict", "model", "audio/*.mp3"]) == 1
    assert "no file matches this pattern" in capsys.readouterr().err
    assert main(["predict", "model", "model"]) == 1
    assert "no recording in this folder" in capsys.readouterr().err


def test_a_list_is_answered_line_by_line(folder: Path) -> None:
    command = [sys.executable, "-m", "unheard", "predict", "model", "-", "--format", "jsonl"]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdin
        assert running.stdout
        assert running.stderr
        for name in (b"audio/a.wav", b"gone.wav", b"\xff\xfe.wav", b"audio/a.wav"):
            running.stdin.write(name + b"\n")
            running.stdin.flush()
            answer = json.loads(running.stdout.readline())  # before the list ends
            assert ("error" in answer) == (name != b"audio/a.wav")
        running.stdin.close()
        assert running.wait(timeout=30) == 1
        assert b"Traceback" not in running.stderr.read()


def test_each_channel(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "model", "audio/stereo.wav", "--channel", "each", "--format", "json"]) == 0
    left, right = json.loads(capsys.readouterr().out)
    assert (left["channel"], right["channel"], right["abstained"]) == ("left", "right", "silence")
    assert main(["predict", "model", "audio/stereo.wav", "--channel", "7"]) == 1
    assert "has 2 channels, not a channel '7'" in capsys.readouterr().err
    assert main(["predict", "model", "audio", "--channel", "each", "--format", "audformat", "-o", "x"]) == 2
    assert "no place for channels" in said(capsys)


def test_windows_can_be_chosen(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "model", "audio/deep", "--window", "60", "--timeline", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(row["start"], row["end"]) for row in rows] == [("0.000", "20.000")]
    assert main(["predict", "model", "audio/a.wav", "--hop", "4"]) == 2
    assert "hop of 4 s" in said(capsys)


def test_output_files_appear_whole(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "model", "audio/a.wav", "--format", "rttm", "-o", "out/a.rttm"]) == 0
    assert (there / "out" / "a.rttm").read_text().startswith("SPEAKER audio/a 1 0.000 2.000 ")
    assert main(["predict", "model", "audio", "--format", "audformat", "-o", "audio"]) == 1
    table = (there / "audio" / "db.files.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in table] == ["file", "a.wav", "stereo.wav", "deep/b c.flac"]
    assert main(["predict", "model", "audio/a.wav", "-o", "audio"]) == 2
    assert "folder" in capsys.readouterr().err


def test_the_table_shows_the_timeline_of_one(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "model", "audio/deep/b c.flac"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert any("no speech" in line for line in lines)


def test_version_shows_licence_and_card(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "model", "--version"]) == 0
    text = capsys.readouterr().out
    assert "licence of the weights: CC BY-NC-SA 4.0" in text
    assert "# The card" in text
    assert "license: other" not in text
    assert main(["predict", "--version"]) == 0
    assert unheard.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict"], "no model was named"),
        (["predict", "model"], "no recording was named"),
        (["predict", "one clip.wav"], "Write: unheard predict starter 'one clip.wav'"),
        (["embed", "a.flac", "b.flac"], "the model comes first, and 'a.flac' is a recording"),
        (["predict", "nothing", "a.wav"], "there is no model of this name"),
        (["predict", "model", "audio/a.wav", "--fromat", "json"], "Did you mean '--format'"),
        (["predict", "model", "audio/a.wav", "--format", "audformat"], "--output FOLDER"),
        (
            ["predict", "model", "audio/a.wav", "--profile", "nobody", "--profiles", "none"],
            "nothing is known of the profile",
        ),
        (["predict", "model", "audio/a.wav", "--enrol", "audio/text.wav"], "no audio that can be read"),
        (["predict", "model", "audio", "--channel", "each", "--enrol", "audio/a.wav"], "a person of its own"),
        (["predict", "model", "audio/a.wav", "--profile", "a\nb", "--profiles", "none"], "not a valid profile name"),
        (["predict", "model", "audio/a.wav", "audio/stereo.wav", "--channel", "foo"], "unknown channel 'foo'"),
        (["predict", "model", "audio/a.wav", "--threads", "2147483648"], "threads are out of range"),
        (["embed", "model", "audio/a.wav", "-o", "x.txt"], "no format of embeddings"),
        (["embed", "model", "--outptu", "x"], "Did you mean '--output'"),
    ],
)
def test_mistakes_are_said_in_one_line(
    there: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    assert message in said(capsys)


def test_enrol_speaker_and_voices(there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = str(tmp_path / "profiles")
    plain = ["predict", "model", "audio/a.wav", "--format", "json"]
    profile = unheard.load("model").enrol(["audio/a.wav", "audio/deep/b c.flac"])
    enrol = ["--enrol", "audio/a.wav", "--enrol", "audio/deep/b c.flac"]
    assert main([*plain, *enrol]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["profile"] == {"name": "", "utterances": profile.utterances, "adapting": False}
    assert main([*plain, *enrol, "--profile", "Anna", "--profiles", kept]) == 0
    assert json.loads(capsys.readouterr().out)["probabilities"] == first["probabilities"]
    assert main([*plain, "--profile", "anna", "--profiles", kept]) == 0
    out, err = capsys.readouterr()
    again = json.loads(out)
    assert again["probabilities"] == first["probabilities"]
    assert again["profile"]["name"] == "Anna"
    assert f"adapted to Anna: {profile.utterances} utterances" in err
    assert main(["profiles", "--profiles", kept]) == 0
    assert capsys.readouterr().out == f"Anna: {profile.utterances} utterances with tiny\n"
    (Path(kept) / "profile-bob.json").write_text("half of i")
    assert main(["profiles", "--profiles", kept]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Anna: ")
    assert "profile-bob.json: this is not a speaker profile, or a broken one" in err
    assert main(["profiles", "--profiles", kept, "--forget", "bob"]) == 0
    assert capsys.readouterr().out == "forgot bob\n"
    assert main(["profiles", "--profiles", kept, "--forget", "bob"]) == 2
    assert "no speaker profile 'bob'" in said(capsys)
    assert main(["profiles", "--profiles", kept, "--forget", "ANNA"]) == 0
    assert main(["profiles", "--profiles", kept]) == 0
    assert "no profile is kept" in capsys.readouterr().out


def test_adapting_is_shown_and_goes_on_with_a_speaker(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapt = ["predict", "model", "audio/a.wav", "audio/a.wav", "--adapt"]
    assert main([*adapt, "--format", "jsonl"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["profile"]["utterances"] for line in out.splitlines()] == [1, 1]
    assert "adapting" in err
    kept = ["--profile", "anna", "--profiles", str(tmp_path)]
    assert main([*adapt, *kept]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "[adapted to anna, 1 utterances, learning]" in first
    assert "[adapted to anna, 2 utterances, learning]" in second
    assert main(["profiles", *kept[2:]]) == 0
    assert capsys.readouterr().out == "anna: 2 utterances with tiny\n"


def test_embed(there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = unheard.load("model").embed("audio/a.wav")
    assert main(["embed", "model", "audio"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    np.testing.assert_array_equal(np.array(lines[0]["embedding"], np.float32), expected)
    assert [line["file"] for line in lines if "error" in line] == ["audio/empty.wav", "audio/text.wav"]
    array = tmp_path / "e.npz"
    assert main(["embed", "model", "audio/stereo.wav", "audio/a.wav", "--channel", "each", "-o", str(array)]) == 0
    with np.load(array) as found:
        assert found["files"].tolist() == ["audio/stereo.wav", "audio/a.wav"]  # the right channel is silent
        assert found["channels"].tolist() == ["left", "mix"]
        np.testing.assert_array_equal(found["embeddings"][1], expected)
    assert "audio/stereo.wav (right) has no embedding and no row" in capsys.readouterr().err
    assert main(["embed", "model", "audio/a.wav", "-o", str(tmp_path / "e.csv")]) == 0
    header, row = csv.reader((tmp_path / "e.csv").read_text().splitlines())
    assert (header[:3], row[0]) == (["file", "channel", "e0"], "audio/a.wav")
    np.testing.assert_allclose(np.array(row[2:], float), expected, rtol=1e-6)


def test_names_with_brackets_and_zeros(tmp_path: Path) -> None:
    odd = write(tmp_path / "a[1].wav", murmur(1))
    assert list(recordings([str(odd)])) == [str(odd)]
    assert is_single([str(odd)])
    assert not is_single([str(tmp_path)])
    assert is_single([str(tmp_path / "gone.wav")])
    assert not is_single([str(tmp_path / "*.wav")])
    assert not is_single([str(odd), str(odd)])
    assert not is_single(["-"])
    assert list(recordings(["-"], [b"FORMal.wav\n", b"-\n"])) == ["FORMal.wav", "./-"]
    (itself,) = recordings(["-"], [odd.read_bytes(), b"another.wav"])
    assert "this is a recording" in str(itself)
    (found,) = recordings(["-"], [b"a\0b.wav\n"])
    assert isinstance(found, UnheardError)
    assert "not a valid path" in str(found)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.wav", murmur(1))
    path.chmod(0)
    assert main(["predict", "model", str(path)]) == 1
    assert "Permission denied" in capsys.readouterr().err


def test_clips_that_teach_nothing_are_named(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet, short = (str(write(there / name, murmur(2) * 0)) for name in ("quiet.wav", "short.wav"))
    taught = ["predict", "model", "audio/a.wav", "--format", "jsonl", "--enrol"]
    assert main([*taught, "audio/a.wav"]) == 0
    expected = capsys.readouterr().out
    for clips in ([quiet, "--enrol", "audio/a.wav"], ["audio/a.wav", "--enrol", quiet]):
        assert main([*taught, *clips]) == 0
        out, err = capsys.readouterr()
        assert out == expected
        assert f"{quiet}: too little speech, nothing was learnt from it" in " ".join(err.split())
    assert main([*taught, quiet, "--enrol", short]) == 2
    assert "no clip holds enough speech" in capsys.readouterr().err


def test_recordings_of_a_lower_rate_are_counted(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(there / "telephone.wav", murmur(2)[::2], rate=8000)
    assert main(["predict", "model", "telephone.wav", "audio/a.wav"]) == 0
    assert "1 recording of fewer than 16,000 samples a second" in " ".join(capsys.readouterr().err.split())
    assert main(["predict", "model", "audio/a.wav"]) == 0
    assert capsys.readouterr().err == ""


def test_a_pattern_of_folders_within_folders_finds_each_recording_once(there: Path) -> None:
    for pattern in ("audio/**", "./audio/**/*", "audio/**/*.flac", "**"):
        found = [str(Path(str(one))) for one in recordings([pattern])]
        assert len(found) == len(set(found)), pattern
        assert "audio/deep/b c.flac" in found


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX's")
def test_a_pipe_is_opened_once_only(there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal too, where a bar would want to know how long it is; and where channels are asked for."""
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar() as bar:
        assert bar(str(pipe)) is None
    with pytest.raises(AudioError, match=r"pipe.wav: cannot count the channels of a pipe"):
        unheard.load("model").predict_channels(pipe)


def test_recordings_of_a_low_rate_are_counted_once(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low = write(tmp_path / "low.wav", np.stack([murmur(2, rate=8000), murmur(2, 1, rate=8000)], axis=1), 8000)
    assert main(["predict", "model", str(low), "--channel", "each"]) == 0
    assert "1 recording of fewer than 16,000" in capsys.readouterr().err


def test_the_ending_of_the_output_in_capitals(there: Path, tmp_path: Path) -> None:
    assert main(["predict", "model", "audio/a.wav", "-o", str(tmp_path / "OUT.CSV")]) == 0
    assert (tmp_path / "OUT.CSV").read_text().startswith("file,")


def test_a_card_cannot_write_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_model.write_tiny(tmp_path / "model.onnx")
    (tmp_path / "README.md").write_text("# A card\n\x1b]0;other\x07 text\n")
    assert main(["predict", str(tmp_path), "--version"]) == 0
    out = capsys.readouterr().out
    assert "# A card\n" in out
    assert not {"\x1b", "\x07"} & set(out)
