"""EmoDB, the Berlin Database of Emotional Speech: ten German actors, ten sentences, seven emotions.

`wav/03a01Fa.wav`: speaker 03, sentence a01, emotion F (initial of the German word), version a.
"""

from unheard.corpora.corpus import UNVERIFIED, Corpus, Download, speaker_table

_COUNTED = "counted in a copy of the release that is complete for anger, happiness, neutral and sadness"

CORPUS = Corpus(
    name="emodb",
    title="EmoDB (Berlin Database of Emotional Speech)",
    language="de",
    licence="free for research; republished by audEERING as CC0 1.0",
    citation="Burkhardt, Paeschke, Rolfes, Sendlmeier, Weiss (2005): A Database of German Emotional Speech, "
    "Interspeech",
    homepage="http://emodb.bilderbar.info/",
    obtain="The release is at http://emodb.bilderbar.info/ (unheard fetch emodb).",
    layout="wav/03a01Fa.wav",
    patterns=(r"(?P<speaker>\d\d)(?P<text>a0[12457]|b0[1239]|b10)(?P<emotion>[A-Z])(?P<version>[a-z])",),
    folder="wav",
    ignore="laryngo/.*",  # EmoDB 2.0: the throat microphone, under the names of wav/
    emotions={
        "W": ("angry", "anger"), "L": ("bored", "boredom"), "E": ("disgusted", "disgust"),
        "A": ("fearful", "fear"), "F": ("happy", "happiness"), "T": ("sad", "sadness"),
        "N": ("neutral", "neutral"),
    },
    genders={
        "03": "male", "08": "female", "09": "female", "10": "male", "11": "male",
        "12": "male", "13": "female", "14": "female", "15": "male", "16": "female",
    },
    counts={
        "angry": 127, "bored": 81, "disgusted": 46, "fearful": 69, "happy": 71, "neutral": 79, "sad": 62,
    },
    speaker_counts=speaker_table(
        "03 14 7 11 7; 08 12 11 10 9; 09 13 4 9 4; 10 10 4 4 3; 11 11 8 9 7; 12 12 2 4 4; 13 12 10 9 5; 14 16 8 7 10;"
        "15 13 6 11 4; 16 14 11 5 9",
        "angry happy neutral sad",
    ),
    sources={
        "speakers": "http://emodb.bilderbar.info/docu/",
        "utterances": "https://huggingface.co/datasets/renumics/emodb (a mirror: 535 examples)",
        "counts": f"{_COUNTED}; boredom, disgust and fear {UNVERIFIED}, together the rest of 535",
        "speaker_counts": _COUNTED,
        "licence": f"research: {UNVERIFIED}; CC0: https://github.com/audeering/emodb (README.md)",
    },
    traps=(
        "EmoDB: ten sentences said in every emotion, so a split by speaker still shares the words",
        "EmoDB: some packagings name four speakers' gender wrongly; 09, 13 are women, 10, 12 men",
        "EmoDB 2.0: its additional clips, which listeners often did not recognise, are kept and noted as extra; "
        "published figures use the 535 clips of the first release; laryngo/ (a throat microphone) is not read",
    ),
    download=Download(
        url="http://emodb.bilderbar.info/download/download.zip",
        file="download.zip",
        source="http://emodb.bilderbar.info/download/; no checksum published",
    ),
)  # fmt: skip
