"""Every output format, read back by something that is not its writer."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from predictions import JOB, LABELS, SAD, SINGLE, long_one, silent_one, written

from unheard.errors import ConfigError, printable
from unheard.recogniser.annotations import one_word
from unheard.recogniser.formats import FORMATS, Job, Sink, clock, format_of, writer

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_is_one_object_or_a_list(count: int) -> None:
    found = json.loads(written("json", long_one(), job=SINGLE))
    assert (found["file"], found["label"], found["probabilities"]) == ("my calls/a.wav", "sad", SAD)
    silence = {"start": 2.0, "end": 3.5, "label": None, "probabilities": {}, "abstained": "no speech"}
    assert found["segments"][1] == silence
    failed = {"file": "c.wav", "error": "the file is empty. Copy it again."}
    assert json.loads(written("json", failed="c.wav", job=SINGLE)) == failed
    several = [*[long_one()] * count, silent_one()]
    assert json.loads(written("json", *several)) == [one.as_dict() for one in several]
    lines = written("jsonl", *several, failed="c.wav").splitlines()
    assert list(map(json.loads, lines)) == [*(one.as_dict() for one in several), failed]


@given(WORDS)
def test_any_name_survives(name: str) -> None:
    assert json.loads(written("jsonl", silent_one(name)))["file"] == name
    assert rows(written("csv", silent_one(name)))[0]["file"] == name
    assert len(one_word(name).split()) == 1
    assert unquote(one_word(name)) == name


def test_csv_is_a_row_a_recording_or_a_segment() -> None:
    first, second, third = rows(written("csv", long_one(), silent_one(), failed="c.wav"))
    assert (first["label"], first["start"], first["end"], first["p_angry"]) == ("sad", "0.000", "65.250", "0.125000")
    assert (second["label"], second["abstained"], second["p_sad"]) == ("", "silence", "")
    assert (third["label"], third["error"]) == ("", "the file is empty")
    found = rows(written("csv", long_one(), job=Job(LABELS, "tiny", timeline=True)))
    assert [(float(row["start"]), float(row["end"]), row["label"]) for row in found] == [
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
    lines = written("rttm", *(long_one(name) for name in ("a.wav", "a.mp3", "a.wav"))).splitlines()
    assert [line.split()[1] for line in lines] == ["a", "a", "a.mp3", "a.mp3", "a", "a"]
    for order in itertools.permutations(["f/a.aiff", "f/a.flac", "f/a.flac.wav"]):
        names = [line.split()[1] for line in written("rttm", *(long_one(file) for file in order)).splitlines()]
        assert len(names) == 6
        assert len(set(names)) == 3, order
        assert names[::2] == names[1::2]


def test_srt_and_textgrid() -> None:
    assert written("srt", long_one(), job=SINGLE) == (
        "1\n00:00:00,000 --> 00:00:02,000\nangry 75%\n\n2\n00:00:03,500 --> 00:01:05,250\nsad 88%\n\n"
    )
    lines = written("textgrid", long_one(), job=SINGLE).splitlines()
    assert lines[:5] == ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", "xmax = 65.250"]
    assert "intervals: size = 3" in lines
    assert lines[-4:] == ["intervals [3]:", "xmin = 3.500", "xmax = 65.250", 'text = "sad"']
    assert 'text = ""' in lines
    for format in ("srt", "textgrid"):
        with pytest.raises(ConfigError, match="one channel of one recording"):
            writer(format, JOB, None)


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
    assert (first["from_name"], first["to_name"]) == ("emotion", "audio")


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of audformat, in newer versions of pandas
def test_audformat_is_loaded_by_its_own_package(tmp_path: Path) -> None:
    audformat = pytest.importorskip("audformat")
    elsewhere = silent_one("/elsewhere/b, c.wav")
    odd = long_one(os.fsdecode(b"/elsewhere/caf\xe9.wav"))
    first = long_one(str(tmp_path / "audio" / "a.wav"))
    database = audformat.Database.load(
        written("audformat", first, elsewhere, elsewhere, odd, failed="c.wav", output=tmp_path)
    )
    assert list(database.schemes["emotion"].labels) == list(LABELS)
    assert (database.usage, database.raters["model"].type) == ("other", "machine")
    assert "licence of its weights: CC0" in database.raters["model"].description
    files = database["files"].get()
    assert list(files.index) == ["audio/a.wav", "/elsewhere/b, c.wav", "/elsewhere/caf\\udce9.wav"]
    assert (files.loc["audio/a.wav", "emotion"], files.loc["audio/a.wav", "p_sad"]) == ("sad", 0.875)
    assert files["emotion"].isna().tolist() == [False, True, False]
    segments = database["segments"].get()
    assert segments.index.get_level_values("end")[2] == timedelta(seconds=65.25)
    assert segments["emotion"].tolist()[:3:2] == ["angry", "sad"]
    assert segments["abstained"].tolist()[1] == "no speech"
    header = yaml.safe_load((tmp_path / "db.yaml").read_text())
    assert header["source"] == "unheard predict"
    written("audformat", silent_one(), output=tmp_path)  # over predictions
    assert "/b.wav" in (tmp_path / "db.files.csv").read_text()
    written("audformat", output=tmp_path)
    assert not len(audformat.Database.load(tmp_path)["files"].get())


@pytest.mark.parametrize("file", ["db.yaml", "db.files.csv", "db.segments.csv"])
def test_audformat_is_not_written_over_another_database(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("name: mine\nsource: people\n")
    with pytest.raises(ConfigError, match="this is a database already") as raised:
        writer("audformat", JOB, None, tmp_path)
    assert raised.value.where == str(tmp_path / file)


def test_the_table_is_for_people() -> None:
    lines = written("table", long_one(), silent_one(), job=SINGLE).splitlines()
    assert lines[0].split()[:2] == ["sad", "88%"]
    assert lines[0].split()[2] == "(then"
    assert lines[0].split()[-3:] == ["1:05.2", "my", "calls/a.wav"]
    assert lines[1].split()[:5] == ["0:00.0", "–", "0:02.0", "angry", "75%"]
    assert lines[2].endswith("no speech")
    assert lines[-1].endswith("(silence)")
    assert len(written("table", long_one()).splitlines()) == 1
    assert "�[31m" in printable("\x1b[31m")
    assert [clock(0), clock(3723.46), clock(59.96)] == [" 0:00.0", "1:02:03.5", " 1:00.0"]


@pytest.mark.parametrize("format", ["json", "jsonl", "labelstudio"])
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_is_json_on_every_console(format: str, encoding: str) -> None:
    raw = io.BytesIO()
    out = writer(format, JOB, Sink(io.TextIOWrapper(raw, encoding=encoding)))
    out.add(silent_one("é \U0001f600.wav"))
    out.close()
    assert "é \U0001f600.wav" in repr(json.loads(raw.getvalue().decode(encoding)))


def test_names_that_are_not_unicode_are_escaped() -> None:
    text = written("jsonl", silent_one("a\udcff.wav"))
    assert json.loads(text.replace("\\", "\\\\"))["file"] == "a\\udcff.wav"
    assert "caf%E9 " in written("rttm", long_one(os.fsdecode(b"calls/caf\xe9.wav")))


def test_unknown_formats_and_missing_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'jsonl'"):
        writer("jsnl", JOB, None)
    with pytest.raises(ConfigError, match="--output FOLDER"):
        writer("audformat", JOB, None)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="this is a file"):
        writer("audformat", JOB, None, tmp_path / "file")
    monkeypatch.setitem(sys.modules, "audformat", None)  # its files are written without the package
    written("audformat", silent_one(), output=tmp_path / "db")
    assert sorted(path.name for path in (tmp_path / "db").iterdir()) == ["db.files.csv", "db.segments.csv", "db.yaml"]


@pytest.mark.parametrize(
    ("name", "format"),
    [("x", "table"), ("x.txt", "table"), ("x.CSV", "csv"), ("x.TextGrid", "textgrid"), (None, "table")],
)
def test_the_ending_decides_the_format(name: str | None, format: str) -> None:
    assert format_of(Path(name) if name else None) == format
    with pytest.raises(ConfigError, match=r"no format has the ending '\.xlsx'"):
        format_of(Path("x.xlsx"))


@pytest.mark.parametrize("format", [*FORMATS])
def test_nothing_at_all_is_well_formed(format: str) -> None:
    text = written(format, job=SINGLE if format in ("srt", "textgrid") else JOB)
    assert text in ("", "[]\n") or text.startswith("file,")
