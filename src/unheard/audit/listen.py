"""Hear every utterance of a manifest once, in this process or in several."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from unheard.audit.hearing import Heard, Place, hear
from unheard.audit.workers import heard_by
from unheard.manifest import Manifest

CHUNK = 64  # utterances a worker takes at a time
FEW = 512  # below this many, starting processes takes longer than listening


def listen_to(manifest: Manifest, *, workers: int | None = None, progress: bool = True) -> list[Heard]:
    """Every utterance in manifest order, heard by `workers` processes (all CPUs by default).

    Memory holds one print an utterance (2 kB for 3 s). A bar shows the rate on a terminal, nothing elsewhere.
    """
    places = [(row.audio, row.start, row.end, row.channel) for row in manifest]
    heard = _hear_all(places, workers or os.cpu_count() or 1)
    if not (progress and sys.stderr.isatty()):
        return list(heard)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("listening"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        return list(bar.track(heard, total=len(places)))


def _hear_all(places: Sequence[Place], workers: int) -> Iterator[Heard]:
    if workers == 1 or len(places) < FEW:
        yield from map(hear, places)
        return
    yield from heard_by(workers, [places[start : start + CHUNK] for start in range(0, len(places), CHUNK)])
