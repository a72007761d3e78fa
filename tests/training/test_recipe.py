"""The training settings: the paper's values, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from unheard.errors import ConfigError
from unheard.training.recipe import TrainingSettings


def test_the_papers_values() -> None:
    recipe = TrainingSettings()
    assert (recipe.epochs, recipe.lr, recipe.momentum, recipe.nesterov) == (100, 1e-3, 0.9, True)
    assert (recipe.batch_size, recipe.weight_decay) == (32, 0.0)
    assert TrainingSettings(momentum=0.0, nesterov=False).momentum == 0.0
    assert TrainingSettings(warmup=0.1, schedule="onecycle").warmup == 0.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs"),
        ({"updates": 0}, "updates = 0 is out of range. Give a number at least 1"),
        ({"updates": 1.5}, "updates"),
        ({"batch_size": 2}, "batch_size"),
        ({"lr": 0.0}, "lr = 0.0 is out of range. Give a number above 0"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": float("inf")}, "lr"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": -0.1}, "momentum"),
        ({"weight_decay": -1e-3}, "weight_decay"),
        ({"precision": "fp16"}, "precision"),
        ({"decision": "best"}, "unknown decision 'best'"),
        ({"report_epochs": (20, 0)}, "report_epochs"),
        ({"momentum": 0.0}, "Nesterov needs a momentum"),
        ({"warmup": 0.1}, "warmup = 0.1 has no effect"),
        ({"warmup": 0.0, "optimizer": "adamw"}, "warmup"),
        ({"momentum": 0.5, "optimizer": "adamw"}, "momentum"),
        ({"nesterov": False, "optimizer": "adamw"}, "nesterov"),
        ({"schedule": "onecycle", "report_epochs": (5,)}, "does not contain a shorter one"),
        ({"class_weights": "balanced", "decision": "even"}, "both compensate"),
    ],
)
def test_out_of_range_or_contradictory(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingSettings(**wrong)


def test_budgets() -> None:
    assert TrainingSettings(epochs=100).budgets == (100,)
    assert TrainingSettings(epochs=100, report_epochs=(50, 20, 20, 100, 200)).budgets == (20, 50, 100)


@pytest.mark.parametrize(
    ("updates", "utterances", "epochs"),
    [(None, 9_999, 40), (1100, 339, 40), (1100, 3_500, 10), (1100, 3_521, 10), (1100, 3_489, 10), (1, 3_500, 1)],
)
def test_updates_limit_the_epochs(updates: int | None, utterances: int, epochs: int) -> None:
    """Rounded up: 3,500 utterances are 110 batches of 32, 3,521 are 111, 3,489 are 110."""
    assert TrainingSettings(epochs=40, updates=updates).limited(utterances).epochs == epochs
