"""Speaker names that look alike or name nobody."""

from __future__ import annotations

import pytest

from unheard.errors import SplitError
from unheard.manifest import Manifest, Utterance
from unheard.splits import make_split
from unheard.splits.speakers import is_unknown, lookalikes, resolve_speakers


def table(*speakers: str) -> Manifest:
    return Manifest(tuple(Utterance(f"u{i}", "none.wav", name, "sad") for i, name in enumerate(speakers)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "01"), ("1", "1.0"), ("Anna", "anna"), ("Jos\u00e9", "Jose\u0301"), ("\uff11", "1"), ("a\u200bb", "ab"),
        ("Anna ", "Anna"), ("s01", "S1"), ("stra\u00dfe", "STRASSE"), ("emodb/03", "emodb/3"), ("Max M", "MaxM"),
        ("s_1", "s-1"), ("s\u20131", "s-1"), ("a\x00b", "ab"),
        ("\u0410\u0441\u0435", "Ace"), ("\u039f1", "O1"), ("speaker_1", "Speaker 01"), ("O\u2019Brien", "O'Brien"),
        ("0" * 5000 + "1", "1"), ("\u0663", "3"), ("1,0", "1"), ("'Anna'", "Anna"), ("Anna.", "Anna"), ("#1", "1"),
        ("A--1", "A-01"), ("x__y", "x_y"), ("\u0130brahim", "ibrahim"), ("O`Brien", "O'Brien"),
    ],
)  # fmt: skip
def test_names_of_one_person(one: str, other: str) -> None:
    assert lookalikes([one, other, "zoe"]) == [(one, other)]


def test_names_of_two_people() -> None:
    for pair in (
        ("1", "10"),
        ("Anna", "Anne"),
        ("a1", "a11"),
        ("x/1", "y/1"),
        ("10", "1.0"),
        ("1-2", "12"),
        ("1" * 5000, "1"),
    ):
        assert not lookalikes(pair)


def test_names_of_nobody() -> None:
    nobody = ["Unknown", "UNK", "unk1", "N/A", "?", "-1", "", "none", "anonymous", "c/unknown", "<unk>", "#N/A",
              "n.a.", "speaker_unknown", "spk-unk-1", "_", "...", "-999", "(blank)", "\\N", "Not available",
              "unbekannt", "\u672a\u77e5", "not-known", "k. A.", "unspecified", "Unknown Male",
              "speaker unknown", "anonimo", "#NV", "#REF!",
              "\u043d\u0435\u0438\u0437\u0432\u0435\u0441\u0442\u043d\u043e"]  # fmt: skip
    assert (
        list(
            filter(is_unknown, [*nobody, "1", "Anna", "Nina", "Unkel", "Nana", "Anonka", "Duncan", "a-1", "NV", "Nat"])
        )
        == nobody
    )


@pytest.mark.parametrize("group", ["session", "device"])
def test_sessions_and_groups_that_look_alike_are_one(group: str) -> None:
    """Four groups written in several ways each: leaving one out leaves all its rows out."""
    spelt = ["1", "1.0", "01", "Lab", "lab ", "L\u0410B", "\uff13", "3", "3", "Zoe\u0301", "Zo\u00e9", "zo\u00e9"]
    rows = [
        Utterance(f"u{i}", "none.wav", f"s{i}", "sad", session=name if group == "session" else "", extra={group: name})
        for i, name in enumerate(spelt)
    ]
    folds = make_split(Manifest(tuple(rows)), "loso", group=group).folds
    assert len(folds) == 4
    for fold in folds:
        assert {int(name[1:]) // 3 for name in fold.directions[0].test}.isdisjoint(int(n[1:]) // 3 for n in fold.train)
        assert len(fold.directions[0].test) == 3


def test_lookalikes_stop_until_somebody_decides() -> None:
    manifest = table("1", "01", "2")
    with pytest.raises(SplitError, match=r"'01' and '1'.*--same-speakers merge"):
        resolve_speakers(manifest)
    merged = resolve_speakers(manifest, "merge")
    assert [row.speaker for row in merged] == ["01", "01", "2"]
    assert "1 speaker merged" in merged.notes[-1].message
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
