"""Turns of speakers: read from every format, predicted, adapted to, written with their names."""

from __future__ import annotations

import csv
import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from predictions import written
from sounds import RATE, murmur, silence, write

from unheard.cli import main
from unheard.errors import ConfigError, ManifestError, ModelError, UnheardError
from unheard.recogniser import Prediction, Recogniser, Segment, load
from unheard.recogniser.formats import Job
from unheard.recogniser.turns import Turn, read_turns, turns_of

TURNS = [Turn(0.0, 2.0, "Anna"), Turn(2.5, 4.5, "Bo"), Turn(5.0, 7.0, "Anna"), Turn(7.0, 9.5, "Bo")]


def talk() -> np.ndarray:
    """Two voices that take turns, 10 s."""
    found = silence(10)
    for number, one in enumerate(TURNS):
        piece = murmur(one.end - one.start, number, loudness=0.1 + 0.2 * (one.speaker == "Bo"))
        found[round(one.start * RATE) : round(one.end * RATE)] = piece
    return found


RTTM = """\
SPKR-INFO talk 1 <NA> <NA> <NA> unknown Anna <NA> <NA>
SPEAKER talk 1 0.000 2.000 <NA> <NA> Anna <NA> <NA>
SPEAKER talk 1 5.000 2.000 <NA> <NA> Anna <NA> <NA>
SPEAKER talk 1 2.500 2.000 <NA> <NA> Bo <NA> <NA>
SPEAKER talk 1 7.000 2.500 <NA> <NA> Bo 0.9 <NA>
"""
SRT = """\
1
00:00:00,000 --> 00:00:02,000
[Anna]: Hello, it is: me

2
00:00:02,500 --> 00:00:04,500
Bo: 12:30, yes

3
00:00:05,000 --> 00:00:07,000
<v Anna>And so on</v>

4
00:00:07,000 --> 00:00:09,500
[Bo] no.
"""
VTT = "WEBVTT\n\nNOTE by hand\n\n" + SRT.replace(",000 ", ".000 ").replace(",500 ", ".500 ").replace("00:00:", "00:")


def long_textgrid(tiers: dict[str, list[tuple[float, float, str]]]) -> str:
    """Interval tiers in Praat's long form, with a tier of points after the first."""
    blocks = []
    for name, intervals in tiers.items():
        lines = [
            'class = "IntervalTier"',
            f'name = "{name}"',
            "xmin = 0",
            "xmax = 10",
            f"intervals: size = {len(intervals)}",
        ]
        for number, (first, last, text) in enumerate(intervals, start=1):
            lines += [f"intervals [{number}]:", f"    xmin = {first}", f"    xmax = {last}", f'    text = "{text}"']
        blocks.append(lines)
    clicks = ['class = "TextTier"', 'name = "clicks"', "xmin = 0", "xmax = 10", "points: size = 1", "points [1]:"]
    blocks.insert(1, [*clicks, "    number = 3", '    mark = "click"'])
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", "xmax = 10", "tiers? <exists>"]
    head += [f"size = {len(blocks)}", "item []:"]
    for number, lines in enumerate(blocks, start=1):
        head += [f"    item [{number}]:", *(f"        {line}" for line in lines)]
    return "\n".join(head) + "\n"


LONG = long_textgrid(
    {
        "Anna": [(0, 2, 'she said ""5 < 6"" = true'), (2, 5, ""), (5, 7, "7"), (7, 10, " ")],
        "Bo": [(0, 2.5, ""), (2.5, 4.5, "yes"), (4.5, 7, ""), (7, 9.5, "no")],
    }
)
SHORT = (
    '"ooTextFile"\n"TextGrid"\n0\n10\n<exists>\n1\n"IntervalTier"\n"speaker"\n0\n10\n5\n0\n2\n"Anna"\n2\n2.5\n""\n'
    '2.5\n4.5\n"Bo"\n5\n7\n"Anna"\n7\n9.5\n"Bo"\n'
)
CSV = "speaker;start;duration\nAnna;0,0;2\nBo;0:00:02,5;2\nAnna;0:00:05;2\nBo;7;2,5\n"
JSONL = "".join(
    json.dumps({"file": "calls/talk.wav", "start": one.start, "end": one.end, "speaker": one.speaker}) + "\n"
    for one in TURNS
)
FILES = {
    "a.rttm": RTTM, "a.srt": SRT, "a.vtt": VTT, "long.TextGrid": LONG, "short.TextGrid": SHORT, "a.csv": CSV,
    "a.jsonl": JSONL,
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_every_format_gives_the_same_turns(name: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name], encoding)
    assert turns_of(read_turns(tmp_path / name), "talk.wav") == TURNS


