"""Batches: content and order. Augmentation and enrolment: what they change in training, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import IDS, InMemory, tiny

from unheard.errors import ConfigError
from unheard.features import FeatureSettings
from unheard.features.settings import Columns, columns_of
from unheard.training.augment import SIZES, ProfileSampler, augment, profile_of
from unheard.training.batches import Dataset, draw_batches
from unheard.training.metrics import balanced_weights
from unheard.training.recipe import Augmentation


class TestBatches:
    def test_every_utterance_once_in_even_batches(self) -> None:
        for count, size in ((2, 2), (2, 32), (7, 3), (31, 8), (32, 8), (33, 32), (1001, 32)):
            batches = draw_batches(count, size, seed=1)
            assert sorted(i for batch in batches for i in batch) == list(range(count))
            sizes = [len(batch) for batch in batches]
            assert max(sizes) - min(sizes) <= 1
            assert max(sizes) <= size
            assert len(batches) == -(-count // size)

    def test_reshuffled_every_epoch(self) -> None:
        one, same, other = (draw_batches(200, 8, seed) for seed in (1, 1, 2))
        assert one == same
        pairs = [{(a, b) for batch in each for a in batch for b in batch if a < b} for each in (one, other)]
        assert len(pairs[0] & pairs[1]) / len(pairs[0]) < 0.1  # not fixed batches in another order

    def test_an_epoch_depends_on_its_seed_alone(self) -> None:
        dataset, _ = tiny()

        def order(*seed: object) -> list[list[int]]:
            return [batch.lengths.tolist() for batch in dataset.epoch(IDS, 5, *seed)]

        first = order("fold", 0, 3)
        torch.manual_seed(5)
        assert order("fold", 0, 3) == first
        assert order("fold", 0, 4) != first
        assert order("fold", 1, 3) != first

    def test_a_batch_holds_the_utterances_padded_with_zeros(self) -> None:
        dataset, frames = tiny()
        batch = dataset.batch(IDS[4:8])
        for name, row, length, y, s in zip(IDS[4:8], batch.x, batch.lengths, batch.y, batch.s, strict=True):
            assert np.array_equal(row[:length].numpy(), frames.arrays[name])
            assert not row[length:].any()
            assert (int(y), int(s)) == (dataset.y[name], dataset.s[name])
        outside_training = Dataset(frames, dataset.y, {"u00": 2}).batch(["u00", "u01"])
        assert outside_training.s.tolist() == [2, -1]


COLUMNS = Columns(slice(1, 41), 0, 44)
ENERGY, BANDS, REST, LOG_F0 = slice(0, 1), slice(1, 41), slice(41, 44), slice(44, 45)
X = np.random.default_rng(0).normal(size=(60, 45)).astype(np.float32)


def random(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


class TestAugmentation:
    def test_off_it_is_a_copy(self) -> None:
        out = augment(X, COLUMNS, Augmentation(), random())
        assert np.array_equal(out, X)
        assert out is not X
        assert (Augmentation().on, Augmentation(pace=0.1).on) == (False, True)

    @pytest.mark.parametrize(
        ("how", "changed"),
        [
            ({"tract": 0.1}, [BANDS]),
            ({"colour": 0.3}, [BANDS, ENERGY]),
            ({"pitch": 0.3}, [LOG_F0]),
            ({"pace": 0.1}, [BANDS, ENERGY, LOG_F0, REST]),
            ({"time_masks": 2}, [BANDS, ENERGY, LOG_F0, REST]),
            ({"band_masks": 2}, [BANDS]),
        ],
    )
    def test_the_seed_decides_and_other_columns_stay(self, how: dict[str, Any], changed: list[slice]) -> None:
        before = X.copy()
        one, again, other = (augment(X, COLUMNS, Augmentation(**how), random(seed)) for seed in (7, 7, 8))
        assert np.array_equal(one, again)
        assert np.array_equal(X, before)
        assert one.shape != other.shape or not np.array_equal(one, other)
        assert one.dtype == np.float32
        for part in (ENERGY, BANDS, REST, LOG_F0):
            same = one.shape == X.shape and np.array_equal(one[:, part], X[:, part])
            assert same == (part not in changed)

    def test_the_literal_changes_of_tract_timbre_and_pitch(self) -> None:
        ramp = X.copy()
        ramp[:, BANDS] = np.arange(40)
        out = augment(ramp, COLUMNS, Augmentation(tract=0.1), random())
        assert np.allclose(out[:, BANDS], np.minimum(np.arange(40) * random().uniform(0.9, 1.1), 39), atol=1e-4)
        added = augment(X, COLUMNS, Augmentation(colour=0.3), random()) - X
        heights, place = random().normal(0, 0.3, 6), np.linspace(0, np.pi, 40)
        curve = sum(h * np.cos(k * place) for k, h in enumerate(heights))  # one for the utterance
        assert np.allclose(added[:, BANDS], curve, atol=1e-5)
        assert np.allclose(added[:, 0], heights[0], atol=1e-6)
        added = augment(X, COLUMNS, Augmentation(pitch=0.5), random()) - X
        assert np.allclose(added[:, 44], random().normal(0, 0.5), atol=1e-6)

    def test_pace_resamples_time(self) -> None:
        ramp = np.repeat(np.arange(60, dtype=np.float32)[:, None], 45, axis=1)
        out = augment(ramp, COLUMNS, Augmentation(pace=0.2), random())
        assert len(out) == round(60 / random().uniform(0.8, 1.2))
        assert np.allclose(out[:, 3], np.linspace(0, 59, len(out)), atol=1e-4)
        assert augment(ramp[:1], COLUMNS, Augmentation(pace=0.2), random()).shape == (1, 45)

    def test_sizes_of_masks(self) -> None:
        gone = ~augment(X, COLUMNS, Augmentation(time_masks=1), random(3)).any(axis=1)
        assert 0 < gone.sum() < 12
        gone = ~augment(X, COLUMNS, Augmentation(band_masks=1), random(3)).any(axis=0)
        assert 0 < gone.sum() < 8

    def test_columns_of_the_settings(self) -> None:
        both = FeatureSettings(kind="fbank", mel_bins=40, energy=True, deltas=0, pitch=True, log_pitch="both")
        assert columns_of(both) == COLUMNS
        assert columns_of(FeatureSettings()) == Columns()
        assert columns_of(FeatureSettings(kind="fbank", deltas=0)) == Columns(slice(0, 23))
        assert columns_of(FeatureSettings(pitch=True, log_pitch="raw")) == Columns(log_f0=41)

    def test_features_without_the_columns(self) -> None:
        Augmentation(pace=0.1, time_masks=1).check(Columns())
        with pytest.raises(ConfigError, match=r"tract needs .* mel bands.*--features.kind fbank --features.deltas 0"):
            Augmentation(tract=0.1).check(columns_of(FeatureSettings()))
        with pytest.raises(ConfigError, match=r"log F0.*--features.pitch --features.log-pitch both"):
            Augmentation(pitch=0.1).check(Columns(slice(0, 23)))
        with pytest.raises(ConfigError, match=r"pace = 0\.7"):
            Augmentation(pace=0.7)


class TestEnrolment:
    def test_the_mean_of_few_utterances_is_shrunk(self) -> None:
        for n, share in {0: 0.0, 1: 0.2, 4: 0.5, 16: 0.8}.items():
            assert np.allclose(profile_of(np.full((n, 3), 2.0, np.float32)), [2 * share] * 3)

    def test_companions_are_other_utterances_of_the_speaker(self) -> None:
        # Every utterance is a power of two: the chosen ones can be read off their mean.
        frames = InMemory(
            {f"{s}{i}": np.full((3, 2), (1 if s == "a" else -1) * 2.0**i, np.float32) for s in "ab" for i in range(5)}
        )
        companions = ProfileSampler(frames, list(frames.arrays), {name: name[0] for name in frames.arrays})
        draws, seen = np.random.default_rng(0), set()
        for _ in range(200):
            profile = companions.draw("a2", draws)
            totals = {round(float(profile[0]) * (min(n, 4) + 4), 4): min(n, 4) for n in SIZES}
            (total,) = {int(t) for t, n in totals.items() if t == int(t) and bin(int(t)).count("1") == n}
            assert not total & 4  # never itself
            assert 0 < total < 32
            seen.add(total)
        assert 27 in seen  # all four others
        assert {1, 2, 8, 16} <= seen
        alone = ProfileSampler(InMemory({"a": np.ones((2, 3), np.float32)}), ["a"], {"a": "a"})
        assert np.array_equal(alone.draw("a", draws), np.zeros(3))


def test_balanced_sampling_draws_rare_kinds_as_often_as_frequent_ones() -> None:
    kinds = {f"{i}": ("big", i % 2) if i < 360 else ("small", i % 2) for i in range(400)}
    frames = {name: np.full((1, 1), float(name), np.float32) for name in kinds}
    y = {name: kind[1] for name, kind in kinds.items()}

    dataset = Dataset(InMemory(frames), y, {}, odds=balanced_weights(kinds))
    drawn, again, other = (
        torch.cat([batch.x[:, 0, 0] for batch in dataset.epoch(list(kinds), 32, "key", epoch)]) for epoch in (0, 0, 1)
    )
    assert len(drawn) == 400
    assert 0.42 < float((drawn >= 360).float().mean()) < 0.58
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, other)
