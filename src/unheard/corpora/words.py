"""What people call an emotion or a gender, in the words of a manifest."""

from __future__ import annotations

from unheard.manifest import LABELS

_SYNONYMS = {
    "angry": ("anger", "ang", "angriness", "rage"),
    "happy": ("happiness", "hap", "joy", "joyful", "happily"),
    "neutral": ("neutrality", "neu", "normal"),
    "sad": ("sadness",),
    "surprised": ("surprise", "sur", "pleasant surprise", "pleasantly surprised", "ps"),
    "fearful": ("fear", "fea", "afraid", "scared", "anxiety", "anxious", "anxiety/fear"),
    "disgusted": ("disgust", "dis"),
    "calm": ("calmness", "cal"),
    "bored": ("boredom", "bor"),
    "excited": ("excitement", "exc"),
    "frustrated": ("frustration", "fru"),
    "other": ("others", "oth"),
}

EMOTION_WORDS = {label: label for label in LABELS} | {
    word: label for label, words in _SYNONYMS.items() for word in words
}
"""Every word for an emotion that a table may use, lower case, and the canonical label it stands for."""

_GENDERS = {
    **dict.fromkeys(("m", "male", "man"), "male"),
    **dict.fromkeys(("f", "female", "woman", "w"), "female"),
    **dict.fromkeys(("", "unknown", "u", "nan", "none", "na", "n/a", "-"), ""),
}


def canonical_emotion(word: str) -> str | None:
    """The label of `LABELS` that `word` stands for, in any case; None when it is no known word."""
    plain = " ".join(word.casefold().replace("_", " ").split())
    return EMOTION_WORDS.get(plain)


def canonical_gender(word: str) -> str:
    """`male`, `female` or nothing for the usual spellings; any other word is kept as it is."""
    return _GENDERS.get(word.strip().casefold(), word.strip())