def test_times_of_subtitles_in_every_form(tmp_path: Path) -> None:
    times = ("75:10.5 --> 76:00,0", "0:5:10.0 --> 0:06:00.0", "100:00:01,000 --> 100:00:02.5")
    (tmp_path / "a.srt").write_text("".join(f"{time}\nAnna: hm\n\n" for time in times))
    found = [(one.start, one.end) for one in turns_of(read_turns(tmp_path / "a.srt"), "talk.wav")]
    assert found == [(310.0, 360.0), (4510.5, 4560.0), (360_001.0, 360_002.5)]


@pytest.mark.parametrize(
    ("said", "speaker"),
    [
        ("<i>Anna: hm</i>", "Anna"), ("<b>[Anna]</b> hm", "Anna"), (">> ANNA: hm", "ANNA"), ("- <v Anna>hm", "Anna"),
        ("{\\an8}Anna: hm", "Anna"), ("[Anna]\nhm", "Anna"), ("\u674e\uff1ahm", "\u674e"),
        ("[Anna] Well,\nI said: hm", "Anna"),
        ("[music]", ""), ("Anna: hm\nBo: no", ""), ("<v Anna>hm</v>\n<v Bo>no</v>", ""), ("<v Anna>hm <v Bo>no", ""),
    ],
)  # fmt: skip
def test_speakers_of_subtitles(said: str, speaker: str) -> None:
    """Also behind marks of style and place; nobody's are sounds, and cues of two people."""
    text = f"00:01 --> 00:02\n{said}\n\n00:03.0 --> 00:04\nBo: yes\n"
    found = read_turns("a.vtt", text.encode())[""]
    assert found == [Turn(1, 2, speaker), Turn(3, 4, "Bo")]


def test_a_long_file_is_read_in_one_pass() -> None:
    for text in ("00:01 --> 00:02\nAnna: hm\n" * 30_000, "00:01 --> 00:02\n" + "<v a " * 100_000):
        assert len(read_turns("a.srt", text.encode())[""]) == text.count("-->")
    with pytest.raises(ManifestError, match="not JSON"):
        read_turns("a.json", b"{}" + b"\n" * 1_000_000 + b"x")


def test_turns_as_whisperx_writes_them() -> None:
    segments = [{"start": 0, "end": 2, "text": "hm", "speaker": "SPEAKER_00"}, {"start": 2, "end": 3, "text": "music"}]
    for some, expected in (
        (segments, [Turn(0, 2, "SPEAKER_00"), Turn(2, 3)]),
        (segments[:1], [Turn(0, 2, "SPEAKER_00")]),
    ):
        assert read_turns("a.json", json.dumps({"segments": some}).encode()) == {"": expected}
    with pytest.raises(ManifestError, match="no column 'speaker'"):
        read_turns("a.json", json.dumps({"segments": segments[1:]}).encode())


def test_an_audformat_database(tmp_path: Path) -> None:
    audformat = pytest.importorskip("audformat")
    database = audformat.Database("calls")
    database.schemes["speaker"] = audformat.Scheme("str")
    index = audformat.segmented_index(
        ["a/talk.wav"] * 4, [f"{one.start}s" for one in TURNS], [f"{one.end}s" for one in TURNS]
    )
    database["turns"] = audformat.Table(index)
    database["turns"]["speaker"] = audformat.Column(scheme_id="speaker")
    database["turns"]["speaker"].set([one.speaker for one in TURNS])
    database.save(tmp_path, storage_format="csv")
    assert turns_of(read_turns(tmp_path), "/elsewhere/talk.wav") == TURNS


