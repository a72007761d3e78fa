"""Where answers are written: beside what they are made from, never over it; and what a stopped call leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_model
from sounds import murmur, write

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
def test_what_is_read_is_not_written_over(there: Path, cli: Any, arguments: str, message: str) -> None:
    (there / "m.csv").write_text("file,speaker,emotion\na.wav,x,sad\nb.wav,y,happy\n")
    (there / "odd").write_bytes((there / "a.wav").read_bytes())
    before = {path: path.read_bytes() for path in there.iterdir() if path.is_file()}
    assert message in cli(*arguments.split(), code=2)[1]
    assert {path: path.read_bytes() for path in there.iterdir() if path.is_file()} == before


def test_the_ending_decides_the_format(there: Path, cli: Any) -> None:
    cli("predict", "model", "a.wav", "b.wav", "-o", "x.CSV")
    assert (there / "x.CSV").read_text().startswith("file,channel,")
    cli("predict", "model", "a.wav", "-o", "x.txt")
    assert "a.wav" in (there / "x.txt").read_text().splitlines()[0].split()[-1]
    cli("predict", "model", "a.wav", "-o", "y.csv", "--format", "json")  # an explicit format wins
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
def test_the_message_after_a_stop(monkeypatch: pytest.MonkeyPatch, cli: Any, verb: str, goes_on: bool) -> None:
    from cyclopts import App

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(App, "__call__", stop)
    _, err = cli(verb, "x", code=130)
    assert err.startswith("unheard: stopped.")
    assert ("run the same command again" in err) == goes_on


def test_a_name_does_not_steer_the_terminal(there: Path, cli: Any) -> None:
    _, err = cli("predict", "model", "\x1b[31mred.wav", code=1)
    assert "red.wav" in err
    assert "\x1b[31m" not in err
