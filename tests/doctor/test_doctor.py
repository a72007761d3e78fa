"""The doctor on hand-made corpora whose illness is known, and on real ones for what it must not flag."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import soundfile

from unheard.doctor import Finding, Findings, examine, to_json, to_markdown, to_text
from unheard.doctor.fingerprint import ALIKE, fingerprint, likeness, near_duplicates
from unheard.doctor.sound import Measurement, check_properties, measure, measure_all
from unheard.errors import ManifestError, SplitError
from unheard.manifest import Manifest, Note, Utterance
from unheard.splits import Direction, Fold, exclude_shared_recordings, make_split

EMOTIONS = ("angry", "happy", "neutral", "sad")
RATE = 16_000


def voice(seed: int, seconds: float = 1.2) -> np.ndarray:
    """A made-up take: a harmonic tone whose pitch and loudness wander, over a little noise."""
    draw = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    knots = np.linspace(0, seconds, 12)
    pitch = np.interp(time, knots, draw.uniform(90, 300, 12))
    loud = np.interp(time, knots, draw.uniform(0.02, 1, 12))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(h * phase) * np.interp(time, knots, draw.uniform(0, 1, 12)) / h for h in range(1, 12))
    return (0.1 * loud * tone + 1e-4 * draw.standard_normal(len(time))).astype(np.float32)


def write(folder: Path, name: str, samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> str:
    path = folder / name
    soundfile.write(path, samples, rate, subtype=subtype)
    return str(path)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Ten speakers, four emotions, two sentences each way; nothing to find."""
    folder = tmp_path_factory.mktemp("healthy")
    rows = []
    for speaker in range(10):
        for place, emotion in enumerate(EMOTIONS):
            for text in "ab":
                name = f"s{speaker}-{emotion}-{text}"
                seconds = 0.8 + 0.05 * ((speaker * 7 + place * 3 + (text == "b")) % 10)
                audio = write(folder, f"{name}.wav", voice(crc32(name.encode()), seconds))
                gender = "female" if speaker % 2 else "male"
                rows.append(Utterance(name, audio, f"s{speaker}", emotion, gender=gender, text=text))
    return Manifest(tuple(rows))


def only(findings: Findings, kind: str) -> Finding:
    (found,) = [finding for finding in findings.findings if finding.kind == kind]
    return found


def swap(manifest: Manifest, changes: dict[str, dict[str, object]]) -> Manifest:
    return Manifest(tuple(replace(row, **changes.get(row.id, {})) for row in manifest))


def table(rows: list[tuple[str, str]], **columns: object) -> Manifest:
    """(speaker, emotion) rows without audio."""
    return Manifest(tuple(Utterance(f"u{i}", "none.wav", who, e, **columns) for i, (who, e) in enumerate(rows)))


BALANCED = [(f"s{i}", e) for i in range(10) for e in EMOTIONS for _ in range(2)]


def gendered(rows: list[tuple[str, str]]) -> Manifest:
    return Manifest(tuple(replace(r, gender="female" if int(r.speaker[1:]) % 2 else "male") for r in table(rows)))


def kinds(manifest: Manifest) -> frozenset[str]:
    return examine(manifest, listen=False).kinds()


def test_speakers_whose_names_look_alike():
    long = [f"Anna-Katharina von der Lippe of the {word} choir" for word in ("first", "First")]
    names = ["01", "1", "Anna", "anna", "Jos\u00e9", "Jose\u0301", "2", "12", "Bob", *long]
    found = only(examine(table([(name, e) for name in names for e in EMOTIONS]), listen=False), "speakers_alike")
    for pair in ("01 and 1", "Anna and anna", "Jose\u0301 and Jos\u00e9", f"{long[1]} and {long[0]}"):
        assert pair in found.message
    assert "12" not in found.message


def test_stretches_that_two_speakers_share():
    def row(name: str, speaker: str, start: float, end: float, **more: str) -> Utterance:
        return Utterance(name, "call.wav", speaker, "sad", start, end, **more)

    apart = (row("a", "x", 0, 2), row("b", "y", 2, 4), row("c", "x", 3.9, 6), row("d", "x", 5, 7))
    sides = (row("a", "x", 0, 9, channel="left"), row("b", "y", 0, 9, channel="right"))
    for rows in (apart, sides):
        assert "overlap_across_speakers" not in kinds(Manifest(rows))
    shared = examine(Manifest((*apart, row("e", "y", 5.5, 8))), listen=False)
    assert set(only(shared, "overlap_across_speakers").ids) == {"c", "d", "e"}


