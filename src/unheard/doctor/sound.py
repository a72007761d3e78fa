"""Findings from decoded audio: broken, silent, clipped, mixed and repeated recordings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unheard.doctor.findings import Finding, Severity, count, some
from unheard.errors import UnheardError
from unheard.manifest import Manifest, Utterance
from unheard.parallel import Died, map_unordered, progress_bar

if TYPE_CHECKING:
    from unheard.doctor.fingerprint import Print


FRAME = 0.025  # s: shorter, and there is no frame of features
VERY_LONG = 60.0  # s: one emotion rarely lasts so long
NEARLY_SILENT = 0.005  # of full scale, -46 dB; the quietest sad voices of RAVDESS just pass it
CLIPPED = 0.005  # share of samples in flat tops
OFFSET = 0.02  # of full scale

Pair = tuple[Utterance, Utterance]


Place = tuple[str, float, "float | None", str]  # audio, start, end, channel

CHUNK = 64  # recordings a worker takes at a time
FEW = 512  # below this many, starting processes takes longer than decoding


@dataclass(frozen=True, slots=True)
class Measurement:
    """What decoding one utterance shows; with an `error` nothing else is known.

    `seconds`; `rate` and `channels` of the file; `peak` in [0, 1]; `level` in dB below full scale; `clipped` the
    share of samples in flat tops; `offset` the mean; `digest` of the decoded samples; `print` for near-duplicates.
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


def measure(place: Place) -> Measurement:
    """Decode and measure one utterance; a broken file is a `Measurement` with an error, never an exception."""
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
            return Measurement(error="holds no sample")
        peak = float(np.abs(samples).max())
        power = float(np.mean(np.square(samples, dtype=np.float64)))
        clipped = 0.0
        if peak >= 0.98:  # runs of three or more samples at the peak
            flat = np.abs(samples) >= 0.999 * peak
            clipped = float((flat[:-2] & flat[1:-1] & flat[2:]).mean()) if len(flat) > 2 else 0.0
        return Measurement(
            seconds=len(samples) / rate,
            rate=rate,
            channels=header.channels,
            format=header.format,
            peak=peak,
            level=10 * float(np.log10(power)) if power > 0 else -200.0,
            clipped=clipped,
            offset=float(samples.mean(dtype=np.float64)),
            digest=recording.digest,
            print=fingerprint(samples if rate == RATE else resample(samples, rate, RATE)),
        )
    except UnheardError as error:
        return Measurement(error=error.what)
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        return Measurement(error=f"{type(error).__name__}: {error}")


def measure_all(manifest: Manifest, *, workers: int | None = None, progress: bool = True) -> list[Measurement]:
    """Measure every utterance, in manifest order, with `workers` processes (default: one a core).

    Memory holds one fingerprint an utterance (2 kB for 3 s).
    """
    places = [(row.audio, row.start, row.end, row.channel) for row in manifest]
    measured = [Measurement()] * len(places)
    if len(places) < FEW:
        workers = 1
    with progress_bar("decoding", len(places), progress) as advance:
        for place, result in map_unordered(measure, places, workers=workers or 0, chunk=CHUNK, quiet=True):
            measured[place] = Measurement(error=result.reason) if isinstance(result, Died) else result
            advance()
    return measured


def check_sound(manifest: Manifest, measured: Sequence[Measurement]) -> Iterator[Finding]:
    """Unreadable, silent, too short, very long, clipped and offset recordings, and mixtures of rates."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for row, sound in zip(manifest, measured, strict=True):
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
    good = [(row, sound) for row, sound in zip(manifest, measured, strict=True) if not sound.error]
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


def repeated(manifest: Manifest, measured: Sequence[Measurement]) -> list[list[Utterance]]:
    """Utterances whose decoded samples are the same, in groups of two or more; silence does not count."""
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for row, sound in zip(manifest, measured, strict=False):
        if sound.digest and sound.peak > 0:
            groups[sound.digest].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def nearly_repeated(manifest: Manifest, measured: Sequence[Measurement]) -> list[Pair]:
    """Pairs that sound the same without being the same samples."""
    from unheard.doctor.fingerprint import near_duplicates

    # One print for each set of identical recordings, or each of its members would be reported with each.
    first: dict[str, int] = {}
    for place, sound in enumerate(measured):
        first.setdefault(sound.digest, place)
    prints = [sound.print if first[sound.digest] == place else None for place, sound in enumerate(measured)]
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
