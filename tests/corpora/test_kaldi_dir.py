"""Kaldi data directories: read as Kaldi means them, written so that they read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unheard.corpora import read_manifest
from unheard.corpora.kaldi import read_kaldi, write_kaldi
from unheard.errors import ManifestError
from unheard.manifest import Manifest, Utterance

PLAIN = {
    "wav.scp": "b-2 wav/b 2.wav\na-1\t/elsewhere/a.flac\n",  # unsorted, a space in a path, a tab
    "utt2spk": "a-1 Anna\nb-2 Bob\n",
    "utt2emo": "a-1 hap\nb-2 Neutral\n",
}


def directory(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in {**PLAIN, **{name.replace("_", "."): text for name, text in files.items()}}.items():
        (folder / name).write_text(text)
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        read_kaldi(folder)
    return str(caught.value)


def test_the_smallest_directory(tmp_path: Path) -> None:
    manifest = read_manifest(directory(tmp_path))
    assert manifest.rows == (
        Utterance("b-2", f"{tmp_path}/wav/b 2.wav", "Bob", "neutral", original="Neutral"),
        Utterance("a-1", "/elsewhere/a.flac", "Anna", "happy", original="hap"),
    )
    directory(tmp_path, utt2emo="a-1 gioia\nb-2 neu\n")
    assert read_manifest(tmp_path, mapping={"gioia": "happy"}).counts() == {"happy": 1, "neutral": 1}


def test_every_optional_file(tmp_path: Path) -> None:
    files = {
        "segments": "a-1 b-2 0.5 1.25\nb-2 b-2 1.25 -1\n",
        "spk2gender": "Anna f\nBob m\n",
        "text": "a-1 ein Satz\nb-2\n",
        "utt2lang": "a-1 de\n",
        "utt2part": "a-1 train\nb-2 test\n",
        "utt2dur": "a-1 0.75\n",
        "utt2speaker": "a-1 Eve\nb-2 Eve\n",
    }
    first, second = read_kaldi(directory(tmp_path, **files))
    assert (first.id, first.audio, first.start, first.end) == ("a-1", f"{tmp_path}/wav/b 2.wav", 0.5, 1.25)
    assert (first.gender, first.text, first.language) == ("female", "ein Satz", "de")
    assert first.extra == {"part": "train"}
    assert (second.start, second.end, second.gender, second.language) == (1.25, None, "male", "")


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are relative to the folder, else to the working directory."""
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    data = directory(recipe / "data")
    monkeypatch.chdir(recipe)
    assert read_kaldi("data")[0].audio == str(data / "wav/b 2.wav")  # in neither place
    for place in (recipe, data):
        (place / "wav").mkdir()
        (place / "wav/b 2.wav").touch()
        assert read_kaldi("data")[0].audio == str(place / "wav/b 2.wav")
    (tmp_path / "deep/er/wav").mkdir(parents=True)
    (tmp_path / "deep/er/wav/b 2.wav").touch()
    assert read_manifest("data", audio_root=tmp_path / "deep")[0].audio == str(tmp_path / "deep/er/wav/b 2.wav")


def test_missing_entries_are_counted(tmp_path: Path) -> None:
    folder = directory(tmp_path, utt2spk="a-1 Anna\n", utt2emo="a-1 hap\nb-2 sad\nc-3 sad\n")
    manifest = read_kaldi(folder)
    assert manifest.ids == ("a-1",)
    assert {note.message: note.ids for note in manifest.notes if note.kind == "missing"} == {
        "1 utterance without speaker left out": ("b-2",),
        "1 utterance of utt2emo without audio": ("c-3",),
    }
    assert "no utterance has both" in refused(directory(tmp_path, utt2spk="x y\n"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wav_scp": "a-1 a.wav\nb-2 touch ran |\n"}, "line 2: 'b-2' is the output of a command"),
        ({"wav_scp": "a-1 raw.ark:123\n"}, "line 1: 'a-1' is in a Kaldi archive"),
        ({"wav_scp": "a-1\n"}, "line 1: 'a-1' has no value"),
        ({"utt2emo": "a-1 hap\na-1 sad\n"}, "utt2emo, line 2: 'a-1' occurs in line 1 already"),
        ({"utt2emo": "a-1 hapy\n"}, "utt2emo, line 1: unknown emotion 'hapy' (1). Did you mean 'happy'"),
        ({"segments": "a-1 c-3 0 1\n"}, "segments, line 1: no recording 'c-3'"),
        ({"segments": "a-1 b-2 1 1\n"}, "segments, line 1: it ends at 1.0 s but starts at 1.0 s"),
        ({"segments": "a-1 b-2 0 nan\n"}, "segments, line 1: the end 'nan' is not a time"),
        ({"segments": "a-1 b-2 0\n"}, "not 'utterance recording start end'"),
    ],
)  # fmt: skip
def test_bad_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(directory(tmp_path / "data", **files))
    assert not (tmp_path / "ran").exists()


def test_required_files(tmp_path: Path) -> None:
    for name in PLAIN:
        (directory(tmp_path / "data") / name).unlink()
        assert f"it has no '{name}'" in refused(tmp_path / "data")


def test_round_trip(tmp_path: Path) -> None:
    common = {"corpus": "mine", "session": "s1"}
    rows = (
        Utterance("a", "/x/long.wav", "s2", "sad", 0.1, 2.3000000000000003, "female", **common, original="W"),
        Utterance("b", "/x/long.wav", "s1", "happy", 2.5, None, "male", text="zwei W", extra={"part": "dev"}),
        Utterance("c", "/x/a b.wav", "s1", "calm", gender="male", channel="right", language="am"),
    )  # fmt: skip
    write_kaldi(Manifest(rows), tmp_path / "data")
    again = read_kaldi(tmp_path / "data")
    assert [row.extra.get("part", "") for row in again] == ["", "dev", ""]
    assert [replace(row, extra={}) for row in again] == [replace(row, extra={}) for row in rows]
    assert (tmp_path / "data/spk2utt").read_text() == "s1 b c\ns2 a\n"
    write_kaldi(again, tmp_path / "data")  # over itself
    assert read_kaldi(tmp_path / "data").rows == again.rows


def test_what_cannot_be_written(tmp_path: Path) -> None:
    row = Utterance("a", "/a", "s", "sad")
    for changes, message in [
        ({"id": "a b"}, "it has a space"),
        ({"speaker": "A B"}, "'A B' cannot be a name in Kaldi: it has a space"),
        ({"text": "two\nlines"}, "does not fit in a line"),
    ]:
        with pytest.raises(ManifestError, match=message):
            write_kaldi(Manifest((replace(row, **changes),)), tmp_path / "bad")
        assert not (tmp_path / "bad/wav.scp").exists()
    (tmp_path / "old").mkdir()
    (tmp_path / "old/segments").touch()
    write_kaldi(Manifest((row,)), tmp_path / "mine")
    before = (tmp_path / "mine" / "wav.scp").read_bytes()
    for name, file in (("old", "segments"), ("mine", r"wav\.scp")):
        with pytest.raises(ManifestError, match=f"another data directory already: {file}"):
            write_kaldi(Manifest((replace(row, id="b"),)), tmp_path / name)
    assert (tmp_path / "mine" / "wav.scp").read_bytes() == before
