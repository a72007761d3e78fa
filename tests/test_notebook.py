"""What a notebook shows: HTML, data frames and plots of predictions, manifests and runs; and the page about it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import made_runs
import matplotlib
import pytest

import unheard
from unheard.errors import UnheardError
from unheard.experiments.run import Run
from unheard.manifest import Manifest, Utterance
from unheard.recogniser import Prediction, Segment

matplotlib.use("Agg")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "use" / "notebooks.md"
ANGRY, SAD = {"angry": 0.75, "sad": 0.25}, {"angry": 0.125, "sad": 0.875}
CALL = Prediction(
    "a<b>.wav", "sad", SAD, None,
    (Segment(0.0, 2.0, "angry", ANGRY, None, "Anna"), Segment(2.0, 3.0, None, {}, "silence", "<Bo>"),
     Segment(3.0, 5.0, "sad", SAD, None, "<Bo>")),
    None, 5.0, 4.0,
)  # fmt: skip
MANIFEST = Manifest(
    tuple(
        Utterance(f"{who}{n}", f"{who}{n}.wav", who, label, gender=gender, corpus="emodb", extra={"age": str(n)})
        for who, gender in (("a", "female"), ("b", "male"), ("c", "male"))
        for n, label in enumerate(("angry", "sad", "sad"))
    )
)


def shown(one: Any) -> tuple[list[list[str]], list[str]]:
    """The cells of a table by row, and the labels of the bars; fails on tags that are not closed."""
    page = ElementTree.fromstring(f"<page>{one._repr_html_()}</page>")
    rows = [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]
    return rows, [bar.text for bar in page.iter("div") if bar.text]


def run(tmp_path: Path) -> Run:
    seeds = {0: {"s0": "aa as", "s1": "ss"}, 1: {"s0": "aa aa", "s1": "ss"}}
    records = made_runs.run(made_runs.line("ser", seeds), made_runs.line("dat", {}))
    return Run(tmp_path, records, "", {"dat-fold0": "it failed"})


def test_a_prediction() -> None:
    rows, bars = shown(CALL)
    assert rows[0] == ["start", "end", "speaker", "label", "angry", "sad"]
    assert rows[1:3] == [["0.0", "2.0", "Anna", "angry", "75%", "25%"], ["2.0", "3.0", "<Bo>", "silence", "", ""]]
    assert bars == ["Anna", "angry", "<Bo>", "sad"]
    assert len(repr(CALL)) < 100
    frame = CALL.to_frame()
    known = [["Anna", "angry", 0.25], ["<Bo>", "sad", 0.875]]
    assert frame[["speaker", "label", "p_sad"]].values.tolist()[::2] == known
    axes = CALL.plot()
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Anna", "<Bo>"]
    places = [(bar.get_x(), bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in axes.patches]
    assert places == [(0.0, 2.0, pytest.approx(0)), (3.0, 2.0, pytest.approx(1))]
    _, other = matplotlib.pyplot.subplots()
    assert CALL.plot(other) is other


def test_a_manifest() -> None:
    assert shown(MANIFEST)[0] == [
        ["corpus", "gender", "speakers", "angry", "sad", "all"],
        ["emodb", "female", "1", "1", "2", "3"],
        ["emodb", "male", "2", "2", "4", "6"],
    ]
    frame = MANIFEST.to_frame()
    assert (len(frame), frame["age"].tolist()[:3], frame["speaker"].nunique()) == (9, ["0", "1", "2"], 3)
    heights = [bar.get_height() for bar in MANIFEST.plot().patches]
    assert heights == [1, 1, 1, 2, 2, 2]


def test_a_run(tmp_path: Path) -> None:
    made = run(tmp_path)
    assert repr(made) == f"<Run {str(tmp_path)!r}: SER_only, SER_SR_DAT; 1 cell failed>"
    rows, _ = shown(made)
    assert rows[0] == ["system", "test WA, %", "test UAR, %", "cells"]
    assert rows[1][:2] == ["SER_only", str(made.records.lines[0].over_seeds("wa"))]
    assert rows[2][:3] == ["SER_SR_DAT", "–", "–"]
    frame = made.to_frame()
    assert frame["seed"].tolist() == [0, 1]
    assert frame["wa"].tolist() == pytest.approx([2 / 3, 1.0])
    points = made.plot(metric="wa").lines[0].get_xdata()
    assert list(points) == pytest.approx([200 / 3, 100.0])


@pytest.mark.parametrize(("package", "job"), [("pandas", "to_frame"), ("matplotlib", "plot")])
def test_without_the_package(package: str, job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for one in (CALL, MANIFEST, run(tmp_path)):
        with pytest.raises(UnheardError, match=f"needs {package}, which is not installed"):
            getattr(one, job)()


def test_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    call = names["call"]
    assert isinstance(call, Prediction)
    assert list(call.of_speakers()) == ["A", "B"]
    assert isinstance(names["manifest"], unheard.Manifest)
    matplotlib.pyplot.close("all")
