"""The strategies against their literal equations and limits; whatever the table names is tested."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import references
import torch
from tiny_strategies import NETWORK, C, F, S, assert_same, draw, exactly, gradients, losses, make, only, train
from torch import Tensor
from torch.nn.functional import cross_entropy

from unheard.errors import ConfigError
from unheard.model.layers import Dropout
from unheard.model.settings import NetworkSettings
from unheard.training.metrics import balanced_weights
from unheard.training.strategies import STRATEGIES, Batch, StrategyConfig, build, resolve_options
from unheard.training.strategies.base import emotion_cross_entropy, emotion_loss

every_strategy = pytest.mark.parametrize("key", STRATEGIES)


class TestEvery:
    @every_strategy
    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    def test_terms_are_finite_scalars_and_reach_every_parameter(self, key: str, dropout: float) -> None:
        strategy = make(key, dropout=dropout).train()
        terms = strategy(draw())
        assert terms
        assert all(term.shape == () and torch.isfinite(term) and term.requires_grad for term in terms.values())
        found = gradients(strategy, draw())
        assert found.keys() == dict(strategy.named_parameters()).keys()
        for name, gradient in found.items():
            assert torch.isfinite(gradient).all(), name
            assert gradient.abs().sum() > 0 or "bias" in name, name

    @every_strategy
    def test_forward_changes_neither_the_batch_nor_gradients(self, key: str) -> None:
        strategy, batch = make(key).train(), draw()
        strategy(batch)
        assert all(p.grad is None for p in strategy.parameters())
        for p in strategy.parameters():
            p.grad = torch.ones_like(p)
        strategy(batch)
        assert all(torch.equal(p.grad, torch.ones_like(p)) for p in strategy.parameters())
        assert torch.equal(batch.x, draw().x)
        assert not batch.x.requires_grad
        assert batch.x.grad is None

    @every_strategy
    def test_weights_and_first_masks_are_the_baselines(self, key: str) -> None:
        seen: list[list[Tensor]] = []
        strategies = make(key, dropout=0.5, seed=4), make("ser", dropout=0.5, seed=4)
        weights, baseline = (strategy.state_dict() for strategy in strategies)
        for part in ("embed", "emotion"):
            assert_same(only(part, weights), only(part, baseline))
        other = make(key, seed=5).state_dict()
        assert not torch.equal(weights["emotion.output.weight"], other["emotion.output.weight"])
        for strategy in strategies:
            outputs: list[Tensor] = []
            for part in (strategy.embed, strategy.emotion):
                part.register_forward_hook(lambda _, __, out, o=outputs: o.append(out))
            strategy.train()(draw())
            seen.append(outputs[:2])
        assert all(torch.equal(mine, baselines) for mine, baselines in zip(*seen, strict=True))

    @every_strategy
    def test_the_seed_decides_everything_by_streams_of_its_own(self, key: str) -> None:
        torch.manual_seed(1)
        state = torch.get_rng_state()
        strategy = make(key, dropout=0.5)
        first = train(strategy, 2)
        assert torch.equal(torch.get_rng_state(), state)
        layers = [layer for layer in strategy.modules() if isinstance(layer, Dropout)]
        streams = list(strategy.streams().values())
        assert all(any(layer.generator is stream for stream in streams) for layer in layers)
        torch.manual_seed(2)
        assert_same(train(make(key, dropout=0.5), 2), first)

    @every_strategy
    def test_padding_changes_nothing(self, key: str) -> None:
        clean, padded = make(key, dropout=0.5).train(), make(key, dropout=0.5).train()
        found, again = gradients(clean, draw()), gradients(padded, draw(extra=30, padding=math.nan))
        torch.testing.assert_close(again, found, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(padded.state_dict(), clean.state_dict(), rtol=1e-5, atol=1e-6)

    @every_strategy
    def test_observations_are_finite_means_and_then_forgotten(self, key: str) -> None:
        strategy = make(key).train()
        strategy(draw())
        strategy.observe(figure=1.0)
        strategy.observe(figure=torch.tensor(2.0))
        noted = strategy.observations()
        assert all(math.isfinite(value) for value in noted.values())
        assert 0 <= noted["train_wa"] <= 1
        assert noted["figure"] == 1.5
        assert strategy.observations() == {}

    @every_strategy
    def test_options_are_plain_values_and_an_unknown_one_says_which_was_meant(self, key: str) -> None:
        options = resolve_options(key)
        assert resolve_options(key, options) == options
        assert all(isinstance(value, (bool, int, float, str, type(None))) for value in options.values())
        with pytest.raises(ConfigError, match=f"system '{key}' has no option 'speling'"):
            make(key, {"speling": 1})
        for name in options:
            with pytest.raises(ConfigError, match=f"Did you mean '{name}'\\?"):
                make(key, {f"{name}x": 1})

    @every_strategy
    def test_class_weights_give_weighted_means(self, key: str) -> None:
        strategy = build(key, StrategyConfig(F, C, S, replace(NETWORK, dropout=0.0), 0)).eval()
        batch = draw()
        batch = replace(batch, w=torch.tensor((0.5, 2.0, 1.25, 0.8)[:C])[batch.y])
        each = cross_entropy(strategy.logits(batch.x, batch.lengths)[0], batch.y, reduction="none")
        expected = (0.5 if key == "cgt" else 1.0) * (batch.w * each).mean()
        torch.testing.assert_close(strategy(batch)["emotion"], expected)

    def test_the_papers_four_and_an_unknown_one(self) -> None:
        names = {key: STRATEGIES[key][0] for key in ("ser", "mtl", "dat", "cgt")}
        assert names == {"ser": "SER_only", "mtl": "SER_SR_MTL", "dat": "SER_SR_DAT", "cgt": "SER_SR_CGT"}
        with pytest.raises(ConfigError, match=r"unknown system 'dta'.*Did you mean 'dat'\?"):
            make("dta")


class TestSER:
    def test_the_objective_is_the_emotion_loss(self) -> None:
        strategy, batch = make("mtl").train(), draw()
        (term,) = make("ser").train()(batch).values()
        torch.testing.assert_close(term, losses(strategy, batch.x, batch, True)[0].mean())

    def test_there_is_no_speaker_head_and_speakers_are_not_read(self) -> None:
        assert {name.split(".")[0] for name in make("ser").state_dict()} == {"embed", "emotion"}
        batch = draw()
        nobody = Batch(batch.x, batch.lengths, batch.y, torch.full_like(batch.s, -1))
        assert_same(gradients(make("ser"), batch), gradients(make("ser"), nobody))


@pytest.mark.parametrize("weight", [1.0, 0.3, 0.0])
def test_mtl_is_the_literal_equation(weight: float) -> None:
    strategy, batch = make("mtl", {"weight": weight}).double().train(), exactly()
    y, s = losses(strategy, batch.x, batch, True)
    (y.mean() + weight * s.mean()).backward()
    expected = {name: p.grad.clone() for name, p in strategy.named_parameters()}
    torch.testing.assert_close(gradients(strategy, batch), expected, rtol=1e-6, atol=1e-9)
    assert resolve_options("mtl") == {"weight": 1.0}


class TestEmotionLoss:
    def test_it_is_the_mean_cross_entropy_and_notes_the_accuracy(self) -> None:
        strategy, batch, logits = make("ser"), draw(), torch.randn(8, C)
        expected = references.cross_entropy(logits, batch.y).mean()
        torch.testing.assert_close(emotion_loss(strategy, logits, batch), expected)
        accuracy = sum(int(row.argmax()) == int(y) for row, y in zip(logits, batch.y, strict=True)) / 8
        assert strategy.observations() == {"train_wa": pytest.approx(accuracy)}

    @every_strategy
    def test_members_learn_apart_and_answer_together(self, key: str) -> None:
        network = replace(NETWORK, dropout=0.0, hidden=(0,), members=4, dense=8)
        strategy, batch = build(key, StrategyConfig(F, C, S, network, 0)), draw()
        e = strategy.train().embed(batch.x, batch.lengths)
        per_member, head = strategy.emotion(e), strategy.emotion.output
        for m in range(4):  # channels 2m and 2m + 1 of the mean and of the standard deviation
            own = [2 * m, 2 * m + 1, 8 + 2 * m, 9 + 2 * m]
            torch.testing.assert_close(per_member[:, m], 4 * e[:, own] @ head.weight[:, own].T + head.bias)
        expected = torch.stack([cross_entropy(per_member[:, m], batch.y) for m in range(4)]).mean()
        torch.testing.assert_close(strategy(batch)["emotion"], (0.5 if key == "cgt" else 1.0) * expected)
        torch.testing.assert_close(strategy.eval().emotion(e), per_member.mean(1))

    @pytest.mark.parametrize("other", [{"hidden": (4,)}, {"dense": 6}, {"summary": 2}])
    def test_members_need_equal_parts_and_a_linear_head(self, other: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="4 members of the emotion head need a linear head"):
            NetworkSettings(**{"hidden": (), "dense": 8, "members": 4, **other})

    @pytest.mark.parametrize("emotion", [0, 1])
    def test_class_weights_do_not_change_the_target_of_smoothing(self, emotion: int) -> None:
        """With 9 of one emotion to 1 of the other, the loss of either is least where its own probability is 0.95."""
        strategy = build("ser", StrategyConfig(F, 2, S, NETWORK, 0, 0.1))
        weight = balanced_weights({str(i): i // 9 for i in range(10)})[str(9 * emotion)]
        p = torch.linspace(0.01, 0.99, 99)
        logits = torch.stack([p, 1 - p] if emotion == 0 else [1 - p, p], 1).log()
        batch = Batch(
            torch.empty(0), torch.empty(0), torch.tensor([emotion]), torch.tensor([0]), torch.tensor([weight])
        )
        values = [float(emotion_cross_entropy(strategy, row[None], batch)) for row in logits]
        assert float(p[int(np.argmin(values))]) == pytest.approx(0.95, abs=1e-6)

    def test_balanced_weights_give_every_emotion_of_every_corpus_the_same_share(self) -> None:
        emotions = {f"{i}": ("one", 0) if i < 6 else ("one", 1) if i < 8 else ("other", 0) for i in range(12)}
        weights = balanced_weights(emotions)
        for pair in set(emotions.values()):
            assert sum(weights[name] for name in emotions if emotions[name] == pair) == pytest.approx(4)
