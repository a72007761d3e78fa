"""The recipe: the paper's values, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from unheard.errors import ConfigError
from unheard.training.recipe import Recipe


class TestRecipe:
    def test_the_papers(self) -> None:
        recipe = Recipe()
        assert (recipe.epochs, recipe.lr, recipe.momentum, recipe.nesterov) == (100, 1e-3, 0.9, True)
        assert (recipe.batch_size, recipe.weight_decay) == (32, 0.0)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"epochs": 0},
            {"batch_size": 2},
            {"lr": 0.0},
            {"lr": -1.0},
            {"lr": float("nan")},
            {"lr": float("inf")},
            {"momentum": 1.0},
            {"momentum": -0.1},
            {"weight_decay": -1e-3},
            {"weight_decay": float("inf")},
            {"precision": "fp16"},
            {"readouts": (20, 0)},
        ],
    )
    def test_out_of_range(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Recipe(**wrong)

    def test_nesterov_needs_a_momentum(self) -> None:
        with pytest.raises(ConfigError, match="momentum"):
            Recipe(momentum=0.0)
        assert Recipe(momentum=0.0, nesterov=False).momentum == 0.0

    @pytest.mark.parametrize(
        "unheard_of",
        [
            {"warmup": 0.1},
            {"warmup": 0.0, "optimizer": "adamw"},
            {"momentum": 0.5, "optimizer": "adamw"},
            {"nesterov": False, "optimizer": "adamw"},
        ],
    )
    def test_settings_that_nothing_would_hear(self, unheard_of: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=next(iter(unheard_of))):
            Recipe(**unheard_of)
        assert Recipe(warmup=0.1, schedule="onecycle").warmup == 0.1

    def test_budgets(self) -> None:
        assert Recipe(epochs=100).budgets == (100,)
        assert Recipe(epochs=100, readouts=(50, 20, 20, 100, 200)).budgets == (20, 50, 100)
