"""Findings from listening: broken, silent, clipped, mixed and repeated recordings."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unheard.doctor.findings import Finding, Severity, count, some
from unheard.errors import UnheardError
from unheard.manifest import Manifest, Utterance

if TYPE_CHECKING:
    from unheard.doctor.fingerprint import Print


FRAME = 0.025  # s: shorter, and there is no frame of features
VERY_LONG = 60.0  # s: one emotion rarely lasts so long
NEARLY_SILENT = 0.005  # of full scale, -46 dB; the quietest sad voices of RAVDESS just pass it
CLIPPED = 0.005  # share of samples in flat tops
OFFSET = 0.02  # of full scale

Pair = tuple[Utterance, Utterance]


def check_sound(manifest: Manifest, heard: Sequence[Heard]) -> Iterator[Finding]:
    """Unreadable, silent, too short, very long, clipped and offset recordings, and mixtures of rates."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for row, sound in zip(manifest, heard, strict=True):
        if sound.error:
            reasons[sound.error].append(row.id)
    for reason, ids in reasons.items():
        yield Finding(
            "error",
            "unreadable",
            f"{count(len(ids), 'recording')} cannot be used ({reason}): {some(ids)}",
            tuple(ids),
            "Restore the files, or leave their rows out.",
        )
    good = [(row, sound) for row, sound in zip(manifest, heard, strict=True) if not sound.error]
    loud = [(row, sound) for row, sound in good if sound.peak > 0]
    longest = f"{VERY_LONG:.0f} s"
    yield from (
        finding
        for finding in (
            _group("error", "silent", "hold digital silence only", "Leave them out: they teach nothing.",
                   (row for row, sound in good if not sound.peak > 0)),
            _group("error", "too_short", "are shorter than 25 ms, one frame", "Leave them out.",
                   (row for row, sound in good if sound.seconds < FRAME)),
            _group("warning", "nearly_silent", f"never pass {NEARLY_SILENT:.1%} of full scale",
                   "Listen to them; a voice this quiet is lost in rounding.",
                   (row for row, sound in loud if sound.peak < NEARLY_SILENT)),
            _group("warning", "clipped", f"have more than {CLIPPED:.1%} of their samples in flat tops",
                   "Take an earlier, unclipped copy where there is one.",
                   (row for row, sound in good if sound.clipped > CLIPPED)),
            _group("warning", "offset", f"have a constant offset above {OFFSET:.0%} of full scale",
                   "Remove the offset with a high-pass filter.",
                   (row for row, sound in loud if abs(sound.offset) > OFFSET)),
            _group("warning", "very_long", f"are longer than {longest}",
                   "Cut them into utterances (columns start and end).",
                   (row for row, sound in good if sound.seconds > VERY_LONG)),
        )
        if finding
    )  # fmt: skip
    for kind, what, values in (
        ("sample_rates", "sample rates", [f"{sound.rate} Hz" for _, sound in good]),
        ("formats", "formats", [sound.format for _, sound in good]),
    ):
        counts = Counter(values)
        if len(counts) > 1:
            listed = ", ".join(f"{value} ({number:,})" for value, number in counts.most_common())
            yield Finding("note", kind, f"{len(counts)} {what}: {listed}")


def _group(severity: Severity, kind: str, what: str, mend: str, rows: Iterable[Utterance]) -> Finding | None:
    ids = tuple(row.id for row in rows)
    if not ids:
        return None
    return Finding(severity, kind, f"{count(len(ids), 'recording')} {what}: {some(ids)}", ids, mend)


def repeated(manifest: Manifest, heard: Sequence[Heard]) -> list[list[Utterance]]:
    """Utterances whose decoded samples are the same, in groups of two or more; silence does not count."""
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for row, sound in zip(manifest, heard, strict=False):
        if sound.digest and sound.peak > 0:
            groups[sound.digest].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def nearly_repeated(manifest: Manifest, heard: Sequence[Heard]) -> list[Pair]:
    """Pairs that sound the same without being the same samples."""
    from unheard.doctor.fingerprint import near_duplicates

    # One print for each set of identical recordings, or each of its members would be reported with each.
    first: dict[str, int] = {}
    for place, sound in enumerate(heard):
        first.setdefault(sound.digest, place)
    prints = [sound.print if first[sound.digest] == place else None for place, sound in enumerate(heard)]
    return [(manifest[i], manifest[j]) for i, j, _ in near_duplicates(prints)]


def recordings(manifest: Manifest, groups: Sequence[Sequence[Utterance]], pairs: Sequence[Pair]) -> dict[str, str]:
    """One name for all copies of a recording, exact or near: id -> the first copy's id, for the repeated ones."""
    name = {row.id: row.id for rows in (*groups, *pairs) for row in rows}

    def find(one: str) -> str:
        while name[one] != one:
            one = name[one]
        return one

    place = {one: number for number, one in enumerate(manifest.ids)}
    for rows in (*groups, *pairs):
        first, *others = sorted({find(row.id) for row in rows}, key=place.__getitem__)
        for other in others:
            name[other] = first
    return {one: find(one) for one in name}


