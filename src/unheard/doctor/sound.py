"""Findings from decoded audio: broken, silent, clipped, mixed and repeated recordings."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unheard.doctor.findings import Finding, Severity, finding, listed
from unheard.doctor.labels import check_predictable
from unheard.errors import UnheardError
from unheard.manifest import Manifest, Utterance
from unheard.parallel import Died, map_unordered, progress_bar
from unheard.splits.protocols import components

if TYPE_CHECKING:
    from unheard.doctor.fingerprint import Print


FRAME = 0.025  # seconds; a shorter recording has no frame of features
VERY_LONG = 60.0  # seconds; one emotion rarely lasts so long
NEARLY_SILENT = 0.005  # of full scale, -46 dB; the quietest sad voices of RAVDESS are just above
CLIPPED = 0.005  # share of clipped samples
OFFSET = 0.02  # of full scale
DURATION_BETTER = 0.3  # above chance; slow speech is a true cue of sadness, so only strong effects are reported
CHUNK = 64  # recordings per task of a worker
FEW = 512  # for fewer recordings, starting processes takes longer than decoding

Duplicate = tuple[Utterance, Utterance]
Place = tuple[str, float, "float | None", str]  # audio, start, end, channel


@dataclass(frozen=True, slots=True)
class Measurement:
    """Properties of one decoded utterance; with an `error`, no other field is set.

    `rate` in Hz, `channels` and `format` of the file; `peak` in [0, 1]; `level` in dB below full scale; `clipped` the
    share of clipped samples; `offset` the mean; `digest` of the decoded samples; `print` for near duplicates.
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
    """Decode and measure one utterance; for a broken file, return a `Measurement` with an error."""
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
            return Measurement(error="contains no samples")
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
    """Measure every utterance, in the order of the manifest, with `workers` processes (default: one per core).

    Keeps a fingerprint of each utterance in memory (2 kB for 3 s).
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
    """Find unreadable, silent, short, long, clipped and offset recordings, and mixtures of rates and formats."""
    both = list(zip(manifest, measured, strict=True))
    good = [(row, sound) for row, sound in both if not sound.error]
    unreadable: dict[str, list[tuple[str, Utterance]]] = defaultdict(list)
    for row, sound in both:
        if sound.error:
            unreadable[re.sub(r"\d+\.\d+ (s|to)", "", sound.error)].append((sound.error, row))
    for alike in unreadable.values():
        reason, rows = alike[0][0], [row for _, row in alike]
        such_as = "such as: " if len({error for error, _ in alike}) > 1 else ""  # they differ in the seconds
        what, mend = f"cannot be read ({such_as}{reason})", "Restore the files, or drop their rows."
        if "stretch" in reason:
            mend = "Correct start and end, which are seconds from the beginning of the file."
        if "no such file" in reason:
            mend = f"{rows[0].audio} was looked for: if the recordings are elsewhere, name their folder (--audio-root)."
        yield from listed("error", "unreadable", "recording", what, {row.id: [row] for row in rows}, mend)
    checks: list[tuple[Severity, str, str, str, Callable[[Measurement], bool]]] = [
        ("error", "silent", "with zeros only", "Drop them.", lambda sound: not sound.peak > 0),
        ("error", "too_short", "shorter than one frame, 25 ms", "Drop them.", lambda sound: sound.seconds < FRAME),
        ("warning", "nearly_silent", f"below {NEARLY_SILENT:.1%} of full scale",
         "Listen to them; quantisation noise masks a voice this quiet.", lambda sound: 0 < sound.peak < NEARLY_SILENT),
        ("warning", "clipped", f"with more than {CLIPPED:.1%} clipped samples",
         "Use an unclipped copy, if there is one.", lambda sound: sound.clipped > CLIPPED),
        ("warning", "offset", f"with a DC offset above {OFFSET:.0%} of full scale",
         "Remove the offset with a high-pass filter.", lambda sound: sound.peak > 0 and abs(sound.offset) > OFFSET),
        ("warning", "very_long", f"longer than {VERY_LONG:.0f} s",
         "Cut them into utterances (columns start and end).", lambda sound: sound.seconds > VERY_LONG),
    ]  # fmt: skip
    for severity, kind, what, mend, applies in checks:
        yield from listed(severity, kind, "recording", what, {row.id: [row] for row, x in good if applies(x)}, mend)
    for kind, what, values in (
        ("sample_rates", "sample rates", [f"{sound.rate} Hz" for _, sound in good]),
        ("formats", "formats", [sound.format for _, sound in good]),
    ):
        counts = Counter(values)
        if len(counts) > 1:
            shares = ", ".join(f"{value} ({number:,})" for value, number in counts.most_common())
            yield finding("note", kind, f"{len(counts)} {what}: {shares}", "")


def check_properties(manifest: Manifest, measured: Sequence[Measurement]) -> Iterator[Finding]:
    """Warn of properties of the files, not of the voices, that predict the emotion."""
    sounds = [sound for sound in measured if not sound.error]
    usable = Manifest(tuple(row for row, sound in zip(manifest, measured, strict=True) if not sound.error))
    yield from check_predictable(usable, "the sample rate", [sound.rate for sound in sounds])
    yield from check_predictable(usable, "the file format", [(sound.format, sound.channels) for sound in sounds])
    seconds = sorted(sound.seconds for sound in sounds)
    bounds = [seconds[len(seconds) * tenth // 10] for tenth in range(1, 10)] if seconds else []
    tenths = [bisect_right(bounds, sound.seconds) for sound in sounds]  # equal durations are in one tenth
    yield from check_predictable(usable, "the duration", tenths, DURATION_BETTER)


def repeated(manifest: Manifest, measured: Sequence[Measurement]) -> list[list[Utterance]]:
    """Return groups of two or more utterances with equal samples; silence is ignored."""
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for row, sound in zip(manifest, measured, strict=False):
        if sound.digest and sound.peak > 0:
            groups[sound.digest].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def nearly_repeated(manifest: Manifest, measured: Sequence[Measurement]) -> list[Duplicate]:
    """Return pairs of utterances with nearly the same sound, but other samples."""
    from unheard.doctor.fingerprint import near_duplicates

    # one fingerprint per set of identical recordings, otherwise each pair of its members would be reported
    first: dict[str, int] = {}
    for place, sound in enumerate(measured):
        first.setdefault(sound.digest, place)
    prints = [sound.print if first[sound.digest] == place else None for place, sound in enumerate(measured)]
    return [(manifest[i], manifest[j]) for i, j, _ in near_duplicates(prints)]


def recordings(manifest: Manifest, groups: Sequence[Sequence[Utterance]], pairs: Sequence[Duplicate]) -> dict[str, str]:
    """Map the id of each repeated utterance to the id of the first copy, over exact and near copies."""
    ties = [[row.id for row in rows] for rows in (*groups, *pairs)]
    tied = {name for names in ties for name in names}
    blocks = components([name for name in manifest.ids if name in tied], ties)
    return {name: block[0] for block in blocks for name in block}


def check_repeats(groups: Sequence[Sequence[Utterance]], pairs: Sequence[Duplicate]) -> Iterator[Finding]:
    """Find exact and near duplicates: across speakers, across emotions of a speaker, or neither."""
    mends = {
        "speakers": "The speaker is unknown: drop all copies, otherwise a split may leak.",
        "emotions": "The emotion is unknown: drop all copies.",
        "": "Keep one of each.",
    }
    for kind, thing, how, sets in (
        ("duplicate", "set", "identical", groups),
        ("near_duplicate", "pair", "nearly identical", pairs),
    ):
        crossing: dict[str, dict[str, Sequence[Utterance]]] = {what: {} for what in mends}
        for rows in sets:
            different = len({row.speaker for row in rows}) > 1, len({row.emotion for row in rows}) > 1
            what = "speakers" if different[0] else "emotions" if different[1] else ""
            crossing[what][" = ".join(row.id for row in rows)] = rows
        for what, found in crossing.items():
            severity: Severity = "error" if what and kind == "duplicate" else "warning"
            across = f"with different {what}" if what else "of one speaker and emotion"
            name, about = f"{kind}_across_{what}" if what else kind, f"of {how} recordings {across}"
            yield from listed(severity, name, thing, about, found, mends[what], most=3)
