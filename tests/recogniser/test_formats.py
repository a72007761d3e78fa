"""Every output format, read back by something that is not its writer."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import xml.etree.ElementTree as ET
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from unheard.errors import AudioError, ConfigError
from unheard.recogniser import Prediction, Segment
from unheard.recogniser.formats import FORMATS, Job, Sink, writer
from unheard.recogniser.formats.annotations import interface, one_word
from unheard.recogniser.formats.audformat import timedelta as audformat_time
from unheard.recogniser.formats.tables import clock, printable

LABELS = ("angry", "sad")
JOB = Job(LABELS, "tiny", "0.1.0", "CC0")
ANGRY, SAD = {"angry": 0.75, "sad": 0.25}, {"angry": 0.125, "sad": 0.875}
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def long_one(file: str = "my calls/a.wav", channel: str = "mix") -> Prediction:
    """Angry until 2 s, nothing until 3.5 s, sad until 65.25 s."""
    segments = (
        Segment(0.0, 2.0, "angry", ANGRY),
        Segment(2.0, 3.5, None, {}, "no speech"),
        Segment(3.5, 65.25, "sad", SAD),
    )
    return Prediction(
        file, "sad", SAD, np.ones(3, np.float32), segments, None, 65.25, 50.0, channel, None, False, "tiny"
    )


def silent_one(file: str = "b.wav") -> Prediction:
    return Prediction(file, None, {}, None, (Segment(0.0, 1.0, None, {}, "silence"),), "silence", 1.0, 0.0)


def written(format: str, *predictions: Prediction, job: Job = JOB, failed: str = "") -> str:
    text = io.StringIO()
    out = writer(format, job, Sink(text))
    for one in predictions:
        out.add(one)
    if failed:
        out.failed(failed, AudioError("the file is empty", where=failed, mend="Copy it again."))
    out.close()
    return text.getvalue()


def test_json_of_one_recording_is_one_object() -> None:
    job = Job(LABELS, "tiny", single=True)
    found = json.loads(written("json", long_one(), job=job))
    assert found["file"] == "my calls/a.wav"
    assert (found["label"], found["probabilities"]) == ("sad", SAD)
    assert found["segments"][1] == {
        "start": 2.0,
        "end": 3.5,
        "label": None,
        "probabilities": {},
        "abstained": "no speech",
    }
    assert json.loads(written("json", failed="b.wav", job=job))["error"] == "the file is empty. Copy it again."


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_of_several_is_a_list(count: int) -> None:
    found = json.loads(written("json", *[long_one()] * count))
    assert [one["file"] for one in found] == ["my calls/a.wav"] * count


def test_json_lines() -> None:
    lines = written("jsonl", long_one(), silent_one(), failed="c.wav").splitlines()
    first, second, third = map(json.loads, lines)
    assert first["duration"] == 65.25
    assert (second["label"], second["abstained"]) == (None, "silence")
    assert third == {"file": "c.wav", "error": "the file is empty. Copy it again."}


@given(WORDS)
def test_names_survive_json_and_csv(name: str) -> None:
    assert json.loads(written("jsonl", silent_one(name)))["file"] == name
    rows = list(csv.reader(io.StringIO(written("csv", silent_one(name)), newline="")))
    assert rows[1][0] == name


def test_csv_is_a_row_a_recording() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", long_one(), silent_one(), failed="c.wav"))))
    assert [row["label"] for row in rows] == ["sad", "", ""]
    assert float(rows[0]["p_angry"]) == 0.125
    assert (rows[0]["start"], rows[0]["end"]) == ("0.000", "65.250")
    assert (rows[1]["abstained"], rows[1]["p_sad"]) == ("silence", "")
    assert rows[2]["error"] == "the file is empty"


def test_csv_with_a_timeline_is_a_row_a_segment() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", long_one(), job=Job(LABELS, "tiny", timeline=True)))))
    assert [(float(row["start"]), float(row["end"]), row["label"]) for row in rows] == [
        (0.0, 2.0, "angry"),
        (2.0, 3.5, ""),
        (3.5, 65.25, "sad"),
    ]


def test_rttm() -> None:
    lines = written("rttm", long_one(channel="right"), silent_one(), failed="c.wav").splitlines()
    assert [line.split() for line in lines] == [
        ["SPEAKER", "my%20calls/a", "2", "0.000", "2.000", "<NA>", "<NA>", "angry", "0.750000", "<NA>"],
        ["SPEAKER", "my%20calls/a", "2", "3.500", "61.750", "<NA>", "<NA>", "sad", "0.875000", "<NA>"],
    ]


def test_rttm_of_names_that_differ_in_their_endings() -> None:
    lines = written("rttm", *(long_one(name) for name in ("a.wav", "a.mp3", "a.wav"))).splitlines()
    assert [line.split()[1] for line in lines] == ["a", "a", "a.mp3", "a.mp3", "a", "a"]


@given(WORDS)
def test_rttm_columns_stay_where_they_are(name: str) -> None:
    from urllib.parse import unquote

    assert len(one_word(name).split()) == 1
    assert unquote(one_word(name)) == name


def test_no_two_recordings_have_one_name_in_rttm() -> None:
    for order in itertools.permutations(["f/a.aiff", "f/a.flac", "f/a.flac.wav"]):
        lines = written("rttm", *(long_one(file) for file in order)).splitlines()
        names = [line.split()[1] for line in lines]
        assert len(lines) == 6
        assert len(set(names)) == 3, order
        assert names[::2] == names[1::2]


def test_label_studio() -> None:
    tasks = json.loads(written("labelstudio", long_one(channel="right"), silent_one(), failed="c.wav"))
    assert [task["data"]["audio"] for task in tasks] == ["my calls/a.wav", "b.wav"]
    (prediction,) = tasks[0]["predictions"]
    assert prediction["model_version"] == "tiny 0.1.0"
    first, second = prediction["result"]
    assert first["value"] == {"start": 0.0, "end": 2.0, "channel": 1, "labels": ["angry"]}
    assert (second["value"]["start"], second["value"]["end"], second["score"]) == (3.5, 65.25, 0.875)
    assert first["id"] != second["id"]
    assert tasks[1]["predictions"][0]["result"] == []
    view = ET.fromstring(interface(("angry", 'so "so" <sad>')))
    control, audio = view
    assert (control.get("name"), control.get("toName")) == (first["from_name"], first["to_name"])
    assert [label.get("value") for label in control] == ["angry", 'so "so" <sad>']
    assert (audio.tag, audio.get("name"), audio.get("value")) == ("Audio", "audio", "$audio")


def audformat_folder(path: Path) -> Path:
    out = writer("audformat", JOB, None, path)
    out.add(long_one(str(path / "audio" / "a.wav")))
    out.add(silent_one("/elsewhere/b, c.wav"))
    out.add(silent_one("/elsewhere/b, c.wav"))
    out.failed("c.wav", AudioError("the file is empty"))
    out.close()
    return path


def test_audformat_tables_follow_the_specification(tmp_path: Path) -> None:
    folder = audformat_folder(tmp_path / "database")
    header = yaml.safe_load((folder / "db.yaml").read_text())
    assert header["usage"] in ("commercial", "other", "research", "restricted", "unrestricted")
    assert header["raters"]["model"]["type"] == "machine"
    for name, kind, index in (("files", "filewise", ["file"]), ("segments", "segmented", ["file", "start", "end"])):
        table = header["tables"][name]
        rows = list(csv.reader((folder / f"db.{name}.csv").read_text().splitlines()))
        assert table["type"] == kind
        assert rows[0] == [*index, *table["columns"]]
        assert all(one["scheme_id"] in header["schemes"] for one in table["columns"].values())
        assert all(one["rater_id"] in header["raters"] for one in table["columns"].values())
    segments = list(csv.DictReader((folder / "db.segments.csv").read_text().splitlines()))
    assert [row["file"] for row in segments] == ["audio/a.wav"] * 3 + ["/elsewhere/b, c.wav"]
    assert segments[2]["end"] == "0 days 00:01:05.250000"


@pytest.mark.filterwarnings("ignore")  # pandas' warnings are about audformat, not about what it reads
@pytest.mark.parametrize("file", ["db.yaml", "db.files.csv", "db.segments.csv"])
def test_audformat_is_not_written_over_another_database(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("name: mine\nsource: people\n")
    with pytest.raises(ConfigError, match="this is a database already") as raised:
        writer("audformat", JOB, None, tmp_path)
    assert raised.value.where == str(tmp_path / file)
    assert (tmp_path / file).read_text() == "name: mine\nsource: people\n"


def test_audformat_is_written_over_predictions(tmp_path: Path) -> None:
    for one in (long_one(), silent_one()):
        again = writer("audformat", JOB, None, tmp_path)
        again.add(one)
        again.close()
    assert "b.wav" in (tmp_path / "db.files.csv").read_text()


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of that package, in newer versions of pandas
def test_audformat_is_loaded_by_its_own_package(tmp_path: Path) -> None:
    audformat = pytest.importorskip("audformat")
    database = audformat.Database.load(audformat_folder(tmp_path / "database"))
    assert list(database.schemes["emotion"].labels) == list(LABELS)
    files = database["files"].get()
    assert files.loc["audio/a.wav", "emotion"] == "sad"
    assert files.loc["audio/a.wav", "p_sad"] == 0.875
    assert files["emotion"].isna().tolist() == [False, True]
    segments = database["segments"].get()
    assert segments.index.get_level_values("end")[2] == timedelta(seconds=65.25)
    assert segments["emotion"].tolist()[:3:2] == ["angry", "sad"]
    assert segments["abstained"].tolist()[1] == "no speech"


@given(st.integers(0, 400 * 3600 * 1000))
def test_audformat_times(milliseconds: int) -> None:
    days, _, rest = audformat_time(milliseconds / 1000).partition(" days ")
    hours, minutes, seconds = rest.split(":")
    found = timedelta(days=int(days), hours=int(hours), minutes=int(minutes), seconds=float(seconds))
    assert found == timedelta(milliseconds=milliseconds)


def test_the_table_is_for_people() -> None:
    lines = written("table", long_one(), silent_one(), job=Job(LABELS, "tiny", single=True)).splitlines()
    assert lines[0].split() == ["sad", "88%", "1:05.2", "my", "calls/a.wav"]
    assert lines[1].split()[:5] == ["0:00.0", "–", "0:02.0", "angry", "75%"]
    assert lines[2].endswith("no speech")
    assert lines[-1].endswith("(silence)")
    assert len(written("table", long_one()).splitlines()) == 1
    assert "�[31m" in printable("\x1b[31m")
    assert [clock(0), clock(3723.46), clock(59.96)] == [" 0:00.0", "1:02:03.5", " 1:00.0"]


def test_names_that_are_no_unicode_are_shown_escaped() -> None:
    text = written("jsonl", silent_one("a\udcff.wav"))
    assert json.loads(text.replace("\\", "\\\\"))["file"] == "a\\udcff.wav"


@pytest.mark.parametrize("format", ["json", "jsonl", "labelstudio"])
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_is_json_on_every_console(format: str, encoding: str) -> None:
    raw = io.BytesIO()
    console = io.TextIOWrapper(raw, encoding=encoding)
    out = writer(format, JOB, Sink(console))
    out.add(silent_one("é \U0001f600.wav"))
    out.close()
    text = raw.getvalue().decode(encoding)
    assert "é \U0001f600.wav" in repr(json.loads(text) if format != "jsonl" else [json.loads(text)])


def test_a_name_that_is_no_unicode_stops_no_format(tmp_path: Path) -> None:
    name = os.fsdecode(b"calls/caf\xe9.wav")
    assert "caf%E9 " in written("rttm", long_one(name))
    out = writer("audformat", JOB, None, tmp_path / "db")
    out.add(long_one(name))
    out.add(silent_one())
    out.close()
    assert "caf\\udce9.wav" in (tmp_path / "db" / "db.files.csv").read_text()


def test_unknown_formats_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'jsonl'"):
        writer("jsnl", JOB, None)
    with pytest.raises(ConfigError, match="--output FOLDER"):
        writer("audformat", JOB, None)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="this is a file"):
        writer("audformat", JOB, None, tmp_path / "file")


@pytest.mark.parametrize("format", [*FORMATS])
def test_nothing_at_all_is_well_formed(format: str) -> None:
    text = written(format)
    assert text in ("", "[]\n") or text.startswith("file,")
