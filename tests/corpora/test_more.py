"""Readers of CREMA-D, ESD, SAVEE, TESS, CASIA and nEMO on small trees written out by hand."""

from __future__ import annotations

import io
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from unheard.corpora import official, read_corpus
from unheard.errors import CorpusError


def tiny_wav() -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(320))
    return stream.getvalue()


WAV = tiny_wav()


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(WAV)
    return root


def kinds(manifest: object) -> dict[str, str]:
    return {note.kind: note.message for note in manifest.notes if note.kind != "trap"}  # type: ignore[attr-defined]


def test_crema_d(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "AudioWAV/1001_DFA_ANG_XX.wav",
        "AudioWAV/1002_IEO_HAP_HI.flac",
        "AudioWAV/1040_ITH_SAD_X.wav",
        "AudioWAV/1091_WSI_NEU_XX.wav",
        "AudioWAV/1091_WSI_FEA_XX.wav",
        "AudioWAV/1091_TIE_DIS_XX.wav",
        "AudioWAV/1092_DFA_ANG_XX.wav",
        "AudioWAV/1001_ZZZ_ANG_XX.wav",
        "AudioWAV/1076_MTI_SAD_XX.wav",
        "AudioWAV/1064_IEO_DIS_MD.wav",
        "AudioMP3/1001_DFA_HAP_XX.mp3",
    )
    manifest = read_corpus("crema-d", tmp_path, partial=True)
    rows = manifest.by_id()
    assert list(rows) == [
        "1001_DFA_ANG_XX",
        "1002_IEO_HAP_HI",
        "1040_ITH_SAD_XX",
        "1091_TIE_DIS_XX",
        "1091_WSI_FEA_XX",
        "1091_WSI_NEU_XX",
    ]
    labels = [(row.speaker, row.gender, row.emotion, row.original, row.text) for row in manifest]
    assert labels == [
        ("1001", "male", "angry", "anger", "DFA"),
        ("1002", "female", "happy", "happy", "IEO"),
        ("1040", "male", "sad", "sad", "ITH"),
        ("1091", "female", "disgusted", "disgust", "TIE"),
        ("1091", "female", "fearful", "fear", "WSI"),
        ("1091", "female", "neutral", "neutral", "WSI"),
    ]
    assert rows["1002_IEO_HAP_HI"].extra["level"] == "high"
    assert rows["1040_ITH_SAD_XX"].audio.endswith("1040_ITH_SAD_X.wav")
    notes = kinds(manifest)
    assert "1001_ZZZ_ANG_XX.wav" in notes["odd-name"]
    assert "1092_DFA_ANG_XX.wav" in notes["odd-name"]
    assert "1076_MTI_SAD_XX (it has no sound)" in notes["unusable"]
    assert "angry 1 of 1271" in notes["missing"]
    assert any("asked for" in note.message for note in manifest.notes if note.kind == "trap")


def test_crema_d_cloned_without_lfs(tmp_path: Path) -> None:
    tree(tmp_path, "AudioWAV/1001_DFA_ANG_XX.wav")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 73324\n"
    (tmp_path / "AudioWAV" / "1001_DFA_ANG_XX.wav").write_text(pointer)
    with pytest.raises(CorpusError, match="git lfs pull"):
        read_corpus("crema-d", tmp_path, partial=True)


def test_esd(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "ESD/0001/Angry/0001_000351.wav",
        "ESD/0004/Surprise/test/0004_001401.wav",
        "ESD/0011/Neutral/train/0011_000050.flac",
        "ESD/0015/Happy/evaluation/0015_001050.wav",
        "ESD/0020/Sad/0020_001051.wav",
        "ESD/0021/Sad/0021_001051.wav",
        "ESD/0020/0020_001052.wav",
    )
    manifest = read_corpus("esd", tmp_path, partial=True)
    assert [
        (row.id, row.emotion, row.original, row.gender, row.language, row.text, row.extra["part"]) for row in manifest
    ] == [
        ("0001_000351", "angry", "Angry", "female", "zh", "zh-001", ""),
        ("0004_001401", "surprised", "Surprise", "male", "zh", "zh-001", "test"),
        ("0011_000050", "neutral", "Neutral", "male", "en", "en-050", "train"),
        ("0015_001050", "happy", "Happy", "female", "en", "en-350", "evaluation"),
        ("0020_001051", "sad", "Sad", "male", "en", "en-001", ""),
    ]
    assert kinds(manifest)["odd-name"].startswith("2 audio files")
    with pytest.raises(CorpusError, match="angry 1 of 7000"):
        read_corpus("esd", tmp_path)
    english = read_corpus("esd", tmp_path, partial=True, subset="english")
    assert english.speakers == ("0011", "0015", "0020")
    with pytest.raises(CorpusError, match="sad 1 of 3500"):
        read_corpus("esd", tmp_path, labels=["sad"], subset="english")
    with pytest.raises(CorpusError, match="no subset 'french'"):
        read_corpus("esd", tmp_path, subset="french")


