"""Where answers are written: beside what they are made from, never over it; and what a stopped call leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_model
from sounds import murmur, write

from unheard.cli import main
from unheard.recogniser.formats import sink


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model and two recordings, in the present folder."""
    tiny_model.write_tiny(tmp_path / "model" / "model.onnx")
    for name in ("a.wav", "b.wav"):
        write(tmp_path / name, murmur(2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


RECORDING, INPUT = "'a.wav' is a recording", "would overwrite the input"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("predict model -o a.wav b.wav", RECORDING),
        ("predict model a.wav --format csv -o a.wav", RECORDING),
        ("embed model b.wav -o a.wav", RECORDING),
        ("doctor m.csv -o a.wav", RECORDING),
        ("probe model m.csv -o a.wav", RECORDING),
        ("doctor m.csv -o ./m.csv", INPUT),
        ("probe model m.csv -o m.csv", INPUT),
        ("predict model odd -o odd", INPUT),
    ],
)
def test_what_is_read_is_not_written_over(
    there: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    (there / "m.csv").write_text("file,speaker,emotion\na.wav,x,sad\nb.wav,y,happy\n")
    (there / "odd").write_bytes((there / "a.wav").read_bytes())
    before = {path: path.read_bytes() for path in there.iterdir() if path.is_file()}
    assert main(arguments.split()) == 2
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in there.iterdir() if path.is_file()} == before


def test_the_ending_decides_the_format(there: Path) -> None:
    assert main(["predict", "model", "a.wav", "b.wav", "-o", "x.CSV"]) == 0
    assert (there / "x.CSV").read_text().startswith("file,channel,")
    assert main(["predict", "model", "a.wav", "-o", "x.txt"]) == 0
    assert "a.wav" in (there / "x.txt").read_text().splitlines()[0].split()[-1]
    assert main(["predict", "model", "a.wav", "-o", "y.csv", "--format", "json"]) == 0  # an explicit format wins
    assert json.loads((there / "y.csv").read_text())["file"] == "a.wav"


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
