"""Manifest files: exact round trips, other people's tables, and errors that name the line."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unheard.cli import main
from unheard.corpora import read_manifest
from unheard.corpora.table import read_table, write_table
from unheard.errors import ManifestError
from unheard.manifest import LABELS, Manifest, Utterance
from unheard.manifest import plain as plain_name


def table(tmp_path: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        read_table(path)
    return str(caught.value)


def test_three_columns_are_enough(tmp_path: Path) -> None:
    manifest = read_table(table(tmp_path, "file,speaker,emotion\na/1.wav,Anna,Anger\n/b/2.flac,Bob,hap\n"))
    first, second = manifest
    assert first == Utterance("a/1", f"{tmp_path}/a/1.wav", "Anna", "angry", original="Anger")
    assert (second.id, second.audio, second.emotion, second.original) == ("b/2", "/b/2.flac", "happy", "hap")
    assert "hap -> happy (1)" in str(manifest.notes[0])


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
names = plain.filter(lambda text: text and text == plain_name(text))
times = st.floats(0, 1e6)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    more = draw(st.lists(names.filter(lambda n: n not in Utterance.__slots__), unique=True, max_size=3))
    rows = []
    for name in draw(st.lists(names, unique=True, min_size=1, max_size=4)):
        start = draw(times)
        end = draw(st.none() | times.filter(lambda end, start=start: end > start))
        rows.append(
            Utterance(
                name,
                draw(st.sampled_from(["/elsewhere/a b.wav", "{root}/x, 'y'.wav", '{root}/deep/ä;".wav'])),
                draw(names),
                draw(st.sampled_from(LABELS)),
                start,
                end,
                draw(st.sampled_from(["", "female", "male"])),
                *(draw(plain) for _ in ("session", "text", "corpus", "language", "original")),
                channel=draw(st.sampled_from(["mix", "left", "3"])),
                extra={column: draw(plain) for column in more},
            )
        )
    return Manifest(tuple(rows))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(manifest=manifests())
def test_every_manifest_survives_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifest: Manifest
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    rows = tuple(replace(row, audio=row.audio.replace("{root}", str(tmp_path))) for row in manifest)
    manifest = Manifest(rows)
    for name in ("a.csv", "b.jsonl", "c.tsv", "d.csv"):  # a chain: each is written from the one before
        write_table(manifest, tmp_path / name)
        manifest = read_manifest(tmp_path / name)
        assert manifest.rows == rows
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "d.csv").read_bytes()


def test_audio_below_the_folder_is_written_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        Utterance("a", str(tmp_path / "data/wav/a.wav"), "s", "sad"),
        Utterance("b", "data/wav/b.wav", "s", "sad"),  # seen from the working directory
        Utterance("c", str(tmp_path / "database/c.wav"), "s", "sad"),  # not below "data"
    ]
    write_table(Manifest(tuple(rows)), "data/m.jsonl")
    written = [json.loads(line)["audio"] for line in Path("data/m.jsonl").read_text().splitlines()]
    assert written == ["wav/a.wav", "wav/b.wav", str(tmp_path / "database/c.wav")]
    Path("data").rename("moved")
    assert read_table("moved/m.jsonl")[1].audio == str(tmp_path / "moved/wav/b.wav")


def test_names_of_speakers_are_normalised(tmp_path: Path) -> None:
    text = "file,speaker,emotion\na.wav,Jos\u00e9,sad\nb.wav,Jose\u0301 ,sad\nc.wav,Nan,sad\n"
    assert read_table(table(tmp_path, text)).speakers == ("Jos\u00e9", "Nan")
    for nobody in ("nan", "NaN", "<NA>", " "):
        assert "the speaker is empty" in refused(table(tmp_path, f"file,speaker,emotion\na.wav,{nobody},sad\n"))


@pytest.mark.parametrize(
    "text",
    [
        "\ufefffile,speaker,emotion,text\r\n\r\na.wav,s,sad,\"x, y\"\r\n,,,\r\n",
        "file;speaker;emotion;text\na.wav;s;sad;x, y\n\n",
        "file\tspeaker\temotion\ttext\na.wav\ts\tsad\tx, y\n",
        "\n\nWav, SPK , Label, transcript\na.wav, s , SADNESS ,\"x, y\"\n",
        "file,speaker,emotion,text,\na.wav,s,sad,\"x, y\",\n",
        ",file,speaker,emotion,text\n0,a.wav,s,sad,\"x, y\"\n",  # pandas' unnamed index
        "sep=;\r\nfile;speaker;emotion;text\r\na.wav;s;sad;x, y\r\n",  # Excel
        "\ufeff\"sep=,\"\n\nfile,speaker,emotion,text\na.wav,s,sad,\"x, y\"\n",
        "FileName|SpkrID|EmoClass|text\na.wav|s|S|x, y\n",
        "\"file\",\"speaker\",\"emotion\",\"text\",,\na.wav,s,sad,\"x, y\"\n",  # a header with more cells
    ],
)  # fmt: skip
def test_dialects(tmp_path: Path, text: str) -> None:
    for name in ("table.csv", "table.tsv"):
        (row,) = read_table(table(tmp_path, text, name))
        assert (row.id, row.speaker, row.emotion, row.text, dict(row.extra)) == ("a", "s", "sad", "x, y", {})


def test_letters_of_msp_podcast(tmp_path: Path) -> None:
    """X is no agreement between the raters; in other columns the letters are unknown words."""
    letters = "AHNSUFDCOX"
    lines = [f"{n}.wav,{letter},{n},Male" for n, letter in enumerate(letters)]
    text = "\n".join(["FileName,EmoClass,SpkrID,Gender", *lines])
    manifest = read_table(table(tmp_path, text))
    assert [row.emotion for row in manifest] == [
        "angry", "happy", "neutral", "sad", "surprised", "fearful", "disgusted", "other", "other",
    ]  # fmt: skip
    assert [(note.kind, note.ids) for note in manifest.notes][1:] == [("unusable", ("9.wav",))]
    assert len(read_manifest(table(tmp_path, text), mapping={"X": "other"})) == 10
    assert "unknown emotions: 'A' (1)" in refused(table(tmp_path, text.replace("EmoClass", "emotion")))


def test_columns_found_by_other_names_and_the_rest_kept(tmp_path: Path) -> None:
    (row,) = read_table(table(tmp_path, "file\tspeaker\temotion\nä.wav\ts\tsad\n".encode("utf-16"), "t.tsv"))
    assert row.id == "ä"  # from a spreadsheet
    text = "File Path,Speaker-ID,emotionLabel,Start Time,endTime\na.wav,s,sad,0.5,1\n"
    (row,) = read_table(table(tmp_path, text))
    assert (row.audio, row.speaker, row.start, row.end, row.extra) == (f"{tmp_path}/a.wav", "s", 0.5, 1.0, {})
    text = "utt_id,wav,path,spkr,emo,label,sex,part\nu,a.wav,b.wav,s,fear,sad,F,train\n"
    (row,) = read_table(table(tmp_path, text))
    assert (row.id, row.speaker, row.gender) == ("u", "s", "female")
    assert row.audio == f"{tmp_path}/b.wav"  # the likelier name wins, the other stays a column
    assert (row.emotion, row.extra) == ("sad", {"wav": "a.wav", "emo": "fear", "part": "train"})


def test_audformat(tmp_path: Path) -> None:
    text = (
        "file,start,end,speaker,emotion\n"
        "a.wav,0 days 00:00:00,0 days 00:00:01.250000,s,happiness\n"
        "a.wav,0 days 00:00:01.250000,0 days 00:01:02,s,neutrality\n"
        "b.wav,0 days,NaT,s,boredom\n"
    )
    rows = read_table(table(tmp_path, text))
    assert [(row.start, row.end) for row in rows] == [(0.0, 1.25), (1.25, 62.0), (0.0, None)]
    assert rows.ids == ("a@0-1.25", "a@1.25-62", "b")


def test_manifests_of_speech_recognisers(tmp_path: Path) -> None:
    """With offset and duration; and SpeechBrain's."""
    lines = '{"audio_filepath": "a.wav", "offset": 1.5, "duration": 2, "label": "joy", "speaker": 7}\n'
    for name in ("t.jsonl", "t.json"):
        row, _ = read_table(table(tmp_path, lines + lines.replace("a.wav", "b.wav"), name))
        assert (row.start, row.end, row.speaker, row.extra) == (1.5, 3.5, "7", {"duration": "2"})
    record = {"wav": "{data_root}/S1/a.wav", "length": 3.25, "emo": "neu"}
    message = refused(table(tmp_path, json.dumps({"u1": record}), "train.json"))
    assert "train.json, utterance 1: no column 'speaker'" in message
    (row,) = read_table(table(tmp_path, json.dumps({"u1": record | {"spk_id": "x"}}), "train.json"))
    assert (row.id, row.audio, row.emotion) == ("u1", f"{tmp_path}/S1/a.wav", "neutral")
    assert row.extra == {"length": "3.25"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "contains no utterance"),
        ("file,speaker,emotion\n", "contains no utterance"),
        ("a.wav,Anna,sad\nb.wav,Anna,sad\n", "line 1: no header that names the columns, but 'a.wav'"),
        ("file,emotion,lang\na.wav,sad,de\n", "no column 'speaker'; there are 'file', 'emotion', 'lang'"),
        ("file,speaker,speaker,emotion\n", "the column 'speaker' occurs twice"),
        ("file,Speaker,SPEAKER,emotion\n", "the columns 'Speaker' and 'SPEAKER' are the same"),
        ("file,speaker_id,Speaker ID,emotion\n", "the columns 'speaker_id' and 'Speaker ID' are the same"),
        ("file,speaker,emotion,start_ms,end_ms\na.wav,s,sad,0,500\n", "'start_ms' looks like the start"),
        ("file,speaker,emotion,\na.wav,s,sad,happy\n", "line 2: 4 cells under 3 columns"),
        ("file,speaker,emotion\na.wav,s,nan\n", "line 2: the emotion is empty"),
        ("file,speaker,emotion\n\na.wav,,sad\n", "line 3: the speaker is empty"),
        (
            "file,speaker,emotion\na.wav,s,angy\n",
            "line 2: unknown emotion 'angy' (1). Did you mean 'angry' by 'angy'? Known:",
        ),
        ("file,speaker,emotion\na.wav,s,sad\na.wav,s,sad\n", "line 3: the id 'a' was already used in line 2"),
        (
            "file,Utterance,Utterance_ID,Speaker,Emotion\na.wav,No,0,s,sad\nb.wav,No,0,t,sad\n",
            "id '0' was already used in line 2. Give every utterance its own id, rename the column 'Utterance_ID'",
        ),
        ('file,speaker,emotion,text\na.wav,s,sad,"x\ny"\nb.wav,s\n', "line 4: 2 cells under 4 columns"),
        ("file,speaker,emotion\na.wav,s,sad,more\n", "line 2: 4 cells under 3 columns"),
        ("file,speaker,emotion,start,end\na.wav,s,sad,2,2\n", "line 2: it ends at 2.0 s but starts at 2.0 s"),
        *(
            (f"file,speaker,emotion,start,{end}\na.wav,s,sad,1,3\n", f"its end would not be read: '{end}'")
            for end in ("stop", "xmax", "end_sec", "segmentEnd", "End Time (ms)", "to")
        ),
        *(
            (f"file,speaker,emotion,{start},x\na.wav,s,sad,1,3\n", f"line 1: '{start}' looks like the start")
            for start in ("Start (s)", "Begin Time - ss.msec", "segment_start", "segmentStart", "from", "t0")
        ),
        ("file,speaker,emotion,emotion.1\na.wav,s,sad,angry\n", "the column 'emotion' occurs twice"),
        (
            'file,speaker,emotion,text\na.wav,s,sad,"Hm\nb.wav,t,sad,so?"\n',
            "line 2: not a table (a cell contains several lines",
        ),
        ("file,speaker,emotion,start\na.wav,s,sad,nan\n", "line 2: the start 'nan' is not a time"),
        ("file,speaker,emotion,end\na.wav,s,sad,inf\n", "line 2: the end 'inf' is not a time"),
        ("file,speaker,emotion,end\na.wav,s,sad,soon\n", "line 2: the end 'soon' is not a time"),
        ("file,speaker,emotion,start\na.wav,s,sad,-1\n", "line 2: it starts at -1.0 s"),
        ("file,speaker,emotion,channel\na.wav,s,sad,middle\n", "line 2: unknown channel 'middle'"),
        ('file,speaker,emotion\na.wav,s,sad\n"b.wav,s,sad\n', "line 3: not a table"),
    ],
)
def test_bad_tables_are_refused_with_the_line(tmp_path: Path, text: str, said: str) -> None:
    message = refused(table(tmp_path, text))
    assert said in message
    assert message.startswith(str(tmp_path / "table.csv"))


