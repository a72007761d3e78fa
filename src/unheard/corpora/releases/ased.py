"""ASED v1, the Amharic Speech Emotion Dataset: 65 speakers, five emotions, two common and 25 tied sentences.

`05Angry/a5-03-01-02-50.wav`: emotion and its number, sentence, repetition, gender (01 female), speaker.

Recordings occur more than once. One that two speakers share, however shifted, is left out in every copy, because the
speaker is unknown; a second take with the samples of the first is left out once. That leaves 1918 of the 1964 clips
that are not fearful.
"""

from unheard.corpora.corpus import UNVERIFIED, Corpus, Download, speaker_table

# Speakers whose files say 01; two single files, s4-01-02-02-09 and s4-04-01-02-23, contradict the rest.
_FEMALE = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 43, 47, 48, 49, 58, 62}

# Clips, named without their repetition, whose second take repeats the first: the same samples at the same place up to
# rounding and clipping (correlation above 0.9999).
_SAME_TAKE = """
a5-01-01-37 a5-01-01-49 a5-02-01-37 a5-03-01-21 a5-03-01-25 a5-04-01-21 a5-05-01-21 a5-05-01-25 a5-06-01-21
a5-07-01-21 a5-07-02-63 h3-01-01-49 h3-01-02-08 h3-03-01-21 h3-04-01-21 h3-06-01-11 h3-06-01-21 h3-07-01-21
h3-07-01-31 n1-02-01-37 n1-03-01-21 n1-03-01-25 n1-04-01-21 n1-04-01-25 n1-05-01-21 n1-05-01-25 n1-06-01-21
n1-06-01-25 n1-07-01-21 n1-07-01-29 n1-07-02-53 s4-03-01-21 s4-03-01-23 s4-03-01-25 s4-04-01-21 s4-05-01-21
s4-05-01-25 s4-06-01-21 s4-07-01-21 s4-07-01-25
"""

_README = "https://github.com/Ethio2021/ASED_V1 (README.md)"


def _tied(fields: dict[str, str]) -> dict[str, str]:
    """Name a sentence by its emotion unless it is said in every emotion (01 and 02)."""
    common = fields["text"] in ("01", "02")
    return fields if common else fields | {"text": fields["emotion"][0].lower() + fields["text"]}


def _takes(name: str) -> tuple[str, str]:
    head, tail = name[:5], name[5:]
    return f"{head}-01{tail}", f"{head}-02{tail}"


CORPUS = Corpus(
    name="ased",
    title="ASED v1 (Amharic Speech Emotion Dataset)",
    language="am",
    licence="not stated; 'freely available for download'",
    citation="Retta, Almekhlafi, Sutcliffe, Mhamed, Ali, Feng (2022): A New Amharic Speech Emotion Dataset and "
    "Classification Benchmark, ACM TALLIP, doi 10.1145/3529759",
    homepage="https://github.com/Ethio2021/ASED_V1",
    obtain="The release is at https://github.com/Ethio2021/ASED_V1 (unheard fetch ased).",
    layout="01Neutral/n1-01-01-01-01.wav",
    # Case is ignored: the release itself has one S4-04-02-01-29.
    patterns=(r"(?i:(?P<emotion>[nfhsa]\d)-(?P<text>0[1-7])-(?P<repetition>0[12])-0[12]-(?P<speaker>\d\d))",),
    folder="0[1-5][A-Z][a-z]+",
    refine=_tied,
    emotions={
        "n1": ("neutral", "neutral"), "f2": ("fearful", "fearful"), "h3": ("happy", "happy"),
        "s4": ("sad", "sad"), "a5": ("angry", "angry"),
    },
    genders={f"{n:02d}": "female" if n in _FEMALE else "male" for n in range(1, 66)},
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
        "speakers": _README,
        "utterances": _README,
        "counts": f"counted in a copy of the release that has all but fearful; fearful {UNVERIFIED}: the rest of 2474",
        "speaker_counts": "counted in a copy of the release that has all but fearful",
        "licence": "https://arxiv.org/abs/2201.02710 (abstract)",
        "duplicates": "found by comparing the decoded samples of all clips but fearful, every pair at every shift",
    },
    copies=tuple(map(_takes, _SAME_TAKE.split())),
    clashes=(
        ("h3-07-01-01-23", "h3-07-01-01-25"),
        ("h3-07-01-02-39", "h3-07-01-02-45"),
        ("n1-05-01-02-52", "n1-05-02-02-45"),
    ),
    traps=(
        "ASED: sentences 03 to 07 differ between emotions, so the words give the emotion away; only 01 and 02 are "
        "said in all",
        "ASED: nine more second takes are cut or edited from another clip of the same speaker and were kept "
        "(r 0.96 to 0.9996 once aligned, for example s4-06-01-02-57 and s4-07-02-02-57)",
        "ASED: s4-01-02-02-09 and s4-04-01-02-23 are named male; their speakers are female in all other files",
    ),
    download=Download(
        url="https://github.com/Ethio2021/ASED_V1/archive/refs/heads/main.zip",
        file="ASED_V1.zip",
        strip=1,
        # Whether its audio is in Git LFS is unverified; this costs nothing where it is not.
        pointers="https://media.githubusercontent.com/media/Ethio2021/ASED_V1/main/",
        source="https://github.com/Ethio2021/ASED_V1; no checksum published",
    ),
)  # fmt: skip
