"""The declared releases on small trees named by hand, and on real copies where they are at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import pytest
from trees import ids, kinds, plant

from unheard.corpora import get_corpus, read_corpus
from unheard.errors import CorpusError

COLUMNS = ("id", "speaker", "gender", "emotion", "original", "text", "language")


@pytest.mark.parametrize(
    ("name", "files", "rows", "odd"),
    [
        (
            "crema-d",
            "AudioWAV/1001_DFA_ANG_XX AudioWAV/1002_IEO_HAP_HI.flac AudioWAV/1040_ITH_SAD_X AudioWAV/1091_WSI_NEU_XX "
            "AudioWAV/1091_WSI_FEA_XX AudioMP3/1091_TIE_DIS_XX.mp3 AudioWAV/1092_DFA_ANG_XX AudioWAV/1001_ZZZ_ANG_XX",
            """1001_DFA_ANG_XX 1001 male angry anger DFA en
            1002_IEO_HAP_HI 1002 female happy happy IEO en
            1040_ITH_SAD_XX 1040 male sad sad ITH en
            1091_TIE_DIS_XX 1091 female disgusted disgust TIE en
            1091_WSI_FEA_XX 1091 female fearful fear WSI en
            1091_WSI_NEU_XX 1091 female neutral neutral WSI en""",
            "AudioWAV/1001_ZZZ_ANG_XX.wav AudioWAV/1092_DFA_ANG_XX.wav",
        ),
        (
            "esd",
            "ESD/0001/Angry/0001_000351 ESD/0004/Surprise/test/0004_001401 ESD/0011/Neutral/train/0011_000050.flac "
            "ESD/0015/Happy/evaluation/0015_001050 ESD/0020/Sad/0020_001051 ESD/0021/Sad/0021_001051 "
            "ESD/0020/0020_001052 ESD/0020/Sad/0020_001751",
            """0001_000351 0001 female angry Angry zh-001 zh
            0004_001401 0004 male surprised Surprise zh-001 zh
            0011_000050 0011 male neutral Neutral en-050 en
            0015_001050 0015 female happy Happy en-350 en
            0020_001051 0020 male sad Sad en-001 en""",
            "ESD/0020/0020_001052.wav ESD/0020/Sad/0020_001751.wav ESD/0021/Sad/0021_001051.wav",
        ),
        (
            "savee",
            "AudioData/DC/a01 AudioData/DC/sa15 AudioData/JE/su02.flac AudioData/JK/n30 KL_d01 AudioData/KL/f16 "
            "AudioData/XX/h01",
            """DC_a01 DC male angry anger a01 en
            DC_sa15 DC male sad sadness sa15 en
            JE_su02 JE male surprised surprise su02 en
            JK_n30 JK male neutral neutral n30 en
            KL_d01 KL male disgusted disgust d01 en""",
            "AudioData/KL/f16.wav AudioData/XX/h01.wav",
        ),
        (
            "tess",
            "OAF_angry/OAF_back_angry OAF_neutral/OA_bite_neutral YAF_disgust/YAF_dog_disgust "
            "YAF_fear/YAF_neat_fear.flac YAF_happy/YAF_home_happy YAF_sad/YAF_home_sad "
            "YAF_sad/YAF_home_gloomy data/OAF_angry/OAF_back_angry",
            """OAF_back_angry OAF female angry angry back en
            OAF_bite_neutral OAF female neutral neutral bite en
            YAF_dog_disgust YAF female disgusted disgust dog en
            YAF_home_happy YAF female happy happy home en
            YAF_home_sad YAF female sad sad home en
            YAF_neat_fear YAF female fearful fear neat en""",
            "YAF_sad/YAF_home_gloomy.wav",
        ),
        (
            "casia",
            "liuchanhg/angry/201 wangzhe/fear/202 zhaoquanyin/surprise/250.flac ZhaoZuoxiang/neutral/203 "
            "flat/204-sad-zhaozuoxiang whole/Chang.Liu/normal/201 somebody/angry/201",
            """ZhaoZuoxiang_neutral_203 ZhaoZuoxiang male neutral neutral 203 zh
            ZhaoZuoxiang_sad_204 ZhaoZuoxiang male sad sad 204 zh
            liuchanhg_angry_201 liuchanhg female angry angry 201 zh
            liuchanhg_neutral_d201 liuchanhg female neutral neutral neutral-201 zh
            wangzhe_fear_202 wangzhe male fearful fear 202 zh
            zhaoquanyin_surprise_250 zhaoquanyin female surprised surprise 250 zh""",
            "somebody/angry/201.wav",
        ),
        (
            "nemo",
            "samples/EB0_anger_1 samples/WR0_surprised_64 samples/MP0_sadness_79.flac samples/KD0_fear_54.ogg "
            "samples/IC0_happiness_56 samples/SM0_neutral_86.mp3 samples/SM0_neutral_91 samples/AA0_neutral_1",
            """EB0_anger_1 EB0 female angry anger 1 pl
            IC0_happiness_56 IC0 female happy happiness 56 pl
            KD0_fear_54 KD0 female fearful fear 54 pl
            MP0_sadness_79 MP0 male sad sadness 79 pl
            SM0_neutral_86 SM0 male neutral neutral 86 pl
            WR0_surprised_64 WR0 male surprised surprised 64 pl""",
            "samples/AA0_neutral_1.wav samples/SM0_neutral_91.wav",
        ),
        (
            "ased",
            "05Angry/a5-03-01-02-50 04Sad/S4-04-02-01-29 04Sad/s4-01-02-02-09 02Fearful/f2-01-01-02-40 "
            "01Neutral/n1-08-01-01-01 01Neutral/n1-01-01-01-66",
            """S4-04-02-01-29 29 female sad sad s04 am
            a5-03-01-02-50 50 male angry angry a03 am
            f2-01-01-02-40 40 male fearful fearful 01 am
            s4-01-02-02-09 09 female sad sad 01 am""",  # its name says male, the speaker's other files female
            "01Neutral/n1-01-01-01-66.wav 01Neutral/n1-08-01-01-01.wav",
        ),
        (
            "emodb",
            "wav/14b10Ta wav/03a01La.ogg wav/04a01Wa wav/03a03Wa wav/03a01Xa wav/03a01W wav/03a01fa",
            """03a01La 03 male bored boredom a01 de
            14b10Ta 14 female sad sadness b10 de""",
            "wav/03a01W.wav wav/03a01Xa.wav wav/03a01fa.wav wav/03a03Wa.wav wav/04a01Wa.wav",
        ),
        (
            "ravdess",
            "Actor_01/03-01-08-02-01-01-01 Actor_12/03-01-06-01-02-01-12_fearful Actor_01/03-02-03-01-01-01-01 "
            "Actor_01/03-01-09-01-01-01-01 Actor_01/01-01-03-01-01-01-01_happy",  # song and video are ignored
            "",
            "Actor_01/03-01-09-01-01-01-01.wav",
        ),
    ],
)  # fmt: skip
def test_names(tmp_path: Path, name: str, files: str, rows: str, odd: str) -> None:
    plant(tmp_path, *files.split())
    manifest = read_corpus(name, tmp_path, partial=True)
    if rows:
        assert [[row.get(column) for column in COLUMNS] for row in manifest] == [r.split() for r in rows.split("\n")]
    assert sorted(ids(manifest, "odd-name")) == odd.split()
    assert "incomplete" in kinds(manifest)["missing"]


def test_further_columns(tmp_path: Path) -> None:
    plant(tmp_path, "1002_IEO_HAP_HI", "x\\03-01-06-02-02-01-12_fearful_16k", "03a01La", "0004/Sad/test/0004_001401",
          "OAF_back_ps", "a5-03-01-02-50")  # fmt: skip
    assert read_corpus("crema-d", tmp_path, partial=True)[0].extra == {"level": "high"}
    assert read_corpus("emodb", tmp_path, partial=True)[0].extra == {"version": "a"}
    assert read_corpus("esd", tmp_path, partial=True)[0].extra == {"part": "test"}
    assert read_corpus("ased", tmp_path, partial=True)[0].extra == {"repetition": "01"}
    tess = read_corpus("tess", tmp_path, partial=True)[0]
    assert (tess.extra, tess.original) == ({"age": "64"}, "pleasant surprise")
    ravdess = read_corpus("ravdess", tmp_path, partial=True)[0]
    assert ravdess.extra == {"intensity": "strong", "repetition": "01"}
    assert (ravdess.id, ravdess.text) == ("03-01-06-02-02-01-12", "Dogs are sitting by the door")


FIGURES = {
    "ased": (65, 2474), "casia": (4, 1200), "crema-d": (91, 7442), "emodb": (10, 535), "esd": (20, 35_000),
    "iemocap": (10, 10_039), "nemo": (9, 4481), "ravdess": (24, 1440), "savee": (4, 480), "tess": (2, 2800),
}  # fmt: skip


def test_published_numbers() -> None:
    assert {name: (get_corpus(name).speakers, get_corpus(name).utterances) for name in FIGURES} == FIGURES
    assert Counter(get_corpus("crema-d").genders.values()) == {"female": 43, "male": 48}


def test_broken_clips_of_crema_d(tmp_path: Path) -> None:
    plant(tmp_path, "1076_MTI_SAD_XX", "1064_IEO_DIS_MD", "1001_DFA_ANG_XX")
    manifest = read_corpus("crema-d", tmp_path, partial=True)
    assert manifest.ids == ("1001_DFA_ANG_XX",)
    assert "it has no sound): 1064_IEO_DIS_MD, 1076_MTI_SAD_XX" in kinds(manifest)["unusable"]


def touch(root: Path, names: Iterable[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def ravdess() -> list[str]:
    """Speech of 24 actors: eight emotions, two intensities but for neutral, two statements, two repetitions."""
    return [
        f"Actor_{actor:02d}/" + "-".join(f"{part:02d}" for part in (3, 1, emotion, *rest, actor)) + ".wav"
        for actor, emotion, *rest in product(range(1, 25), range(1, 9), (1, 2), (1, 2), (1, 2))
        if (emotion, rest[0]) != (1, 2)
    ]


def emodb() -> list[str]:
    sentences = ["a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10"]
    counts = {
        "03": (14, 7, 11, 7), "08": (12, 11, 10, 9), "09": (13, 4, 9, 4), "10": (10, 4, 4, 3), "11": (11, 8, 9, 7),
        "12": (12, 2, 4, 4), "13": (12, 10, 9, 5), "14": (16, 8, 7, 10), "15": (13, 6, 11, 4), "16": (14, 11, 5, 9),
    }  # fmt: skip
    return [
        f"wav/{speaker}{sentences[place % 10]}{letter}{'abc'[place // 10]}.wav"
        for speaker, row in counts.items()
        for letter, count in zip("WFNT", row, strict=True)
        for place in range(count)
    ]


@pytest.mark.parametrize(
    ("names", "labels", "counts", "noted", "lost", "message"),
    [
        (ravdess, get_corpus("ravdess").counts, dict.fromkeys(
            ("angry", "calm", "disgusted", "fearful", "sad", "surprised"), 192) | {"happy": 191, "neutral": 96},
         {"duplicate": ("03-01-03-01-02-02-07",)}, "Actor_05/03-01-05-02-01-02-05",
         "files missing: 1 of 672: 03-01-05-02-01-02-05"),
        (emodb, None, {"angry": 127, "happy": 71, "neutral": 79, "sad": 62}, {}, "wav/12a02Fa",
         r"happy 70 of 71; by speaker: 12 happy 1 of 2\. .*emodb\.bilderbar"),
    ],
)  # fmt: skip
def test_in_full(
    tmp_path: Path,
    names: Callable[[], list[str]],
    labels: list[str] | None,
    counts: dict[str, int],
    noted: dict[str, tuple[str, ...]],
    lost: str,
    message: str,
) -> None:
    """Complete trees of the labels are read in full; without one clip they are refused."""
    touch(tmp_path, names())
    manifest = read_corpus(names.__name__, tmp_path, labels=labels)
    assert manifest.counts() == counts
    assert {kind: ids(manifest, kind) for kind in kinds(manifest)} == noted
    (tmp_path / f"{lost}.wav").unlink()
    with pytest.raises(CorpusError, match=message):
        read_corpus(names.__name__, tmp_path)


def test_the_throat_microphone_of_emodbs_second_release(tmp_path: Path) -> None:
    touch(tmp_path, emodb())
    plant(tmp_path, *(name.replace("wav/", "laryngo/") for name in emodb()), value=5)
    manifest = read_corpus("emodb", tmp_path)
    assert {Path(row.audio).parent.name for row in manifest} == {"wav"}
    assert {row.speaker for row in manifest if row.gender == "female"} == {"08", "09", "13", "14", "16"}
    assert read_corpus("emodb", tmp_path / "wav").ids == manifest.ids
    with pytest.raises(CorpusError, match="339 audio files, none with"):
        read_corpus("emodb", tmp_path / "laryngo")


def test_the_list_of_nemo_names_missing_clips(tmp_path: Path) -> None:
    speakers = ("EB0", "IC0", "KD0", "KS0", "MK0", "MP0", "SM0", "TP0", "WR0")
    words = ("anger", "fear", "happiness", "neutral", "sadness", "surprised")
    names = [f"{s}_{w}_{n}" for s in speakers for w in words for n in range(1, 91)][:4481]
    lines = [f'{name}.wav\t{name.split("_")[1]}\tŻ „x” "\tż\t        {name[:3]}\tmale\t23' for name in names]
    header = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"
    (tmp_path / "data.tsv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    touch(tmp_path, [f"samples/{name}.ogg" for name in names if "_anger_" in name and name != "KD0_anger_42"])
    for root in (tmp_path, tmp_path / "samples"):
        with pytest.raises(CorpusError, match=r"files missing: 1 of \d+: KD0_anger_42"):
            read_corpus("nemo", root, labels=["angry"])
    (tmp_path / "data.tsv").write_text("\n".join([header, *lines[:9]]), encoding="utf-8")  # a cut list is not used
    with pytest.raises(CorpusError, match="sad 0 of 769"):
        read_corpus("nemo", tmp_path, labels=["sad"])


@pytest.mark.parametrize(
    ("name", "files", "rows", "speakers", "female"),
    [
        ("emodb", 339, 339, 10, 5),
        ("ravdess", 672, 671, 24, 12),
        ("ased", 1964, 1918, 64, 25),
        ("nemo", 3076, 3076, 9, 4),
    ],
)
def test_real_trees(corpora: Path, name: str, files: int, rows: int, speakers: int, female: int) -> None:
    manifest = read_corpus(name, corpora / name)
    assert sum(1 for path in (corpora / name).rglob("*") if path.suffix in (".flac", ".ogg")) == files
    assert (len(manifest), len(manifest.speakers)) == (rows, speakers)
    genders = Counter(gender for _, gender in {(row.speaker, row.gender) for row in manifest})
    assert genders == {"female": female, "male": speakers - female}
    assert set(kinds(manifest)) == ({"duplicate"} if rows < files else set())
    assert len(ids(manifest, "duplicate")) == files - rows
    with pytest.raises(CorpusError, match="incomplete for fearful"):
        read_corpus(name, corpora / name, labels=["fearful"])


@pytest.mark.parametrize("name", ["ravdess", "ased"])
def test_the_duplicates_listed_are_duplicates(corpora: Path, name: str) -> None:
    np, soundfile = pytest.importorskip("numpy"), pytest.importorskip("soundfile")
    paths = {path.stem: path for path in (corpora / name).rglob("*.flac")}
    for first, second in get_corpus(name).copies:
        a, b = (soundfile.read(paths[clip])[0] for clip in (first, second))
        size = min(len(a), len(b))
        assert np.corrcoef(a[:size], b[:size])[0, 1] > 0.9999, (first, second)
    for first, second in get_corpus(name).clashes:
        a, b = (soundfile.read(paths[clip])[0] for clip in (first, second))
        cross = np.fft.irfft(np.fft.rfft(a, 1 << 17) * np.conj(np.fft.rfft(b, 1 << 17)))
        assert cross.max() > 0.9 * np.linalg.norm(a) * np.linalg.norm(b), (first, second)