@pytest.mark.parametrize(
    "value",
    [
        {"file": {"0": "a.wav"}, "speaker": {"0": "s"}, "emotion": {"0": "sad"}},
        {"file": ["a.wav"], "speaker": ["s"], "emotion": ["sad"]},
        {"columns": ["file", "speaker", "emotion"], "index": [0], "data": [["a.wav", "s", "sad"]]},
        {"schema": {"fields": []}, "data": [{"file": "a.wav", "speaker": "s", "emotion": "sad"}]},
    ],
)
def test_json_in_every_orientation_of_pandas(tmp_path: Path, value: object) -> None:
    (row,) = read_table(table(tmp_path, json.dumps(value), "t.json"))
    assert (row.id, row.speaker, row.emotion) == ("a", "s", "sad")


def test_addresses_of_files_are_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my wavs").mkdir()
    for name in ("a b.wav", "50%.wav", "c%20d.wav"):
        (tmp_path / "my wavs" / name).touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    uri = f"file://{tmp_path.as_posix()}/my%20wavs/a%20b.wav"
    for audio in ("my%20wavs/a%20b.wav", "my%20wavs\\a%20b.wav", uri, "~/my wavs/a b.wav"):
        (row,) = read_table(table(tmp_path, f"file,speaker,emotion\n{audio},s,sad\n"))
        assert row.audio == str(tmp_path / "my wavs" / "a b.wav")
    (row,) = read_table(table(tmp_path, "file,speaker,emotion\n~%00/a.wav,s,sad\n"))
    assert row.audio == str(tmp_path / "~%00" / "a.wav")  # no path at all
    for name in ("50%.wav", "c%20d.wav"):
        (row,) = read_table(table(tmp_path, f"file,speaker,emotion\nmy wavs/{name},s,sad\n"))
        assert row.audio == str(tmp_path / "my wavs" / name)


