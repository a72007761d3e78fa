"""ESD, the Emotional Speech Dataset: ten English and ten Mandarin speakers, the same 350 sentences in five emotions.

`0011/Angry/0011_000351.wav`: speaker, emotion, number; some releases put `train`, `evaluation` and `test` folders
in between.
"""

from unheard.corpora.corpus import Corpus

EMOTIONS = {
    "angry": ("angry", "Angry"), "happy": ("happy", "Happy"), "neutral": ("neutral", "Neutral"),
    "sad": ("sad", "Sad"), "surprise": ("surprised", "Surprise"),
}  # fmt: skip
SENTENCES = 350  # per language; every speaker says each once in each emotion
MANDARIN = tuple(f"{number:04d}" for number in range(1, 11))
ENGLISH = tuple(f"{number:04d}" for number in range(11, 21))
_FEMALE = {1, 2, 3, 7, 9, 15, 16, 17, 18, 19}  # by the ReadMe.txt of the release
_LABELS = [label for label, _ in EMOTIONS.values()]
_HOME = "https://github.com/HLTSingapore/Emotional-Speech-Data"


def _sentence(fields: dict[str, str]) -> dict[str, str] | None:
    """Number the sentence: 1, 351, 701, 1051 and 1401 are the same one in the five emotions."""
    number = int(fields.pop("number"))
    if not 1 <= number <= SENTENCES * len(EMOTIONS):
        return None
    language = "zh" if fields["speaker"] in MANDARIN else "en"
    text = f"{language}-{(number - 1) % SENTENCES + 1:03d}"
    return fields | {"language": language, "text": text, "part": fields["part"].lower()}


CORPUS = Corpus(
    name="esd",
    title="ESD (Emotional Speech Dataset)",
    language="en, zh",
    licence="research only, after a signed licence form",
    citation="Zhou, Sisman, Liu, Li (2022): Emotional voice conversion: Theory, databases and ESD, Speech "
    "Communication 137: 1-18",
    homepage=_HOME,
    obtain=f"Fill in the licence form at {_HOME} and send it to zhoukun@u.nus.edu; the page names the download.",
    layout="0011/Angry/0011_000351.wav",
    patterns=(
        r"(?:(?i:(?P<emotion>angry|happy|neutral|sad|surprise)))(?:/(?i:(?P<part>train|evaluation|test)))?"
        r"/(?P<speaker>\d{4})_(?P<number>\d{6})",
    ),
    folder=r"\d{4}",
    refine=_sentence,
    emotions=EMOTIONS,
    genders={name: "female" if int(name) in _FEMALE else "male" for name in (*MANDARIN, *ENGLISH)},
    counts=dict.fromkeys(_LABELS, SENTENCES * 20),
    speaker_counts={name: dict.fromkeys(_LABELS, SENTENCES) for name in (*MANDARIN, *ENGLISH)},
    subsets={"english": ENGLISH, "mandarin": MANDARIN},
    sources={
        "speakers": f"{_HOME} (README)",
        "utterances": f"{_HOME} (README): 350 parallel utterances x 5 emotions x 20 speakers",
        "counts": f"{_HOME} (README)",
        "speaker_counts": f"{_HOME} (README)",
        "licence": f"{_HOME} (README)",
    },
    traps=(
        "ESD: every speaker says the same 350 sentences, so a split by speaker still shares the words",
        "ESD: its train, evaluation and test folders share every speaker; they are kept in the column 'part' only",
        "ESD: the transcripts (0001/0001.txt) differ in encoding and labels between speakers and are not read",
        "ESD: two languages; ask for one with --subset english or mandarin",
    ),
)  # fmt: skip
