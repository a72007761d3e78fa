"""The synthetic corpus: what entanglement changes, and files that do not depend on how they are made."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from unheard.corpora import read_corpus
from unheard.corpora.synthetic import SYNTHETIC, SyntheticSettings, demo, read, write
from unheard.corpora.synthetic.plan import MANNERS, counts, takes, voices
from unheard.corpora.synthetic.voice import render
from unheard.corpora.table import read_table
from unheard.errors import ConfigError, CorpusError, ManifestError
from unheard.features import FeatureSettings, extract
from unheard.manifest import LABELS

TINY = SyntheticSettings(speakers=4, dev_speakers=1, test_speakers=1, sentences=2, mean_duration=0.9)
ACROSS = SyntheticSettings(speakers=32, dev_speakers=0, test_speakers=16, mean_duration=1.4)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "tiny"
    write(root, TINY, workers=1, progress=False)
    return root


def test_without_entanglement_emotion_and_speaker_are_independent() -> None:
    cells = Counter((take.speaker, take.emotion) for take in takes(demo()))
    assert set(cells.values()) == {8}  # four sentences, twice
    assert len(cells) == 16 * 4
    assert all(voice.depth == 0 for voice in voices(demo()))


def test_voices_depend_on_the_seed_only() -> None:
    """The number of test speakers and the entanglement change no voice."""
    few, many = (voices(replace(ACROSS, test_speakers=n)) for n in (4, 16))
    assert [asdict(voice) | {"colour": 0} for voice in few] == [asdict(voice) | {"colour": 0} for voice in many]
    assert [v.f0 for v in voices(demo(0.0))] == [v.f0 for v in voices(demo(1.0))]
    assert [v.f0 for v in voices(demo(seed=1))] != [v.f0 for v in voices(demo())]


@pytest.mark.parametrize("entanglement", [0.3, 1.0])
def test_only_training_speakers_are_entangled(entanglement: float) -> None:
    settings = replace(ACROSS, entanglement=entanglement, repetitions=5)
    for speaker, voice in enumerate(voices(settings)):
        row = counts(settings, speaker)
        assert sum(row) == 80
        if settings.part(speaker) == "train":
            # an even share of what is not moved, and all that is
            assert abs(row[voice.colour] - 80 * ((1 - 0.7 * entanglement) / 4 + 0.7 * entanglement)) < 1
            assert min(row) > 0
        else:
            assert row == [20] * 4
        assert voice.depth == entanglement
    colours = Counter((settings.part(i), v.gender, v.colour) for i, v in enumerate(voices(settings)))
    assert set(colours.values()) == {2}
    assert len(colours) == 2 * 2 * 4
    totals = map(sum, zip(*(counts(settings, i) for i in range(16)), strict=True))
    assert len(set(totals)) == 1


def test_a_linear_classifier_recognises_emotion_and_takes_the_shortcut() -> None:
    discriminant = pytest.importorskip("sklearn.discriminant_analysis")
    known, unseen = {}, {}
    for entanglement, sentences in ((0.0, 2), (1.0, 4)):
        settings = replace(ACROSS, entanglement=entanglement, mean_duration=0.9, sentences=sentences)
        everything = list(takes(settings))
        sounds = (render(settings, take).astype(np.float32) / 32768 for take in everything)
        features = [extract(sound, FeatureSettings(deltas=0), sample_rate=16000) for sound in sounds]
        x = np.array([np.concatenate([frames.mean(axis=0), frames.std(axis=0)]) for frames in features])
        y = np.array([take.emotion for take in everything])
        train = np.array([settings.part(take.speaker) == "train" for take in everything])
        model = discriminant.LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        order = np.random.default_rng(0).permutation(np.flatnonzero(train))
        fitted, held_out = np.split(order, 2)
        known[entanglement] = model.fit(x[fitted], y[fitted]).score(x[held_out], y[held_out])
        unseen[entanglement] = model.fit(x[train], y[train]).score(x[~train], y[~train])
    assert 0.68 < unseen[0.0] < 0.92  # emotions overlap, but can be recognised
    assert abs(known[0.0] - unseen[0.0]) < 0.12
    assert known[1.0] > 0.75
    assert unseen[1.0] < min(known[1.0] - 0.12, unseen[0.0] - 0.08)


def test_sound_is_speech_like() -> None:
    assert set(MANNERS) == set(LABELS)
    for rate in (8000, 44100):
        settings = replace(TINY, sample_rate=rate, emotions=LABELS, longest=0.9, std_duration=0.0)
        assert len(render(settings, next(iter(takes(settings))))) == round(0.9 * rate)
    for take in list(takes(demo()))[::37]:
        sound = render(demo(), take)
        assert sound.dtype == np.int16
        assert len(sound) == round(take.duration * 16000)
        assert np.abs(sound.astype(int)).max() > 700
        assert np.mean(np.abs(sound.astype(int)) >= 32767) < 1e-3  # hardly ever clipped
        assert abs(sound.mean()) < 50
        assert len(extract(sound / np.float32(32768), sample_rate=16000)) > 0.7 * take.duration * 100


def test_manifest(tiny: Path) -> None:
    manifest = read(tiny)
    assert manifest.rows == read_table(tiny / "manifest.csv").rows
    assert read_corpus("synthetic", tiny) == manifest
    assert manifest.counts("part") == {"dev": 8, "test": 8, "train": 16}
    assert manifest.counts("gender") == {"female": 16, "male": 16}
    assert manifest.counts("text") == {"sentence 1": 16, "sentence 2": 16}
    assert all(Path(row.audio).is_file() and row.corpus == "synthetic" for row in manifest)
    cells = Counter(take.emotion for take in takes(demo()))
    assert (dict(cells), cells.total()) == (SYNTHETIC.counts, SYNTHETIC.utterances)


def test_an_interrupted_call_is_resumed(tiny: Path, tmp_path: Path) -> None:
    whole = files(tiny)
    root = tmp_path / "again"
    for name, content in whole.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "manifest.csv").unlink()
    clips = sorted((root / "wav").rglob("*.wav"))
    clips[3].unlink()
    clips[5].write_bytes(clips[5].read_bytes()[:1000])
    kept = clips[0].stat().st_mtime_ns
    with pytest.raises(CorpusError, match="files missing: 1 of 32"):
        read(root)
    assert len(read(root, partial=True)) == 31
    write(root, TINY, progress=False)
    assert files(root) == whole
    assert clips[0].stat().st_mtime_ns == kept


def test_refusals(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="another synthetic corpus"):
        write(tiny, replace(TINY, seed=1))
    assert {row.speaker for row in read(tiny, subset="test")} == {"s4"}
    with pytest.raises(CorpusError, match="no clip labelled 'bored'"):
        read(tiny, labels=["bored"])
    with pytest.raises(CorpusError, match="Did you mean 'train'"):
        read_corpus("synthetic", tiny, subset="trian")
    with pytest.raises(CorpusError, match="no synthetic corpus here"):
        read(tmp_path)
    for values, message in (({"version": 0}, "version 0"), ({"version": 1, "speaker": 3}, "not the settings")):
        (tmp_path / "settings.json").write_text(json.dumps(values))
        with pytest.raises(CorpusError, match=message):
            read(tmp_path)


def test_workers_make_the_same_bytes_and_report_a_place_that_cannot_be_written(tiny: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", TINY, workers=2, progress=False)
    assert files(tmp_path / "out") == files(tiny)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/wav").write_text("in the way")
    for workers in (1, 2):
        with pytest.raises(ManifestError, match="cannot be written"):
            write(tmp_path / "corpus", TINY, workers=workers, progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entanglement": 1.5}, "entanglement from 0 to 1"),
        ({"speakers": 8}, "leave a training speaker"),
        ({"emotions": ("angry", "glad")}, "unknown emotion 'glad'"),
        ({"emotions": ("sad", "sad")}, "each once"),
        ({"sample_rate": 100}, "sample_rate"),
        ({"counts": ((1, 2, 3, 4),)}, "counts with a row per speaker"),
        ({"mean_duration": float("nan")}, "mean_duration"),
    ],
)
def test_settings_out_of_range(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SyntheticSettings(**changes)