def test_what_is_no_table_at_all(tmp_path: Path) -> None:
    for text, said in (
        ('{"file": "a.wav", "speaker": "s", "emotion": "sad"}\n{"file"\n', "line 2: not JSON"),
        ('["a.wav"]\n', "line 1: not an object"),
        ('{"file": "a.wav", "speaker": "s", "emotion": "sad", "start": NaN}\n', "the start 'NaN' is not a time"),
        ('{"file": "a.wav", "speaker": null, "emotion": "sad"}\n', "the speaker is empty"),
        ('{"audio": {"array": [0.1]}, "speaker": "s", "emotion": "sad"}\n', "line 1: the audio has no path"),
        ('{"audio": ["a.wav"], "speaker": "s", "emotion": "sad"}\n', "line 1: the audio has no path"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a Git LFS pointer, not the file"),
    ):
        assert said in refused(table(tmp_path, text, "t.jsonl"))
    for encoding in ("latin-1", "utf-16-le", "utf-32"):
        assert "not UTF-8" in refused(table(tmp_path, "file,speaker,emotion\nä.wav,s,sad\n".encode(encoding)))
    assert "not a format of tables" in refused(table(tmp_path, "", "table.xlsx"))
    assert "Check the path" in refused(tmp_path / "nowhere.csv")
    assert "this is a folder, not a recording" in refused(table(tmp_path, "file,speaker,emotion\n.,s,sad\n"))
    (tmp_path / "folder.csv").mkdir()
    assert "folder" in refused(tmp_path / "folder.csv")


ONE = Manifest((Utterance("a", "/a.wav", "s", "sad"),))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path, "precious")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ManifestError, match=r"No space left.*free some space"):
        write_table(ONE, path)
    assert path.read_text() == "precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    row = ONE[0]
    for changed, path, message in (
        (row, table(tmp_path, "x", "file") / "m.csv", "a file: choose another folder"),
        (row, tmp_path / "m.json", "not a format of tables to write"),
        (replace(row, speaker="s "), tmp_path / "m.csv", "ends with a space"),
        (replace(row, extra={"id": "1"}), tmp_path / "m.csv", "cannot be the name of an extra column"),
        (replace(row, audio="/\udcff.wav"), tmp_path / "m.csv", "not valid Unicode"),
    ):
        with pytest.raises(ManifestError, match=message):
            write_table(Manifest((changed,)), path)