def check_repeats(groups: Sequence[Sequence[Utterance]], pairs: Sequence[Pair]) -> Iterator[Finding]:
    """Duplicates and near-duplicates, each told apart by what they cross: speakers, emotions or neither."""
    for kind, sets, how in (("duplicate", groups, "identical"), ("near_duplicate", pairs, "nearly identical")):
        crossing: dict[str, list[Sequence[Utterance]]] = {"speakers": [], "emotions": [], "": []}
        for rows in sets:
            if len({row.speaker for row in rows}) > 1:
                crossing["speakers"].append(rows)
            elif len({row.emotion for row in rows}) > 1:
                crossing["emotions"].append(rows)
            else:
                crossing[""].append(rows)
        for what, found in crossing.items():
            if not found:
                continue
            ids = tuple(dict.fromkeys(row.id for rows in found for row in rows))
            shown = some([" = ".join(row.id for row in rows) for rows in found], 3)
            thing = "pair" if kind == "near_duplicate" else "set"
            across = f" under different {what}" if what else " of one speaker and emotion"
            severity: Severity = "error" if what and kind == "duplicate" else "warning"
            yield Finding(
                severity,
                f"{kind}_across_{what}" if what else kind,
                f"{count(len(found), thing)} of {how} recordings{across}: {shown}",
                ids,
                {
                    "speakers": "Who speaks is unknown: leave all copies out, or a split may leak.",
                    "emotions": "What they express is unknown: leave all copies out.",
                    "": "Keep one of each.",
                }[what],
            )


# One utterance heard: level, clipping, offset, a hash and a print; a broken file is an answer too.

Place = tuple[str, float, "float | None", str]  # audio, start, end, channel: what a worker is sent


@dataclass(frozen=True, slots=True)
class Heard:
    """One utterance as heard; with an `error` nothing else is known.

    `seconds`; `rate` and `channels` of the file; `peak` in [0, 1]; `level` in dB below full scale; `clipped` the
    share of samples in flat tops; `offset` the mean; `digest` of the decoded samples.
    """

    error: str = ""
    seconds: float = 0.0
    rate: int = 0
    channels: int = 0
    format: str = ""
    peak: float = 0.0
    level: float = -200.0
    clipped: float = 0.0
    offset: float = 0.0
    digest: str = ""
    print: Print | None = None


def hear(place: Place) -> Heard:
    """One utterance; never raises for what a file holds."""
    import numpy as np

    from unheard.audio import info, read_recording, resample
    from unheard.doctor.fingerprint import RATE, fingerprint

    audio, start, end, channel = place
    try:
        header = info(audio)
        rate = header.sample_rate
        recording = read_recording(audio, start=start, end=end, sample_rate=rate, channel=channel)
        samples = recording.samples
        if not len(samples):
            return Heard(error="holds no sample")
        peak = float(np.abs(samples).max())
        power = float(np.mean(np.square(samples, dtype=np.float64)))
        return Heard(
            seconds=len(samples) / rate,
            rate=rate,
            channels=header.channels,
            format=header.format,
            peak=peak,
            level=10 * float(np.log10(power)) if power > 0 else -200.0,
            clipped=_clipped(samples, peak),
            offset=float(samples.mean(dtype=np.float64)),
            digest=recording.digest,
            print=fingerprint(samples if rate == RATE else resample(samples, rate, RATE)),
        )
    except UnheardError as error:
        return Heard(error=error.what)
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        return Heard(error=f"{type(error).__name__}: {error}")


def _clipped(samples, peak: float) -> float:  # type: ignore[no-untyped-def]
    """The share of samples in runs of three or more at the peak, where that is near full scale."""
    import numpy as np

    if peak < 0.98:
        return 0.0
    flat = np.abs(samples) >= 0.999 * peak
    middle = flat[:-2] & flat[1:-1] & flat[2:]
    return float(middle.mean()) if len(middle) else 0.0


# Processes that listen: plain subprocesses fed through pipes, one thread of the parent each.
#
# Not `multiprocessing`, whose spawned children run the caller's script again. A decoder that crashes takes down
# one process; its chunk is then heard one by one, and only what crashes again is given up.

CHILD = "from unheard.doctor.sound import serve; serve()"


class Worker:
    """A child process that answers lists of places with lists of what was heard."""

    def __init__(self) -> None:
        search = os.pathsep.join(folder for folder in sys.path if folder)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **threads, "PYTHONPATH": search},
        )

    def ask(self, places: Sequence[Place]) -> list[Heard]:
        """What these places sound like; EOFError or OSError when the child has died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump(list(places), self.process.stdin)
        self.process.stdin.flush()
        answer: list[Heard] = pickle.load(self.process.stdout)
        return answer

    def close(self) -> None:
        """End the child, whatever it is doing."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not yet sent to a dead child
                    pipe.close()
        self.process.wait()


def heard_by(workers: int, chunks: Sequence[Sequence[Place]]) -> Iterator[Heard]:
    """Everything in `chunks`, in order, heard by so many processes."""
    local = threading.local()
    started: list[Worker] = []

    def worker() -> Worker:
        if getattr(local, "worker", None) is None:
            local.worker = Worker()
            started.append(local.worker)
        mine: Worker = local.worker
        return mine

    def ask(places: Sequence[Place]) -> list[Heard]:
        try:
            return worker().ask(places)
        except (EOFError, OSError, pickle.UnpicklingError):
            local.worker = None
        if len(places) == 1:
            return [Heard(error="the process that decoded it died")]
        return [sound for place in places for sound in ask([place])]

    pool = ThreadPoolExecutor(min(workers, len(chunks)))
    try:
        for answer in pool.map(ask, chunks):
            yield from answer
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for each in started:
            each.close()
        pool.shutdown()


def serve() -> None:
    """The child's side: answer until the pipe closes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    while True:
        try:
            places = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump([hear(place) for place in places], answers)
        answers.flush()


# Hear every utterance of a manifest once, in this process or in several.

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
