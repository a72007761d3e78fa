"""EmoDB, RAVDESS and ASED: on small trees named by hand, and on real copies where they are at hand."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from unheard.corpora import official, read_corpus
from unheard.errors import CorpusError
from unheard.manifest import Manifest

# EmoDB: anger (W), happiness (F), neutral (N) and sadness (T) by speaker.
EMODB = {
    "03": (14, 7, 11, 7), "08": (12, 11, 10, 9), "09": (13, 4, 9, 4), "10": (10, 4, 4, 3), "11": (11, 8, 9, 7),
    "12": (12, 2, 4, 4), "13": (12, 10, 9, 5), "14": (16, 8, 7, 10), "15": (13, 6, 11, 4), "16": (14, 11, 5, 9),
}  # fmt: skip
EMODB_SENTENCES = ["a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10"]


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def notes(manifest: Manifest, kind: str) -> list[str]:
    return [note.message for note in manifest.notes if note.kind == kind]


def emodb(root: Path) -> Path:
    for speaker, counts in EMODB.items():
        for letter, count in zip("WFNT", counts, strict=True):
            for place in range(count):
                sentence, version = EMODB_SENTENCES[place % 10], "abc"[place // 10]
                touch(root / "wav" / f"{speaker}{sentence}{letter}{version}.wav")
    touch(root / "wav" / "03a01La.wav")
    touch(root / "wav" / "03a01Ea.wav")
    return root


def test_emodb_letters_speakers_and_roots(tmp_path: Path) -> None:
    root = emodb(tmp_path / "emodb")
    manifest = read_corpus("emodb", root)
    assert manifest.counts() == {
        "angry": 127, "bored": 1, "disgusted": 1, "happy": 71, "neutral": 79, "sad": 62,
    }  # fmt: skip
    genders = {row.speaker: row.gender for row in manifest}
    assert {name for name, gender in genders.items() if gender == "female"} == {"08", "09", "13", "14", "16"}
    assert len(genders) == 10
    row = manifest.by_id()["14b10Ta"]
    assert (row.speaker, row.emotion, row.original, row.text, row.language) == (
        "14", "sad", "sadness", "b10", "de",
    )  # fmt: skip
    assert read_corpus("emodb", root / "wav").ids == manifest.ids
    with pytest.raises(CorpusError, match="bored 1 of 81"):
        read_corpus("emodb", root, labels=["bored"])
    (root / "wav" / "12a02Fa.wav").unlink()
    with pytest.raises(CorpusError, match=r"happy 70 of 71; by speaker: 12 happy 1 of 2\. .*emodb\.bilderbar"):
        read_corpus("emodb", root)


def test_emodb_takes_no_other_name(tmp_path: Path) -> None:
    root = emodb(tmp_path)
    for name in ("04a01Wa", "03a03Wa", "03a01Xa", "03a01W"):
        touch(root / "wav" / f"{name}.wav")
    assert "4 audio files" in notes(read_corpus("emodb", root), "odd-name")[0]


def ravdess(root: Path, suffix: str = ".wav") -> Path:
    """Speech of 24 actors: eight emotions, two intensities but for neutral, two statements, two repetitions."""
    for actor in range(1, 25):
        for emotion in range(1, 9):
            for intensity in (1, 2) if emotion > 1 else (1,):
                for statement in (1, 2):
                    for repetition in (1, 2):
                        parts = (3, 1, emotion, intensity, statement, repetition, actor)
                        name = "-".join(f"{part:02d}" for part in parts)
                        touch(root / f"Actor_{actor:02d}" / f"{name}{suffix}")
    return root


def test_ravdess_in_full(tmp_path: Path) -> None:
    labels = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgusted", "surprised"]
    root = ravdess(tmp_path / "Audio_Speech_Actors_01-24")
    manifest = read_corpus("ravdess", tmp_path, labels=labels)
    assert len(manifest) == 1439
    assert manifest.counts() == {
        "angry": 192, "calm": 192, "disgusted": 192, "fearful": 192, "happy": 191, "neutral": 96, "sad": 192,
        "surprised": 192,
    }  # fmt: skip
    assert "03-01-03-01-02-02-07" in notes(manifest, "duplicate")[0]
    assert not notes(manifest, "extra")
    by_id = manifest.by_id()
    row = by_id["03-01-06-01-02-01-12"]
    assert (row.emotion, row.speaker, row.gender, row.text) == (
        "fearful", "12", "female", "Dogs are sitting by the door",
    )  # fmt: skip
    assert by_id["03-01-08-02-01-01-11"].gender == "male"
    assert by_id["03-01-08-02-01-01-11"].extra["intensity"] == "strong"
    (root / "Actor_05" / "03-01-05-02-01-02-05.wav").unlink()
    with pytest.raises(CorpusError, match="1 of 672 files are missing: 03-01-05-02-01-02-05"):
        read_corpus("ravdess", root)
    assert len(read_corpus("ravdess", root, labels=["happy", "sad"])) == 1438


def test_ravdess_copies_songs_and_other_names(tmp_path: Path) -> None:
    ravdess(tmp_path, ".flac")
    shutil.copytree(tmp_path / "Actor_24", tmp_path / "audio_speech_actors_01-24" / "Actor_24")
    touch(tmp_path / "Actor_01" / "03-02-03-01-01-01-01.wav")  # song
    touch(tmp_path / "Actor_01" / "03-01-09-01-01-01-01.wav")  # no such emotion
    manifest = read_corpus("ravdess", tmp_path)
    assert len(manifest) == 1439
    assert "60 files repeat a clip" in notes(manifest, "extra")[0]
    assert notes(manifest, "odd-name")[0].endswith("Actor_01/03-01-09-01-01-01-01.wav")


def test_ravdess_neutral_has_no_strong_intensity(tmp_path: Path) -> None:
    ravdess(tmp_path)
    touch(tmp_path / "Actor_01" / "03-01-01-02-01-01-01.wav")
    assert "03-01-01-02-01-01-01" in notes(read_corpus("ravdess", tmp_path), "extra")[0]


def test_ased_names(tmp_path: Path) -> None:
    for folder, name in (
        ("05Angry", "a5-03-01-02-50"),
        ("04Sad", "S4-04-02-01-29"),
        ("04Sad", "s4-01-02-02-09"),
        ("02Fearful", "f2-01-01-02-40"),
        ("02Fearful", "f2-02-01-01-29"),
        ("01Neutral", "n1-08-01-01-01"),
        ("01Neutral", "n1-01-01-01-66"),
    ):
        touch(tmp_path / folder / f"{name}.wav")
    with pytest.raises(CorpusError, match=r"angry 1 of 486.*ASED_V1"):
        read_corpus("ased", tmp_path)
    manifest = read_corpus("ased", tmp_path, partial=True)
    rows = manifest.by_id()
    assert len(rows) == 5
    assert (rows["a5-03-01-02-50"].speaker, rows["a5-03-01-02-50"].gender) == ("50", "male")
    assert rows["S4-04-02-01-29"].emotion == "sad"
    assert rows["s4-01-02-02-09"].gender == "female", "its name says male, the speaker's other files female"
    assert rows["f2-01-01-02-40"].gender == "male"
    assert rows["a5-03-01-02-50"].text == "a03", "tied to anger"
    assert rows["f2-01-01-02-40"].text == "01", "said in every emotion"
    assert rows["S4-04-02-01-29"].text == "s04"
    assert "n1-08" in notes(manifest, "odd-name")[0]
    assert "1 of 486" in notes(manifest, "missing")[0]


@pytest.mark.parametrize(
    ("name", "files", "rows", "speakers", "female"),
    [("emodb", 339, 339, 10, 5), ("ravdess", 672, 671, 24, 12), ("ased", 1964, 1918, 64, 25)],
)
def test_real_trees(corpora: Path, name: str, files: int, rows: int, speakers: int, female: int) -> None:
    assert sum(1 for _ in (corpora / name).rglob("*.flac")) == files
    manifest = read_corpus(name, corpora / name)
    assert len(manifest) == rows
    assert len(manifest.speakers) == speakers
    genders = defaultdict(set)
    for row in manifest:
        genders[row.speaker].add(row.gender)
    assert Counter(next(iter(values)) for values in genders.values() if len(values) == 1)["female"] == female
    assert all(len(values) == 1 for values in genders.values())
    kinds = {note.kind for note in manifest.notes}
    assert kinds == ({"trap"} if name == "emodb" else {"trap", "duplicate"})
    assert sum(len(note.ids) for note in manifest.notes if note.kind == "duplicate") == files - rows
    with pytest.raises(CorpusError, match="incomplete for fearful"):
        read_corpus(name, corpora / name, labels=["fearful"])


@pytest.mark.parametrize("name", ["ravdess", "ased"])
def test_the_duplicates_listed_are_duplicates(corpora: Path, name: str) -> None:
    np, soundfile = pytest.importorskip("numpy"), pytest.importorskip("soundfile")
    paths = {path.stem: path for path in (corpora / name).rglob("*.flac")}
    facts = official(name)
    for first, second in facts.copies:
        a, b = (soundfile.read(paths[clip])[0] for clip in (first, second))
        size = min(len(a), len(b))
        assert np.corrcoef(a[:size], b[:size])[0, 1] > 0.9999, (first, second)
    for first, second in facts.clashes:
        a, b = (soundfile.read(paths[clip])[0] for clip in (first, second))
        cross = np.fft.irfft(np.fft.rfft(a, 1 << 17) * np.conj(np.fft.rfft(b, 1 << 17)))
        assert cross.max() > 0.9 * np.linalg.norm(a) * np.linalg.norm(b), (first, second)