def test_ids_of_paths(tmp_path: Path) -> None:
    """They do not depend on other rows; those of a project that was moved or copied stay the same."""
    text = "file,speaker,emotion\nx/1.wav,x,sad\ny/1.wav,y,sad\nz/1.wav,z,sad\nz/1.flac,z,sad\n"
    assert read_table(table(tmp_path, text)).ids == ("x/1", "y/1", "z/1.wav", "z/1.flac")
    text = "file,speaker,emotion\n../voices/a.wav,x,sad\n../voices/./b.wav,y,sad\nc.wav,z,sad\n"
    for place in ("one", "two"):
        (tmp_path / place / "lists").mkdir(parents=True)
        found = read_table(table(tmp_path / place / "lists", text))
        assert found.ids == ("voices/a", "voices/b", "c")


@pytest.mark.parametrize(
    ("header", "times", "expected"),
    [
        ("onset,offset", "1,3", (1.0, 3.0)),  # as annotations of events have it
        ("Onset,Offset", "1,3", (1.0, 3.0)),
        ("offset,duration", "1,2", (1.0, 3.0)),
        ("Offset,Duration", "1,2", (1.0, 3.0)),
        ("start,length", "1,2", (1.0, 3.0)),
        ("start,dur", "1,2", (1.0, 3.0)),
        ("start,end,onset", "1,3,9", (1.0, 3.0)),
        ("start,end,duration", "1,3,", (1.0, 3.0)),
        ("start,end,duration", "1,,2", (1.0, 3.0)),
        ("start,end,duration", "1,3,99", (1.0, 3.0)),
    ],
)
def test_where_utterances_start_and_end(tmp_path: Path, header: str, times: str, expected: tuple[float, float]) -> None:
    (row,) = read_table(table(tmp_path, f"file,speaker,emotion,{header}\na.wav,s,sad,{times}\n"))
    assert (row.start, row.end) == expected


