"""Recordings that occur more than once in a corpus must not sit on two sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from unheard.manifest import Manifest, Note, Utterance


def exclude_shared_recordings(manifest: Manifest, digests: Mapping[str, str]) -> tuple[Manifest, Note]:
    """Rows without recordings that occur twice, and a note that counts what went.

    `digests` maps ids to a hash of the decoded samples; an id without one is kept. A recording that occurs
    under two or more speakers is excluded altogether, because who really spoke is unknown. Within one
    speaker the first copy (by id) is kept when all carry the same emotion; otherwise none is, because the
    true emotion is unknown. The note (kind `shared_recordings`) is added to the manifest's when it has ids.
    """
    copies: dict[str, list[Utterance]] = defaultdict(list)
    for row in manifest:
        if digests.get(row.id):
            copies[digests[row.id]].append(row)
    across: set[str] = set()
    contradictory: set[str] = set()
    repeated: set[str] = set()
    for rows in copies.values():
        ids = sorted(row.id for row in rows)
        if len({row.speaker for row in rows}) > 1:
            across.update(ids)
        elif len({row.emotion for row in rows}) > 1:
            contradictory.update(ids)
        else:
            repeated.update(ids[1:])
    gone = across | contradictory | repeated
    if not gone:
        return manifest, Note("shared_recordings", "no recording occurs twice")
    note = Note(
        "shared_recordings",
        f"{len(gone)} utterances excluded because their recording occurs more than once: {len(across)} under "
        f"several speakers, {len(contradictory)} under several emotions of one speaker, "
        f"{len(repeated)} further copies of a kept one",
        tuple(name for name in manifest.ids if name in gone),
    )
    kept = tuple(row for row in manifest if row.id not in gone)
    return replace(manifest, rows=kept, notes=(*manifest.notes, note)), note