def test_a_healthy_corpus_has_nothing_to_report(healthy):
    findings = examine(healthy, splits=make_split(healthy, "kfold"))
    assert findings.findings == ()
    assert findings.worst is None
    assert (findings.summary.utterances, findings.summary.speakers) == (80, 10)
    assert findings.summary.genders == {"female": 5, "male": 5}
    assert findings.summary.sample_rates == {16000: 80}
    assert findings.summary.hours == pytest.approx(sum(len(soundfile.read(r.audio)[0]) for r in healthy) / RATE / 3600)
    assert "\n\nno findings" in to_text(findings)


# Broken and unsuitable files


def test_broken_files_are_found_and_stop_nothing(healthy, tmp_path):
    ids = healthy.ids
    whole = Path(healthy[3].audio).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("I am no audio")
    nan = voice(1)
    nan[500] = np.nan
    write(tmp_path, "nan.wav", nan, subtype="FLOAT")
    files = ("missing.wav", "empty.wav", "text.wav", "cut.wav", "nan.wav", "")
    sick = {name: {"audio": str(tmp_path / file)} for name, file in zip(ids, files, strict=False)}
    late = {name: {"start": 100.0, "end": 101.0 + place} for place, name in enumerate(ids[6:8])}
    findings = examine(swap(healthy, {**sick, **late}))
    broken = {name for f in findings.findings if f.kind == "unreadable" for name in f.ids}
    assert broken == set(ids[:8])
    (late,) = [f for f in findings.findings if f.mend.startswith("Correct start and end")]
    assert (late.ids, late.message[:43]) == (ids[6:8], "2 recordings cannot be read (such as: ends ")
    assert f"{tmp_path / 'missing.wav'} was looked for" in "".join(one.mend for one in findings.findings)
    assert findings.worst == "error"
    assert len(findings.digests) == 72


def test_silent_short_clipped_offset_and_long_recordings(healthy, tmp_path):
    ids = healthy.ids
    sounds = {
        "silent": np.zeros(RATE),
        "nearly_silent": voice(2) / np.abs(voice(2)).max() * 0.003,
        "too_short": voice(3)[:300],
        "clipped": np.clip(voice(4) * 40, -1, 1),
        "offset": voice(5) * 0.5 + 0.05,
        "very_long": np.tile(voice(6), 60),
    }
    changes = {healthy.ids[10]: {"audio": write(tmp_path, "8k.wav", voice(7)[::2], 8000)}}
    files = {ids[i]: {"audio": write(tmp_path, f"{k}.wav", s)} for i, (k, s) in enumerate(sounds.items())}
    findings = examine(swap(healthy, files | changes))
    assert findings.kinds() == {*sounds, "sample_rates"}
    assert "16000 Hz (79), 8000 Hz (1)" in only(findings, "sample_rates").message
    for place, kind in enumerate(sounds):
        assert only(findings, kind).ids == (ids[place],)
        assert only(findings, kind).mend
    assert only(findings, "silent").message.startswith("1 recording with zeros only: ")
    assert (only(findings, "silent").severity, only(findings, "clipped").severity) == ("error", "warning")
    path = write(tmp_path, "long.wav", np.concatenate([np.zeros(RATE), voice(1)]))
    assert measure((path, 0.0, 0.5, "mix")).peak == 0  # of the stretch, not of the whole file
    assert measure((path, 1.0, None, "mix")).seconds == pytest.approx(1.2)


def test_properties_of_files_that_tell_the_emotion():
    manifest = gendered(BALANCED)

    def found(**properties: Callable[[Utterance], object]) -> list[str]:
        voices = [Measurement(**{name: value(row) for name, value in properties.items()}) for row in manifest]
        return [f.message.partition(" alone predicts")[0] for f in check_properties(manifest, voices)]

    seconds = dict(zip(EMOTIONS, (0.6, 1.0, 1.5, 2.0), strict=True))
    assert found(seconds=lambda row: seconds[row.emotion]) == ["the duration"]
    assert found(seconds=lambda row: 1 + int(row.id[1:]) % 7 / 10) == []
    assert found(seconds=lambda row: 1.0) == []  # cut to the same second, and listed emotion by emotion
    assert found(rate=lambda row: 8000 if row.emotion == "sad" else 16_000) == ["the sample rate"]
    assert found(rate=lambda row: 8000 if row.speaker == "s1" else 16_000) == []
    assert found(format=lambda row: "FLAC" if row.emotion == "sad" else "WAV") == ["the file format"]