def test_words_of_the_table_are_mapped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path, "file,speaker,emotion\na.wav,s,rabbia\nb.wav,s,gioia\nc.wav,s,rabbia\nd.wav,s,calm\n")
    assert "line 2: 2 unknown emotions: 'rabbia' (2), 'gioia' (1). Known:" in refused(path)
    mapping = {"rabbia": "angry", "gioia": "excited", "calm": "neutral"}
    manifest = read_manifest(path, mapping=mapping)
    assert [(row.emotion, row.original) for row in manifest] == [
        ("angry", "rabbia"), ("excited", "gioia"), ("angry", "rabbia"), ("calm", "calm"),
    ]  # fmt: skip
    main(["doctor", str(path), "--map", "rabbia=angry,gioia=happy,calm=neutral", "--no-listen"])
    assert "emotions: angry 2, happy 1, neutral 1" in capsys.readouterr().out
    accented = table(tmp_path, "file,speaker,emotion\na.wav,s,cole\u0301re\n", "b.csv")
    assert read_manifest(accented, mapping={"col\u00e9re": "angry"}).counts() == {"angry": 1}
    chosen = manifest.select(("angry", "happy", "neutral"), mapping | {"gioia": "happy"})
    assert chosen.counts() == {"angry": 2, "happy": 1, "neutral": 1}
    with pytest.raises(ManifestError, match="unknown emotion 'freude'"):
        manifest.select(("angry",), {"freude": "happy"})
    with pytest.raises(ManifestError, match=r"labelled angry\. Labels here: calm, excited, happy;"):
        manifest.select(("angry",), {"angry": "happy"})
    with pytest.raises(ManifestError, match="the mapping is a str"):
        read_manifest(path, mapping="rabbia=angry")  # type: ignore[arg-type]
    with pytest.raises(ManifestError, match="unknown emotion 'gladness' to map to"):
        read_manifest(path, mapping={"rabbia": "angry", "gioia": "gladness"})


