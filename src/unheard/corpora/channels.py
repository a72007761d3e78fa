"""Rows of a manifest by channel: one recording with several channels as several rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from unheard.audio import info
from unheard.errors import AudioError
from unheard.manifest import Manifest, Note, Utterance


def choose_channel(manifest: Manifest, channel: str = "mix") -> Manifest:
    """The manifest with every row read from `channel`: mix, left, right, or each (a row a channel).

    `mix` leaves the rows their own channel; what those say of `each` is carried out all the same.
    """
    if channel != "mix":
        manifest = replace(manifest, rows=tuple(replace(row, channel=channel) for row in manifest))
    return expand_channels(manifest)


def expand_channels(manifest: Manifest) -> Manifest:
    """A manifest whose rows with the channel `each` became one row a channel.

    With more than one channel, id and speaker get the suffix `-left`, `-right` (two channels) or
    `-channel<n>`: in a call each channel is a person of its own. Without a session of its own the recording becomes
    one, so that both ends of a call stay on one side of a split. A recording that cannot be read keeps one
    row, so that it is counted where its features are made.
    """
    counts: dict[str, int] = {}
    call: dict[str, str] = {}
    rows: list[Utterance] = []
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
        names = {1: ("mix",), 2: ("left", "right")}.get(channels) or tuple(map(str, range(1, channels + 1)))
        for name in names:
            suffix = "" if channels == 1 else f"-channel{name}" if name.isdigit() else f"-{name}"
            # a call stays on one side of a split, with all that is cut out of it
            session = row.session or (call.setdefault(row.audio, row.id) if channels > 1 else "")
            rows.append(replace(row, id=row.id + suffix, speaker=row.speaker + suffix, channel=name, session=session))
    return replace(manifest, rows=tuple(rows), notes=(*manifest.notes, *_of_both_kinds(manifest, counts)))


def _of_both_kinds(manifest: Manifest, counts: Mapping[str, int]) -> Iterator[Note]:
    """A note where a speaker has recordings with one channel and with several: as many people, by their names."""
    kinds: dict[str, set[bool]] = {}
    for row in manifest:
        if row.channel == "each":
            kinds.setdefault(row.speaker, set()).add(counts[row.audio] > 1)
    both = [speaker for speaker, several in kinds.items() if len(several) > 1]
    if both:
        yield Note(
            "channels",
            f"{len(both)} speakers ({', '.join(both[:5])}) have recordings with one channel and with several; each "
            "channel counts as another person than the one of the others: where it is the same, choose a --channel",
        )
