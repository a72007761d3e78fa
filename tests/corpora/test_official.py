"""The machinery every reader shares, on a corpus of three speakers invented here; and the registry."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from unheard.corpora import CORPORA, describe, official, read_corpus, read_manifest
from unheard.corpora.fetch import DOWNLOADS
from unheard.corpora.official import Official, read_tree
from unheard.errors import CorpusError, ManifestError
from unheard.manifest import LABELS, Manifest, Utterance

TOY = Official(
    name="toy",
    title="Toy",
    language="en",
    licence="none",
    citation="nobody",
    homepage="https://example.org",
    fetchable=False,
    obtain="Ask its makers.",
    layout="toy/a-happy-1.wav",
    speakers=3,
    utterances=9,
    counts={"happy": 4, "sad": 3, "calm": 2},
    sources=dict.fromkeys(("utterances", "speakers", "counts", "licence", "speaker_counts"), "this test"),
    speaker_counts={"a": {"happy": 2, "sad": 1}, "b": {"happy": 1, "sad": 1}, "c": {"happy": 1, "sad": 1}},
    traps=("Toy: beware",),
)
HAPPY_AND_SAD = ("a-happy-1", "a-happy-2", "b-happy-1", "c-happy-1", "a-sad-1", "b-sad-1", "c-sad-1")


def parse(path: Path) -> Utterance | None:
    speaker, _, rest = path.stem.partition("-")
    emotion, _, number = rest.partition("-")
    if emotion not in LABELS or not number:
        return None
    return Utterance(id=path.stem, audio=str(path), speaker=speaker, emotion=emotion)


def plant(root: Path, *names: str) -> Path:
    for name in names:
        path = root / (name if "." in name else f"{name}.wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def notes(manifest: Manifest, kind: str) -> list[str]:
    return [note.message for note in manifest.notes if note.kind == kind]


def ids(manifest: Manifest, kind: str) -> tuple[str, ...]:
    return tuple(name for note in manifest.notes if note.kind == kind for name in note.ids)


def test_a_complete_tree_says_nothing_but_its_traps(tmp_path: Path) -> None:
    manifest = read_tree(TOY, plant(tmp_path, *HAPPY_AND_SAD), parse)
    assert manifest.ids == tuple(sorted(HAPPY_AND_SAD))
    assert [(note.kind, note.message) for note in manifest.notes] == [("trap", "Toy: beware")]
    assert Path(manifest[0].audio).is_absolute()


def test_labels_not_asked_for_are_kept_and_not_checked(tmp_path: Path) -> None:
    plant(tmp_path, *HAPPY_AND_SAD, "a-calm-1")
    manifest = read_tree(TOY, tmp_path, parse)
    assert manifest.counts() == {"calm": 1, "happy": 4, "sad": 3}
    with pytest.raises(CorpusError, match="incomplete for calm: files found: calm 1 of 2"):
        read_tree(TOY, tmp_path, parse, labels=["calm"])
    with pytest.raises(CorpusError, match=r"no clip labelled 'angry'\. .*Known: calm, happy, sad"):
        read_tree(TOY, tmp_path, parse, labels=["angry"])
    with pytest.raises(CorpusError, match="no label of Toy is asked for"):
        read_tree(TOY, tmp_path, parse, labels=[])


def test_missing_files_are_refused_by_class_and_speaker(tmp_path: Path) -> None:
    plant(tmp_path, *HAPPY_AND_SAD)
    (tmp_path / "b-happy-1.wav").unlink()
    with pytest.raises(CorpusError) as caught:
        read_tree(TOY, tmp_path, parse)
    text = str(caught.value)
    assert "happy 3 of 4" in text
    assert "b happy 0 of 1" in text
    assert "Ask its makers." in text
    assert "--partial" in text
    assert "sad 3" not in text
    manifest = read_tree(TOY, tmp_path, parse, partial=True)
    assert len(manifest) == 6
    assert ids(manifest, "missing") == ("b happy 0 of 1",)
    assert len(read_tree(TOY, tmp_path, parse, labels=["sad"])) == 6


def test_a_file_too_many_does_not_hide_one_too_few(tmp_path: Path) -> None:
    plant(tmp_path, *HAPPY_AND_SAD, "c-happy-2")
    (tmp_path / "b-happy-1.wav").unlink()
    with pytest.raises(CorpusError, match="b happy 0 of 1"):
        read_tree(TOY, tmp_path, parse)


def test_a_whole_class_missing(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="sad 0 of 3"):
        read_tree(TOY, plant(tmp_path, *HAPPY_AND_SAD[:4]), parse)


def test_files_missing_from_a_known_list_are_named(tmp_path: Path) -> None:
    plant(tmp_path, *HAPPY_AND_SAD[2:], "z-happy-9")
    names = {name: name.split("-")[1] for name in HAPPY_AND_SAD}
    with pytest.raises(CorpusError, match="2 of 7 files are missing: a-happy-1, a-happy-2"):
        read_tree(TOY, tmp_path, parse, names=names)
    manifest = read_tree(TOY, tmp_path, parse, names=names, partial=True)
    assert ids(manifest, "missing") == ("a-happy-1", "a-happy-2")
    assert ids(manifest, "extra") == ("z-happy-9",)


def test_more_than_released_is_kept_and_said(tmp_path: Path) -> None:
    manifest = read_tree(TOY, plant(tmp_path, *HAPPY_AND_SAD, "d-sad-1"), parse)
    assert len(manifest) == 8
    assert ids(manifest, "extra") == ("sad 4 instead of 3", "speaker d")


def test_wav_flac_both_and_a_second_folder(tmp_path: Path) -> None:
    plant(tmp_path, *HAPPY_AND_SAD[1:], "a-happy-1.flac", "a-sad-1.flac", "copy/b-sad-1", "c-sad-2.WAV")
    manifest = read_tree(TOY, tmp_path, parse)
    audio = {row.id: Path(row.audio).relative_to(tmp_path).as_posix() for row in manifest}
    assert audio["a-happy-1"] == "a-happy-1.flac"
    assert audio["a-sad-1"] == "a-sad-1.wav"
    assert audio["b-sad-1"] == "b-sad-1.wav"
    assert audio["c-sad-2"] == "c-sad-2.WAV"
    assert set(ids(manifest, "extra")) == {"a-sad-1.flac", "copy/b-sad-1.wav", "sad 4 instead of 3"}


def test_what_systems_leave_behind_is_no_clip(tmp_path: Path) -> None:
    plant(tmp_path, *HAPPY_AND_SAD, "._a-sad-2.wav", ".DS_Store", "__MACOSX/a-sad-3.wav", ".git/a-sad-4.wav",
          "readme.txt")  # fmt: skip
    manifest = read_tree(TOY, tmp_path, parse)
    assert len(manifest) == 7
    assert not notes(manifest, "odd-name")


def test_odd_names_are_passed_over_and_said(tmp_path: Path) -> None:
    manifest = read_tree(TOY, plant(tmp_path, *HAPPY_AND_SAD, "sub/test"), parse)
    assert len(manifest) == 7
    assert ids(manifest, "odd-name") == ("sub/test.wav",)


def test_a_link_back_up_does_not_hang(tmp_path: Path) -> None:
    plant(tmp_path / "toy", *HAPPY_AND_SAD)
    try:
        (tmp_path / "toy" / "again").symlink_to(tmp_path / "toy", target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    manifest = read_tree(TOY, tmp_path, parse)
    assert len(manifest) == 7
    assert not notes(manifest, "extra")


def test_duplicates_of_one_speaker_stay_once_and_of_two_not_at_all(tmp_path: Path) -> None:
    facts = replace(
        TOY,
        copies=(("a-happy-1", "a-happy-2"),),
        clashes=(("b-sad-1", "c-sad-1"),),
        sources={**TOY.sources, "duplicates": "this test"},
    )
    plant(tmp_path, *HAPPY_AND_SAD)
    manifest = read_tree(facts, tmp_path, parse)  # complete: duplicates count as found
    assert set(manifest.ids) == {"a-happy-1", "b-happy-1", "c-happy-1", "a-sad-1"}
    assert set(ids(manifest, "duplicate")) == {"a-happy-2", "b-sad-1", "c-sad-1"}
    (tmp_path / "a-happy-1.wav").unlink()
    (tmp_path / "b-sad-1.wav").unlink()
    manifest = read_tree(facts, tmp_path, parse, partial=True)
    assert "a-happy-2" in manifest.ids, "the copy stands in for the clip that is not there"
    assert "c-sad-1" not in manifest.ids, "whose it is stays unknown when its twin is not there"


def test_wrong_roots(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"there is no folder for Toy\. Ask its makers"):
        read_tree(TOY, tmp_path / "nowhere", parse)
    archive = tmp_path / "toy.zip"
    archive.touch()
    with pytest.raises(CorpusError, match=r"this is a file.*Unpack it"):
        read_tree(TOY, archive, parse)
    with pytest.raises(CorpusError, match=r"no WAV or FLAC file.*toy/a-happy-1.wav"):
        read_tree(TOY, tmp_path, parse)
    plant(tmp_path, "song")
    with pytest.raises(CorpusError, match=r"of its 1 audio files none is named.*for example song\.wav"):
        read_tree(TOY, tmp_path, parse)


def test_a_fact_without_a_source_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="no source for \\['counts'\\]"):
        replace(TOY, sources={key: value for key, value in TOY.sources.items() if key != "counts"})
    with pytest.raises(ValueError, match="no source for \\['duplicates'\\]"):
        replace(TOY, copies=(("x", "y"),))
    with pytest.raises(ValueError, match="unknown labels \\['cheerful'\\]"):
        replace(TOY, counts={"cheerful": 1})


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_every_corpus_describes_itself(name: str) -> None:
    facts = official(name)
    assert facts.name == name
    for word in (facts.title, facts.language, facts.licence, facts.citation, facts.obtain, facts.layout):
        assert word
    assert all(facts.sources.values())
    assert facts.fetchable == (name in DOWNLOADS)
    for speaker, counts in facts.speaker_counts.items():
        assert set(counts) <= set(facts.counts), speaker
    assert len(facts.speaker_counts) <= facts.speakers


def test_describe_lists_all() -> None:
    assert [facts.name for facts in describe()] == sorted(CORPORA)


def test_unknown_corpora_and_subsets() -> None:
    with pytest.raises(CorpusError, match=r"unknown corpus 'emobd'.*Did you mean 'emodb'"):
        official("emobd")
    assert official("CREMA_D").name == "crema-d"
    with pytest.raises(CorpusError, match=r"EmoDB.*has no subset 'paper'\. Leave --subset out"):
        read_corpus("emodb", ".", subset="paper")


def test_naming_the_corpora_is_light() -> None:
    code = (
        "import sys; import unheard.corpora as c; "
        "assert not [m for m in sys.modules if m.startswith('unheard.corpora.') and 'official' not in m]; "
        "c.describe(); heavy = {'numpy', 'soundfile', 'torch', 'sklearn', 'scipy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_read_manifest_knows_what_it_is_given(tmp_path: Path) -> None:
    table = tmp_path / "m.csv"
    table.write_text("id,audio,speaker,emotion\nu1,u1.wav,s,happy\n")
    assert read_manifest(table).ids == ("u1",)
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(ManifestError, match=r"no 'wav\.scp'.*unheard prepare"):
        read_manifest(tmp_path)
    (tmp_path / "m.xlsx").touch()
    with pytest.raises(ManifestError, match=r"'\.xlsx' is no kind of manifest"):
        read_manifest(tmp_path / "m.xlsx")