@pytest.mark.parametrize(
    ("word", "guess"),
    [
        *(("hapy", "happy"), ("Angery", "angry"), ("neutrall", "neutral"), ("surprized", "surprised")),
        *((word, "") for word in ("unhappy", "cheerful", "annoyed", "amused", "Freude", "Trauer", "Angst", "alegría")),
        *((word, "") for word in ("unexcited", "displeased", "felicidad")),
    ],
)
def test_only_near_certain_typos_are_corrected(tmp_path: Path, word: str, guess: str) -> None:
    message = refused(table(tmp_path, f"file,speaker,emotion\na.wav,s,{word}\n"))
    assert (f"Did you mean '{guess}'" in message) if guess else ("Did you mean" not in message)


def test_where_recordings_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Paths written on Windows, a row of a Hugging Face data set, and audio in another folder."""
    for name in ("wav/a.wav", "deep/er/b.wav", "deep/c.flac", "deep/d.wav", "er/d.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (row,) = read_table(table(tmp_path, "file,speaker,emotion\nwav\\a.wav,s,sad\n"))
    assert (row.audio, row.id) == (str(tmp_path / "wav/a.wav"), "wav/a")
    record = {"audio": {"path": "wav/a.wav", "bytes": None}, "speaker": "s", "label": "sad"}
    (row,) = read_table(table(tmp_path, json.dumps(record) + "\n", "t.jsonl"))
    assert row.audio == str(tmp_path / "wav/a.wav")
    (row,) = read_table(table(tmp_path, "audio,speaker,label\n\"{'path': 'wav/a.wav', 'bytes': None}\",s,sad\n"))
    assert row.audio == str(tmp_path / "wav/a.wav")
    (tmp_path / "lists").mkdir()
    lines = "file,speaker,emotion\nwav/a.wav,s,sad\nb.wav,s,sad\nc,s,sad\ngone.wav,s,sad\n"
    found = read_manifest(table(tmp_path / "lists", lines), audio_root=tmp_path)
    places = [Path(row.audio).relative_to(tmp_path).as_posix() for row in found]
    assert places == ["wav/a.wav", "deep/er/b.wav", "deep/c.flac", "gone.wav"]
    old = table(tmp_path / "lists", "file,speaker,emotion\nZ:\\old\\b.wav,t,sad\n")
    assert read_manifest(old, audio_root=tmp_path)[0].audio == str(tmp_path / "deep/er/b.wav")
    main(["doctor", str(old), "--audio-root", str(tmp_path), "--map", "rabbia=angry", "--no-listen"])
    assert "1 utterance of 1 speaker (" in capsys.readouterr().out
    (tmp_path / "linked").symlink_to(tmp_path / "deep", target_is_directory=True)
    for lines, root, found in (
        ("deep\\d.wav,s,sad\nold/er/d.wav,t,sad\n", tmp_path, "deep/d.wav er/d.wav"),  # the folders in front decide
        ("b.wav,s,sad\n", tmp_path / "linked", "linked/er/b.wav"),
        ("d.wav,s,sad\n", tmp_path, r"'d\.wav' is in several folders: .*deep/d\.wav"),
        (
            "deep/er/b.wav,s,sad\ny/b.wav,t,sad\n",
            tmp_path,
            r"line 3: 'deep/er/b\.wav' and 'y/b\.wav' are both found as",
        ),
        (
            "x/b.wav,s,sad\ny/b.wav,t,sad\n",
            tmp_path,
            r"line 3: 'x/b\.wav' and 'y/b\.wav' are both found as .*er/b\.wav",
        ),
    ):
        moved = table(tmp_path / "lists", f"file,speaker,emotion\n{lines}")
        if "'" in found:
            with pytest.raises(ManifestError, match=found):
                read_manifest(moved, audio_root=root)
        else:
            places = [Path(row.audio).relative_to(tmp_path).as_posix() for row in read_manifest(moved, audio_root=root)]
            assert places == found.split()


def test_an_audformat_database_is_joined(tmp_path: Path) -> None:
    pytest.importorskip("audformat")
    header = """
