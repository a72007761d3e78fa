"""Where answers are written: beside what they are made from, never over it; and what a stopped call leaves."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
import tiny_model
from sounds import murmur, write

from unheard.cli import main
from unheard.files import write_text
from unheard.recogniser.formats import sink


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model and two recordings, in the present folder."""
    tiny_model.write_tiny(tmp_path / "model" / "model.onnx")
    for name in ("a.wav", "b.wav"):
        write(tmp_path / name, murmur(2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "model", "-o", "a.wav", "b.wav"],
        ["predict", "model", "a.wav", "--format", "csv", "-o", "a.wav"],
        ["embed", "model", "b.wav", "-o", "a.wav"],
        ["doctor", "m.csv", "-o", "a.wav"],
        ["probe", "model", "m.csv", "-o", "a.wav"],
    ],
)
def test_recordings_are_not_written_over(there: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    before = (there / "a.wav").read_bytes()
    assert main(arguments) == 2
    assert "'a.wav' is a recording" in capsys.readouterr().err
    assert (there / "a.wav").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor", "m.csv", "-o", "./m.csv"],
        ["probe", "model", "m.csv", "-o", "m.csv"],
        ["predict", "model", "odd", "-o", "odd"],
    ],
)
def test_what_is_read_is_not_written_over(
    there: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    (there / "m.csv").write_text("file,speaker,emotion\na.wav,x,sad\nb.wav,y,happy\n")
    (there / "odd").write_bytes((there / "a.wav").read_bytes())
    before = {path: path.read_bytes() for path in there.iterdir() if path.is_file()}
    assert main(arguments) == 2
    assert "would overwrite the input" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in there.iterdir() if path.is_file()} == before


def test_the_ending_decides_the_format(there: Path) -> None:
    assert main(["predict", "model", "a.wav", "b.wav", "-o", "x.CSV"]) == 0
    assert (there / "x.CSV").read_text().startswith("file,channel,")
    assert main(["predict", "model", "a.wav", "-o", "x.txt"]) == 0
    assert "a.wav" in (there / "x.txt").read_text().splitlines()[0].split()[-1]
    assert main(["predict", "model", "a.wav", "-o", "y.csv", "--format", "json"]) == 0  # an explicit format wins
    assert json.loads((there / "y.csv").read_text())["file"] == "a.wav"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "deep" / "target", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to(target)
    for text in ("first", "second"):  # at first there is nothing behind it
        write_text(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "link", "target"]


def test_pipes_and_devices_are_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()), daemon=True)
    reader.start()
    write_text(pipe, "through the pipe")
    reader.join(10)
    assert received == ["through the pipe"]
    assert pipe.is_fifo()
    write_text(Path(os.devnull), "nowhere")
    assert Path(os.devnull).is_char_device()


def test_answers_given_before_a_stop_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "answers.jsonl"
    output.write_text("of before")

    def stopped() -> None:
        with sink(output) as out:
            out.write("one\n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert output.read_text() == "of before"
    assert (tmp_path / "answers.jsonl.partial").read_text() == "one\n"
    assert "answers.jsonl.partial" in capsys.readouterr().err


@pytest.mark.parametrize(("verb", "goes_on"), [("experiment", True), ("predict", False)])
def test_the_message_after_a_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, goes_on: bool
) -> None:
    from cyclopts import App

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(App, "__call__", stop)
    assert main([verb, "x"]) == 130
    err = capsys.readouterr().err
    assert err.startswith("unheard: stopped.")
    assert ("run the same command again" in err) == goes_on


def test_a_name_does_not_steer_the_terminal(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "model", "\x1b[31mred.wav"]) == 1
    err = capsys.readouterr().err
    assert "red.wav" in err
    assert "\x1b[31m" not in err
