"""RAVDESS, speech part: 24 North American actors, two sentences, eight emotions in two intensities.

`Actor_12/03-01-06-01-02-01-12.wav`: modality (03 audio only), channel (01 speech), emotion, intensity, statement,
repetition, actor (even: female). Repackagings append a word (`_fearful`), which is ignored.
"""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

from unheard.corpora.corpus import Corpus, Download

EMOTIONS = {
    "01": ("neutral", "neutral"), "02": ("calm", "calm"), "03": ("happy", "happy"), "04": ("sad", "sad"),
    "05": ("angry", "angry"), "06": ("fearful", "fearful"), "07": ("disgusted", "disgust"),
    "08": ("surprised", "surprised"),
}  # fmt: skip
GENDERS = {f"{number:02d}": "male" if number % 2 else "female" for number in range(1, 25)}
_RECORD = "https://zenodo.org/record/1188976"


def clips(root: Path) -> Mapping[str, str]:
    """Return every clip of the release with its label; neutral has no strong intensity."""
    return {
        f"03-01-{emotion}-{intensity}-{statement}-{repetition}-{actor}": EMOTIONS[emotion][0]
        for emotion, intensity, statement, repetition, actor in product(EMOTIONS, *[("01", "02")] * 3, GENDERS)
        if (emotion, intensity) != ("01", "02")
    }


CORPUS = Corpus(
    name="ravdess",
    title="RAVDESS (speech)",
    language="en",
    licence="CC BY-NC-SA 4.0",
    citation="Livingstone, Russo (2018): The Ryerson Audio-Visual Database of Emotional Speech and Song, PLoS ONE "
    "13(5): e0196391",
    homepage=_RECORD,
    obtain=f"The release is Audio_Speech_Actors_01-24.zip at {_RECORD} (unheard fetch ravdess).",
    layout="Actor_01/03-01-06-01-02-01-01.wav",
    patterns=(
        r"(?P<id>03-01-(?P<emotion>0[1-8])-(?P<intensity>0[12])-(?P<text>0[12])-(?P<repetition>\d\d)"
        r"-(?P<speaker>\d\d))(?:[ _-][A-Za-z]+)*",
    ),
    folder=r"Actor_\d\d",
    ignore=r"(?!03-01)\d\d-\d\d(?:-\d\d){5}(?:[ _-][A-Za-z]+)*",  # song, and the sound of the videos
    emotions=EMOTIONS,
    values={
        "intensity": {"01": "normal", "02": "strong"},
        "text": {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"},
    },
    genders=GENDERS,
    counts={label: 96 if label == "neutral" else 192 for label, _ in EMOTIONS.values()},
    clips=clips,
    sources={
        "speakers": _RECORD,
        "utterances": _RECORD,
        "counts": f"{_RECORD}: 24 actors x 2 statements x 2 repetitions x 2 intensities, one for neutral",
        "licence": _RECORD,
        "duplicates": "found by comparing the decoded samples of all clips of the four usual emotions",
    },
    copies=(("03-01-03-01-02-01-07", "03-01-03-01-02-02-07"),),
    traps=(
        "RAVDESS: two sentences only, so a model can do well on them and on nothing else",
        "RAVDESS: 'calm' is a label of its own here; merge it with --map calm=neutral where a paper does",
    ),
    download=Download(
        url="https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip?download=1",
        file="Audio_Speech_Actors_01-24.zip",
        checksum="md5:bc696df654c87fed845eb13823edef8a",
        source="https://zenodo.org/records/1188976 (address and MD5 as copied by several projects)",
    ),
)  # fmt: skip
