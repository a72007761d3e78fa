"""The IEMOCAP reader on a tree of empty files written from a table transcribed here by hand."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from iemocap_tree import ALL, FOUR_BY_SESSION, IMPROVISED, improvised
from trees import kinds

from unheard.corpora import read_corpus
from unheard.errors import CorpusError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The improvised part, as it is released."""
    return improvised(tmp_path_factory.mktemp("iemocap") / "IEMOCAP_full_release").write()


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A copy to change: label files are copied, sentences linked."""
    return Path(
        shutil.copytree(
            whole,
            tmp_path / whole.name,
            copy_function=lambda a, b: os.link(a, b) if a.endswith(".wav") else shutil.copy(a, b),
        )
    )


def test_the_subset_of_the_paper_speaker_by_speaker(whole: Path, tmp_path: Path) -> None:
    manifest = read_corpus("iemocap", whole)
    (tmp_path / "unpacked").symlink_to(whole.parent)
    for above in (whole.parent, tmp_path):
        assert read_corpus("iemocap", above).ids == manifest.ids
    counts = Counter((row.speaker, row.emotion) for row in manifest)
    four = ("happy", "neutral", "sad", "angry")
    assert {name: tuple(counts[name, emotion] for emotion in four) for name in IMPROVISED} == IMPROVISED
    assert manifest.counts() == {"angry": 289, "happy": 947, "neutral": 1099, "sad": 608}
    assert {row.original for row in manifest if row.emotion == "happy"} == {"hap", "exc"}
    assert list(kinds(manifest)) == ["unusable"]
    assert kinds(manifest)["unusable"].startswith("30 utterances")
    by_id = manifest.by_id()  # the last letter speaks
    male, female = by_id["Ses01F_impro05a_M003"], by_id["Ses03M_impro02_F000"]
    assert (male.speaker, male.gender, male.session) == ("1M", "male", "1")
    assert (female.speaker, female.gender, female.session) == ("3F", "female", "3")
    values = {"valence": "2.5000", "activation": "3.0000", "dominance": "3.5000"}
    assert female.extra == {"dialog": "Ses03M_impro02", "scenario": "improvised", **values}
    assert female.audio.endswith("Session3/sentences/wav/Ses03M_impro02/Ses03M_impro02_F000.wav")
    sides = Counter(row.id[5] == row.id.rsplit("_", 1)[1][0] for row in manifest)
    assert min(sides.values()) > 0.3 * len(manifest), "the tree must tell the marker side from the speaker"


SCRIPTED = {
    "1F": {"hap": 123, "exc": 441}, "2F": {"exc": 125, "ang": 368}, "3F": {"sad": 78, "ang": 446},
    "4F": {"neu": 99, "sad": 398}, "5F": {"neu": 510},
    "2M": {"xxx": 2477, "fru": 1829, "sur": 107, "fea": 40, "oth": 3, "dis": 2},
}  # fmt: skip
"""With the improvised utterances, the published numbers of every session and label."""


def test_four_and_all(tmp_path: Path) -> None:
    tree = improvised(tmp_path / "IEMOCAP_full_release")
    for speaker, counts in SCRIPTED.items():
        for label, count in counts.items():
            tree.add(speaker, label, count, "scripted")
    root = tree.write()
    four = read_corpus("iemocap", root, subset="four")
    assert len(four) == 5531
    assert four.counts("session") == FOUR_BY_SESSION
    assert four.counts() == {"angry": 1103, "happy": 1636, "neutral": 1708, "sad": 1084}
    assert set(four.column("scenario")) == {"improvised", "scripted"}
    everything = read_corpus("iemocap", root, subset="all")
    assert len(everything) == 10039 - 2507
    assert everything.counts("original") == {key: ALL[key] for key in sorted(ALL) if key != "xxx"}
    assert everything.counts()["excited"] == 1041
    assert "2,507 utterances" in kinds(everything)["unusable"]
    assert len(read_corpus("iemocap", root)) == 2943


BROKEN = (
    "[6.2901 - 8.2357]\tSes03M_impro02_F000\tneu",
    "[6.2901 - 8.2357] Ses03M_impro02_X000 neu [2.5, 2.5, 2.5]",
    "[6.2901 - 8.2357] Ses04M_impro02_F000 neu [2.5, 2.5, 2.5]",
    "[6.2901 - 8.2357] Ses03M_impro02_F000 nue [2.5, 2.5, 2.5]",
)


def test_label_lines_that_are_missing_garbled_or_repeated(root: Path) -> None:
    lost = "Ses03M_impro02_F000"
    file = root / "Session3" / "dialog" / "EmoEvaluation" / "Ses03M_impro02.txt"
    lines = file.read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if lost in line)
    file.write_text("\n".join(lines[:place] + lines[place + 1 :]))
    with pytest.raises(CorpusError, match=rf"3F \w+ \d+ of \d+.*audio without a label line: {lost}.*--partial"):
        read_corpus("iemocap", root)
    manifest = read_corpus("iemocap", root, partial=True)
    assert len(manifest) == 2942
    assert "3F" in kinds(manifest)["missing"]
    assert lost in kinds(manifest)["no-label"]
    for broken in BROKEN:
        file.write_text("\n".join([*lines[:place], broken, *lines[place + 1 :]]))
        with pytest.raises(CorpusError, match=f"unreadable label lines: Ses03M_impro02.txt line {place + 1}"):
            read_corpus("iemocap", root)
    assert "Ses03M_impro02.txt" in kinds(read_corpus("iemocap", root, partial=True))["garbled"]
    file.write_text("\n".join(lines))
    copy = file.with_name("Ses03M_impro02 copy.txt")
    copy.write_text(file.read_text())
    manifest = read_corpus("iemocap", root)
    assert len(manifest) == 2943
    assert "repeat" in kinds(manifest)["extra"]
    copy.write_text(re.sub(r"\t\w{3}\t", "\tfru\t", file.read_text(), count=1))
    with pytest.raises(CorpusError, match="labelled twice and differently"):
        read_corpus("iemocap", root)


def test_audio_transcripts_sessions_and_labels_that_are_not_there(root: Path) -> None:
    folder = root / "Session1" / "dialog" / "transcriptions"
    folder.mkdir()
    (folder / "Ses01F_impro05a.txt").write_text("Ses01F_impro05a_F000 [006.2901-008.2357]: Excuse me.\nx\n")
    path = root / "Session4" / "sentences" / "wav" / "Ses04F_impro05a" / "Ses04F_impro05a_M001.wav"
    flac = path.with_suffix(".flac")
    flac.touch()
    by_id = read_corpus("iemocap", root).by_id()
    assert by_id["Ses01F_impro05a_F000"].text == "Excuse me."
    assert by_id["Ses01F_impro05a_F001"].text == ""
    assert by_id[path.stem].audio == str(path)
    path.unlink()
    assert read_corpus("iemocap", root).by_id()[path.stem].audio == str(flac)
    flac.unlink()
    with pytest.raises(CorpusError, match="without audio: Ses04F_impro05a_M001"):
        read_corpus("iemocap", root)
    path.touch()
    for file in (root / "Session1" / "dialog" / "EmoEvaluation").glob("S*.txt"):
        file.write_text(file.read_text().replace("\tang\t", "\txxx\t"))
    assert len(read_corpus("iemocap", root, labels=["sad", "neutral"])) == 2943 - 37 - 25
    with pytest.raises(CorpusError, match="1F angry 0 of 37"):
        read_corpus("iemocap", root)
    with pytest.raises(CorpusError, match="no clip labelled 'frustrated'"):
        read_corpus("iemocap", root, labels=["frustrated"])
    (root / "Session2").rename(root.parent / "elsewhere")
    with pytest.raises(CorpusError, match="not there: Session2"):
        read_corpus("iemocap", root)
    manifest = read_corpus("iemocap", root, partial=True)
    assert set(manifest.column("session")) == {"1", "3", "4", "5"}
    with pytest.raises(CorpusError, match=r"not IEMOCAP.*Session1/dialog/EmoEvaluation"):
        read_corpus("iemocap", root / "Session1")
