"""Batch-norm statistics taken anew: read so, and nothing trained otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import (
    BOTH,
    TRAIN,
    assert_same,
    assert_same_readouts,
    assert_same_scores,
    assert_same_tensors,
    strategy,
    tiny,
)

from unheard.errors import TrainingError
from unheard.training.batchnorm import statistics_anew
from unheard.training.recipe import Recipe
from unheard.training.trainer import Trainer, score


def anew(folder: Path, statistics: str = "anew", epochs: int = 4, select: str = "best") -> Trainer:
    recipe = Recipe(epochs=epochs, batch_size=5, lr=0.05, statistics=statistics, select=select)
    return Trainer(strategy("dat"), tiny()[0], TRAIN, BOTH, recipe, folder, key=(0, 0))


def test_statistics_taken_anew_change_what_is_read_and_nothing_that_is_trained(tmp_path: Path) -> None:
    one, other = anew(tmp_path / "a"), anew(tmp_path / "b", "running")
    read, as_ever = one.run(4), other.run(4)
    assert_same_tensors(one.strategy.state_dict(), other.strategy.state_dict())
    assert_same_tensors(one.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"])
    assert not np.allclose(read[0].test.logits, as_ever[0].test.logits)
    # what was validated is what is read out, and what is kept
    for readout in read:
        best = one.best[readout.reading]
        assert readout.dev.wa == best.wa
        one.strategy.load_state_dict(best.weights)
        ids = readout.test.ids
        assert_same_scores(score(one.strategy, one.task, ids, device=torch.device("cpu")), readout.test)


def test_statistics_anew_are_those_of_the_training_utterances_without_dropout(tmp_path: Path) -> None:
    """One batch of all: the first norm sees relu(affine) of every window of every utterance."""
    training = anew(tmp_path, epochs=1)
    training.run(1)
    first = next(m for m in training.strategy.modules() if isinstance(m, torch.nn.BatchNorm1d))
    seen: list[torch.Tensor] = []
    before = first.running_mean.clone()  # type: ignore[union-attr]
    hook = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    with statistics_anew(training.strategy, training.task, TRAIN, len(TRAIN), device=torch.device("cpu")):
        hook.remove()
        (values,) = seen
        torch.testing.assert_close(first.running_mean, values.mean(0))
        torch.testing.assert_close(first.running_var, values.var(0))
        assert training.strategy.training
    torch.testing.assert_close(first.running_mean, before, rtol=0, atol=0)
    assert first.momentum == 0.1


@pytest.mark.parametrize("select", ["best", "last"])
def test_resumed_with_statistics_anew(tmp_path: Path, select: str) -> None:
    whole = anew(tmp_path / "whole", select=select)
    expected = whole.run(4)
    anew(tmp_path / "parts", select=select).run(2)
    second = anew(tmp_path / "parts", select=select)
    assert second.resume()
    assert_same_readouts(second.run(4), expected)
    assert_same(second, whole)
    with pytest.raises(TrainingError, match="belongs to"):
        anew(tmp_path / "parts", "running", select=select).resume()