name: small
schemes:
  speaker: {dtype: str, labels: {x: {gender: female}, y: {gender: male}}}
tables:
  emotion: {type: segmented, columns: {emotion: {}}}
  files: {type: filewise, columns: {speaker: {scheme_id: speaker}}}
"""
    (tmp_path / "db.yaml").write_text(header)
    rows = (
        "wav/a.wav,0 days,0 days 00:00:01.5,anger\nwav/a.wav,0 days 00:00:01.5,NaT,joy\nwav/b.wav,0 days,NaT,sadness\n"
    )
    (tmp_path / "db.emotion.csv").write_text("file,start,end,emotion\n" + rows)
    (tmp_path / "db.files.csv").write_text("file,duration,speaker\nwav/a.wav,0 days 00:00:03,x\nwav/b.wav,,y\n")
    manifest = read_manifest(tmp_path)
    assert [(row.emotion, row.speaker, row.gender, row.start, row.end) for row in manifest] == [
        ("angry", "x", "female", 0, 1.5),
        ("happy", "x", "female", 1.5, None),
        ("sad", "y", "male", 0, None),
    ]
    assert manifest[0].audio == str(tmp_path / "wav/a.wav")
    assert read_manifest(tmp_path / "db.emotion.csv").rows == manifest.rows
    # labels of speakers in a table of their own, and two tables that differ
    people = "people: {levels: {speaker: str}, columns: {gender: {}}}"
    second = "gold: {type: filewise, columns: {emotion: {}}}"
    (tmp_path / "db.yaml").write_text(
        header.replace("labels: {x: {gender: female}, y: {gender: male}}", "labels: people")
        + f"  {second}\nmisc_tables:\n  {people}\n"
    )
    (tmp_path / "db.people.csv").write_text("speaker,gender\nx,female\ny,male\n")
    (tmp_path / "db.gold.csv").write_text("file,emotion\nwav/b.wav,sadness\n")
    assert {(row.speaker, row.gender) for row in read_manifest(tmp_path)} == {("x", "female"), ("y", "male")}
    (tmp_path / "db.gold.csv").write_text("file,emotion\nwav/b.wav,anger\n")
    (tmp_path / "db.emotion.csv").write_text("file,start,end,emotion\n" + rows.replace("b.wav,0 days,NaT", "b.wav,,"))
    (row,) = read_manifest(tmp_path / "db.gold.csv")
    assert (row.emotion, row.speaker) == ("angry", "y")
    (tmp_path / "db.gold.csv").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(ManifestError, match=r"db\.gold\.csv: a Git LFS pointer"):
        read_manifest(tmp_path)
    (tmp_path / "db.yaml").write_text(header)
    (tmp_path / "db.files.pkl").write_bytes(b"cos\nsystem\n(S'exit'\ntR.")
    with pytest.raises(ManifestError, match=r"db\.files\.pkl: a pickle can run any program and is not read"):
        read_manifest(tmp_path)
    (tmp_path / "db.files.pkl").unlink()
    (tmp_path / "db.yaml").write_text(header.replace("{speaker: {scheme_id: speaker}}", "{age: {}}"))
    (tmp_path / "db.files.csv").write_text("file,age\nwav/a.wav,3\n")
    with pytest.raises(ManifestError, match=r"no column 'speaker'.*emotion\.emotion, files\.age"):
        read_manifest(tmp_path)
    (tmp_path / "db.yaml").write_text(header.replace("  files:", "  x/../../files:"))
    with pytest.raises(ManifestError, match=r"'x/\.\./\.\./files' cannot be the name of a table"):
        read_manifest(tmp_path)
    (tmp_path / "db.yaml").write_text("tables: 3")
    with pytest.raises(ManifestError, match="not an audformat database"):
        read_manifest(tmp_path)


def test_a_data_frame_is_read_as_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    (tmp_path / "m.csv").write_text(
        "file,speaker,emotion,start,end,score\na.wav,1,rabbia,0,1.5,3\nb.wav,2,sad,,,\n", "utf-8"
    )
    monkeypatch.chdir(tmp_path)
    mapping = {"rabbia": "angry"}
    found = read_manifest(pandas.read_csv("m.csv"), mapping=mapping)
    expected = read_manifest("m.csv", mapping=mapping)
    assert [replace(row, extra={}) for row in found] == [replace(row, extra={}) for row in expected]
    assert [row.extra["score"] for row in found] == ["3.0", ""]  # pandas makes floats of a column with gaps
    with pytest.raises(ManifestError, match="the DataFrame, row 0: unknown emotion 'rabbia'"):
        read_manifest(pandas.read_csv("m.csv"))
    # an index as audformat's, missing values of pandas' own types, lists, and what a data set of Hugging Face becomes
    rows = {"file": ["a.wav", "b.wav"], "start": [0.0, 1.5], "speaker": [1, 2], "emotion": ["sad", "happy"]}
    frame = pandas.DataFrame(rows | {"text": ["x", None], "vector": [[1, 2], None]}).convert_dtypes()
    first, second = read_manifest(frame.set_index(["file", "start"]))
    assert (first.id, first.text, second.id, second.start, second.text) == ("a", "x", "b@1.5-", 1.5, "")
    del rows["start"]
    rows["audio"] = [{"bytes": None, "path": name} for name in rows.pop("file")]
    dataset = SimpleNamespace(to_pandas=lambda: pandas.DataFrame(rows))
    assert read_manifest(dataset).ids == ("a", "b")
    codes = pandas.DataFrame(rows | {"emotion": [0, 1]})
    assert [row.emotion for row in read_manifest(codes, mapping={0: "sad", "1": "angry"})] == ["sad", "angry"]
    rows["audio"][1]["path"] = None
    with pytest.raises(ManifestError, match="row 1: the audio has no path"):
        read_manifest(dataset)
    with pytest.raises(ManifestError, match="not a dict"):
        read_manifest(rows)
