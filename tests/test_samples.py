"""The recordings in the package: what the index says is there, readable, small and licensed."""

from __future__ import annotations

from unheard.audio import read_audio
from unheard.corpora import get_corpus, read_manifest
from unheard.samples import FOLDER, samples


def test_index() -> None:
    found = samples()
    assert [sample.file for sample in found] == sorted(path.name for path in FOLDER.glob("*.ogg"))
    assert sorted(sample.emotion for sample in found) == ["angry", "happy", "neutral", "sad"]
    assert len(read_manifest(FOLDER / "samples.csv")) == len(found) <= 8
    assert sum(sample.path.stat().st_size for sample in found) < 400_000
    licence = (FOLDER / "LICENSE.md").read_text("utf-8")
    for sample in found:
        corpus = get_corpus(sample.corpus)
        assert (sample.licence, sample.language) == (corpus.licence, corpus.language)
        assert corpus.genders[sample.speaker] == sample.gender
        assert sample.file in licence
        assert sample.source in licence


def test_audio() -> None:
    for sample in samples():
        audio = read_audio(sample.path, sample_rate=16_000)
        assert 1 < len(audio) / 16_000 < 10
