"""Small manifests to be split."""

from __future__ import annotations

from unheard.manifest import Manifest, Utterance

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


def iemocap() -> Manifest:
    """Five sessions of a female and a male each."""
    rows = []
    for session in range(1, 6):
        for gender in ("female", "male"):
            for emotion in EMOTIONS:
                who = f"Ses0{session}{gender[0].upper()}"
                rows.append(Utterance(f"{who}-{emotion}", "a.wav", who, emotion, gender=gender, session=str(session)))
    return Manifest(tuple(rows))


def who(manifest: Manifest, ids: tuple[str, ...]) -> set[str]:
    rows = manifest.by_id()
    return {rows[name].speaker for name in ids}
