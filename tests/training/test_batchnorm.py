"""Evaluation with batch norm re-estimated: what is evaluated changes, the training does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import (
    BOTH,
    CPU,
    TRAIN,
    assert_same,
    assert_same_readouts,
    assert_same_scores,
    assert_same_tensors,
    strategy,
    tiny,
)

from unheard.errors import TrainingError
from unheard.training.evaluation import reestimated_batchnorm, score
from unheard.training.recipe import TrainingSettings
from unheard.training.trainer import AS_WRITTEN, REESTIMATED, Trainer


def trainer(
    folder: Path, batchnorm: str, select: str = "best", decision: str = "likeliest", key: str = "dat"
) -> Trainer:
    recipe = TrainingSettings(epochs=4, batch_size=5, lr=0.05, batchnorm=batchnorm, select=select, decision=decision)
    return Trainer(strategy(key), tiny()[0], TRAIN, BOTH, recipe, folder, key=(0, 0))


@pytest.mark.parametrize("key", ["dat", "cgt"])
@pytest.mark.parametrize("select", ["best", "last"])
@pytest.mark.parametrize("decision", ["likeliest", "both"])
def test_both_is_as_written_and_the_last_epoch_reestimated(
    key: str, select: str, decision: str, tmp_path: Path
) -> None:
    both, written, anew = (
        trainer(tmp_path / name, name, how, decision, key)
        for name, how in (("both", select), ("running", select), ("reestimate", "last"))
    )
    both.run(2)  # evaluating in between changes nothing
    again = trainer(tmp_path / "both", "both", select, decision, key)
    assert again.resume()
    evaluations = again.run(4)
    assert [(e.mode, e.direction, e.selected) for e in evaluations] == [
        (mode, direction.name, selected)
        for mode, selected in ((AS_WRITTEN, select == "best"), (REESTIMATED, False))
        for direction in BOTH
    ]
    as_written, reestimated = written.run(4), anew.run(4)
    assert_same_readouts(evaluations, [*as_written, *reestimated])
    assert_same(again, written)
    assert_same_tensors(again.strategy.state_dict(), anew.strategy.state_dict())
    assert not np.allclose(as_written[0].test.logits, reestimated[0].test.logits)
    for evaluation in evaluations:  # the weights it comes with give its scores
        again.strategy.load_state_dict(dict(evaluation.weights))
        assert_same_scores(score(again.strategy, again.task, evaluation.test.ids, device=CPU), evaluation.test)


def test_reestimated_statistics_are_those_of_the_training_utterances_without_dropout(tmp_path: Path) -> None:
    """One batch of all: the first norm sees relu(affine) of every window of every utterance."""
    training = trainer(tmp_path, "reestimate")
    training.run(1)
    first = next(m for m in training.strategy.modules() if isinstance(m, torch.nn.BatchNorm1d))
    seen: list[torch.Tensor] = []
    before = first.running_mean.clone()  # type: ignore[union-attr]
    hook = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    with reestimated_batchnorm(training.strategy, training.task, TRAIN, len(TRAIN), device=CPU):
        hook.remove()
        (values,) = seen
        torch.testing.assert_close(first.running_mean, values.mean(0))
        torch.testing.assert_close(first.running_var, values.var(0))
        assert training.strategy.training
    torch.testing.assert_close(first.running_mean, before, rtol=0, atol=0)
    assert first.momentum == 0.1


@pytest.mark.parametrize("select", ["best", "last"])
def test_resumed_with_reestimated_validation(tmp_path: Path, select: str) -> None:
    whole = trainer(tmp_path / "whole", "reestimate", select)
    expected = whole.run(4)
    trainer(tmp_path / "parts", "reestimate", select).run(2)
    second = trainer(tmp_path / "parts", "reestimate", select)
    assert second.resume()
    assert_same_readouts(second.run(4), expected)
    assert_same(second, whole)
    if select == "best":
        assert [e.dev.wa for e in expected] == [whole.best[e.direction].wa for e in expected]
    with pytest.raises(TrainingError, match="belongs to"):
        trainer(tmp_path / "parts", "running", select).resume()
