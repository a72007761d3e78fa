"""The engine every reader shares, on an invented corpus of three speakers; the registry; rows by channel."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from trees import ids, kinds, plant

from unheard.corpora import CORPORA, get_corpus, list_corpora, read_corpus, read_manifest
from unheard.corpora.corpus import Corpus, read_tree
from unheard.errors import CorpusError, ManifestError
from unheard.manifest import Manifest, Utterance, choose_channel

TOY = Corpus(
    name="toy",
    title="Toy",
    language="en",
    licence="none",
    citation="nobody",
    homepage="https://example.org",
    obtain="Ask its makers.",
    layout="own/a-happy-1.wav",
    patterns=(r"(?P<id>(?P<speaker>[a-d])-(?P<emotion>[a-z]+)-(?P<take>\d))(?:_[a-z]+)?",),
    folder="own",
    ignore="throat/.*",
    emotions={word: (word, word.upper()) for word in ("happy", "sad", "calm")},
    values={"take": {str(n): f"take {n}" for n in range(10)}},
    genders={"a": "female", "b": "male", "c": "male", "d": "female"},
    counts={"happy": 4, "sad": 3, "calm": 2},
    sources=dict.fromkeys(("utterances", "speakers", "counts", "licence", "speaker_counts"), "this test"),
    speaker_counts={"a": {"happy": 2, "sad": 1}, "b": {"happy": 1, "sad": 1}, "c": {"happy": 1, "sad": 1}},
    traps=("Toy: beware",),
)
HAPPY_AND_SAD = ("a-happy-1", "a-happy-2", "b-happy-1", "c-happy-1", "a-sad-1", "b-sad-1", "c-sad-1")


def refused(message: str, root: Path, corpus: Corpus = TOY, **how: object) -> None:
    with pytest.raises(CorpusError, match=message):
        read_tree(corpus, root, **how)  # type: ignore[arg-type]


def test_a_complete_tree_has_only_its_traps(tmp_path: Path) -> None:
    plant(tmp_path / "toy", *HAPPY_AND_SAD)
    (tmp_path / "toy" / "again").symlink_to(tmp_path / "toy", target_is_directory=True)  # a link back up does not hang
    manifest = read_tree(TOY, tmp_path)
    assert manifest.ids == tuple(sorted(HAPPY_AND_SAD))
    assert [(note.kind, note.message) for note in manifest.notes] == [("trap", "Toy: beware")]
    row = manifest[0]
    assert (row.speaker, row.gender, row.emotion, row.original, row.language, row.corpus, row.extra) == (
        "a", "female", "happy", "HAPPY", "en", "toy", {"take": "take 1"},
    )  # fmt: skip
    assert row.audio == str(tmp_path / "toy" / "a-happy-1.wav")
    assert "7 utterances of 3 speakers (happy 4, sad 3)" in repr(manifest)


def test_labels_decide_completeness(tmp_path: Path) -> None:
    plant(tmp_path, *HAPPY_AND_SAD, "a-calm-1")
    assert read_tree(TOY, tmp_path).counts() == {"calm": 1, "happy": 4, "sad": 3}
    refused("incomplete for calm: files found: calm 1 of 2", tmp_path, labels=["calm"])
    refused(r"no clip labelled 'angry'\. .*Known: calm, happy, sad", tmp_path, labels=["angry"])
    refused("no label of Toy is selected", tmp_path, labels=[])


def test_missing_files_are_refused_by_class_and_speaker(tmp_path: Path) -> None:
    plant(tmp_path, *HAPPY_AND_SAD, "c-happy-2")  # one file too many does not hide one too few
    (tmp_path / "b-happy-1.wav").unlink()
    refused(r"by speaker: b happy 0 of 1\. Ask its makers.*--partial", tmp_path)
    (tmp_path / "c-happy-2.wav").unlink()
    refused("incomplete for happy, sad: files found: happy 3 of 4; by speaker", tmp_path)
    manifest = read_tree(TOY, tmp_path, partial=True)
    assert len(manifest) == len(read_tree(TOY, tmp_path, labels=["sad"])) == 6
    assert ids(manifest, "missing") == ("b happy 0 of 1",)


def test_a_known_list_names_missing_files(tmp_path: Path) -> None:
    listed = replace(TOY, clips=lambda root: {name: name.split("-")[1] for name in HAPPY_AND_SAD})
    plant(tmp_path, *HAPPY_AND_SAD[2:], "d-happy-9")
    refused("files missing: 2 of 7: a-happy-1, a-happy-2", tmp_path, listed)
    manifest = read_tree(listed, tmp_path, partial=True)
    assert ids(manifest, "missing") == ("a-happy-1", "a-happy-2")
    assert ids(manifest, "extra") == ("d-happy-9",)


def test_a_subset_is_complete_by_itself(tmp_path: Path) -> None:
    halves = replace(TOY, subsets={"first": ("a",), "rest": ("b", "c")})
    plant(tmp_path, *HAPPY_AND_SAD[:2], "a-sad-1", "b-sad-1")
    manifest = read_tree(halves, tmp_path, subset="first")
    assert (manifest.ids, kinds(manifest)) == (("a-happy-1", "a-happy-2", "a-sad-1"), {})
    refused("Toy, rest is incomplete for happy, sad: files found: happy 0 of 2, sad 1 of 2", tmp_path, halves,
            subset="rest")  # fmt: skip


def test_surplus_odd_names_and_litter(tmp_path: Path) -> None:
    plant(tmp_path, *HAPPY_AND_SAD, "d-sad-1", "sub/test", "a-angry-1", "._a-sad-2.wav", "__MACOSX/a-sad-3",
          ".git/a-sad-4", "readme.txt", "throat/a-sad-1")  # fmt: skip
    (tmp_path / "b-sad-2.wav").symlink_to(tmp_path / "gone.wav")
    os.mkfifo(tmp_path / "b-sad-3.wav")
    manifest = read_tree(TOY, tmp_path)
    assert len(manifest) == 8
    assert ids(manifest, "extra") == ("sad 4 instead of 3", "speaker d")
    assert set(ids(manifest, "odd-name")) == {"sub/test.wav", "a-angry-1.wav"}


def test_every_decodable_format_and_copies_of_one_sound(tmp_path: Path) -> None:
    plant(tmp_path, *HAPPY_AND_SAD[1:], "a-happy-1.flac", "a-sad-1.flac", "copy/b-sad-1", "c-sad-1_loud", "c-sad-2.WAV")
    manifest = read_tree(TOY, tmp_path)
    audio = {row.id: Path(row.audio).relative_to(tmp_path).as_posix() for row in manifest}
    assert (audio["a-happy-1"], audio["a-sad-1"], audio["c-sad-2"]) == ("a-happy-1.flac", "a-sad-1.wav", "c-sad-2.WAV")
    extra = {"a-sad-1.flac", "copy/b-sad-1.wav", "c-sad-1_loud.wav", "sad 4 instead of 3"}
    assert set(ids(manifest, "extra")) == extra
    plant(tmp_path, "b-sad-2.mp3", "c-happy-2.ogg")
    assert "2 clips in a lossy format" in kinds(read_tree(TOY, tmp_path))["formats"]


def test_the_releases_folder_wins_and_different_sounds_are_refused(tmp_path: Path) -> None:
    plant(tmp_path, *(f"own/{name}" for name in HAPPY_AND_SAD))
    plant(tmp_path, *(f"a/{name}" for name in HAPPY_AND_SAD), value=9)
    manifest = read_tree(TOY, tmp_path)
    assert {Path(row.audio).parent.name for row in manifest} == {"own"}
    assert len(ids(manifest, "extra")) == 7
    plant(tmp_path, "again/own/b-sad-1", value=9)
    for partial in (False, True):
        message = r"1 clip with copies that differ in sound: own/b-sad-1\.wav and again/own/b-"
        refused(message, tmp_path, partial=partial)
    plant(tmp_path / "two", "x/a-sad-1")
    plant(tmp_path / "two", "y/a-sad-1", value=7)
    refused(r"x/a-sad-1\.wav and y/a-sad-1\.wav", tmp_path / "two", partial=True)


def test_a_lossy_copy_is_the_same_sound(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 16_000).cumsum().astype("f4")
    sound /= 2 * np.abs(sound).max()
    for ending in ("wav", "flac", "ogg"):
        soundfile.write(tmp_path / f"a-sad-1.{ending}", sound, 16_000)
    assert set(ids(read_tree(TOY, tmp_path, partial=True), "extra")) == {"a-sad-1.flac", "a-sad-1.ogg"}
    soundfile.write(tmp_path / "a-sad-1.ogg", sound[::-1], 16_000)
    refused(r"a-sad-1\.wav and a-sad-1\.ogg", tmp_path, partial=True)


def test_git_lfs_pointers_are_named_and_counted(tmp_path: Path) -> None:
    plant(tmp_path, *HAPPY_AND_SAD)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 73324\n"
    (tmp_path / "a-sad-1.wav").write_text(pointer)
    refused(r"1 Git LFS pointer, not audio: a-sad-1.*git lfs pull", tmp_path)
    manifest = read_tree(TOY, tmp_path, partial=True)
    assert ids(manifest, "lfs-pointer") == ("a-sad-1.wav",)
    assert ids(manifest, "missing") == ("a sad 0 of 1",)
    (tmp_path / "all").mkdir()
    (tmp_path / "all/a-sad-1.wav").write_text(pointer)
    refused("git lfs pull", tmp_path / "all", partial=True)


def test_known_duplicates_and_broken_clips(tmp_path: Path) -> None:
    """Copies of one speaker stay once, those of two speakers not at all."""
    corpus = replace(
        TOY,
        copies=(("a-happy-1", "a-happy-2"),),
        clashes=(("b-sad-1", "c-sad-1"),),
        unusable={"b-happy-1": "it is silent"},
        sources={**TOY.sources, "duplicates": "this test"},
    )
    plant(tmp_path, *HAPPY_AND_SAD)
    manifest = read_tree(corpus, tmp_path)  # complete: duplicates count as found
    assert set(manifest.ids) == {"a-happy-1", "c-happy-1", "a-sad-1"}
    assert set(ids(manifest, "duplicate")) == {"a-happy-2", "b-sad-1", "c-sad-1"}
    assert "1 clip left out, broken in the release (it is silent)" in kinds(manifest)["unusable"]
    for name in ("a-happy-1", "b-sad-1"):
        (tmp_path / f"{name}.wav").unlink()
    manifest = read_tree(corpus, tmp_path, partial=True)
    assert "a-happy-2" in manifest.ids, "the copy replaces the clip that is missing"
    assert "c-sad-1" not in manifest.ids, "its speaker stays unknown without its twin"


def test_wrong_roots(tmp_path: Path) -> None:
    refused(r"there is no folder for Toy\. Ask its makers", tmp_path / "nowhere")
    refused(r"no audio file .*own/a-happy-1.wav", tmp_path)
    (tmp_path / "toy.zip").touch()
    refused(r"this is a file.*Unpack it", tmp_path / "toy.zip")
    refused(r"1 audio file, none with a name.*for example song\.wav", plant(tmp_path, "song"))


def test_every_fact_needs_a_source() -> None:
    for changes, message in (
        ({"sources": {k: v for k, v in TOY.sources.items() if k != "counts"}}, r"no source for \['counts'\]"),
        ({"copies": (("x", "y"),)}, r"no source for \['duplicates'\]"),
        ({"counts": {"cheerful": 1}}, r"unknown labels \['cheerful'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(TOY, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_every_declaration_is_consistent(name: str) -> None:
    corpus = get_corpus(name)
    assert corpus.name == name
    for word in ("title", "language", "licence", "citation", "obtain", "layout"):
        assert getattr(corpus, word)
    assert all(corpus.sources.values())
    assert set(corpus.speaker_counts) <= set(corpus.genders)
    assert all(set(counts) <= set(corpus.counts) for counts in corpus.speaker_counts.values())
    if corpus.patterns:
        assert {label for label, _ in corpus.emotions.values()} == set(corpus.counts)
    if corpus.download:
        kind, _, digits = (corpus.download.checksum or "md5:" + "0" * 32).partition(":")
        assert len(digits) == {"md5": 32, "sha256": 64}[kind]


def test_the_registry() -> None:
    assert [corpus.name for corpus in list_corpora()] == sorted(CORPORA)
    assert get_corpus("CREMA_D").name == "crema-d"
    with pytest.raises(CorpusError, match=r"unknown corpus 'emobd'.*Did you mean 'emodb'"):
        get_corpus("emobd")
    with pytest.raises(CorpusError, match=r"EmoDB.*has no subset 'paper'\. Leave out --subset"):
        read_corpus("emodb", ".", subset="paper")
    with pytest.raises(CorpusError, match=r"no subset 'papers'.*Did you mean 'paper'"):
        read_corpus("iemocap", ".", subset="papers")


def test_listing_the_corpora_is_light() -> None:
    code = (
        "import sys; import unheard.corpora as c; "
        "assert not {'unheard.corpora.english', 'unheard.corpora.synthetic'} & set(sys.modules); c.list_corpora(); "
        "import unheard.corpora.fetch; "
        "heavy = {'numpy', 'soundfile', 'torch', 'rich', 'scipy', 'requests', 'pandas'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_read_manifest_recognises_its_formats(tmp_path: Path) -> None:
    table = tmp_path / "m.csv"
    table.write_text("id,audio,speaker,emotion\nu1,u1.wav,s,happy\n")
    assert read_manifest(table).ids == ("u1",)
    (tmp_path / "m.xlsx").touch()
    for path, message in (
        (tmp_path / "none.csv", "no such manifest"),
        (tmp_path, r"no 'wav\.scp'.*unheard prepare"),
        (tmp_path / "m.xlsx", r"'\.xlsx' is not a format of manifests"),
    ):
        with pytest.raises(ManifestError, match=message):
            read_manifest(path)


def test_a_call_becomes_a_row_per_channel(tmp_path: Path) -> None:
    call, mono = str(tmp_path / "call.wav"), str(tmp_path / "mono.wav")
    soundfile.write(call, np.zeros((8000, 2), np.float32), 16_000)
    soundfile.write(mono, np.zeros(8000, np.float32), 16_000)
    rows = [
        Utterance("a", call, "x", "neutral", channel="each", end=0.2),
        Utterance("a2", call, "agent", "neutral", channel="each", start=0.2),
        Utterance("b", mono, "y", "neutral", channel="each"),
        Utterance("c", call, "z", "neutral"),
        Utterance("d", str(tmp_path / "gone.wav"), "w", "neutral", channel="each"),
    ]
    expanded = choose_channel(Manifest(tuple(rows)))
    assert [(row.id, row.speaker, row.channel, row.session) for row in expanded] == [
        ("a-left", "x-left", "left", "a"),  # everything cut out of a call stays on one side of a split
        ("a-right", "x-right", "right", "a"),
        ("a2-left", "agent-left", "left", "a"),
        ("a2-right", "agent-right", "right", "a"),
        ("b", "y", "mix", ""),
        ("c", "z", "mix", ""),
        ("d", "w", "mix", ""),
    ]
    assert not expanded.notes
    rows.append(Utterance("e", call, "y", "neutral", channel="each"))
    (note,) = choose_channel(Manifest(tuple(rows))).notes
    assert "1 speaker (y) with recordings of one channel and several" in str(note)
    sides = (
        Utterance("l", call, "x", "sad", channel="left"),
        Utterance("r", f"{tmp_path}/./call.wav", "z", "sad", channel="2"),
    )
    assert [row.session for row in choose_channel(Manifest(sides))] == ["l", "l"]  # also where the table names them
    assert [row.channel for row in choose_channel(Manifest((rows[3],)), "right")] == ["right"]
    assert [row.id for row in choose_channel(Manifest((rows[3],)), "each")] == ["c-left", "c-right"]
    assert [row.channel for row in choose_channel(Manifest((rows[0],)))] == ["left", "right"]
