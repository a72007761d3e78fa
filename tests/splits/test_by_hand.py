"""Splits that people make: by hand and from files; they are checked as ours are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from splitting import having, iemocap, people, table

from unheard.errors import SplitError
from unheard.manifest import Manifest
from unheard.splits import Direction, Fold, Split, make_split, read_folds, read_splits, write_splits

PAIR = table("f1", "f2", "f3", "f4")


def by_hand(train: str, dev: str, test: str, manifest: Manifest = PAIR, **options: object) -> Split:
    def ids(names: str) -> tuple[str, ...]:
        return tuple(row.id for name in names.split() for row in manifest if name in (row.speaker, row.id))

    fold = Fold(0, ids(train), (Direction("test", ids(dev), ids(test)),))
    return Split(manifest, "given", (fold,), **options)


def test_a_clean_split_by_hand_is_put_into_manifest_order():
    assert by_hand("f2 f1", "f3", "f4").folds[0].train == ("f1-angry", "f1-sad", "f2-angry", "f2-sad")


@pytest.mark.parametrize(
    ("train", "dev", "test", "words"),
    [
        ("f1", "f2", "f1", "2 utterances are in training and in test of fold 0: f1-angry"),
        ("f1-angry", "f2", "f1-sad f3", "speaker f1 is in training and in test"),
        ("f1-angry", "f1-sad", "f3", "speaker f1 is in training and in dev"),
        ("f1", "f2-sad", "f2-angry", "speaker f2 is in dev and in test"),
        ("", "f2", "f3", "training is empty"),
        ("f1", "", "f3", "dev is empty"),
        ("f1", "f2", "", "test is empty"),
        ("f1 f1", "f2", "f3", "twice"),
        ("f1-angry", "f2", "f3", "emotion 'sad'"),
    ],
)
def test_a_leaking_split_cannot_be_constructed(train, dev, test, words):
    with pytest.raises(SplitError, match=words):
        by_hand(train, dev, test)


def test_sessions_may_be_shared_by_dev_and_test_only_and_a_group_by_none():
    rows = [*people("f1", session="s1"), *people("f2", "f3", session="s2"), *people("f4")]
    by_hand("f1 f4", "f2", "f3", Manifest(tuple(rows)))
    with pytest.raises(SplitError, match="session s2 is in training and in test"):
        by_hand("f1 f2", "f4", "f3", Manifest(tuple(rows)))
    manifest = having(PAIR, device=lambda row: "x" if row.speaker in ("f1", "f4") else row.speaker)
    by_hand("f1", "f2", "f4", manifest)
    with pytest.raises(SplitError, match="device x is in training and in test"):
        by_hand("f1", "f2", "f4", manifest, group="device")


def test_unknown_ids_double_tests_and_missing_folds_raise():
    good = by_hand("f1 f2", "f3", "f4").folds[0]
    for folds, words in {
        (replace(good, train=("nobody",)),): "which the manifest does not",
        (good, replace(good, index=1)): "tested more than once: f4-angry, f4-sad .*in fold 0 and again in fold 1",
        (): "no fold",
    }.items():
        with pytest.raises(SplitError, match=words):
            Split(PAIR, "given", folds)


# Files ---


def test_a_written_split_reads_back_the_same(tmp_path: Path):
    manifest = iemocap()
    split = make_split(manifest, "paired")
    write_splits(split, tmp_path / "splits.csv")
    lines = (tmp_path / "splits.csv").read_text().splitlines()
    assert lines[:2] == ["fold,direction,part,id,speaker", "0,,train,Ses02F-angry,Ses02F"]
    back = read_splits(tmp_path / "splits.csv", manifest)
    assert (back.folds, back.digest) == (split.folds, split.digest)


@pytest.mark.parametrize("column", ["id", "speaker"])
def test_a_plain_file_makes_one_fold(tmp_path: Path, column):
    part = {"f1": "train", "f2": "train", "f3": "val", "f4": "test"}
    lines = [f"{row.get(column)},{part[row.speaker]}" for row in PAIR]
    (tmp_path / "mine.csv").write_text("\n".join([f"{column},part", *dict.fromkeys(lines)]))
    assert read_splits(tmp_path / "mine.csv", PAIR).folds == by_hand("f1 f2", "f3", "f4").folds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,part\nf1-sad,trian\n", "line 2.*'train'"),
        ("id,part\nf9-sad,train\n", "no utterance 'f9-sad'"),
        ("speaker,part\nf9,train\n", "no speaker 'f9'"),
        ("id,speaker,part\nf1-sad,f2,train\n", "speaker of 'f1-sad' is 'f2'"),
        ("id,speaker\nf1-sad,f1\n", "columns id, speaker"),
        ("id;part\nf9-sad;train\n", "no utterance 'f9-sad'"),  # as a spreadsheet writes it
        ("id,part\nf1-sad\n", "line 2: cannot be read: 1 cell under 2 columns"),
        ("id,part,part\nf1-sad,train,test\n", "has the column 'part' twice"),
        ("id,part\n", "no rows"),
        ("", "none"),
        ("fold,id,part\nx,f1-sad,train\n", "whole number"),
        ("speaker,part\nf1,train\nf2,dev\n", "test is empty"),
        ("id,part\nf1-sad,train\nf1-angry,test\nf2-sad,dev\n", "speaker f1 is in training and in test"),
    ],
)
def test_a_file_that_is_wrong_says_what_and_where(tmp_path: Path, text, words):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(SplitError, match=words):
        read_splits(tmp_path / "mine.csv", PAIR)
    with pytest.raises(SplitError, match="cannot be read"):
        read_folds(tmp_path / "none.csv", PAIR)
