"""Batches: what one holds, and in which order an epoch sees them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import (
    IDS,
    tiny,
)

from unheard.training.batches import Task, draw_batches
from unheard.training.strategies import derive


class TestBatches:
    @pytest.mark.parametrize("size", [2, 3, 8, 32])
    @pytest.mark.parametrize("count", [2, 7, 31, 32, 33, 100, 1001])
    def test_every_utterance_once_in_even_batches(self, count: int, size: int) -> None:
        batches = draw_batches(count, size, seed=1)
        assert sorted(i for batch in batches for i in batch) == list(range(count))
        sizes = [len(batch) for batch in batches]
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= size
        assert len(batches) == -(-count // size)

    def test_reshuffled_every_epoch(self) -> None:
        one, same, other = (draw_batches(200, 8, seed) for seed in (1, 1, 2))
        assert one == same

        def together(batches: list[list[int]]) -> set[tuple[int, int]]:
            return {(a, b) for batch in batches for a in batch for b in batch if a < b}

        shared = len(together(one) & together(other)) / len(together(one))
        assert shared < 0.1  # which utterances meet changes, not only the order of fixed batches

    def test_an_epoch_depends_on_its_seed_alone(self) -> None:
        task, _ = tiny()

        def order(*seed: object) -> list[list[int]]:
            return [batch.lengths.tolist() for batch in task.epoch(IDS, 5, *seed)]

        first = order("fold", 0, 3)
        np.random.default_rng().random()
        torch.manual_seed(5)
        assert order("fold", 0, 3) == first
        assert order("fold", 0, 4) != first
        assert order("fold", 1, 3) != first

    def test_a_batch_holds_the_utterances_padded_with_zeros(self) -> None:
        task, frames = tiny()
        ids = IDS[4:8]
        batch = task.batch(ids)
        for name, row, length, y, s in zip(ids, batch.x, batch.lengths, batch.y, batch.s, strict=True):
            assert np.array_equal(row[:length].numpy(), frames.arrays[name])
            assert not row[length:].any()
            assert (int(y), int(s)) == (task.y[name], task.s[name])

    def test_a_speaker_outside_training_has_no_index(self) -> None:
        task, frames = tiny()
        assert Task(frames, task.y, {"u00": 2}).batch(["u00", "u01"]).s.tolist() == [2, -1]

    def test_seeds_are_the_same_everywhere(self) -> None:
        assert derive(0, "embed", "weights") == derive("0", "embed", "weights")
        assert len({derive(*parts) for parts in [(0, 1), (1, 0), ("01",), (0, 1, "")]}) == 4
        assert all(0 <= derive(i) < 2**63 for i in range(50))
