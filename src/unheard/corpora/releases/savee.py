"""SAVEE: four English men, seven emotions, 120 sentences each.

`AudioData/DC/sa03.wav` or `DC_sa03.wav`: speaker, emotion letters, number.
"""

from unheard.corpora.corpus import UNVERIFIED, Corpus

EMOTIONS = {
    "a": ("angry", "anger"), "d": ("disgusted", "disgust"), "f": ("fearful", "fear"),
    "h": ("happy", "happiness"), "n": ("neutral", "neutral"), "sa": ("sad", "sadness"),
    "su": ("surprised", "surprise"),
}  # fmt: skip
SPEAKERS = ("DC", "JE", "JK", "KL")
_EACH = {label: 30 if label == "neutral" else 15 for label, _ in EMOTIONS.values()}
_HOME = "http://kahlan.eps.surrey.ac.uk/savee/"
_INFO = "AudioData/Info.txt of the release: 15 sentences an emotion; 'DC', 'JE', 'JK', 'KL', all male"


def _numbered(fields: dict[str, str]) -> dict[str, str] | None:
    speaker, letters, number = fields["speaker"].upper(), fields["emotion"].lower(), fields.pop("number")
    if not 1 <= int(number) <= _EACH[EMOTIONS[letters][0]]:
        return None
    return fields | {"id": f"{speaker}_{letters}{number}", "speaker": speaker, "text": f"{letters}{number}"}


CORPUS = Corpus(
    name="savee",
    title="SAVEE (Surrey Audio-Visual Expressed Emotion)",
    language="en",
    licence="research only, after registration",
    citation="Jackson, Haq (2014): Surrey Audio-Visual Expressed Emotion (SAVEE) Database, University of Surrey",
    homepage=_HOME,
    obtain=f"Register at {_HOME} to be given the download.",
    layout="AudioData/DC/a01.wav or DC_a01.wav",
    patterns=(r"(?i:(?P<speaker>DC|JE|JK|KL)[/_](?P<emotion>a|d|f|h|n|sa|su)(?P<number>\d\d))",),
    folder="AudioData",
    refine=_numbered,
    emotions=EMOTIONS,
    genders=dict.fromkeys(SPEAKERS, "male"),
    counts={label: 4 * count for label, count in _EACH.items()},
    speaker_counts=dict.fromkeys(SPEAKERS, _EACH),
    sources={
        "speakers": _INFO,
        "utterances": "counted alike by several public projects: neutral 120, the others 60",
        "counts": f"{_INFO}; neutral 30 as counted by several public projects",
        "speaker_counts": _INFO,
        "licence": UNVERIFIED,
    },
    traps=(
        "SAVEE: four speakers, all men; no result on it says much about unseen voices",
        "SAVEE: most sentences belong to one emotion, so the words give the emotion away",
    ),
)  # fmt: skip
