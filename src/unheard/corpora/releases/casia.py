"""CASIA Chinese emotional corpus: four Mandarin speakers, six emotions; most people hold the part of 1200 clips.

`liuchanhg/angry/201.wav` or `201-angry-liuchanhg.wav`: speaker, emotion, number of the sentence. Clips of the whole
corpus (9600) are kept and noted as extra.
"""

from unheard.corpora.corpus import UNVERIFIED, Corpus

EMOTIONS = {
    "angry": ("angry", "angry"), "fear": ("fearful", "fear"), "happy": ("happy", "happy"),
    "neutral": ("neutral", "neutral"), "normal": ("neutral", "neutral"), "sad": ("sad", "sad"),
    "surprise": ("surprised", "surprise"),
}  # fmt: skip
# Folder name in lower case -> speaker, spelt as in the part of 1200 clips ('liuchanhg' is the release's).
SPEAKERS = {
    "liuchanhg": "liuchanhg", "liuchang": "liuchanhg", "chang.liu": "liuchanhg",
    "wangzhe": "wangzhe", "zhe.wang": "wangzhe",
    "zhaoquanyin": "zhaoquanyin", "quanyin.zhao": "zhaoquanyin",
    "zhaozuoxiang": "ZhaoZuoxiang", "zuoxiang.zhao": "ZhaoZuoxiang",
}  # fmt: skip
# As labelled in public code that uses the corpus; at the makers': unverified.
GENDERS = {"liuchanhg": "female", "wangzhe": "male", "zhaoquanyin": "female", "ZhaoZuoxiang": "male"}
_LABELS = sorted({label for label, _ in EMOTIONS.values()})


def _named(fields: dict[str, str]) -> dict[str, str] | None:
    """Build the id; folders of the whole corpus spelt 'Chang.Liu' hold other sentences under the same numbers."""
    name, number = fields["speaker"].lower(), fields["text"]
    speaker, word = SPEAKERS.get(name, ""), EMOTIONS.get(fields["emotion"].lower(), ("", ""))[1]
    whole = "." in name
    text = f"{word}-{number}" if whole else number
    return fields | {"id": f"{speaker}_{word}_{'d' if whole else ''}{number}", "speaker": speaker, "text": text}


CORPUS = Corpus(
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
    refine=_named,
    emotions=EMOTIONS,
    genders=GENDERS,
    counts=dict.fromkeys(_LABELS, 200),
    speaker_counts={speaker: dict.fromkeys(_LABELS, 50) for speaker in GENDERS},
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
)  # fmt: skip
