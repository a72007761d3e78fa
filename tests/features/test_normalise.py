"""Normalisation against its literal definitions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exporting import random_model

from unheard.errors import ConfigError, FeatureError
from unheard.features import Normaliser
from unheard.features.normalise import KINDS, sliding_mean_removed
from unheard.model.saving import Model


class Table(dict):
    """As much of a feature store as a normaliser needs."""

    dim = 4


@pytest.fixture
def store() -> Table:
    random = np.random.default_rng(0)
    return Table({f"u{k}": random.normal(1000 + k, 1 + k, (20 + 7 * k, 4)).astype(np.float32) for k in range(6)})


SPEAKERS = {f"u{k}": "ann" if k % 2 else "ben" for k in range(6)}


def literal_sliding(x: np.ndarray, window: int) -> np.ndarray:
    out = np.empty_like(x)
    for t in range(len(x)):
        begin = t - window // 2
        end = begin + window
        if begin < 0:
            end -= begin
            begin = 0
        if end > len(x):
            begin -= end - len(x)
            end = len(x)
            begin = max(begin, 0)
        out[t] = x[t] - x[begin:end].mean(axis=0)
    return out


@pytest.mark.parametrize("frames", [1, 2, 9, 10, 11, 25, 301, 450])
def test_sliding_is_kaldis(frames: int) -> None:
    x = np.random.default_rng(frames).normal(5, 3, (frames, 4)).astype(np.float32)
    for window in (10, 11, 300):
        np.testing.assert_allclose(sliding_mean_removed(x, window), literal_sliding(x, window), atol=1e-5)


def test_train_statistics_are_those_of_all_frames_together(store: Table) -> None:
    ids = ["u0", "u2", "u5", "skipped"]
    normaliser = Normaliser("train").fit(store, ids)  # type: ignore[arg-type]
    frames = np.concatenate([store[name] for name in ids[:3]]).astype(np.float64)
    np.testing.assert_allclose(normaliser.mean, frames.mean(0)[None], rtol=1e-6)
    np.testing.assert_allclose(normaliser.std, frames.std(0)[None], rtol=1e-5)
    assert_standard(np.concatenate([normaliser.apply(store[name]) for name in ids[:3]]))


def assert_standard(frames: np.ndarray) -> None:
    np.testing.assert_allclose(frames.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(frames.std(0), 1, rtol=1e-3)
    assert frames.dtype == np.float32


def test_utterance_and_none(store: Table) -> None:
    x = store["u3"]
    assert_standard(Normaliser("utterance").apply(x))
    np.testing.assert_array_equal(Normaliser("none").apply(x), x)
    np.testing.assert_array_equal(Normaliser("utterance").apply(x[:1]), np.zeros((1, 4)))


def test_speaker_uses_all_utterances_of_that_speaker(store: Table) -> None:
    normaliser = Normaliser("speaker").fit(store, list(store), SPEAKERS)  # type: ignore[arg-type]
    assert_standard(np.concatenate([normaliser.apply(store[f"u{k}"], "ann") for k in (1, 3, 5)]))
    with pytest.raises(FeatureError, match="no utterance of speaker 'eve'"):
        normaliser.apply(store["u0"], "eve")
    with pytest.raises(FeatureError, match="speaker of 'u0' is not known"):
        Normaliser("speaker").fit(store, ["u0"])  # type: ignore[arg-type]


def test_constant_dimensions_are_centred_not_divided_and_what_is_refused() -> None:
    constant = Table(a=np.full((10, 4), 7, np.float32))
    normaliser = Normaliser("train").fit(constant, ["a"])  # type: ignore[arg-type]
    np.testing.assert_array_equal(normaliser.apply(constant["a"] + 1), np.ones((10, 4)))
    assert [kind for kind in KINDS if Normaliser(kind).transductive] == ["speaker"]
    with pytest.raises(ConfigError, match="Did you mean 'train'"):
        Normaliser("trian")
    with pytest.raises(FeatureError, match="not been fitted"):
        Normaliser("train").apply(np.zeros((3, 4), np.float32))
    with pytest.raises(FeatureError, match="no utterance"):
        Normaliser("train").fit(Table(), ["a"])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_saved_with_a_model_and_read_back(store: Table, kind: str, tmp_path: Path) -> None:
    normaliser = Normaliser(kind).fit(store, list(store), SPEAKERS)  # type: ignore[arg-type]
    replace(random_model(), normaliser=normaliser).save(tmp_path / "model.safetensors")
    again = Model.load(tmp_path).normaliser
    np.testing.assert_array_equal(again.apply(store["u1"], "ann"), normaliser.apply(store["u1"], "ann"))
    assert (again.kind, again.speakers) == (normaliser.kind, normaliser.speakers)
