"""Splits on manifests small enough to see the answer, and the leak that must raise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitting import EMOTIONS, having, iemocap, people, sides, table, who

from unheard.errors import ConfigError, SplitError
from unheard.manifest import Manifest, Utterance
from unheard.splits import default_protocol, exclude_shared_recordings, find_leaks, make_split
from unheard.splits.protocols import Groups


def test_paired_holds_out_the_ith_female_with_the_ith_male_by_id():
    manifest = table("m10", "f2", "m9", "f10", "f1")  # f1-m9, f2-m10 in natural order; f10 has no partner
    split = make_split(manifest, "paired")
    f1, f2, m9, m10 = ({name} for name in ("f1", "f2", "m9", "m10"))
    assert sides(split) == [
        [{"f2", "m10", "f10"}, f1, m9, m9, f1],
        [{"f1", "m9", "f10"}, f2, m10, m10, f2],
    ]
    assert [direction.name for direction in split.folds[0].directions] == ["male", "female"]
    assert "f10" in split.notes[0].message
    for test, (dev, tested) in {"male": (f1, m9), "female": (m9, f1)}.items():
        one = make_split(manifest, "paired", test=test)
        assert sides(one)[0] == [{"f2", "m10", "f10"}, dev, tested]
        assert [direction.name for direction in one.folds[0].directions] == [test]


def test_paired_follows_the_session_where_sessions_hold_both_genders():
    pairs = {"x": ("f1", "m3"), "y": ("f2", "m1"), "z": ("f3", "m2")}
    manifest = Manifest(tuple(row for name, pair in pairs.items() for row in people(*pair, session=name)))
    held = [dev | test for _, dev, test, *_ in sides(make_split(manifest, "paired"))]
    assert sorted(map(sorted, held)) == sorted(map(sorted, pairs.values()))


def test_paired_without_gender_says_how_to_mend():
    manifest = Manifest(tuple(replace(row, gender="") for row in table("f1", "m1", "f2")))
    with pytest.raises(SplitError, match=r"gender.*kfold"):
        make_split(manifest, "paired")


def test_kfold_is_stratified_and_validates_on_the_next_part():
    manifest = table(*(f"f{i}" for i in range(12)), *(f"m{i}" for i in range(12)))
    folds = sides(make_split(manifest, "kfold", k=6))
    for place, (train, dev, test) in enumerate(folds):
        assert sorted(name[0] for name in test) == ["f", "f", "m", "m"]
        assert dev == folds[(place + 1) % 6][2]
        assert train == set(manifest.speakers) - dev - test


def test_kfold_moves_session_partners_together():
    split = make_split(iemocap(), "kfold", k=5)
    assert all(len(train) == 6 for train, _, _ in sides(split))
    assert not split.notes


def test_a_session_partner_of_dev_or_test_is_left_out_of_training_and_counted():
    manifest = iemocap()
    split = make_split(manifest, "loso", seed=1)
    assert len(split.folds) == 10
    left_out = {note.message.split(":")[0]: note.ids for note in split.notes}
    for index, (train, dev, test) in enumerate(sides(split)):
        partners = {f"{name[:-1]}{'M' if name.endswith('F') else 'F'}" for name in dev | test} - dev - test
        assert train == set(manifest.speakers) - dev - test - partners
        assert who(manifest, left_out.get(f"fold {index}", ())) == partners


def test_without_validation_its_speakers_train_unless_the_fold_tests_their_session():
    split = make_split(table(*(f"f{i}" for i in range(6)), *(f"m{i}" for i in range(6))), "kfold", k=3)
    for (train, dev, test), (more, none, same) in zip(sides(split), sides(split.without_validation()), strict=True):
        assert (more, none, same) == (train | dev, set(), test)
    for test in ("male", "both"):  # of a pair, who validates shares the session of who is tested, or is tested too
        paired = make_split(iemocap(), "paired", test=test)
        assert [one[0] for one in sides(paired.without_validation())] == [one[0] for one in sides(paired)]


def test_loso_tests_each_once_and_validates_on_the_next_two():
    folds = sides(make_split(table("f1", "f2", "m1", "m2", "m3"), "loso", seed=3))
    order = [name for _, _, test in folds for name in test]
    assert sorted(order) == ["f1", "f2", "m1", "m2", "m3"]
    assert [dev for _, dev, _ in folds] == [{order[(k + 1) % 5], order[(k + 2) % 5]} for k in range(5)]


def test_random_takes_as_many_speakers_as_asked():
    split = make_split(table(*(f"f{i}" for i in range(250))), "random", n=(200, 25, 25))
    assert [list(map(len, fold)) for fold in sides(split)] == [[200, 25, 25]]


def test_the_seeded_assignment_never_changes():
    manifest = table("f1", "f2", "f3", "m1", "m2", "m3")
    assert make_split(manifest, "loso").digest == "8650a1a00a893e7b"
    assert make_split(manifest, "kfold", k=3).digest == "a2e5bfd1288fdc7e"


@pytest.mark.parametrize(
    "words", [("train", "dev", "test", ""), ("Training", "val", "testing", ""), ("Train", "Development", "Test1", "")]
)
def test_given_parts_make_one_fold(words):
    manifest = having(table("f1", "f2", "f3", "f4"), part=lambda row: words[int(row.speaker[1:]) - 1])
    split = make_split(manifest, "given", column="part")
    assert sides(split) == [[{"f1"}, {"f2"}, {"f3"}]]
    assert "2 utterances" in split.notes[0].message


def test_given_folds_test_each_value_once_and_validate_on_the_next():
    manifest = having(table("f1", "f2", "f10", "m2"), fold=lambda row: row.speaker[1:])
    one, two, ten = {"f1"}, {"f2", "m2"}, {"f10"}
    assert sides(make_split(manifest, "given", column="fold")) == [[ten, two, one], [one, ten, two], [two, one, ten]]


def test_given_that_leaks_raises_and_is_not_repaired():
    manifest = table("f1", "f2", "f3")
    part = dict(zip(manifest.ids, ["train", "train", "dev", "dev", "train", "test"], strict=True))
    with pytest.raises(SplitError, match="speaker f3 is in training and in test"):
        make_split(having(manifest, part=lambda row: part[row.id]), "given", column="part")


@pytest.mark.parametrize("slip", ["tset", "unused"])
def test_given_parts_with_another_word_are_no_folds(slip):
    """Taken for folds, the training speakers would be tested."""
    words = {"f1": "train", "f2": "dev", "f3": "test", "f4": slip}
    with pytest.raises(SplitError, match=rf"as dev, test, train, and as '{slip}' \(2\)"):
        make_split(having(table(*words), part=lambda row: words[row.speaker]), "given", column="part")


NAMES = [f"{gender}{i}" for gender in "fm" for i in range(12)]


def test_cross_tests_one_corpus_and_validates_on_training_corpora():
    manifest = Manifest.concat([table(*NAMES[:6], *NAMES[12:18], corpus="a"), table("f1", "m1", corpus="b")])
    ((train, dev, test),) = sides(make_split(manifest, "cross", test_corpora=["b"]))
    assert test == {"b/f1", "b/m1"}
    assert sorted(name[:3] for name in dev) == ["a/f", "a/m"]
    assert train == set(manifest.speakers) - dev - test


def test_leave_corpus_out_tests_each_corpus_once_as_cross_does():
    manifest = Manifest.concat([table(*NAMES, corpus="b"), table("f1", "m1", corpus="c"), table(*NAMES, corpus="a")])
    split = make_split(manifest, "leave-corpus-out", seed=4)
    for corpus, fold, (train, dev, test) in zip("abc", split.folds, sides(split), strict=True):
        assert test == {speaker for speaker in manifest.speakers if speaker[0] == corpus}
        assert train | dev == set(manifest.speakers) - test
        assert len({name[0] for name in dev}) == 2  # of both training corpora
        (one,) = make_split(manifest, "cross", test_corpora=[corpus], seed=4).folds
        assert (one.train, one.directions) == (fold.train, fold.directions)
    assert [note.message.split(":")[0] for note in split.notes] == [f"test on {corpus}" for corpus in "abc"]
    for corpus in ("a", ""):
        with pytest.raises(SplitError, match="at least 2 corpora"):
            make_split(table("f1", "f2", "f3", "f4", corpus=corpus), "leave-corpus-out")


def numbered(**names: str) -> Manifest:
    """Corpora that number their speakers alike."""
    rows = [replace(row, id=f"{corpus}{row.id}") for corpus, of in names.items() for row in people(*of, corpus=corpus)]
    return Manifest(tuple(rows))


def test_cross_takes_no_other_corpus_though_names_collide():
    split = make_split(numbered(a="123456", b="789", c="12789"), "cross", train_corpora=["a"], test_corpora=["b"])
    assert [{name[0] for name in ids} for _, _, ids in split.folds[0].parts()] == [{"a"}, {"a"}, {"b"}]
    assert "utterances of other corpora not used" in " ".join(map(str, split.notes))
    with pytest.raises(SplitError, match="concat"):
        make_split(numbered(a="123", b="1"), "cross", train_corpora=["a"], test_corpora=["b"])


FAMILIES = ["Jos\u00e9", "Jose\u0301 ", "Anna", " Anna", "Bo", "Bo"]


def test_names_that_look_alike_are_one():
    """A blank behind a session or a group, an accent in two forms."""
    rows = [
        replace(row, session=f"r{i // 2}" + " " * (place % 2), extra={"family": ["x\u0301", "\u1e8b"][0] * (i % 4)})
        for i in range(12)
        for place, row in enumerate(people(f"s{i}"))
    ]
    session = {row.id: row.session.strip() for row in rows}
    for fold in make_split(Manifest(tuple(rows)), "kfold", k=3).folds:
        assert {session[name] for _, name in fold.held_out}.isdisjoint(session[name] for name in fold.train)
    spelt = [replace(row, extra={"family": name}) for row, name in zip(people(*"abcdef"), FAMILIES * 4, strict=False)]
    assert set(Groups(Manifest(tuple(spelt)), "family").names) == {"Jos\u00e9", "Anna", "Bo"}


def test_sessions_count_within_their_corpus():
    rows = [*people("f1", corpus="a", session="1"), *people("f2", "f3", corpus="a")]
    other = [replace(row, id=f"b{row.id}", speaker="b1", corpus="b") for row in people("f1", session="1")]
    ((train, dev, _),) = sides(make_split(Manifest((*rows, *other)), "cross", test_corpora=["b"]))
    assert len(train | dev) == 3


def test_another_group_still_never_shares_a_speaker():
    devices = {"phone": ("f1", "f2"), "desk": ("f2", "f3"), "car": ("f4",), "room": ("f5",)}
    manifest = Manifest(
        tuple(
            replace(row, id=f"{device}-{row.id}", extra={"device": device})
            for device, speakers in devices.items()
            for row in people(*speakers)
        )
    )
    split = make_split(manifest, "loso", group="device")
    assert not list(find_leaks(manifest, split.folds, "device"))
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
        {"protocol": "kfolds"}, {"protocol": "kfold", "k": 2}, {"protocol": "paired", "test": "men"},
        {"protocol": "given"}, {"protocol": "kfold", "k": 3, "folds": 4}, {"protocol": "kfold", "k": 3, "folds": 0},
        {"protocol": "random", "n": (1, 0, 1)}, {"protocol": "cross", "test_corpora": ["x"]}, {"protocol": "cross"},
    ],
)  # fmt: skip
def test_unknown_options_are_errors(options):
    with pytest.raises(ConfigError):
        make_split(table("f1", "m1", "f2", "m2"), **options)
    with pytest.raises(ConfigError, match="read_manifest"):
        make_split("manifest.csv", "kfold")


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


def test_recordings_across_speakers_go_altogether_and_within_a_speaker_the_first_copy_stays():
    same = {"f1-angry": "x", "f2-angry": "x", "f3-angry": "y", "f3-sad": "y", "f4-sad": "z", "f1-sad": ""}
    kept, note = exclude_shared_recordings(table("f1", "f2", "f3", "f4"), same)
    assert note.ids == ("f1-angry", "f2-angry", "f3-angry", "f3-sad")
    assert kept.ids == ("f1-sad", "f2-sad", "f4-angry", "f4-sad")
    assert kept.notes[-1] == note
    assert "4 utterances" in note.message
    assert "2 under several speakers, 2 under several emotions" in note.message
    copies = Manifest(tuple(Utterance(name, "a.wav", "f1", "sad") for name in ("c", "a", "b")))
    kept, note = exclude_shared_recordings(copies, dict.fromkeys("abc", "x"))
    assert (kept.ids, note.ids) == (("a",), ("c", "b"))
    assert exclude_shared_recordings(kept, {})[1].ids == ()


# Properties ---


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    kind = draw(st.sampled_from(["none", "own", "pairs", "few"]))
    rows = []
    for number in range(draw(st.integers(4, 14))):
        sessions = {"none": "", "own": f"o{number}", "pairs": f"p{number // 2}", "few": str(draw(st.integers(0, 6)))}
        columns = {"gender": draw(st.sampled_from(["female", "male"])), "session": sessions[kind]}
        for place in range(draw(st.integers(1, 3))):
            emotion = draw(st.sampled_from(EMOTIONS))
            rows.append(Utterance(f"s{number}-{place}", "a.wav", f"s{number}", emotion, **columns))
    return Manifest(tuple(draw(st.permutations(rows))))


@settings(max_examples=60, deadline=None)
@given(manifests(), st.sampled_from(["paired", "kfold", "loso", "random"]), st.integers(0, 5), st.integers(3, 5))
def test_no_split_ever_shares_a_speaker_or_a_session_and_all_are_tested_once(manifest, protocol, seed, k):
    how = {"protocol": protocol, "seed": seed, "k": k, "emotions_may_differ": True}
    try:
        split = make_split(manifest, **how)
    except SplitError:
        return
    session = {row.id: row.session for row in manifest}
    tested: list[str] = []
    for fold, (train, *held) in zip(split.folds, sides(split), strict=True):
        for dev, test in zip(held[::2], held[1::2], strict=True):
            assert train.isdisjoint(dev | test)
            assert dev.isdisjoint(test)
            tested += test
        assert {session[name] for _, name in fold.held_out}.isdisjoint({session[name] for name in fold.train} - {""})
    assert len(tested) == len(set(tested))
    unpaired = [note.message.split(": ")[1].split(", ") for note in split.notes if note.kind == "unpaired"]
    if protocol != "random":
        assert set(tested) == set(manifest.speakers) - {name for names in unpaired for name in names}
    assert make_split(manifest.where(lambda row: True), **how) == split
    assert make_split(Manifest(manifest.rows[::-1]), **how).digest == split.digest
