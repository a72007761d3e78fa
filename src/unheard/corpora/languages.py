"""Acted corpora in other languages: ASED (Amharic), CASIA (Mandarin), EmoDB (German), ESD (two), nEMO (Polish)."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from unheard.corpora.corpus import UNVERIFIED, Corpus, Download, emotion_table, speaker_table

# `05Angry/a5-03-01-02-50.wav`: emotion and its number, sentence, repetition, gender (01 female), speaker.
# Recordings occur more than once. One that two speakers share, however shifted, is left out in every copy, because the
# speaker is unknown; a second take with the samples of the first is left out once. That leaves 1918 of the 1964 clips
# that are not fearful.

_ASED = "https://github.com/Ethio2021/ASED_V1"
_ASED_COPY = "a copy of the release that has all but fearful"
# Speakers whose files say 01; two single files, s4-01-02-02-09 and s4-04-01-02-23, contradict the rest.
_ASED_FEMALE = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 43, 47, 48, 49, 58, 62}
# Clips, named without their repetition, whose second take repeats the first: the same samples at the same place up to
# rounding and clipping (correlation above 0.9999).
_ASED_SAME_TAKE = """
a5-01-01-37 a5-01-01-49 a5-02-01-37 a5-03-01-21 a5-03-01-25 a5-04-01-21 a5-05-01-21 a5-05-01-25 a5-06-01-21
a5-07-01-21 a5-07-02-63 h3-01-01-49 h3-01-02-08 h3-03-01-21 h3-04-01-21 h3-06-01-11 h3-06-01-21 h3-07-01-21
h3-07-01-31 n1-02-01-37 n1-03-01-21 n1-03-01-25 n1-04-01-21 n1-04-01-25 n1-05-01-21 n1-05-01-25 n1-06-01-21
n1-06-01-25 n1-07-01-21 n1-07-01-29 n1-07-02-53 s4-03-01-21 s4-03-01-23 s4-03-01-25 s4-04-01-21 s4-05-01-21
s4-05-01-25 s4-06-01-21 s4-07-01-21 s4-07-01-25
"""


def _add_emotion_to_text(fields: dict[str, str]) -> dict[str, str]:
    """Prefix the sentence with its emotion, unless it is spoken in every emotion (01 and 02)."""
    common = fields["text"] in ("01", "02")
    return fields if common else fields | {"text": fields["emotion"][0].lower() + fields["text"]}


ASED = Corpus(
    name="ased",
    title="ASED v1 (Amharic Speech Emotion Dataset)",
    language="am",
    licence="not stated; 'freely available for download'",
    citation="Retta, Almekhlafi, Sutcliffe, Mhamed, Ali, Feng (2022): A New Amharic Speech Emotion Dataset and "
    "Classification Benchmark, ACM TALLIP, doi 10.1145/3529759",
    homepage=_ASED,
    obtain=f"The release is at {_ASED} (unheard fetch ased).",
    layout="01Neutral/n1-01-01-01-01.wav",
    # Case is ignored: the release itself has one S4-04-02-01-29.
    patterns=(r"(?i:(?P<emotion>[nfhsa]\d)-(?P<text>0[1-7])-(?P<repetition>0[12])-0[12]-(?P<speaker>\d\d))",),
    folder="0[1-5][A-Z][a-z]+",
    refine=_add_emotion_to_text,
    emotions=emotion_table("n1 neutral, f2 fearful, h3 happy, s4 sad, a5 angry"),
    genders={f"{n:02d}": "female" if n in _ASED_FEMALE else "male" for n in range(1, 66)},
    counts={"angry": 486, "fearful": 510, "happy": 486, "neutral": 522, "sad": 470},
    speaker_counts=speaker_table(
        """01 14 14 14 14; 02 4 4 4 4; 03 4 4 4 4; 04 14 14 14 14; 05 14 14 14 10; 06 14 14 14 14; 07 4 0 4 4;
        08 0 4 4 0; 09 4 4 4 4; 10 14 14 14 10; 11 10 10 14 14; 12 4 0 4 0; 13 14 14 14 14; 14 4 0 4 4; 15 0 4 4 0;
        16 0 4 4 0; 17 0 4 4 0; 18 4 4 4 0; 19 4 4 4 0; 20 10 10 14 10; 21 10 10 14 10; 22 0 4 4 0; 23 10 10 10 10;
        24 0 4 4 4; 25 14 10 14 14; 26 14 10 14 14; 27 14 14 10 14; 28 14 14 10 14; 29 14 14 10 14; 30 14 14 10 14;
        31 10 10 10 10; 32 4 4 4 4; 33 4 4 0 0; 34 0 0 4 0; 35 0 0 4 4; 36 0 0 4 4; 37 4 0 4 0; 38 4 0 4 4;
        39 14 14 14 14; 41 14 14 14 14; 42 0 0 4 0; 43 0 4 0 0; 44 0 0 4 0; 45 10 10 10 10; 46 4 0 4 0; 47 2 4 4 4;
        48 10 10 10 10; 49 2 4 0 0; 50 14 14 14 14; 51 10 10 10 10; 52 10 10 10 10; 53 10 10 10 10; 54 10 10 10 10;
        55 10 10 10 10; 56 10 10 10 10; 57 10 10 10 10; 58 10 10 10 10; 59 10 10 10 10; 60 10 10 10 10;
        61 10 10 10 10; 62 10 10 10 10; 63 10 10 10 10; 64 10 10 10 10; 65 10 10 10 10""",
        "angry happy neutral sad",
    ),
    sources={
        **dict.fromkeys(("speakers", "utterances"), f"{_ASED} (README.md)"),
        "counts": f"counted in {_ASED_COPY}; fearful {UNVERIFIED}: the rest of 2474",
        "speaker_counts": f"counted in {_ASED_COPY}",
        "licence": "https://arxiv.org/abs/2201.02710 (abstract)",
        "duplicates": "found by comparing the decoded samples of all clips but fearful, every pair at every shift",
    },
    copies=tuple((f"{clip[:5]}-01{clip[5:]}", f"{clip[:5]}-02{clip[5:]}") for clip in _ASED_SAME_TAKE.split()),
    clashes=(
        ("h3-07-01-01-23", "h3-07-01-01-25"),
        ("h3-07-01-02-39", "h3-07-01-02-45"),
        ("n1-05-01-02-52", "n1-05-02-02-45"),
    ),
    text_subsets={"balanced": ("01", "02")},
    traps=(
        "ASED: sentences 03 to 07 differ between emotions, so the words give the emotion away; only 01 and 02 are "
        "said in all: ask for them with --subset balanced",
        "ASED: nine more second takes are cut or edited from another clip of the same speaker and were kept "
        "(r 0.96 to 0.9996 once aligned, for example s4-06-01-02-57 and s4-07-02-02-57)",
        "ASED: s4-01-02-02-09 and s4-04-01-02-23 are named male; their speakers are female in all other files",
    ),
    download=Download(
        url=f"{_ASED}/archive/refs/heads/main.zip",
        file="ASED_V1.zip",
        strip=1,
        # Whether its audio is in Git LFS is unverified; this costs nothing where it is not.
        pointers="https://media.githubusercontent.com/media/Ethio2021/ASED_V1/main/",
        source=f"{_ASED}; no checksum published",
    ),
)

# `liuchanhg/angry/201.wav` or `201-angry-liuchanhg.wav`: speaker, emotion, number of the sentence. Clips of the whole
# corpus (9600) are kept and noted as extra.

_CASIA_EMOTIONS = emotion_table("angry, fear, happy, neutral, normal neutral, sad, surprise")
_CASIA_LABELS = {label for label, _ in _CASIA_EMOTIONS.values()}
# Folder name in lower case -> speaker, spelt as in the part of 1200 clips ('liuchanhg' is the release's).
_CASIA_FOLDERS = {
    **dict.fromkeys(("liuchanhg", "liuchang", "chang.liu"), "liuchanhg"),
    **dict.fromkeys(("wangzhe", "zhe.wang"), "wangzhe"),
    **dict.fromkeys(("zhaoquanyin", "quanyin.zhao"), "zhaoquanyin"),
    **dict.fromkeys(("zhaozuoxiang", "zuoxiang.zhao"), "ZhaoZuoxiang"),
}
# As labelled in public code that uses the corpus; at the makers': unverified.
_CASIA_GENDERS = {"liuchanhg": "female", "wangzhe": "male", "zhaoquanyin": "female", "ZhaoZuoxiang": "male"}


def _casia_fields(fields: dict[str, str]) -> dict[str, str]:
    """Build the id; folders spelt 'Chang.Liu' of the full corpus contain other sentences with the same numbers."""
    name, number = fields["speaker"].lower(), fields["text"]
    speaker, word = _CASIA_FOLDERS.get(name, ""), _CASIA_EMOTIONS.get(fields["emotion"].lower(), ("", ""))[1]
    whole = "." in name
    text = f"{word}-{number}" if whole else number
    return fields | {"id": f"{speaker}_{word}_{'d' if whole else ''}{number}", "speaker": speaker, "text": text}


CASIA = Corpus(
    name="casia",
    title="CASIA Chinese emotional corpus (1200 clips)",
    language="zh",
    licence="commercial or by agreement, from the Chinese Academy of Sciences",
    citation="CASIA Chinese Emotional Corpus, Institute of Automation, Chinese Academy of Sciences (2005)",
    homepage="http://www.chineseldc.org/",
    obtain="Ask for it at the Chinese Linguistic Data Consortium, http://www.chineseldc.org/ (the Institute of "
    "Automation, Chinese Academy of Sciences, made it).",
    layout="liuchanhg/angry/201.wav",
    patterns=(
        r"(?P<speaker>[^/]+)/(?P<emotion>[^/]+)/(?P<text>[0-9]+)",
        r"(?P<text>[0-9]+)-(?P<emotion>[A-Za-z]+)-(?P<speaker>[A-Za-z.]+)",
    ),
    refine=_casia_fields,
    emotions=_CASIA_EMOTIONS,
    genders=_CASIA_GENDERS,
    counts=dict.fromkeys(sorted(_CASIA_LABELS), 200),
    speaker_counts={speaker: dict.fromkeys(sorted(_CASIA_LABELS), 50) for speaker in _CASIA_GENDERS},
    sources={
        "speakers": "public code that reads it names these four speaker folders",
        "utterances": "model cards trained on it: 1200 of the 9600 utterances",
        "counts": f"{UNVERIFIED}: 50 sentences x 4 speakers an emotion",
        "speaker_counts": f"{UNVERIFIED}: 50 sentences an emotion",
        "licence": UNVERIFIED,
    },
    traps=(
        "CASIA: four speakers say the same 50 sentences in every emotion; a split by speaker shares the words",
        "CASIA: the whole corpus has 9600 utterances, the part most papers use 1200; say which one you used",
    ),
)

# `wav/03a01Fa.wav`: speaker 03, sentence a01, emotion F (initial of the German word), version a.

_EMODB = "http://emodb.bilderbar.info/"
_EMODB_COUNTED = "counted in a copy of the release that is complete for anger, happiness, neutral and sadness"

EMODB = Corpus(
    name="emodb",
    title="EmoDB (Berlin Database of Emotional Speech)",
    language="de",
    licence="free for research; republished by audEERING as CC0 1.0",
    citation="Burkhardt, Paeschke, Rolfes, Sendlmeier, Weiss (2005): A Database of German Emotional Speech, "
    "Interspeech",
    homepage=_EMODB,
    obtain=f"The release is at {_EMODB} (unheard fetch emodb).",
    layout="wav/03a01Fa.wav",
    patterns=(r"(?P<speaker>\d\d)(?P<text>a0[12457]|b0[1239]|b10)(?P<emotion>[A-Z])(?P<version>[a-z])",),
    folder="(?i:wav)",
    ignore="(?i:laryngo)/.*",  # EmoDB 2.0: the throat microphone, under the names of wav/
    emotions=emotion_table("W anger, L boredom, E disgust, A fear, F happiness, T sadness, N neutral"),
    genders={
        **dict.fromkeys(("03", "10", "11", "12", "15"), "male"),
        **dict.fromkeys(("08", "09", "13", "14", "16"), "female"),
    },
    counts={"angry": 127, "bored": 81, "disgusted": 46, "fearful": 69, "happy": 71, "neutral": 79, "sad": 62},
    speaker_counts=speaker_table(
        "03 14 7 11 7; 08 12 11 10 9; 09 13 4 9 4; 10 10 4 4 3; 11 11 8 9 7; 12 12 2 4 4; 13 12 10 9 5; 14 16 8 7 10;"
        "15 13 6 11 4; 16 14 11 5 9",
        "angry happy neutral sad",
    ),
    sources={
        "speakers": f"{_EMODB}docu/",
        "utterances": "https://huggingface.co/datasets/renumics/emodb (a mirror: 535 examples)",
        "counts": f"{_EMODB_COUNTED}; boredom, disgust and fear {UNVERIFIED}, together the rest of 535",
        "speaker_counts": _EMODB_COUNTED,
        "licence": f"research: {UNVERIFIED}; CC0: https://github.com/audeering/emodb (README.md)",
    },
    traps=(
        "EmoDB: ten sentences said in every emotion, so a split by speaker still shares the words",
        "EmoDB: some packagings name four speakers' gender wrongly; 09, 13 are women, 10, 12 men",
        "EmoDB 2.0: its additional clips, which listeners often did not recognise, are kept and noted as extra; "
        "published figures use the 535 clips of the first release; laryngo/ (a throat microphone) is not read",
    ),
    download=Download(
        url=f"{_EMODB}download/download.zip", file="download.zip", source=f"{_EMODB}download/; no checksum published"
    ),
)

# `0011/Angry/0011_000351.wav`: speaker, emotion, number; some releases put `train`, `evaluation` and `test` folders in
# between.

_ESD = "https://github.com/HLTSingapore/Emotional-Speech-Data"
_ESD_EMOTIONS = emotion_table("angry Angry, happy Happy, neutral Neutral, sad Sad, surprise Surprise")
_ESD_SENTENCES = 350  # per language; every speaker says each once in each emotion
_ESD_MANDARIN = tuple(f"{number:04d}" for number in range(1, 11))
_ESD_ENGLISH = tuple(f"{number:04d}" for number in range(11, 21))
_ESD_FEMALE = {1, 2, 3, 7, 9, 15, 16, 17, 18, 19}  # by the ReadMe.txt of the release


def _sentence(fields: dict[str, str]) -> dict[str, str] | None:
    """Number the sentences: 1, 351, 701, 1051 and 1401 are the same sentence in the five emotions."""
    number = int(fields.pop("number"))
    if not 1 <= number <= _ESD_SENTENCES * len(_ESD_EMOTIONS):
        return None
    language = "zh" if fields["speaker"] in _ESD_MANDARIN else "en"
    text = f"{language}-{(number - 1) % _ESD_SENTENCES + 1:03d}"
    return fields | {"language": language, "text": text, "part": fields["part"].lower()}


ESD = Corpus(
    name="esd",
    title="ESD (Emotional Speech Dataset)",
    language="en, zh",
    licence="research only, after a signed licence form",
    citation="Zhou, Sisman, Liu, Li (2022): Emotional voice conversion: Theory, databases and ESD, Speech "
    "Communication 137: 1-18",
    homepage=_ESD,
    obtain=f"Fill in the licence form at {_ESD} and send it to zhoukun@u.nus.edu; the page names the download.",
    layout="0011/Angry/0011_000351.wav",
    patterns=(
        r"(?:(?i:(?P<emotion>angry|happy|neutral|sad|surprise)))(?:/(?i:(?P<part>train|evaluation|test)))?"
        r"/(?P<speaker>\d{4})_(?P<number>\d{6})",
    ),
    folder=r"\d{4}",
    refine=_sentence,
    emotions=_ESD_EMOTIONS,
    genders={name: "female" if int(name) in _ESD_FEMALE else "male" for name in (*_ESD_MANDARIN, *_ESD_ENGLISH)},
    counts={label: _ESD_SENTENCES * 20 for label, _ in _ESD_EMOTIONS.values()},
    speaker_counts={
        n: {label: _ESD_SENTENCES for label, _ in _ESD_EMOTIONS.values()} for n in (*_ESD_MANDARIN, *_ESD_ENGLISH)
    },
    subsets={"english": _ESD_ENGLISH, "mandarin": _ESD_MANDARIN},
    sources={
        **dict.fromkeys(("speakers", "counts", "speaker_counts", "licence"), f"{_ESD} (README)"),
        "utterances": f"{_ESD} (README): 350 parallel utterances x 5 emotions x 20 speakers",
    },
    traps=(
        "ESD: every speaker says the same 350 sentences, so a split by speaker still shares the words",
        "ESD: its train, evaluation and test folders share every speaker; they are kept in the column 'part' only",
        "ESD: the transcripts (0001/0001.txt) differ in encoding and labels between speakers and are not read",
        "ESD: two languages; ask for one with --subset english or mandarin",
    ),
)

# `samples/EB0_anger_1.wav`: speaker, emotion, sentence; `data.tsv` beside it lists every clip of the release.

_NEMO = "https://github.com/amu-cai/nEMO"
_NEMO_CARD = "https://huggingface.co/datasets/amu-cai/nEMO (dataset card)"
_NEMO_EMOTIONS = emotion_table("anger, fear, happiness, neutral, sadness, surprised")
_NEMO_NAME = r"(?P<speaker>[A-Z]{2}0)_(?P<emotion>[a-z]+)_(?P<text>[1-9]|[1-8]\d|90)"


def _nemo_clips(root: Path) -> Mapping[str, str] | None:
    """Return every clip of nEMO from data.tsv, in `root` or beside it; None without the complete list."""
    for path in (root / "data.tsv", root.parent / "data.tsv", *sorted(root.glob("*/data.tsv"))):
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            files = [row.get("file_id") or "" for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]
            matches = [re.fullmatch(_NEMO_NAME, Path(name.strip()).stem) for name in files]
            listed = {
                match[0]: _NEMO_EMOTIONS[match[2]][0] for match in matches if match and match[2] in _NEMO_EMOTIONS
            }
            return listed if len(listed) == NEMO.utterances else None
    return None


NEMO = Corpus(
    name="nemo",
    title="nEMO",
    language="pl",
    licence="CC BY-NC-SA 4.0",
    citation="Christop (2024): nEMO: Dataset of Emotional Speech in Polish, LREC-COLING, arXiv 2404.06292",
    homepage=_NEMO,
    obtain=f"The release is at {_NEMO} (unheard fetch nemo).",
    layout="samples/EB0_anger_1.wav",
    patterns=(_NEMO_NAME,),
    folder="samples",
    emotions=_NEMO_EMOTIONS,
    genders={  # the column `gender` of data.tsv (repository, commit 06f1f83d)
        **dict.fromkeys(("EB0", "IC0", "KD0", "MK0"), "female"),
        **dict.fromkeys(("KS0", "MP0", "SM0", "TP0", "WR0"), "male"),
    },
    counts={"angry": 749, "fearful": 736, "happy": 749, "neutral": 809, "sad": 769, "surprised": 669},
    clips=_nemo_clips,
    sources={
        "speakers": f"{_NEMO} (README, data.tsv)",
        "utterances": _NEMO_CARD,
        "counts": f"{_NEMO_CARD}: anger, fear; sad, happy, neutral as counted by public code; surprised: the rest of "
        "4481",
        "licence": f"{_NEMO} (README)",
    },
    traps=("nEMO: ninety sentences said in every emotion, so a split by speaker still shares the words",),
    download=Download(
        url=f"{_NEMO}/archive/refs/heads/main.zip",
        file="nEMO.zip",
        strip=1,
        source=f"{_NEMO}; address as used by public code, no checksum published",
    ),
)
