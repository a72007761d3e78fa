"""Which columns of a frame are what."""

from __future__ import annotations

from dataclasses import dataclass

from unheard.features.settings import FeatureSettings


@dataclass(frozen=True)
class Columns:
    """Where in a frame the mel bands, the log energy and log F0 as it is are; None where there are none.

    The last `summary` columns are the same in all frames of an utterance.
    """

    bands: slice | None = None
    energy: int | None = None
    log_f0: int | None = None
    summary: int = 0


def columns_of(settings: FeatureSettings) -> Columns:
    """The columns of frames with `settings`; those of which deltas are taken too are not given.

    >>> columns_of(FeatureSettings(kind="fbank", mel_bins=40, energy=True, deltas=0, pitch=True, log_pitch="both"))
    Columns(bands=slice(1, 41, None), energy=0, log_f0=44, summary=0)
    """
    if settings.kind == "functionals":
        return Columns()
    frame = settings.dim - settings.summary_dim
    log_f0 = frame - 1 if settings.pitch and settings.log_pitch != "normalised" else None
    if settings.kind != "fbank" or settings.deltas:
        return Columns(log_f0=log_f0)
    first = int(settings.energy)
    return Columns(
        slice(first, first + settings.mel_bins), 0 if settings.energy else None, log_f0, settings.summary_dim
    )
