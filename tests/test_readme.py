"""The examples of the README and the tutorial run as written, in a folder with the recordings they name."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sounds import RATE, write

from unheard import report
from unheard.cli import main
from unheard.corpora.synthetic import SyntheticSettings
from unheard.corpora.synthetic import write as write_voices
from unheard.corpora.synthetic.plan import takes
from unheard.corpora.synthetic.voice import render
from unheard.recogniser.model import packaged_models

ROOT = Path(__file__).resolve().parents[1]


def blocks(page: str) -> list[tuple[str, str]]:
    return re.findall(r"```(sh|python)\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


BLOCKS = blocks("README.md")


def run(kind: str, text: str, folder: Path) -> str:
    """Run an example, in which every command has to succeed, and return what it prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", "-euxc", text] if kind == "sh" else [sys.executable, "-c", text]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_there_are_three_examples() -> None:
    assert [kind for kind, _ in BLOCKS] == ["sh", "python", "sh"]


@pytest.mark.skipif("starter" not in packaged_models(), reason="no model named starter is in the package")
def test_a_recording_and_the_packaged_model(tmp_path: Path) -> None:
    drawn = takes(SyntheticSettings())
    speech = np.concatenate([render(SyntheticSettings(), next(drawn)) for _ in range(8)])
    pause = np.zeros(3 * RATE, speech.dtype)
    write(tmp_path / "call.wav", np.concatenate([speech[: 8 * RATE], pause, speech[8 * RATE : 14 * RATE]]))
    write(tmp_path / "clip.wav", speech[-4 * RATE :])
    commands, program = BLOCKS[:2]
    said = run(*commands, tmp_path)
    assert re.search(r"^ *0:00\.0 – .*$", said, re.MULTILINE), "no timeline"
    assert "adapted to" in said
    assert "p_angry" in said
    *_, adapted = run(*program, tmp_path).split()
    assert adapted in ("angry", "happy", "neutral", "sad")


def test_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """In this process, where torch is imported once; figures in one format."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "KINDS", ("svg",))
    first, *rest = BLOCKS[2][1].replace("\\\n", " ").splitlines()
    assert first == "unheard synthetic voices"  # here with fewer and shorter sentences
    write_voices(tmp_path / "voices", SyntheticSettings(sentences=1, mean_duration=0.8))
    for command in rest:
        name, *words = shlex.split(command)
        assert name == "unheard"
        words = [str(path) for word in words for path in (sorted(Path().glob(word)) if "*" in word else [word])]
        assert main(words) == 0, command
    assert len(re.findall(r"voices/wav/s16/\S+\.wav", capfd.readouterr().out)) == 4
    exec(blocks("docs/research/tutorial.md")[-1][1], {})
    assert "SER_SR_DAT" in capfd.readouterr().out
    for made in ("RUN/table.md", "RUN/report.html", "RUN/adaptation.md", "my-model/README.md"):
        assert (tmp_path / made).is_file()
