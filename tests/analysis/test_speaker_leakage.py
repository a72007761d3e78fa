"""Speaker probe, verification and groups on made embeddings whose answer can be seen."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from unheard.analysis import speaker_leakage as examine_module
from unheard.analysis.groups import compare_groups
from unheard.analysis.resample import clusters, mean_with_interval
from unheard.analysis.speaker_leakage import (
    Folds,
    Invariance,
    cosines,
    equal_error_rate,
    examine_embeddings,
    make_folds,
    predicted_speakers,
    verify,
)
from unheard.errors import MissingExtra, TrainingError

SPEAKERS = [f"s{i // 30}" for i in range(120)]  # 4 speakers x 30 recordings
TEXTS = [f"t{i % 10}" for i in range(120)]  # each says 10 texts, 3 times
WHO = np.repeat(np.arange(4), 30)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def accuracy(e: np.ndarray, folds: Folds, kind: str, speakers: list[str] = SPEAKERS) -> float:
    return float(np.mean(predicted_speakers(e, speakers, folds, kind) == np.array(speakers)))


def test_embeddings_that_are_the_speaker() -> None:
    found = examine_embeddings(np.eye(4)[WHO], SPEAKERS, TEXTS)
    assert (found.linear.value, found.mlp.value, found.eer.value) == (1.0, 1.0, 0.0)
    assert (found.linear.low, found.eer.high) == (1.0, 0.0)
    assert (found.speakers, found.recordings, found.examined, found.texts, found.width) == (4, 120, 120, 10, 4)
    assert (found.chance, found.majority, found.disjoint, found.pair_texts) == (0.25, 0.25, "texts", "different")
    assert found.pairs == (4 * (30 * 29 // 2 - 10 * 3), 6 * 30 * 27)
    assert found.groups is None
    assert math.isnan(found.figure("worst_uar"))


def test_embeddings_that_know_no_speaker() -> None:
    found = examine_embeddings(noise(120, 8), SPEAKERS, TEXTS)
    for figure in (found.linear, found.mlp):
        assert figure.low <= 0.25 <= figure.high
        assert figure.value == pytest.approx(0.25, abs=0.12)
    assert found.eer.value == pytest.approx(0.5, abs=0.03)
    assert found.eer.low < 0.5 < found.eer.high


def test_embeddings_that_are_all_alike() -> None:
    found = examine_embeddings(np.full((120, 8), 0.3), SPEAKERS, TEXTS)
    assert found.eer.value == 0.5
    assert (found.linear.value, found.mlp.value) == (0.25, 0.25)  # always one speaker


def test_only_an_mlp_reads_what_no_plane_separates() -> None:
    side = np.sign(noise(120, 1, seed=3))
    xor = np.stack([side[:, 0], side[:, 0] * np.where(WHO % 2, 1, -1)], axis=1) + 0.1 * noise(120, 2)
    speakers = [f"s{i % 2}" for i in WHO]
    folds = make_folds(speakers, TEXTS)
    assert accuracy(xor, folds, "linear", speakers) < 0.7
    assert accuracy(xor, folds, "mlp", speakers) > 0.9


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_probe_that_learns_texts_by_heart_is_found_out(kind: str) -> None:
    own = [f"{speaker} {text}" for speaker, text in zip(SPEAKERS, TEXTS, strict=True)]  # nobody says another's text
    places = np.unique(own, return_inverse=True)[1]
    e = noise(40, 64)[places]  # a vector a text, drawn blindly: it knows the text and no voice
    assert accuracy(e, make_folds(SPEAKERS, [""] * 120), kind) > 0.9
    folds = make_folds(SPEAKERS, own)
    assert folds.disjoint == "texts"
    assert accuracy(e, folds, kind) == pytest.approx(0.25, abs=0.2)


def test_folds_of_texts_share_no_text_and_know_every_speaker() -> None:
    folds = make_folds(SPEAKERS, TEXTS)
    assert folds.disjoint == "texts"
    assert np.bincount(folds.of).tolist() == [24] * 5
    check(SPEAKERS, TEXTS, folds)


def check(speakers: list[str], texts: list[str], folds: Folds) -> None:
    who, what = np.array(speakers), np.array(texts)
    assert len(folds.of) == len(who)
    for fold in np.unique(folds.of):
        test = folds.of == fold
        assert set(who[test]) <= set(who[~test])
        if folds.disjoint == "texts":
            assert not set(what[test]) & set(what[~test])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=4, max_size=60), st.integers(0, 3))
def test_folds_of_any_recordings(pairs: list[tuple[int, int]], seed: int) -> None:
    counts = np.bincount([speaker for speaker, _ in pairs])
    pairs = [pair for pair in pairs if counts[pair[0]] > 1]
    speakers, texts = [f"s{s}" for s, _ in pairs], [f"t{t}" for _, t in pairs]
    if len(set(speakers)) < 2:
        return
    folds = make_folds(speakers, texts, seed)
    check(speakers, texts, folds)
    least = min(len({t for s, t in pairs if f"s{s}" == name}) for name in speakers)
    assert folds.disjoint == ("recordings" if least < 2 else "texts")  # a fold a text always works


def test_speakers_with_two_texts_each_are_spread_by_moving_texts() -> None:
    pairs = [(s, t) for s in range(40) for t in (s % 9, (s + 1 + s // 9) % 9)]
    speakers, texts = [f"s{s}" for s, _ in pairs], [f"t{t}" for _, t in pairs]
    folds = make_folds(speakers, texts)
    assert folds.disjoint == "texts"
    check(speakers, texts, folds)
    assert len(set(folds.of.tolist())) > 5  # almost any two texts have a speaker in common: five are too few


def test_without_texts_recordings_are_disjoint() -> None:
    one_text_each = [f"t{who}" for who in WHO]
    for texts in ([""] * 120, ["", *TEXTS[1:]], ["one"] * 120, one_text_each):
        folds = make_folds(SPEAKERS, texts)
        assert folds.disjoint == "recordings"
        check(SPEAKERS, texts, folds)
    folds = make_folds(SPEAKERS, [""] * 120)
    assert [np.bincount(folds.of[who == WHO]).tolist() for who in range(4)] == [[6] * 5] * 4


def test_what_cannot_be_probed() -> None:
    with pytest.raises(TrainingError, match="at least 2 speakers"):
        make_folds(["a", "a"], ["x", "y"])
    with pytest.raises(TrainingError, match=r"1 speakers have one recording \(b\)"):
        make_folds(["a", "a", "b"], ["x", "y", "x"])
    with pytest.raises(ValueError, match="unknown probe"):
        predicted_speakers(np.eye(4)[WHO], SPEAKERS, make_folds(SPEAKERS, TEXTS), "forest")
    with pytest.raises(TrainingError, match="verification needs"):
        verify(noise(3, 2), ["a", "b", "c"], ["", "", ""])
    with pytest.raises(TrainingError, match="no numbers"):
        examine_embeddings(np.full((120, 2), np.nan), SPEAKERS, TEXTS)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"needs scikit-learn.*unheard\[train\]"):
        examine_embeddings(np.eye(4)[WHO], SPEAKERS, TEXTS)


def test_the_same_seed_gives_the_same_figures() -> None:
    rows = slice(0, 60)
    first, again = (examine_embeddings(noise(60, 8), SPEAKERS[rows], TEXTS[rows]) for _ in range(2))
    assert first == again


def test_a_draw_of_many_recordings_is_even(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine_module, "MOST_RECORDINGS", 40)
    found = examine_embeddings(np.eye(4)[WHO], SPEAKERS, TEXTS)
    assert (found.recordings, found.examined, found.majority, found.linear.value) == (120, 40, 0.25, 1.0)


def test_a_draw_of_many_speakers_holds_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine_module, "MOST_RECORDINGS", 6)
    found = examine_embeddings(np.eye(4)[WHO], SPEAKERS, TEXTS)
    assert (found.recordings, found.examined, found.speakers, found.chance) == (120, 6, 3, 1 / 3)


# --- verification


def test_equal_error_rate_by_hand() -> None:
    same = np.array([1, 1, 1, 0, 0, 0], bool)
    assert equal_error_rate(np.array([6, 5, 4, 3, 2, 1]), same) == 0
    assert equal_error_rate(np.array([1, 2, 3, 4, 5, 6]), same) == 1
    assert equal_error_rate(np.array([6, 5, 2, 4, 3, 1]), same) == pytest.approx(1 / 3)  # threshold between 4 and 5
    assert equal_error_rate(np.ones(6), same) == 0.5
    # thresholds: (accepted, rejected) goes (0, 1) (0, .5) (1, .5): halfway of the last step both are 0.5
    assert equal_error_rate(np.array([3, 1, 2]), np.array([True, True, False])) == 0.5
    # (0, 1) (0, 2/3) (1/2, 0), two of one kind and one of the other tied: on that step 2/3 - 4/3 x = x at 2/7
    assert equal_error_rate(np.array([3, 2, 2, 2, 1]), np.array([1, 1, 1, 0, 0], bool)) == pytest.approx(2 / 7)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=50))
def test_equal_error_rate_is_where_the_roc_meets_the_diagonal(pairs: list[tuple[int, bool]]) -> None:
    scores, same = np.array([score for score, _ in pairs], float), np.array([yes for _, yes in pairs])
    if same.all() or not same.any():
        return
    false, true, _ = roc_curve(same, scores, drop_intermediate=False)
    value = equal_error_rate(scores, same)
    steps = [
        f0 + (f1 - f0) * (1 - t0 - f0) / ((f1 - f0) + (t1 - t0))
        for f0, f1, t0, t1 in zip(false, false[1:], true, true[1:], strict=False)
        if f0 <= 1 - t0 and f1 >= 1 - t1
    ]
    assert value == pytest.approx(steps[0])


def test_pairs_of_the_same_text_do_not_count() -> None:
    e = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])  # the text, not the voice
    found = verify(e, ["a", "b", "a", "b"], ["x", "x", "y", "y"])
    assert (found.same, found.different, found.texts, found.eer.value) == (2, 2, "different", 0.5)
    found = verify(e, ["a", "b", "a", "b"], ["", "", "", ""])
    assert (found.same, found.different, found.texts) == (2, 4, "any")
    # accepted and rejected go (0, 1) (1/2, 1) (1, 0): the two voices that share a text seem to be one
    assert found.eer.value == pytest.approx(2 / 3)


def test_cosines_are_centred_and_defined_for_the_mean_itself() -> None:
    close = cosines(np.array([[10.0, 1], [10, -1], [10, 0]]))
    assert close.tolist() == [[1, -1, 0], [-1, 1, 0], [0, 0, 0]]
    assert not cosines(np.full((3, 2), 0.1)).any()


# --- groups


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
    assert found.gender_gap.value == 0.875 - 0.25
    assert found.gender_unknown == 0
    worst = found.worst.uar  # angry never right, sad half: between 0 and 0.5
    assert (worst.low, worst.high) == (0.0, 0.5)


@pytest.mark.parametrize("genders", [["", "", "", ""], ["f", "f", "", "x"], ["f", "m", "f", "f"]])
def test_unknown_genders_take_no_part_in_the_gap(genders: list[str]) -> None:
    found = compare_groups(["a", "a", "b", "b"], genders, [0, 1, 0, 1], [0, 1, 1, 1])
    assert math.isnan(found.gender_gap.value)  # also when a speaker's rows disagree
    assert found.gender_unknown == len({"a", "b"}) - (genders[:2] == ["f", "f"]) - (genders[2:] == ["f", "f"])
    assert (found.worst.speaker, found.worst.uar.value) == ("b", 0.5)


# --- intervals, JSON


def test_intervals_resample_clusters() -> None:
    hits = np.repeat([1, 0], 50)
    alone = mean_with_interval(hits, np.arange(100), 0)
    tied = mean_with_interval(hits, np.repeat(np.arange(10), 10), 0)
    assert alone.value == tied.value == 0.5
    assert alone.low == pytest.approx(0.5 - 1.96 * math.sqrt(0.25 / 100), abs=0.02)
    assert tied.high - tied.low > 2 * (alone.high - alone.low)
    found = clusters(["a", "a", "b", "a", "a"], ["x", "x", "x", "", ""])
    assert found[0] == found[1]
    assert len(set(found.tolist())) == 4


@pytest.mark.parametrize("gender", ["female", ""])
def test_json_and_back(gender: str) -> None:
    genders = [gender if name == "s0" else "male" for name in SPEAKERS]
    found = examine_embeddings(noise(120, 4), SPEAKERS, TEXTS, genders, list(WHO), list(WHO))
    text = json.dumps(found.as_dict(), allow_nan=False)
    again = Invariance.from_dict(json.loads(text))
    assert again.as_dict() == found.as_dict()
    assert found.figure("mean_uar") == found.figure("worst_uar") == 1.0
    assert (found.figure("gender_gap") == 0.0) is (gender == "female")
