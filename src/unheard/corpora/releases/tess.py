"""TESS, the Toronto emotional speech set: two actresses, 200 words in one carrier phrase, seven emotions.

`OAF_angry/OAF_back_angry.wav`: talker (older, younger), word, emotion (ps: pleasant surprise).
"""

from unheard.corpora.corpus import Corpus, Download

EMOTIONS = {
    "angry": ("angry", "angry"), "disgust": ("disgusted", "disgust"), "fear": ("fearful", "fear"),
    "happy": ("happy", "happy"), "neutral": ("neutral", "neutral"), "ps": ("surprised", "pleasant surprise"),
    "sad": ("sad", "sad"),
}  # fmt: skip
AGES = {"OAF": "64", "YAF": "26"}
_LABELS = [label for label, _ in EMOTIONS.values()]
_HOME = "https://doi.org/10.5683/SP2/E8H2MF"
_CARD = "https://tspace.library.utoronto.ca/handle/1807/24487, as quoted by several catalogues"


def _talker(fields: dict[str, str]) -> dict[str, str]:
    """Write names in one case; the release misspells one: OA_bite_neutral is OAF_bite_neutral, not a third talker."""
    talker, word, ending = fields["speaker"].upper(), fields["text"].lower(), fields["emotion"].lower()
    talker = "OAF" if talker == "OA" else talker
    return {
        "id": f"{talker}_{word}_{ending}", "speaker": talker, "emotion": ending, "text": word, "age": AGES[talker]
    }  # fmt: skip


CORPUS = Corpus(
    name="tess",
    title="TESS (Toronto emotional speech set)",
    language="en",
    licence="CC BY-NC 4.0",
    citation="Pichora-Fuller, Dupuis (2020): Toronto emotional speech set (TESS), Borealis, doi 10.5683/SP2/E8H2MF",
    homepage=_HOME,
    obtain=f"The release is at {_HOME} (unheard fetch tess).",
    layout="OAF_angry/OAF_back_angry.wav",
    patterns=(r"(?i:(?P<speaker>OAF?|YAF)_(?P<text>[a-z]+)_(?P<emotion>[a-z]+))",),
    folder="(OAF|YAF)_.*",
    refine=_talker,
    emotions=EMOTIONS,
    genders=dict.fromkeys(AGES, "female"),
    counts=dict.fromkeys(_LABELS, 400),
    speaker_counts={talker: dict.fromkeys(_LABELS, 200) for talker in AGES},
    sources={
        "speakers": _CARD,
        "utterances": _CARD,
        "counts": f"{_CARD}: 200 words x 2 talkers an emotion",
        "speaker_counts": f"{_CARD}: 200 words an emotion",
        "licence": "https://huggingface.co/datasets/myleslinder/tess (cc-by-nc-4.0); at the origin: unverified, "
        "some catalogues say CC BY-NC-ND 4.0",
    },
    traps=(
        "TESS: two speakers, both women; it cannot show how a model does on unseen voices",
        "TESS: one carrier phrase ('Say the word ...'), so the words are shared by every split",
        "TESS: some tools cannot read YAF_germ_angry.wav and YAF_neat_fear.wav",
    ),
    download=Download(
        url="https://borealisdata.ca/api/access/dataset/:persistentId/?persistentId=doi:10.5683/SP2/E8H2MF",
        file="TESS.zip",
        source="https://doi.org/10.5683/SP2/E8H2MF, through the Data Access API of Dataverse",
    ),
)  # fmt: skip