# Copies


def test_exact_copies_are_told_apart_by_what_they_cross(healthy, tmp_path):
    row = healthy.by_id()
    flac = str(tmp_path / "copy.flac")
    soundfile.write(flac, soundfile.read(row["s0-angry-a"].audio)[0], RATE)
    changes = {
        "s1-angry-a": {"audio": flac},  # another container, another speaker
        "s2-sad-a": {"audio": row["s2-happy-a"].audio},
        "s3-sad-b": {"audio": row["s3-sad-a"].audio},
    }
    sick = swap(healthy, changes)
    findings = examine(sick)
    assert findings.kinds() == {"duplicate_across_speakers", "duplicate_across_emotions", "duplicate", "formats"}
    assert only(findings, "duplicate_across_speakers").ids == ("s0-angry-a", "s1-angry-a")
    assert only(findings, "duplicate_across_emotions").ids == ("s2-happy-a", "s2-sad-a")
    assert only(findings, "duplicate").ids == ("s3-sad-a", "s3-sad-b")
    kept, note = exclude_shared_recordings(sick, findings.digests)
    assert set(note.ids) == {"s0-angry-a", "s1-angry-a", "s2-happy-a", "s2-sad-a", "s3-sad-b"}
    assert exclude_shared_recordings(sick, findings.copies) == (kept, note)


def compressed(samples: np.ndarray, tmp_path: Path) -> np.ndarray:
    soundfile.write(tmp_path / "copy.ogg", samples, RATE, format="OGG", subtype="VORBIS")
    return soundfile.read(tmp_path / "copy.ogg", dtype="float32")[0]


COPIES = {
    "gain": lambda x, _: x * 0.25,
    "inverted": lambda x, _: -x,
    "eight bits": lambda x, _: np.round(x / np.abs(x).max() * 127) / 128,
    "offset of half a hop": lambda x, _: x[160:],
    "trim": lambda x, _: x[480:-480],
    "silence around": lambda x, _: np.pad(x, (4000, 2000)),
    "ogg": compressed,
    "noise": lambda x, _: x + 0.02 * x.std() * np.random.default_rng(0).standard_normal(len(x)),
}


@pytest.mark.parametrize("change", COPIES)
def test_changed_copies_are_near_duplicates(healthy, tmp_path, change):
    original = soundfile.read(healthy.by_id()["s0-angry-a"].audio, dtype="float32")[0]
    copy = write(tmp_path, "copy.wav", COPIES[change](original, tmp_path))
    findings = examine(swap(healthy, {"s1-angry-a": {"audio": copy}}))
    assert findings.kinds() == {"near_duplicate_across_speakers"}
    assert findings.findings[0].ids == ("s0-angry-a", "s1-angry-a")
    assert findings.copies == {"s0-angry-a": "s0-angry-a", "s1-angry-a": "s0-angry-a"}


def test_the_search_stays_linear_and_finds_the_needle():
    for nothing in (np.zeros(RATE, np.float32), np.zeros(0, np.float32), voice(1)[:3000]):
        assert fingerprint(nothing) is None
    assert near_duplicates([None, None]) == []
    draw = np.random.default_rng(0)
    prints = [draw.integers(-60, 60, (60, 20)).astype(np.int8) for _ in range(1500)]
    prints[1400] = np.clip(prints[7] + draw.integers(-4, 5, (60, 20)), -127, 127).astype(np.int8)
    assert [(i, j) for i, j, _ in near_duplicates(prints)] == [(7, 1400)]
    assert near_duplicates(prints) == near_duplicates(prints)
    one = fingerprint(voice(1))  # many copies are connected, not paired with each other
    assert len(near_duplicates([one] * 300)) == 299
    assert [(i, j) for i, j, _ in near_duplicates([one, one])] == [(0, 1)]


def real(folder: Path, pattern: str) -> dict[str, np.ndarray]:
    files = sorted(folder.glob(pattern))
    assert files
    return {file.stem: soundfile.read(file, dtype="float32")[0] for file in files}


