"""Thinned frames, and the summary of an utterance in each of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unheard.errors import ConfigError
from unheard.features import FeatureSettings, extract
from unheard.features.analysis import thinned
from unheard.features.functionals import FUNCTIONALS, functionals
from unheard.features.settings import columns_of

STRONG = FeatureSettings(
    kind="fbank", mel_bins=40, cepstra=21, energy=True, deltas=0, pitch=True, log_pitch="both", thin=2, summary=True
)


def speech(seconds: float = 1.5) -> np.ndarray:
    t = np.arange(round(16_000 * seconds)) / 16_000
    voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20))
    return (0.05 * voice * (1 + np.sin(2 * np.pi * 3 * t))).astype(np.float32)


@pytest.mark.parametrize(("frames", "n", "left"), [(6, 2, 3), (7, 2, 4), (1, 3, 1), (5, 1, 5)])
def test_thinned_frames_are_means_of_those_in_a_row(frames: int, n: int, left: int) -> None:
    x = np.random.default_rng(0).normal(size=(frames, 3)).astype(np.float32)
    found = thinned(x, n)
    assert found.shape == (left, 3)
    for k, frame in enumerate(found):
        assert np.allclose(frame, x[k * n : (k + 1) * n].mean(axis=0), atol=1e-6)


def test_the_summary_is_the_functionals_in_every_frame() -> None:
    found = extract(speech(), STRONG)
    plain = extract(speech(), replace(STRONG, summary=False))
    assert found.shape[1] == STRONG.dim == plain.shape[1] + STRONG.summary_dim
    assert np.array_equal(found[:, : plain.shape[1]], plain)
    assert (found[:, plain.shape[1] :] == functionals(speech(), FUNCTIONALS)).all()


def test_with_raw_pitch_alone_it_is_the_same_summary() -> None:
    raw = replace(STRONG, log_pitch="raw")
    assert np.array_equal(extract(speech(), raw)[0, -287:], extract(speech(), STRONG)[0, -287:])


def test_columns_leave_the_summary_out() -> None:
    columns = columns_of(STRONG)
    assert (columns.bands, columns.energy, columns.log_f0, columns.summary) == (slice(1, 41), 0, 44, 287)


@pytest.mark.parametrize("change", [{"kind": "mfcc", "energy": False}, {"deltas": 1}, {"log_pitch": "normalised"}])
def test_a_summary_needs_what_it_is_made_of(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="a summary is made of mel bands, energy and log F0"):
        replace(STRONG, **change)