def test_esd_half_is_complete_as_a_half(tmp_path: Path) -> None:
    for speaker in range(1, 11):
        folder = tmp_path / f"{speaker:04d}" / "Sad"
        folder.mkdir(parents=True)
        for number in range(1051, 1401):
            (folder / f"{speaker:04d}_{number:06d}.wav").touch()
    manifest = read_corpus("esd", tmp_path, labels=["sad"], subset="mandarin")
    assert len(manifest) == 3500
    assert kinds(manifest) == {}
    (tmp_path / "0003" / "Sad" / "0003_001200.wav").unlink()
    with pytest.raises(CorpusError, match="0003 sad 349 of 350"):
        read_corpus("esd", tmp_path, labels=["sad"], subset="mandarin")


def test_savee_in_folders_and_flat(tmp_path: Path) -> None:
    tree(
        tmp_path / "folders",
        "AudioData/DC/a01.wav",
        "AudioData/DC/sa15.wav",
        "AudioData/JE/su02.flac",
        "AudioData/JK/n30.wav",
        "AudioData/KL/d01.wav",
        "AudioData/KL/f16.wav",
        "AudioData/XX/h01.wav",
    )
    tree(tmp_path / "flat", "DC_a01.wav", "DC_sa15.wav", "JE_su02.wav", "JK_n30.wav", "KL_d01.wav", "KL_f16.wav")
    both = [read_corpus("savee", tmp_path / name, partial=True) for name in ("folders", "flat")]
    for manifest in both:
        assert [(row.id, row.speaker, row.emotion, row.original, row.gender) for row in manifest] == [
            ("DC_a01", "DC", "angry", "anger", "male"),
            ("DC_sa15", "DC", "sad", "sadness", "male"),
            ("JE_su02", "JE", "surprised", "surprise", "male"),
            ("JK_n30", "JK", "neutral", "neutral", "male"),
            ("KL_d01", "KL", "disgusted", "disgust", "male"),
        ]
        assert "f16.wav" in kinds(manifest)["odd-name"]


def test_savee_is_complete_only_with_all_480(tmp_path: Path) -> None:
    letters = {"a": 15, "d": 15, "f": 15, "h": 15, "n": 30, "sa": 15, "su": 15}
    names = [
        f"ALL/{speaker}_{letter}{number:02d}.wav"
        for speaker in ("DC", "JE", "JK", "KL")
        for letter, count in letters.items()
        for number in range(1, count + 1)
    ]
    tree(tmp_path, *names)
    manifest = read_corpus("savee", tmp_path)
    assert len(manifest) == 480
    assert manifest.counts()["neutral"] == 120
    assert manifest.counts()["surprised"] == 60
    assert kinds(manifest) == {}
    (tmp_path / "ALL" / "JK_h07.wav").unlink()
    with pytest.raises(CorpusError, match=r"happy 59 of 60; by speaker: JK happy 14 of 15"):
        read_corpus("savee", tmp_path)
    assert len(read_corpus("savee", tmp_path, labels=["sad"])) == 479  # complete for what is asked for
    assert "JK happy 14 of 15" in kinds(read_corpus("savee", tmp_path, partial=True))["missing"]


