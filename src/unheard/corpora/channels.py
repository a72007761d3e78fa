"""Rows of a manifest by channel: one recording with several channels as several rows."""

from __future__ import annotations

from dataclasses import replace

from unheard.audio import info
from unheard.errors import AudioError
from unheard.manifest import Manifest, Note


def choose_channel(manifest: Manifest, channel: str = "mix") -> Manifest:
    """Read every row from `channel`: mix, left, right, or each (a row per channel).

    `mix` keeps each row's own channel; a row whose channel is `each` is expanded in any case.
    """
    if channel != "mix":
        manifest = replace(manifest, rows=tuple(replace(row, channel=channel) for row in manifest))
    return expand_channels(manifest)


def expand_channels(manifest: Manifest) -> Manifest:
    """Expand rows with the channel `each` to a row per channel.

    With more than one channel, id and speaker get the suffix `-left`, `-right` (two channels) or `-channel<n>`: in a
    call each channel is a different person. A recording without a session becomes one, so that both ends of a call
    stay on one side of a split. A recording that cannot be read keeps one row; it is counted when its features are
    made.
    """
    counts: dict[str, int] = {}
    sessions: dict[str, str] = {}
    kinds: dict[str, set[bool]] = {}  # speaker -> whether the recordings have several channels
    rows = []
    for row in manifest:
        if row.channel != "each":
            rows.append(row)
            continue
        if row.audio not in counts:
            try:
                counts[row.audio] = info(row.audio).channels
            except AudioError:
                counts[row.audio] = 1
        channels = counts[row.audio]
        kinds.setdefault(row.speaker, set()).add(channels > 1)
        session = row.session or (sessions.setdefault(row.audio, row.id) if channels > 1 else "")
        for name in {1: ("mix",), 2: ("left", "right")}.get(channels) or map(str, range(1, channels + 1)):
            suffix = "" if channels == 1 else f"-channel{name}" if name.isdigit() else f"-{name}"
            rows.append(replace(row, id=row.id + suffix, speaker=row.speaker + suffix, channel=name, session=session))
    notes = list(manifest.notes)
    both = [speaker for speaker, several in kinds.items() if len(several) > 1]
    if both:
        notes.append(
            Note(
                "channels",
                f"{len(both)} speakers ({', '.join(both[:5])}) have recordings with one channel and with several; each "
                "channel counts as another person: if it is the same person, choose a --channel",
            )
        )
    return Manifest(tuple(rows), tuple(notes))