@pytest.mark.parametrize(
    ("pattern", "copies"),
    [
        ("ravdess/Actor_0[5-8]/*.flac", {("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")}),
        ("emodb/wav/0[38]*.flac", set()),
        ("ased/05Angry/a5-0[12]-*-0[1-9].flac", set()),
    ],
)
def test_other_takes_of_the_same_sentence_are_no_copies(corpora, pattern, copies):
    sounds = real(corpora, pattern)
    names = list(sounds)
    pairs = near_duplicates([fingerprint(sounds[name]) for name in names])
    assert {(names[i], names[j]) for i, j, _ in pairs} == copies


def test_real_speech_survives_compression(corpora, tmp_path):
    sounds = list(real(corpora, "emodb/wav/03a0[1-4]*.flac").values())
    scores = [likeness(fingerprint(x), fingerprint(compressed(0.5 * x[100:], tmp_path))) for x in sounds]
    assert min(scores) > ALIKE


# Labels and people


def test_imbalance_says_what_the_majority_scores():
    assert kinds(gendered(BALANCED)) == set()
    rows = BALANCED + [(who, "angry") for who, e in BALANCED if e == "sad"] * 3
    finding = only(examine(gendered(rows), listen=False), "imbalance")
    assert "angry (80) is 4.0 times as frequent as happy (20)" in finding.message
    assert "57% WA" in finding.mend


def test_speakers_with_one_emotion_few_utterances_or_two_genders():
    findings = examine(gendered([*BALANCED, *[("s10", "sad")] * 5, ("s11", "sad"), ("s11", "angry")]), listen=False)
    assert findings.kinds() == {"speaker_with_one_emotion", "speaker_with_few_utterances"}
    assert "s10 (sad)" in only(findings, "speaker_with_one_emotion").message
    assert "s11 (2)" in only(findings, "speaker_with_few_utterances").message
    alone = examine(gendered([(f"s{i}", e) for i, (_, e) in enumerate(BALANCED)]), listen=False)
    assert alone.kinds() == {"speaker_per_utterance"}
    findings = examine(swap(gendered(BALANCED), {"u0": {"gender": "female"}}), listen=False)
    assert "s0" in only(findings, "speaker_with_two_genders").message
    assert only(examine(table(BALANCED), listen=False), "gender_unknown").severity == "note"


def test_too_few_speakers_or_too_few_of_an_emotion():
    assert "too_few_speakers" in kinds(gendered([r for r in BALANCED if r[0] in ("s1", "s2")]))
    assert "few_speakers" in kinds(gendered([r for r in BALANCED if r[0] in ("s1", "s2", "s3", "s4")]))
    rows = [*BALANCED, *[("s1", "calm"), ("s3", "calm")] * 5]
    assert kinds(gendered(rows)) >= {"emotion_of_few_speakers", "emotion_of_one_gender"}


@pytest.mark.parametrize("column", ["text", "session"])
def test_sentences_and_sessions_tied_to_one_emotion(column):
    word = {"text": "sentence", "session": "session"}[column]
    manifest = gendered(BALANCED)
    findings = examine(swap(manifest, {r.id: {column: r.emotion} for r in manifest}), listen=False)
    assert findings.kinds() == {f"{word}_tied_to_emotion", "emotion_predictable"}
    assert f"4 {word}s of 4" in only(findings, f"{word}_tied_to_emotion").message
    assert "100% UAR (chance 25%)" in only(findings, "emotion_predictable").message
    for value in (lambda i, name: f"v{i % 5}", lambda i, name: name):  # free of the emotion, and all different
        assert kinds(swap(manifest, {r.id: {column: value(i, r.id)} for i, r in enumerate(manifest)})) == set()


def test_one_emotion_and_the_readers_notes():
    manifest = replace(table([(f"s{i}", "sad") for i in range(10)]), notes=(Note("trap", "watch out", ("u1",)),))
    findings = examine(manifest, listen=False)
    assert only(findings, "one_emotion").severity == "error"
    assert only(findings, "trap") == Finding("note", "trap", "watch out", ("u1",))
    with pytest.raises(ManifestError):
        examine(Manifest(()), listen=False)


# Splits


def parts(manifest: Manifest, train: str, dev: str, test: str) -> Fold:
    def ids(names: str) -> tuple[str, ...]:
        return tuple(row.id for row in manifest if row.speaker in names.split())

    return Fold(0, ids(train), (Direction("test", ids(dev), ids(test)),))