def test_tess(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "OAF_angry/OAF_back_angry.wav",
        "OAF_neutral/OA_bite_neutral.wav",
        "OAF_Pleasant_surprise/OAF_back_ps.wav",
        "YAF_disgust/YAF_dog_disgust.wav",
        "YAF_fear/YAF_neat_fear.flac",
        "YAF_happy/YAF_home_happy.wav",
        "YAF_sad/YAF_home_sad.wav",
        "YAF_sad/YAF_home_gloomy.wav",
        "TESS Toronto emotional speech set data/OAF_angry/OAF_back_angry.wav",
    )
    manifest = read_corpus("tess", tmp_path, partial=True)
    assert [(row.id, row.speaker, row.emotion, row.original, row.text) for row in manifest] == [
        ("OAF_back_angry", "OAF", "angry", "angry", "back"),
        ("OAF_back_ps", "OAF", "surprised", "pleasant surprise", "back"),
        ("OAF_bite_neutral", "OAF", "neutral", "neutral", "bite"),
        ("YAF_dog_disgust", "YAF", "disgusted", "disgust", "dog"),
        ("YAF_home_happy", "YAF", "happy", "happy", "home"),
        ("YAF_home_sad", "YAF", "sad", "sad", "home"),
        ("YAF_neat_fear", "YAF", "fearful", "fear", "neat"),
    ]
    assert {row.gender for row in manifest} == {"female"}
    assert manifest[0].extra["age"] == "64"
    assert kinds(manifest)["extra"].startswith("1 files")
    assert "YAF_home_gloomy.wav" in kinds(manifest)["odd-name"]
    with pytest.raises(CorpusError, match="surprised 1 of 400"):
        read_corpus("tess", tmp_path, labels=["surprised"])


def test_casia(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "liuchanhg/angry/201.wav",
        "wangzhe/fear/202.wav",
        "zhaoquanyin/surprise/250.flac",
        "ZhaoZuoxiang/neutral/203.wav",
        "flat/204-sad-zhaozuoxiang.wav",
        "whole/Chang.Liu/normal/201.wav",
        "somebody/angry/201.wav",
    )
    manifest = read_corpus("casia", tmp_path, partial=True)
    assert [(row.id, row.speaker, row.gender, row.emotion, row.text) for row in manifest] == [
        ("ZhaoZuoxiang_neutral_203", "ZhaoZuoxiang", "male", "neutral", "203"),
        ("ZhaoZuoxiang_sad_204", "ZhaoZuoxiang", "male", "sad", "204"),
        ("liuchanhg_angry_201", "liuchanhg", "female", "angry", "201"),
        ("liuchanhg_neutral_d201", "liuchanhg", "female", "neutral", "neutral-201"),
        ("wangzhe_fear_202", "wangzhe", "male", "fearful", "202"),
        ("zhaoquanyin_surprise_250", "zhaoquanyin", "female", "surprised", "250"),
    ]
    with pytest.raises(CorpusError, match="fearful 1 of 200"):
        read_corpus("casia", tmp_path, labels=["fearful"])


def test_casia_with_more_than_the_usual_part(tmp_path: Path) -> None:
    for speaker in ("liuchanhg", "wangzhe", "zhaoquanyin", "ZhaoZuoxiang"):
        (tmp_path / speaker / "sad").mkdir(parents=True)
        for number in range(201, 252):
            (tmp_path / speaker / "sad" / f"{number}.wav").touch()
    manifest = read_corpus("casia", tmp_path, labels=["sad"])
    assert len(manifest) == 204
    assert "sad 204 instead of 200" in kinds(manifest)["extra"]


def test_nemo(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "samples/EB0_anger_1.wav",
        "samples/WR0_surprised_64.wav",
        "samples/MP0_sadness_79.flac",
        "samples/KD0_fear_54.wav",
        "samples/IC0_happiness_56.wav",
        "samples/SM0_neutral_86.wav",
        "samples/SM0_neutral_91.wav",
        "samples/AA0_neutral_1.wav",
    )
    (tmp_path / "data.tsv").write_text("file_id\temotion\nEB0_anger_1.wav\tanger\n", encoding="utf-8")
    manifest = read_corpus("nemo", tmp_path, partial=True)
    assert [(row.id, row.speaker, row.gender, row.emotion, row.original, row.text) for row in manifest] == [
        ("EB0_anger_1", "EB0", "female", "angry", "anger", "1"),
        ("IC0_happiness_56", "IC0", "female", "happy", "happiness", "56"),
        ("KD0_fear_54", "KD0", "female", "fearful", "fear", "54"),
        ("MP0_sadness_79", "MP0", "male", "sad", "sadness", "79"),
        ("SM0_neutral_86", "SM0", "male", "neutral", "neutral", "86"),
        ("WR0_surprised_64", "WR0", "male", "surprised", "surprised", "64"),
    ]
    assert {row.language for row in manifest} == {"pl"}
    assert "neutral 1 of 809" in kinds(manifest)["missing"]  # a cut data.tsv is not believed


