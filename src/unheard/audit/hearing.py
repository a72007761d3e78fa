"""One utterance heard: level, clipping, offset, a hash and a print; a broken file is an answer too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unheard.errors import UnheardError

if TYPE_CHECKING:
    from unheard.audit.fingerprint import Print

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
    from unheard.audit.fingerprint import RATE, fingerprint

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
