"""Invented voices in the shapes and layouts of the paper's two corpora."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import shapes
from unheard.corpora import read_corpus
from unheard.corpora.kaldi import read_kaldi
from unheard.corpora.synthetic import SyntheticSettings
from unheard.corpora.synthetic.plan import takes

TINY = SyntheticSettings(speakers=4, dev_speakers=1, test_speakers=1, sentences=2, mean_duration=0.9)


def test_the_shape_of_mandarin() -> None:
    settings = shapes.mandarin_shaped()
    everything = list(takes(settings))
    parts = Counter(settings.part(take.speaker) for take in everything)
    assert parts == {"train": 43202, "dev": 5407, "test": 5194}
    assert len({take.id for take in everything}) == 53803
    lengths = [take.duration for take in everything]
    assert statistics.mean(lengths) == pytest.approx(2.80, abs=0.02)
    assert statistics.stdev(lengths) == pytest.approx(0.68, abs=0.02)
    assert set(map(max, settings.counts or ())) <= {52, 54, 55}


def test_the_shape_of_iemocap() -> None:
    table = shapes.iemocap_counts()
    assert sum(sum(row.values()) for row in table.values()) == 2943
    assert list(table) == [f"{session}{side}" for session in "12345" for side in "FM"]
    assert table["5M"] == {"happy": 156, "neutral": 136, "sad": 60, "angry": 13}
    settings = shapes.iemocap_shaped(table)
    everything = list(takes(settings))
    assert Counter(t.emotion for t in everything if t.speaker == 9) == table["5M"]
    lengths = sorted(take.duration for take in everything)
    assert statistics.median(lengths) == pytest.approx(3.4, rel=0.08)
    assert 15 < lengths[-1] <= 29
    assert settings.sessions


@pytest.mark.parametrize("links", [True, False])
def test_the_reader_of_iemocap_reads_the_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    few = {f"{session}{side}": {"angry": 1, "happy": 2, "neutral": 1, "sad": 1} for session in "12345" for side in "FM"}
    few["3M"] = {"angry": 0, "happy": 45, "neutral": 0, "sad": 2}
    full_size = shapes.iemocap_shaped
    monkeypatch.setattr(shapes, "iemocap_counts", lambda: few)
    monkeypatch.setattr(
        shapes, "iemocap_shaped", lambda *how: replace(full_size(*how), std_duration=0.1, mean_duration=0.7)
    )
    if not links:
        monkeypatch.delattr(shapes.os, "link")
        monkeypatch.setattr(shapes.os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")), raising=False)
    made = shapes.write_iemocap(tmp_path)
    found = read_corpus("iemocap", tmp_path, partial=True)
    assert Counter((row.speaker, row.emotion) for row in found) == Counter(
        {(speaker, emotion): n for speaker, row in few.items() for emotion, n in row.items() if n}
    )
    assert {(row.gender, row.session) for row in found if row.speaker == "3M"} == {("male", "3")}
    assert {row.original for row in found if row.emotion == "happy"} == {"hap", "exc"}
    assert {row.extra["dialog"] for row in found if row.speaker == "3M"} == {"Ses03F_impro01", "Ses03M_impro02"}
    name = dict(zip(made.speakers, few, strict=True))
    sounds = {(name[row.speaker], row.emotion, row.text, Path(row.audio).read_bytes()) for row in made}
    assert sounds == {(row.speaker, row.emotion, row.text, Path(row.audio).read_bytes()) for row in found}


def test_a_kaldi_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "mandarin_shaped", lambda: TINY)
    made = shapes.write_mandarin(tmp_path)
    keys = ("id", "audio", "speaker", "gender", "emotion", "text", "part")
    found = {tuple(row.get(key) for key in keys) for row in read_kaldi(tmp_path / "kaldi")}
    assert found == {tuple(row.get(key) for key in keys) for row in made}
