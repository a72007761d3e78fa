"""CASIA Chinese emotional corpus: four Mandarin speakers, six emotions; most people hold the part of 1200 clips.

`liuchanhg/angry/201.wav`: speaker, emotion, number of the sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from unheard.corpora.official import UNVERIFIED, Official, read_tree
from unheard.manifest import Manifest, Utterance

EMOTIONS = {
    "angry": ("angry", "angry"),
    "fear": ("fearful", "fear"),
    "happy": ("happy", "happy"),
    "neutral": ("neutral", "neutral"),
    "normal": ("neutral", "neutral"),
    "sad": ("sad", "sad"),
    "surprise": ("surprised", "surprise"),
}
"""Folder name in lower case -> canonical, original; the full release spells neutral 'normal' in places."""

SPEAKERS = {
    "liuchanhg": "liuchanhg", "liuchang": "liuchanhg", "chang.liu": "liuchanhg",
    "wangzhe": "wangzhe", "zhe.wang": "wangzhe",
    "zhaoquanyin": "zhaoquanyin", "quanyin.zhao": "zhaoquanyin",
    "zhaozuoxiang": "ZhaoZuoxiang", "zuoxiang.zhao": "ZhaoZuoxiang",
}  # fmt: skip
"""Folder name in lower case -> speaker, spelt as in the part of 1200 clips ('liuchanhg' is the release's)."""

GENDERS = {"liuchanhg": "female", "wangzhe": "male", "zhaoquanyin": "female", "ZhaoZuoxiang": "male"}
"""As labelled in public code that uses the corpus; at the makers': unverified."""

_LABELS = ("angry", "fearful", "happy", "neutral", "sad", "surprised")
_CODE = "public code that reads it names these four speaker folders"

OFFICIAL = Official(
    name="casia",
    title="CASIA Chinese emotional corpus (1200 clips)",
    language="zh",
    licence="commercial or by agreement, from the Chinese Academy of Sciences",
    citation="CASIA Chinese Emotional Corpus, Institute of Automation, Chinese Academy of Sciences (2005)",
    homepage="http://www.chineseldc.org/",
    fetchable=False,
    obtain="Ask for it at the Chinese Linguistic Data Consortium, http://www.chineseldc.org/ (the Institute of "
    "Automation, Chinese Academy of Sciences, made it).",
    layout="liuchanhg/angry/201.wav",
    speakers=4,
    utterances=1200,
    counts=dict.fromkeys(_LABELS, 200),
    sources={
        "speakers": _CODE,
        "utterances": "model cards trained on it: 1200 of the 9600 utterances",
        "counts": f"{UNVERIFIED}: 50 sentences x 4 speakers an emotion",
        "speaker_counts": f"{UNVERIFIED}: 50 sentences an emotion",
        "licence": UNVERIFIED,
    },
    speaker_counts={speaker: dict.fromkeys(_LABELS, 50) for speaker in GENDERS},
    traps=(
        "CASIA: four speakers say the same 50 sentences in every emotion; a split by speaker shares the words",
        "CASIA: the whole corpus has 9600 utterances, the part most papers use 1200; say which one you used",
    ),
)

_FLAT = re.compile(r"(\d+)-([a-z]+)-([a-z.]+)", re.IGNORECASE)


def read(root: str | Path, *, labels: Iterable[str] | None = None, partial: bool = False) -> Manifest:
    """The manifest of CASIA; `root` holds a folder a speaker, with a folder an emotion in each.

    Also takes flat names such as `201-angry-liuchanhg.wav`. Clips of the whole corpus are kept and noted as
    `extra`. Raises `CorpusError`.
    """
    return read_tree(OFFICIAL, root, _parse, labels=labels, partial=partial)


def _parse(path: Path) -> Utterance | None:
    if path.stem.isascii() and path.stem.isdigit():
        number, word, name = path.stem, path.parent.name, path.parent.parent.name
    elif match := _FLAT.fullmatch(path.stem):
        number, word, name = match.groups()
    else:
        return None
    speaker, emotion = SPEAKERS.get(name.lower()), EMOTIONS.get(word.lower())
    if speaker is None or emotion is None:
        return None
    # The folders of the whole corpus that are spelt 'Chang.Liu' hold other sentences under the same numbers.
    other = "d" if "." in name else ""
    return Utterance(
        id=f"{speaker}_{emotion[1]}_{other}{number}",
        audio=str(path),
        speaker=speaker,
        emotion=emotion[0],
        gender=GENDERS[speaker],
        text=f"{emotion[1]}-{number}" if other else number,
        corpus=OFFICIAL.name,
        language=OFFICIAL.language,
        original=emotion[1],
    )
