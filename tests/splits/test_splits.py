"""Splits on manifests small enough to see the answer, and the leak that must raise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitting import EMOTIONS, iemocap, people, table, who

from unheard.errors import ConfigError, SplitError
from unheard.manifest import Manifest, Utterance
from unheard.splits import default_protocol, exclude_shared_recordings, find_leaks, make_split
from unheard.splits.protocols import Groups


def test_paired_holds_out_the_ith_female_with_the_ith_male_by_id():
    manifest = table("m10", "f2", "m9", "f10", "f1")  # f1-m9, f2-m10 in natural order; f10 has no partner
    split = make_split(manifest, "paired")
    assert [fold.index for fold in split.folds] == [0, 1]
    first, second = split.folds
    assert who(manifest, first.train) == {"f2", "m10", "f10"}
    assert who(manifest, second.train) == {"f1", "m9", "f10"}
    assert [direction.name for direction in first.directions] == ["male", "female"]
    male, female = first.directions
    assert (who(manifest, male.dev), who(manifest, male.test)) == ({"f1"}, {"m9"})
    assert (male.dev, male.test) == (female.test, female.dev)
    assert "f10" in split.notes[0].message


@pytest.mark.parametrize(("test", "tested"), [("male", "m1"), ("female", "f1")])
def test_paired_in_one_direction_trains_on_the_same_speakers(test, tested):
    manifest = table("f1", "m1", "f2", "m2")
    fold = make_split(manifest, "paired", test=test).folds[0]
    assert fold.train == make_split(manifest, "paired").folds[0].train
    assert [(direction.name, who(manifest, direction.test)) for direction in fold.directions] == [(test, {tested})]


def test_paired_follows_the_session_where_sessions_hold_both_genders():
    rows = []
    for session, female, male in (("x", "f1", "m3"), ("y", "f2", "m1"), ("z", "f3", "m2")):
        rows += people(female, male, session=session)
    manifest = Manifest(tuple(rows))
    pairs = {
        frozenset(who(manifest, fold.directions[0].dev + fold.directions[0].test))
        for fold in make_split(manifest, "paired").folds
    }
    assert pairs == {frozenset(pair) for pair in (("f1", "m3"), ("f2", "m1"), ("f3", "m2"))}


def test_paired_without_gender_says_how_to_mend():
    manifest = Manifest(tuple(replace(row, gender="") for row in table("f1", "m1", "f2")))
    with pytest.raises(SplitError, match=r"gender.*kfold"):
        make_split(manifest, "paired")


def test_kfold_is_stratified_and_validates_on_the_next_part():
    manifest = table(*(f"f{i}" for i in range(12)), *(f"m{i}" for i in range(12)))
    split = make_split(manifest, "kfold", k=6)
    tested = [who(manifest, fold.directions[0].test) for fold in split.folds]
    assert all(sorted(name[0] for name in part) == ["f", "f", "m", "m"] for part in tested)
    for f, fold in enumerate(split.folds):
        assert who(manifest, fold.directions[0].dev) == tested[(f + 1) % 6]
        assert who(manifest, fold.train) == set(manifest.speakers) - tested[f] - tested[(f + 1) % 6]


def test_kfold_moves_session_partners_together():
    manifest = iemocap()
    split = make_split(manifest, "kfold", k=5)
    assert all(len(who(manifest, fold.train)) == 6 for fold in split.folds)
    assert not split.notes


def test_a_session_partner_of_dev_or_test_is_left_out_of_training_and_counted():
    manifest = iemocap()
    split = make_split(manifest, "loso", seed=1)
    assert len(split.folds) == 10
    left_out = {note.message.split(":")[0]: note.ids for note in split.notes}
    for fold in split.folds:
        held = who(manifest, fold.directions[0].dev + fold.directions[0].test)
        partners = {f"{name[:-1]}{'M' if name.endswith('F') else 'F'}" for name in held} - held
        assert who(manifest, fold.train) == set(manifest.speakers) - held - partners
        assert who(manifest, left_out.get(f"fold {fold.index}", ())) == partners


def test_loso_tests_each_once_and_validates_on_the_next_two():
    manifest = table("f1", "f2", "m1", "m2", "m3")
    folds = make_split(manifest, "loso", seed=3).folds
    order = [who(manifest, fold.directions[0].test).pop() for fold in folds]
    assert sorted(order) == list(manifest.speakers)
    for place, fold in enumerate(folds):
        assert who(manifest, fold.directions[0].dev) == {order[(place + 1) % 5], order[(place + 2) % 5]}


def test_random_takes_as_many_speakers_as_asked():
    manifest = table(*(f"f{i}" for i in range(250)))
    split = make_split(manifest, "random", n=(200, 25, 25))
    (fold,) = split.folds
    assert len(who(manifest, fold.train)) == 200
    assert len(who(manifest, fold.directions[0].dev)) == 25
    assert len(who(manifest, fold.directions[0].test)) == 25


def test_the_seeded_assignment_never_changes():
    manifest = table("f1", "f2", "f3", "m1", "m2", "m3")
    assert make_split(manifest, "loso").digest == "8650a1a00a893e7b"
    assert make_split(manifest, "kfold", k=3).digest == "a2e5bfd1288fdc7e"


@pytest.mark.parametrize("words", [("train", "dev", "test"), ("Training", "val", "testing")])
def test_given_parts_make_one_fold(words):
    rows = [
        replace(row, extra={"part": words[min(int(row.speaker[1:]) - 1, 2)] if row.speaker != "f4" else ""})
        for row in people("f1", "f2", "f3", "f4")
    ]
    manifest = Manifest(tuple(rows))
    split = make_split(manifest, "given", column="part")
    (fold,) = split.folds
    parts = (fold.train, fold.directions[0].dev, fold.directions[0].test)
    assert [who(manifest, part) for part in parts] == [{"f1"}, {"f2"}, {"f3"}]
    assert "2 utterances" in split.notes[0].message


def test_given_folds_test_each_value_once_and_validate_on_the_next():
    manifest = Manifest(tuple(replace(row, extra={"fold": row.speaker[1:]}) for row in people("f1", "f2", "f10", "m2")))
    folds = make_split(manifest, "given", column="fold").folds
    tested = [who(manifest, fold.directions[0].test) for fold in folds]
    assert tested == [{"f1"}, {"f2", "m2"}, {"f10"}]
    assert [who(manifest, fold.directions[0].dev) for fold in folds] == [*tested[1:], tested[0]]


def test_given_that_leaks_raises_and_is_not_repaired():
    rows = people("f1", "f2", "f3")
    manifest = Manifest(
        tuple(
            replace(row, extra={"part": part})
            for row, part in zip(rows, ["train", "train", "dev", "dev", "train", "test"], strict=True)
        )
    )
    with pytest.raises(SplitError, match="speaker f3 is in training and in test"):
        make_split(manifest, "given", column="part")


def test_cross_tests_one_corpus_and_validates_on_training_corpora():
    a = Manifest(tuple(people(*(f"f{i}" for i in range(6)), *(f"m{i}" for i in range(6)), corpus="a")))
    b = Manifest(tuple(people("f1", "m1", corpus="b")))
    manifest = Manifest.concat([a, b])
    (fold,) = make_split(manifest, "cross", test_corpora=["b"]).folds
    assert who(manifest, fold.directions[0].test) == {"b/f1", "b/m1"}
    dev = who(manifest, fold.directions[0].dev)
    assert sorted(name[:3] for name in dev) == ["a/f", "a/m"]
    assert who(manifest, fold.train) == set(manifest.speakers) - dev - {"b/f1", "b/m1"}


def test_leave_corpus_out_tests_each_corpus_once_as_cross_does():
    names = [f"{gender}{i}" for gender in "fm" for i in range(12)]
    manifest = Manifest.concat([table(*names, corpus="b"), table("f1", "m1", corpus="c"), table(*names, corpus="a")])
    split = make_split(manifest, "leave-corpus-out", seed=4)
    assert len(split.folds) == 3
    for fold, corpus in zip(split.folds, "abc", strict=True):
        (direction,) = fold.directions
        of_corpus = {speaker for speaker in manifest.speakers if speaker[0] == corpus}
        assert who(manifest, direction.test) == of_corpus
        assert who(manifest, (*fold.train, *direction.dev)) == set(manifest.speakers) - of_corpus
        assert len({name[0] for name in who(manifest, direction.dev)}) == 2  # of both training corpora
        (one,) = make_split(manifest, "cross", test_corpora=[corpus], seed=4).folds
        assert (one.train, one.directions) == (fold.train, fold.directions)
    assert [note.message.split(":")[0] for note in split.notes] == [f"test on {corpus}" for corpus in "abc"]


@pytest.mark.parametrize("corpus", ["a", ""])
def test_leave_corpus_out_needs_two_corpora(corpus):
    with pytest.raises(SplitError, match="at least 2 corpora"):
        make_split(table("f1", "f2", "f3", "f4", corpus=corpus), "leave-corpus-out")


def test_cross_takes_no_other_corpus_though_names_collide():
    """Corpora number their speakers alike: '1' of c is nobody of a or b."""
    rows = [
        replace(row, id=f"{corpus}{row.id}", corpus=corpus)
        for corpus, names in (("a", "123456"), ("b", "789"), ("c", "12789"))
        for row in people(*names)
    ]
    split = make_split(Manifest(tuple(rows)), "cross", train_corpora=["a"], test_corpora=["b"])
    (fold,) = split.folds
    assert {name[0] for name in fold.train} == {name[0] for name in fold.directions[0].dev} == {"a"}
    assert {name[0] for name in fold.directions[0].test} == {"b"}
    assert "utterances of other corpora are not used" in " ".join(map(str, split.notes))


def test_names_that_look_alike_are_one():
    """A blank behind a session or a group, an accent in two forms."""
    names = [f"s{number}" for number in range(12)]
    rows = [
        replace(row, session=f"r{i // 2}" + " " * (place % 2), extra={"family": ["x\u0301", "\u1e8b"][0] * (i % 4)})
        for i, name in enumerate(names)
        for place, row in enumerate(people(name))
    ]
    for fold in make_split(Manifest(tuple(rows)), "kfold", k=3).folds:
        sessions = {row.id: row.session.strip() for row in rows}
        held = {sessions[name] for direction in fold.directions for name in (*direction.dev, *direction.test)}
        assert held.isdisjoint(sessions[name] for name in fold.train)
    spelt = [replace(row, extra={"family": name}) for row, name in zip(people(*"abcdef"), FAMILIES * 4, strict=False)]
    assert set(Groups(Manifest(tuple(spelt)), "family").names) == {"Jos\u00e9", "Anna", "Bo"}


FAMILIES = ["Jos\u00e9", "Jose\u0301 ", "Anna", " Anna", "Bo", "Bo"]


def test_cross_refuses_speakers_whose_names_collide():
    manifest = Manifest(
        (
            *people("f1", "f2", "f3", corpus="a"),
            *(replace(r, id=f"b{r.id}", corpus="b") for r in people("f1")),
        )
    )
    with pytest.raises(SplitError, match="concat"):
        make_split(manifest, "cross", train_corpora=["a"], test_corpora=["b"])


def test_sessions_count_within_their_corpus():
    rows = [*people("f1", corpus="a", session="1"), *people("f2", "f3", corpus="a")]
    other = [replace(row, id=f"b{row.id}", speaker="b1", corpus="b") for row in people("f1", session="1")]
    manifest = Manifest((*rows, *other))
    fold = make_split(manifest, "cross", test_corpora=["b"]).folds[0]
    assert len(who(manifest, (*fold.train, *fold.directions[0].dev))) == 3


def test_another_group_still_never_shares_a_speaker():
    rows = []
    for device, speakers in (
        ("phone", ("f1", "f2")),
        ("desk", ("f2", "f3")),
        ("car", ("f4",)),
        ("room", ("f5",)),
    ):
        for row in people(*speakers):
            rows.append(replace(row, id=f"{device}-{row.id}", extra={"device": device}))
    manifest = Manifest(tuple(rows))
    split = make_split(manifest, "loso", group="device")
    assert not find_leaks(manifest, split.folds, "device")
    assert {note.kind for note in split.notes} == {"left_out"}


@pytest.mark.parametrize(
    ("protocol", "options", "speakers", "needed"),
    [
        ("kfold", {"k": 5}, ("f1", "f2", "m1"), "at least 5"),
        ("loso", {}, ("f1", "f2", "m1"), "at least 4"),
        ("random", {"n": (3, 1, 1)}, ("f1", "f2", "m1"), "at least 5"),
        ("random", {}, ("f1",), "at least 3"),
        ("paired", {}, ("f1", "m1"), "at least one more"),
        ("paired", {}, ("f1", "f2", "f3"), "0 pairs"),
    ],
)
def test_too_few_speakers_says_how_many_are_needed(protocol, options, speakers, needed):
    with pytest.raises(SplitError, match=needed):
        make_split(table(*speakers), protocol, **options)


def test_an_emotion_that_training_lacks_names_fold_emotion_and_speakers():
    manifest = Manifest((*people("f1", "m1", "f2", "m2"), *people("m3", emotions=("angry", "sad", "happy"))))
    with pytest.raises(SplitError, match=r"fold \d tests the emotion 'happy' \(speakers m3\).*--emotions"):
        make_split(manifest, "loso")
    assert len(make_split(manifest, "loso", emotions_may_differ=True).folds) == 5


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "kfolds"},
        {"protocol": "kfold", "k": 2},
        {"protocol": "paired", "test": "men"},
        {"protocol": "given"},
        {"protocol": "kfold", "k": 3, "folds": 4},
        {"protocol": "kfold", "k": 3, "folds": 0},
        {"protocol": "random", "n": (1, 0, 1)},
        {"protocol": "cross", "test_corpora": ["x"]},
        {"protocol": "cross"},
    ],
)
def test_unknown_options_are_errors(options):
    with pytest.raises(ConfigError):
        make_split(table("f1", "m1", "f2", "m2"), **options)


def test_folds_keeps_the_first():
    manifest = table("f1", "m1", "f2", "m2", "f3", "m3")
    whole, first = make_split(manifest, "kfold", k=3), make_split(manifest, "kfold", k=3, folds=1)
    assert first.folds == whole.folds[:1]
    assert (first.total_folds, whole.total_folds) == (3, 3)


# Defaults, recordings ---


def test_default_protocols_are_the_ones_of_the_design():
    assert default_protocol("iemocap") == default_protocol("emodb") == ("paired", {"test": "both"})
    assert default_protocol("ravdess") == default_protocol("nemo") == ("kfold", {"k": 6})
    assert default_protocol("ased") == default_protocol("cremad") == ("kfold", {"k": 5})
    mine = table("f1", "f2", "f3", "f4")
    assert default_protocol("mine", mine) == ("loso", {})
    assert default_protocol("synthetic") == ("given", {"column": "part"})
    assert default_protocol("synthetic", mine) == ("loso", {})


def test_recordings_across_speakers_go_altogether():
    manifest = table("f1", "f2", "f3", "f4")
    same = {"f1-angry": "x", "f2-angry": "x", "f3-angry": "y", "f3-sad": "y", "f4-sad": "z", "f1-sad": ""}
    kept, note = exclude_shared_recordings(manifest, same)
    assert note.ids == ("f1-angry", "f2-angry", "f3-angry", "f3-sad")
    assert kept.ids == ("f1-sad", "f2-sad", "f4-angry", "f4-sad")
    assert kept.notes[-1] == note
    assert "4 utterances" in note.message
    assert "2 under several speakers, 2 under several emotions" in note.message


def test_within_a_speaker_the_first_copy_stays():
    rows = [Utterance(name, "a.wav", "f1", "sad") for name in ("c", "a", "b")]
    kept, note = exclude_shared_recordings(Manifest(tuple(rows)), dict.fromkeys("abc", "x"))
    assert kept.ids == ("a",)
    assert note.ids == ("c", "b")
    assert exclude_shared_recordings(kept, {})[1].ids == ()


# Properties ---


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    speakers = draw(st.integers(4, 14))
    sessions = draw(st.sampled_from(["none", "own", "pairs", "few"]))
    rows = []
    for number in range(speakers):
        session = {
            "none": "",
            "own": f"o{number}",
            "pairs": f"p{number // 2}",
            "few": str(draw(st.integers(0, 6))),
        }[sessions]
        name = f"s{number}"
        gender = draw(st.sampled_from(["female", "male"]))
        for place in range(draw(st.integers(1, 3))):
            rows.append(
                Utterance(
                    f"{name}-{place}",
                    "a.wav",
                    name,
                    draw(st.sampled_from(EMOTIONS)),
                    gender=gender,
                    session=session,
                )
            )
    return Manifest(tuple(draw(st.permutations(rows))))


@settings(max_examples=150, deadline=None)
@given(manifests(), st.sampled_from(["paired", "kfold", "loso", "random"]), st.integers(0, 5), st.integers(3, 5))
def test_no_split_ever_shares_a_speaker_or_a_session_and_all_are_tested_once(manifest, protocol, seed, k):
    try:
        split = make_split(manifest, protocol, seed=seed, k=k, emotions_may_differ=True)
    except SplitError:
        return
    speaker = {row.id: row.speaker for row in manifest}
    session = {row.id: row.session for row in manifest}
    tested: list[str] = []
    for fold in split.folds:
        for direction in fold.directions:
            train, dev, test = ({speaker[i] for i in ids} for ids in (fold.train, direction.dev, direction.test))
            assert train.isdisjoint(dev | test)
            assert dev.isdisjoint(test)
            held = {session[i] for i in (*direction.dev, *direction.test)} - {""}
            assert not held & {session[i] for i in fold.train}
            tested += test
    assert len(tested) == len(set(tested))
    if protocol in ("kfold", "loso"):
        assert set(tested) == set(manifest.speakers)
    if protocol == "paired":
        unpaired = {
            name for note in split.notes if note.kind == "unpaired" for name in note.message.split(": ")[1].split(", ")
        }
        assert set(tested) == set(manifest.speakers) - unpaired
    again = make_split(manifest.where(lambda row: True), protocol, seed=seed, k=k, emotions_may_differ=True)
    assert again == split
    backwards = make_split(Manifest(manifest.rows[::-1]), protocol, seed=seed, k=k, emotions_may_differ=True)
    assert backwards.digest == split.digest


@pytest.mark.parametrize("slip", ["tset", "unused"])
def test_given_parts_with_another_word_are_no_folds(slip):
    """Taken for folds, the training speakers would be tested."""
    words = {"f1": "train", "f2": "dev", "f3": "test", "f4": slip}
    rows = [replace(row, extra={"part": words[row.speaker]}) for row in people(*words)]
    with pytest.raises(SplitError, match=rf"as dev, test, train, and as '{slip}' \(2\)"):
        make_split(Manifest(tuple(rows)), "given", column="part")
