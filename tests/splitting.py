"""Small manifests to be split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unheard.manifest import Manifest, Utterance
from unheard.splits import Split

EMOTIONS = ("angry", "sad")


def people(*speakers: str, emotions=EMOTIONS, **columns: str) -> list[Utterance]:
    """Speakers like 'f1' or 'm2', the first letter their gender, one utterance an emotion."""
    return [
        Utterance(f"{who}-{emotion}", f"{who}-{emotion}.wav", who, emotion, gender=who[0], **columns)
        for who in speakers
        for emotion in emotions
    ]


def table(*speakers: str, **columns: str) -> Manifest:
    return Manifest(tuple(people(*speakers, **columns)))


def having(manifest: Manifest, **columns: Callable[[Utterance], str]) -> Manifest:
    """The manifest with further columns, functions of the row."""
    rows = (replace(row, extra={name: value(row) for name, value in columns.items()}) for row in manifest)
    return Manifest(tuple(rows))


def iemocap() -> Manifest:
    """Five sessions of a female and a male each."""
    pairs = [(f"Ses0{session}{gender}", str(session), gender) for session in range(1, 6) for gender in "FM"]
    return Manifest(
        tuple(
            Utterance(f"{who}-{emotion}", "a.wav", who, emotion, gender=gender, session=session)
            for who, session, gender in pairs
            for emotion in EMOTIONS
        )
    )


def who(manifest: Manifest, ids: tuple[str, ...]) -> set[str]:
    rows = manifest.by_id()
    return {rows[name].speaker for name in ids}


def sides(split: Split) -> list[list[set[str]]]:
    """The speakers of training and, direction by direction, of dev and test, for each fold."""
    return [[who(split.manifest, ids) for _, _, ids in fold.parts()] for fold in split.folds]