def test_nemo_names_what_its_own_list_says_is_missing(tmp_path: Path) -> None:
    speakers = ("EB0", "IC0", "KD0", "KS0", "MK0", "MP0", "SM0", "TP0", "WR0")
    words = ("anger", "fear", "happiness", "neutral", "sadness", "surprised")
    ids = [f"{s}_{w}_{n}" for s in speakers for w in words for n in range(1, 91)][:4481]
    lines = [f'{name}.wav\t{name.split("_")[1]}\tŻ „x” "\tż\t        {name[:3]}\tmale\t23' for name in ids]
    header = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"
    (tmp_path / "data.tsv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    (tmp_path / "samples").mkdir()
    for name in ids:
        if name != "KD0_anger_42":
            (tmp_path / "samples" / f"{name}.wav").touch()
    for root in (tmp_path, tmp_path / "samples"):
        with pytest.raises(CorpusError, match=r"1 of \d+ files are missing: KD0_anger_42"):
            read_corpus("nemo", root, labels=["angry"])
    assert len(read_corpus("nemo", tmp_path, labels=["sad"])) == 4480


@pytest.mark.parametrize("name", ["crema-d", "esd", "savee", "tess", "casia", "nemo"])
def test_a_wrong_folder_says_what_was_expected(tmp_path: Path, name: str) -> None:
    layout = official(name).layout
    with pytest.raises(CorpusError, match="no folder"):
        read_corpus(name, tmp_path / "nowhere")
    with pytest.raises(CorpusError) as caught:
        read_corpus(name, tmp_path)
    assert layout in str(caught.value)
    tree(tmp_path, "wav/03a01Fa.wav")
    with pytest.raises(CorpusError, match=r"03a01Fa\.wav"):
        read_corpus(name, tmp_path)
    tree(tmp_path, FIRST[name])
    with pytest.raises(CorpusError, match="no clip labelled 'bored'"):
        read_corpus(name, tmp_path, labels=["bored"])


FIRST = {
    "crema-d": "AudioWAV/1001_DFA_ANG_XX.wav",
    "esd": "0011/Angry/0011_000351.wav",
    "savee": "AudioData/DC/a01.wav",
    "tess": "OAF_angry/OAF_back_angry.wav",
    "casia": "liuchanhg/angry/201.wav",
    "nemo": "samples/EB0_anger_1.wav",
}


@pytest.mark.parametrize("name", sorted(FIRST))
def test_wav_is_preferred_where_both_are_there(tmp_path: Path, name: str) -> None:
    tree(tmp_path, FIRST[name], FIRST[name].replace(".wav", ".flac"))
    manifest = read_corpus(name, tmp_path, partial=True)
    assert [row.audio for row in manifest] == [str(tmp_path / FIRST[name])]
    assert "extra" in kinds(manifest)


def test_what_the_makers_say() -> None:
    # Numbers as in the corpora's own papers and pages.
    said = {name: (official(name).speakers, official(name).utterances) for name in FIRST}
    assert said == {
        "crema-d": (91, 7442),
        "esd": (20, 35_000),
        "savee": (4, 480),
        "tess": (2, 2800),
        "casia": (4, 1200),
        "nemo": (9, 4481),
    }
    for name, (_, utterances) in said.items():
        assert sum(official(name).counts.values()) == utterances


def test_48_men_and_43_women_in_crema_d(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{actor}_IEO_NEU_XX.wav" for actor in range(1001, 1092)))
    assert read_corpus("crema-d", tmp_path, partial=True).counts("gender") == {"female": 43, "male": 48}


def test_the_readers_and_fetch_need_nothing_heavy() -> None:
    code = (
        "import sys, unheard.corpora.fetch; from unheard.corpora import official\n"
        f"[official(name) for name in {sorted(FIRST)!r}]\n"
        "print(sorted({'numpy', 'torch', 'soundfile', 'rich'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