def test_a_folder_of_files(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no file of turns is in this folder"):
        read_turns(tmp_path)
    (tmp_path / "talk.srt").write_text(SRT)
    (tmp_path / "other.csv").write_text("start,end,speaker\n1,2,Eve\n")
    (tmp_path / "notes.md").write_text("not a format of turns")
    (tmp_path / "._talk.srt").write_bytes(b"\0\5\x16\7")  # as macOS packs it
    assert turns_of(read_turns(tmp_path), "x/talk.flac") == TURNS
    assert turns_of(read_turns(tmp_path), "x/other.flac") == [Turn(1, 2, "Eve")]
    (tmp_path / "talk.csv").write_text(CSV)
    with pytest.raises(ManifestError, match="several files are called talk"):
        read_turns(tmp_path)


def test_recordings_are_told_apart() -> None:
    turns = {"a/talk": TURNS[:1], "b/talk.wav": TURNS[1:], "my%20call": TURNS}
    assert turns_of(turns, "b/talk.wav") == TURNS[1:]
    assert turns_of(turns, "my call.wav") == TURNS
    with pytest.raises(ConfigError, match=r"several recordings fit: a/talk, b/talk\.wav"):
        turns_of(turns, "talk.wav")
    with pytest.raises(ConfigError, match="no turns are given for this recording, only for a/talk"):
        turns_of(turns, "c.wav")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.rttm", "SPEAKER talk 1 0.0 2.0 <NA>\n", "line 1: a SPEAKER line has 10 fields, this one 6"),
        ("a.rttm", "SPEAKER talk 1 zero 2.0 <NA> <NA> A <NA> <NA>\n", "not a turn"),
        ("a.rttm", "SPEAKER talk 1 3.0 -2.0 <NA> <NA> A <NA> <NA>\n", r"line 1: a turn from 3.0 to 1.0 s is no"),
        ("a.rttm", "SPEAKER talk 1 nan 2.0 <NA> <NA> A <NA> <NA>\n", "line 1: a turn from nan"),
        ("a.rttm", ";; nothing\n", "no turn of a speaker"),
        ("a.rttm", "SPEAKER my talk 1 1.5 2.0 <NA> <NA> A <NA> <NA>\n", "10 fields, this one 11.*%20"),
        ("a.rttm", RTTM.replace("talk 1 7", "talk 2 7"), "line 5: turns of the channels 1 and 2.*--channel"),
        (
            "a.csv",
            "start,end,speaker,channel\n0,1,A,left\n0,2,B,right\n",
            "row 3: turns of the channels left and right",
        ),
        ("a.csv", "Begin (s),End (s),speaker\n0,1,A\n", "'Begin .s.' looks like the start"),
        ("a.srt", "0:1:0:0 --> 0:2:0:0\nA: hm\n", "line 1: not the times of a cue"),
        (
            "a.TextGrid",
            LONG.replace("Anna", "talk - words").replace("Bo", "talk - phones"),
            "tier 'talk - words' is not",
        ),
        ("a.textgrid", LONG[: len(LONG) // 2], "breaks off"),
        ("a.textgrid", SHORT.replace("TextGrid", "PitchTier"), "not a TextGrid"),
        ("a.csv", "start,end,speaker\n2,1,Anna\n", "row 2: it ends at 1.0 s but starts at 2.0 s"),
        ("a.csv", "start,speaker\n2,Anna\n", "no column 'end' and no column 'duration'"),
        ("a.csv", "start,end\n2,3\n", "no column 'speaker'"),
        ("a.srt", "", "no turn of a speaker"),
        ("a.doc", "", "no format of turns has the ending"),
    ],
)
def test_broken_files_are_refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_turns(tmp_path / name)


def test_a_turn_is_a_recording_of_its_own(recogniser: Recogniser) -> None:
    samples = talk()
    found = recogniser.predict(samples, segments=TURNS, adapt=False)
    assert [(one.start, one.end, one.speaker) for one in found.segments] == [(t.start, t.end, t.speaker) for t in TURNS]
    alone = [recogniser.predict(samples[round(t.start * RATE) : round(t.end * RATE)]) for t in TURNS]
    for one, other in zip(found.segments, alone, strict=True):
        assert (one.label, dict(one.probabilities)) == (other.label, dict(other.probabilities))
    weights = np.array([one.speech_seconds for one in alone])
    mean = weights @ np.array([list(one.probabilities.values()) for one in alone]) / weights.sum()
    assert list(found.probabilities.values()) == pytest.approx(mean.tolist())
    assert found.speech_seconds == pytest.approx(weights.sum())
    assert found.duration == 10.0


def test_a_speaker_is_adapted_to_by_the_mean_of_their_other_turns(recogniser: Recogniser) -> None:
    pieces = [murmur(7.0, 1), murmur(2.0, 2), murmur(2.0, 3), murmur(2.0, 4)]  # 7 s are three utterances of at most 3 s
    turns = [(0, 7, "Anna"), (7, 9, "Anna"), (9, 11, "Anna"), (11, 13, "Bo")]
    found = recogniser.predict(np.concatenate(pieces), segments=turns)
    for number, others in ((0, [1, 2]), (1, [0, 2]), (2, [0, 1]), (3, [])):
        profile = recogniser.enrol([pieces[other] for other in others]) if others else None
        alone = recogniser.predict(pieces[number], profile=profile)
        expected = list(alone.probabilities.values())
        assert list(found.segments[number].probabilities.values()) == pytest.approx(expected, abs=1e-5)


def test_nobody_is_not_adapted_to(recogniser: Recogniser) -> None:
    nameless = [Turn(one.start, one.end, "Unknown" if one.speaker == "Bo" else "") for one in TURNS]
    found = recogniser.predict(talk(), segments=nameless)
    plain = recogniser.predict(talk(), segments=nameless, adapt=False)
    assert [one.as_dict() for one in found.segments] == [one.as_dict() for one in plain.segments]
    assert [one.speaker for one in found.segments] == ["", "Unknown", "", "Unknown"]


def test_odd_turns(recogniser: Recogniser, tmp_path: Path) -> None:
    found = recogniser.predict(
        talk(), segments=[(9.0, math.inf, "Bo"), (2.0, 2.5, "Anna"), (0.0, 2.0, "Anna"), (0.5, 0.5, "Bo")]
    )
    assert [(one.start, one.end) for one in found.segments] == [(0.0, 2.0), (0.5, 0.5), (2.0, 2.5), (9.0, 10.0)]
    assert [one.label is None for one in found.segments] == [False, True, True, False]
    assert (found.segments[1].abstained or "").startswith("too short")
    assert found.segments[2].abstained == "silence"
    (last,) = recogniser.predict(talk(), segments=[(9.99999, 10, "Anna")]).segments
    assert (last.abstained or "").startswith("too short")
    with pytest.raises(ConfigError, match=r"a turn begins at 11\.0 s, and the recording ends at 10\.0 s"):
        recogniser.predict(talk(), segments=[(11, 12, "Anna")])
    with pytest.raises(ConfigError, match=r"a turn ends at 4530\.0 s, .* in seconds"):
        recogniser.predict(talk(), segments=[(0, 4530, "Anna")])  # milliseconds
    with pytest.raises(ConfigError, match="no stretch of time"):
        recogniser.predict(talk(), segments=[(2, 1, "Anna")])
    for none in ([], iter(TURNS)):
        with pytest.raises(ConfigError, match="no turns"):
            recogniser.predict(talk(), segments=none)
    for wrong in ({"start": 0, "text": "x"}, ("0", 2, "Anna"), 3):
        with pytest.raises(ConfigError, match="is no turn"):
            recogniser.predict(talk(), segments=[wrong])
    several = [{"start": 0, "end": 2, "speaker": 1, "text": "x"}, (2, 4, None), {"start": 4, "end": 6}]
    assert [one.speaker for one in recogniser.predict(talk(), segments=several).segments] == ["1", "", ""]
    with pytest.raises(ConfigError, match="a profile is of one speaker"):
        recogniser.predict(talk(), segments=TURNS, profile=recogniser.enrol(murmur(2)))
    fixed = load(tiny_model.write_tiny(tmp_path / "fixed.onnx", profile=False))
    assert fixed.predict(talk(), segments=TURNS).segments[0].label
    with pytest.raises(ModelError, match="cannot adapt"):
        fixed.predict(talk(), segments=TURNS, adapt=True)
    with pytest.raises(UnheardError, match="a turn begins at"):
        recogniser.predict(np.zeros(0, np.float32), segments=TURNS)


def test_the_channel_is_held_once(recogniser: Recogniser, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    write(path, silence(300))
    tracemalloc.start()
    recogniser.predict(path, segments=[(0.0, 1.0, "Anna")])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * 4 * 300 * RATE


def test_progress_and_uncertain_turns(recogniser: Recogniser) -> None:
    seen: list[float] = []
    found = recogniser.predict(talk(), segments=TURNS, progress=seen.append, min_confidence=0.9999)
    assert seen == sorted(seen)
    assert 9 <= seen[-1] <= 10
    assert found.label is None
    assert all((one.abstained or "").startswith("uncertain") for one in found.segments)
    assert found.of_speakers() == {"Anna": {}, "Bo": {}}


# the command line and the formats


@pytest.fixture(scope="module")
def there(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calls")
    (path / "talk.rttm").write_text(RTTM)
    return write(path / "talk.wav", talk()).parent


def output(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    assert main(["predict", *map(str, arguments)]) == code
    return capsys.readouterr().out


def test_the_command_is_the_library(
    there: Path, folder: Path, recogniser: Recogniser, capsys: pytest.CaptureFixture[str]
) -> None:
    base = (folder, there / "talk.wav", "--segments", there / "talk.rttm", "--format", "json")
    for flags, adapt in (((), True), (("--no-adapt",), False), (("--adapt",), True)):
        expected = recogniser.predict(there / "talk.wav", segments=there / "talk.rttm", adapt=adapt)
        found = json.loads(output(capsys, *base, *flags))
        assert found == expected.as_dict()
        assert list(found["speakers"]) == ["Anna", "Bo"]
    assert main(["predict", *map(str, base), "--channel", "each"]) == 2
    assert "--segments names the speakers" in capsys.readouterr().err
    assert main(["predict", *map(str, base), "--profile", "anna"]) == 2


def test_turns_keep_their_names_in_every_format(
    there: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = (folder, there / "talk.wav", "--segments", there / "talk.rttm", "--format")
    rows = list(csv.DictReader(output(capsys, *base, "csv").splitlines()))
    assert [(float(row["start"]), float(row["end"]), row["speaker"]) for row in rows] == [
        (one.start, one.end, one.speaker) for one in TURNS
    ]
    labels = [row["label"] for row in rows]
    lines = [line.split() for line in output(capsys, *base, "rttm").splitlines()]
    assert [(line[7], line[5]) for line in lines] == [(t.speaker, x) for t, x in zip(TURNS, labels, strict=True)]
    for format in ("rttm", "srt", "csv", "textgrid"):
        (tmp_path / f"out.{format}").write_text(output(capsys, *base, format))
        again = turns_of(read_turns(tmp_path / f"out.{format}"), str(there / "talk.wav"))
        assert again == TURNS, format
    table = output(capsys, *base, "table")
    assert all(f"  {one.speaker:<4}  " in table for one in TURNS)
    assert "Anna: " in table
    (task,) = json.loads(output(capsys, *base, "labelstudio"))
    regions = task["predictions"][0]["result"]
    assert [one["meta"]["text"] for one in regions] == [[one.speaker] for one in TURNS]
    pytest.importorskip("audformat")
    output(capsys, *base, "audformat", "-o", tmp_path / "db")
    again = turns_of(read_turns(tmp_path / "db"), str(there / "talk.wav"))
    assert again == TURNS


def test_turns_without_a_label_stay() -> None:
    job = Job(("angry", "sad"), "tiny", single=True, turns=True, timeline=True)
    segments = (
        Segment(0.0, 2.0, "sad", {"angry": 0.25, "sad": 0.75}, None, 'A "x"'),
        Segment(1.0, 3.0, None, {}, "silence", "B"),
        Segment(1.5, 4.0, None, {}, "silence", 'A "x"'),
    )
    call = Prediction("a.wav", "sad", {"angry": 0.25, "sad": 0.75}, None, segments, None, 5.0, 2.0)
    text = {format: written(format, call, job=job) for format in ("rttm", "srt", "textgrid", "csv")}
    assert text["rttm"].splitlines()[1] == "SPEAKER a 1 1.000 2.000 <NA> <NA> B <NA> <NA>"
    assert "00:00:01,000 --> 00:00:03,000\n[B]: –" in text["srt"]
    assert ('text = "–"' in text["textgrid"], text["textgrid"].count("IntervalTier")) == (True, 2)
    assert {line.count(",") for line in text["csv"].splitlines()[1:]} == {9}
