"""Speaker probe, verification and groups on made embeddings with visible answers."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from unheard.analysis import speaker_leakage
from unheard.analysis.intervals import mean_with_interval
from unheard.analysis.speaker_leakage import (
    Leakage,
    clusters,
    compare_groups,
    cosines,
    equal_error_rate,
    examine_embeddings,
    make_folds,
    predicted_speakers,
    verify,
)
from unheard.errors import MissingExtra, TrainingError
from unheard.files import json_text

SPEAKERS = [f"s{i // 30}" for i in range(120)]  # 4 speakers x 30 recordings
TEXTS = [f"t{i % 10}" for i in range(120)]  # each says 10 texts, 3 times
WHO = np.repeat(np.arange(4), 30)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_embeddings_that_are_the_speaker() -> None:
    found = examine_embeddings(np.eye(4)[WHO], SPEAKERS, TEXTS)
    assert (found.linear.value, found.mlp.value, found.eer.value) == (1.0, 1.0, 0.0)
    assert (found.linear.low, found.eer.high) == (1.0, 0.0)
    assert (found.speakers, found.recordings, found.examined, found.texts, found.width) == (4, 120, 120, 10, 4)
    assert (found.chance, found.majority, found.disjoint, found.pair_texts) == (0.25, 0.25, "texts", "different")
    assert found.pairs == (4 * (30 * 29 // 2 - 10 * 3), 6 * 30 * 27)
    assert found.groups is None
    assert math.isnan(found.estimate("worst_uar").value)


def test_embeddings_without_speakers() -> None:
    found = examine_embeddings(noise(120, 8), SPEAKERS, TEXTS)
    for figure in (found.linear, found.mlp):
        assert figure.low <= 0.25 <= figure.high
        assert figure.value == pytest.approx(0.25, abs=0.12)
    assert found.eer.value == pytest.approx(0.5, abs=0.03)
    assert found.eer.low < 0.5 < found.eer.high
    assert examine_embeddings(noise(120, 8), SPEAKERS, TEXTS) == found  # the same seed
    equal = examine_embeddings(np.full((120, 8), 0.3), SPEAKERS, TEXTS)
    assert (equal.eer.value, equal.linear.value, equal.mlp.value) == (0.5, 0.25, 0.25)  # always one speaker


@pytest.mark.parametrize("gender", ["female", ""])
def test_json_and_back(gender: str) -> None:
    genders = [gender if name == "s0" else "male" for name in SPEAKERS]
    found = examine_embeddings(noise(120, 4), SPEAKERS, TEXTS, genders, list(WHO), list(WHO))
    again = Leakage.from_dict(json.loads(json_text(asdict(found))))
    assert str(again) == str(found)  # NaN equals nothing
    assert again.estimate("mean_uar").value == again.estimate("worst_uar").value == 1.0
    assert (again.estimate("gender_gap").value == 0.0) is (gender == "female")


@pytest.mark.parametrize(("most", "examined", "speakers"), [(40, 40, 4), (6, 6, 3)])
def test_a_draw_of_many_recordings_is_even(
    monkeypatch: pytest.MonkeyPatch, most: int, examined: int, speakers: int
) -> None:
    monkeypatch.setattr(speaker_leakage, "MOST_RECORDINGS", most)
    found = examine_embeddings(np.eye(4)[WHO], SPEAKERS, TEXTS)
    assert (found.recordings, found.examined, found.speakers) == (120, examined, speakers)
    assert found.majority == found.chance == 1 / speakers
    assert found.eer.value == 0


def test_unusable_embeddings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match="at least 2 speakers"):
        make_folds(["a", "a"], ["x", "y"])
    with pytest.raises(TrainingError, match=r"1 speaker with one recording \(b\)"):
        make_folds(["a", "a", "b"], ["x", "y", "x"])
    with pytest.raises(TrainingError, match="verification needs"):
        verify(noise(3, 2), ["a", "b", "c"], ["", "", ""])
    with pytest.raises(TrainingError, match="not finite"):
        examine_embeddings(np.full((120, 2), np.nan), SPEAKERS, TEXTS)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingExtra, match=r"needs scikit-learn.*unheard\[train\]"):
        examine_embeddings(np.eye(4)[WHO], SPEAKERS, TEXTS)


# The probe and its folds.


def accuracy(e: np.ndarray, folds: np.ndarray, kind: str, speakers: list[str] = SPEAKERS) -> float:
    return float(np.mean(predicted_speakers(e, speakers, folds, kind) == np.array(speakers)))


def test_only_an_mlp_separates_xor() -> None:
    side = np.sign(noise(120, 1, seed=3))
    xor = np.stack([side[:, 0], side[:, 0] * np.where(WHO % 2, 1, -1)], axis=1) + 0.1 * noise(120, 2)
    speakers = [f"s{i % 2}" for i in WHO]
    folds, _ = make_folds(speakers, TEXTS)
    assert accuracy(xor, folds, "linear", speakers) < 0.7
    assert accuracy(xor, folds, "mlp", speakers) > 0.9


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_probe_that_memorises_texts_is_found_out(kind: str) -> None:
    own = [f"{speaker} {text}" for speaker, text in zip(SPEAKERS, TEXTS, strict=True)]  # nobody says another's text
    e = noise(40, 64)[np.unique(own, return_inverse=True)[1]]  # a random vector for each text, without a voice
    assert accuracy(e, make_folds(SPEAKERS, [""] * 120)[0], kind) > 0.9
    folds, disjoint = make_folds(SPEAKERS, own)
    assert disjoint == "texts"
    assert accuracy(e, folds, kind) == pytest.approx(0.25, abs=0.2)


def checked(speakers: list[str], texts: list[str], seed: int = 0) -> tuple[np.ndarray, str]:
    """Folds in which every tested speaker is trained on, and no text is on two sides where they say so."""
    folds, disjoint = make_folds(speakers, texts, seed)
    who, what = np.array(speakers), np.array(texts)
    assert len(folds) == len(who)
    for fold in np.unique(folds):
        test = folds == fold
        assert set(who[test]) <= set(who[~test])
        assert disjoint == "recordings" or not set(what[test]) & set(what[~test])
    return folds, disjoint


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=4, max_size=60), st.integers(0, 3))
def test_folds_of_any_recordings(pairs: list[tuple[int, int]], seed: int) -> None:
    counts = np.bincount([speaker for speaker, _ in pairs])
    pairs = [pair for pair in pairs if counts[pair[0]] > 1]
    speakers, texts = [f"s{s}" for s, _ in pairs], [f"t{t}" for _, t in pairs]
    if len(set(speakers)) < 2:
        return
    least = min(len({t for s, t in pairs if f"s{s}" == name}) for name in speakers)
    assert checked(speakers, texts, seed)[1] == ("recordings" if least < 2 else "texts")  # a fold a text always works


def test_folds_of_texts_and_of_recordings() -> None:
    folds, disjoint = checked(SPEAKERS, TEXTS)
    assert (np.bincount(folds).tolist(), disjoint) == ([24] * 5, "texts")
    pairs = [(s, t) for s in range(40) for t in (s % 9, (s + 1 + s // 9) % 9)]  # two texts a speaker
    folds, disjoint = checked([f"s{s}" for s, _ in pairs], [f"t{t}" for _, t in pairs])
    assert disjoint == "texts"
    assert len(set(folds.tolist())) > 5  # almost any two texts have a speaker in common: five are too few
    for texts in ([""] * 120, ["", *TEXTS[1:]], ["one"] * 120, [f"t{who}" for who in WHO]):
        folds, disjoint = checked(SPEAKERS, texts)
        assert disjoint == "recordings"
        assert [np.bincount(folds[who == WHO]).tolist() for who in range(4)] == [[6] * 5] * 4


# Verification.


def rate(scores: list[float], same: list[bool]) -> float:
    order = np.argsort(-np.array(scores, float), kind="stable")
    weights = np.array(same, float)[order]
    return equal_error_rate(np.array(scores, float)[order], weights, 1 - weights)


@pytest.mark.parametrize(
    ("scores", "same", "value"),
    [
        ([6, 5, 4, 3, 2, 1], [1, 1, 1, 0, 0, 0], 0),
        ([1, 2, 3, 4, 5, 6], [1, 1, 1, 0, 0, 0], 1),
        ([6, 5, 2, 4, 3, 1], [1, 1, 1, 0, 0, 0], 1 / 3),  # threshold between 4 and 5
        ([1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], 0.5),
        # thresholds: (accepted, rejected) goes (0, 1) (0, .5) (1, .5): halfway of the last step both are 0.5
        ([3, 1, 2], [1, 1, 0], 0.5),
        # (0, 1) (0, 2/3) (1/2, 0), two of one kind and one of the other tied: on that step 2/3 - 4/3 x = x at 2/7
        ([3, 2, 2, 2, 1], [1, 1, 1, 0, 0], 2 / 7),
    ],
)
def test_equal_error_rate_by_hand(scores: list[float], same: list[bool], value: float) -> None:
    assert rate(scores, same) == pytest.approx(value)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=50))
def test_equal_error_rate_is_where_the_roc_meets_the_diagonal(pairs: list[tuple[int, bool]]) -> None:
    scores, same = [float(score) for score, _ in pairs], [yes for _, yes in pairs]
    if all(same) or not any(same):
        return
    false, true, _ = roc_curve(same, scores, drop_intermediate=False)
    steps = [
        f0 + (f1 - f0) * (1 - t0 - f0) / ((f1 - f0) + (t1 - t0))
        for f0, f1, t0, t1 in zip(false, false[1:], true, true[1:], strict=False)
        if f0 <= 1 - t0 and f1 >= 1 - t1
    ]
    assert rate(scores, same) == pytest.approx(steps[0])


def test_pairs_of_the_same_text_do_not_count() -> None:
    e = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])  # the text, not the voice
    eer, pairs, texts = verify(e, ["a", "b", "a", "b"], ["x", "x", "y", "y"])
    assert (eer.value, pairs, texts) == (0.5, (2, 2), "different")
    eer, pairs, texts = verify(e, ["a", "b", "a", "b"], ["", "", "", ""])
    assert (pairs, texts) == ((2, 4), "any")
    # accepted and rejected go (0, 1) (1/2, 1) (1, 0): two voices that share a text seem to be one
    assert eer.value == pytest.approx(2 / 3)


def test_cosines_are_centred_and_defined_for_the_mean_itself() -> None:
    close = cosines(np.array([[10.0, 1], [10, -1], [10, 0]]))
    assert close.tolist() == [[1, -1, 0], [-1, 1, 0], [0, 0, 0]]
    assert not cosines(np.full((3, 2), 0.1)).any()


def test_intervals_resample_clusters() -> None:
    hits = np.repeat([1, 0], 50)
    alone = mean_with_interval(hits, np.arange(100), 2000)
    tied = mean_with_interval(hits, np.repeat(np.arange(10), 10), 2000)
    assert alone.value == tied.value == 0.5
    assert alone.low == pytest.approx(0.5 - 1.96 * math.sqrt(0.25 / 100), abs=0.02)
    assert tied.high - tied.low > 2 * (alone.high - alone.low)
    found = clusters(["a", "a", "b", "a", "a"], ["x", "x", "x", "", ""])
    assert found[0] == found[1]
    assert len(set(found.tolist())) == 4


# Groups.


def test_groups_by_hand() -> None:
    #           s1: angry 1/2, sad 1/1    s2: angry 0/2, sad 1/2     s10: sad 2/2 only
    speakers = ["s1", "s1", "s1", "s2", "s2", "s2", "s2", "s10", "s10"]
    genders = ["female"] * 3 + ["m"] * 4 + ["F"] * 2
    emotions = ["angry", "angry", "sad", "angry", "angry", "sad", "sad", "sad", "sad"]
    predicted = ["angry", "sad", "sad", "sad", "sad", "sad", "angry", "sad", "sad"]
    found = compare_groups(speakers, genders, emotions, predicted)
    assert [(p.speaker, p.gender, p.recordings, p.emotions, p.uar.value) for p in found.people] == [
        ("s1", "female", 3, 2, 0.75),
        ("s2", "male", 4, 2, 0.25),
        ("s10", "female", 2, 1, 1.0),
    ]
    assert (found.worst.speaker, found.best.speaker, found.spread) == ("s2", "s10", 0.75)
    assert found.mean == pytest.approx(2 / 3)
    assert found.deviation == pytest.approx(np.std([0.75, 0.25, 1.0], ddof=1))
    assert (found.gender_gap.value, found.gender_unknown) == (0.875 - 0.25, 0)
    worst = found.worst.uar  # angry never right, sad half: between 0 and 0.5
    assert (worst.low, worst.high) == (0.0, 0.5)


@pytest.mark.parametrize("genders", [["", "", "", ""], ["f", "f", "", "x"], ["f", "m", "f", "f"]])
def test_unknown_genders_take_no_part_in_the_gap(genders: list[str]) -> None:
    found = compare_groups(["a", "a", "b", "b"], genders, [0, 1, 0, 1], [0, 1, 1, 1])
    assert math.isnan(found.gender_gap.value)  # also if a speaker's rows disagree
    assert found.gender_unknown == len({"a", "b"}) - (genders[:2] == ["f", "f"]) - (genders[2:] == ["f", "f"])
    assert (found.worst.speaker, found.worst.uar.value) == ("b", 0.5)
