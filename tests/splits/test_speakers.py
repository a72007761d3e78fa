"""Speaker names that look alike or name nobody."""

from __future__ import annotations

import pytest

from unheard.errors import SplitError
from unheard.manifest import Manifest, Utterance
from unheard.splits.speakers import is_unknown, lookalikes, resolve_speakers


def table(*speakers: str) -> Manifest:
    return Manifest(tuple(Utterance(f"u{i}", "none.wav", name, "sad") for i, name in enumerate(speakers)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "01"), ("1", "1.0"), ("Anna", "anna"), ("Jos\u00e9", "Jose\u0301"), ("\uff11", "1"), ("a\u200bb", "ab"),
        ("Anna ", "Anna"), ("s01", "S1"), ("stra\u00dfe", "STRASSE"), ("emodb/03", "emodb/3"), ("Max M", "MaxM"),
        ("s_1", "s-1"), ("s\u20131", "s-1"), ("a\x00b", "ab"),
    ],
)  # fmt: skip
def test_names_of_one_person(one: str, other: str) -> None:
    assert lookalikes([one, other, "zoe"]) == [(one, other)]


def test_names_of_two_people() -> None:
    for pair in (("1", "10"), ("Anna", "Anne"), ("a1", "a11"), ("x/1", "y/1"), ("10", "1.0")):
        assert not lookalikes(pair)


def test_names_of_nobody() -> None:
    nobody = ["Unknown", "UNK", "unk1", "N/A", "?", "-1", "", "none", "anonymous", "c/unknown", "<unk>", "#N/A",
              "n.a.", "speaker_unknown", "spk-unk-1", "_"]  # fmt: skip
    assert list(filter(is_unknown, [*nobody, "1", "Anna", "Nina", "Unkel", "Nana", "a-1"])) == nobody


def test_lookalikes_stop_until_somebody_decides() -> None:
    manifest = table("1", "01", "2")
    with pytest.raises(SplitError, match=r"'01' and '1'.*--same-speakers merge"):
        resolve_speakers(manifest)
    merged = resolve_speakers(manifest, "merge")
    assert [row.speaker for row in merged] == ["01", "01", "2"]
    assert "merged speakers" in merged.notes[-1].message
    assert resolve_speakers(manifest, "distinct") is manifest


def test_unknown_speakers_are_dropped_or_one_each() -> None:
    manifest = table("Unknown", "1", "Unknown", "2")
    dropped = resolve_speakers(manifest)
    assert [row.id for row in dropped] == ["u1", "u3"]
    assert "2 utterances of unknown speakers dropped" in dropped.notes[-1].message
    assert len(set(resolve_speakers(manifest, unknown="each").speakers)) == 4
    assert resolve_speakers(table("1", "2")).notes == ()
    with pytest.raises(SplitError, match="every speaker is unknown"):
        resolve_speakers(table("?", "N/A"))