def test_a_leaking_split_is_reported_in_full():
    manifest = gendered(BALANCED)
    manifest = swap(manifest, {r.id: {"session": "x" if r.speaker in ("s4", "s7") else ""} for r in manifest})
    fold = parts(manifest, "s1 s2 s3 s4", "s2 s5", "s3 s6 s7")
    findings = examine(manifest, splits=[fold], listen=False)
    assert findings.kinds() == {"leak_speaker", "leak_utterance", "leak_session"}
    starts = [finding.message.partition(" of fold 0")[0] for finding in findings.findings]
    assert {start for start in starts if start.startswith(("speaker", "session"))} == {
        "speaker s2 is in training and in dev", "speaker s3 is in training and in test",
        "session x is in training and in test",
    }  # fmt: skip
    assert findings.worst == "error"


def test_a_leaking_file_is_reported_and_an_unusable_one_raises(tmp_path):
    manifest = gendered(BALANCED)
    lines = [f"{row.id},{('train', 'train', 'train', 'dev', 'test')[i % 5]}" for i, row in enumerate(manifest)]
    (tmp_path / "random.csv").write_text("\n".join(["id,part", *lines]))
    findings = examine(manifest, splits=tmp_path / "random.csv", listen=False)
    leaking = {f.message.split()[1] for f in findings.findings if f.kind == "leak_speaker"}
    assert leaking == set(manifest.speakers)
    (tmp_path / "bad.csv").write_text("id,part\nnobody,train\n")
    with pytest.raises(SplitError):
        examine(manifest, splits=tmp_path / "bad.csv", listen=False)


def test_a_recording_on_two_sides_is_a_leak(healthy, tmp_path):
    """Also one that only a third copy connects: an exact copy in training, a softer one in test."""
    sick = swap(healthy, {"s1-angry-a": {"audio": healthy.by_id()["s9-angry-a"].audio}})
    leak = only(examine(sick, splits=[parts(sick, "s1 s2 s3", "s4", "s9")]), "leak_recording")
    assert leak.ids == ("s1-angry-a", "s9-angry-a")
    assert "s1-angry-a (training) = s9-angry-a (test)" in leak.message
    original = healthy.by_id()["s1-angry-a"].audio
    samples, rate = soundfile.read(original, dtype="float32")
    soundfile.write(tmp_path / "softer.wav", samples / 2, rate)
    sick = swap(healthy, {"s2-angry-a": {"audio": original}, "s9-angry-a": {"audio": str(tmp_path / "softer.wav")}})
    leak = only(examine(sick, splits=[parts(sick, "s2 s3", "s4", "s9")]), "leak_recording")
    assert set(leak.ids) == {"s1-angry-a", "s2-angry-a", "s9-angry-a"}


def test_empty_parts_lost_emotions_and_double_tests():
    manifest = gendered([*BALANCED, *[(f"s{i}", "calm") for i in (6, 7, 8) for _ in range(4)]])
    fold = parts(manifest, "s1", "", "s6")
    findings = examine(manifest, splits=[fold, replace(fold, index=1)], listen=False)
    assert {"empty_part", "unseen_emotion", "tested_twice"} <= findings.kinds()
    assert "direction 'test': dev is empty" in findings.of("error")[0].message


# Rendering and running


def test_rendering(healthy):
    findings = examine(swap(healthy, {healthy.ids[0]: {"audio": "no|where.wav"}}))
    text = to_text(findings)
    assert text.splitlines()[0].startswith("80 utterances of 10 speakers (female 5, male 5)")
    assert "ERROR" in text
    assert text.endswith("1 error")
    body = json.loads(to_json(findings))
    assert (body["worst"], body["summary"]["emotions"]["sad"]) == ("error", 20)
    assert body["findings"][0]["ids"] == [healthy.ids[0]]
    markdown = to_markdown(findings)
    assert "| s0 | 2 | 2 | 2 | 2 |" in markdown
    assert "| error | `unreadable` |" in markdown


def test_processes_measure_what_one_process_does(healthy, monkeypatch):
    few = Manifest(healthy.rows[:4])
    alone = measure_all(few, workers=1, progress=False)
    monkeypatch.setattr("unheard.doctor.sound.FEW", 1)
    monkeypatch.setattr("unheard.doctor.sound.CHUNK", 2)
    several = measure_all(few, workers=2, progress=False)
    assert [one.digest for one in several] == [one.digest for one in alone]
