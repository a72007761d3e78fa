"""SER_SR_DAT against its equation: the gradient reversed, the schedules of λ, the entropy loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny_strategies import (
    S,
    assert_same,
    draw,
    exactly,
    gradients,
    losses,
    make,
    only,
    train,
)

from unheard.errors import ConfigError
from unheard.training.strategies.dat import DATOptions, entropy, reverse_gradient


class TestDAT:
    @pytest.mark.parametrize("lam", [0.0, 0.3, 1.0, 2.5])
    def test_equation_1_as_a_saddle_point(self, lam: float) -> None:
        strategy, batch = make("dat", {"lam": lam}).double().train(), exactly()
        y, s = losses(strategy, batch.x, batch, True)
        (y.mean() - lam * s.mean()).backward(retain_graph=True)  # Eq. 1, for the embedding and the emotion head
        expected = {n: p.grad.clone() for n, p in strategy.named_parameters() if not n.startswith("speaker")}
        strategy.zero_grad()
        s.mean().backward()  # the speaker head minimises its loss at the full rate
        expected |= {n: p.grad.clone() for n, p in strategy.named_parameters() if n.startswith("speaker")}
        torch.testing.assert_close(gradients(strategy, batch), expected, rtol=1e-6, atol=1e-9)

    def test_terms_are_both_losses_whatever_lambda_is(self) -> None:
        strategy, batch = make("dat", {"lam": 0.7}).train(), draw()
        y, s = losses(strategy, batch.x, batch, True)
        terms = strategy(batch)
        torch.testing.assert_close(terms["emotion"], y.mean())
        torch.testing.assert_close(terms["speaker"], s.mean())

    def test_lambda_0_gives_the_baselines_embedding_gradient(self) -> None:
        one, other = gradients(make("dat", {"lam": 0.0}), draw()), gradients(make("ser"), draw())
        assert_same(only("embed", one), only("embed", other))
        assert_same(only("emotion", one), only("emotion", other))

    def test_lambda_minus_1_gives_mtls_gradients(self) -> None:
        assert_same(gradients(make("dat", {"lam": -1.0}), draw()), gradients(make("mtl"), draw()))

    def test_the_speaker_heads_gradient_does_not_depend_on_lambda(self) -> None:
        each = [only("speaker", gradients(make("dat", {"lam": lam}), draw())) for lam in (0.0, 0.1, 1.0, -1.0)]
        for other in each[1:]:
            assert_same(each[0], other)

    def test_lambda_0_trains_the_very_model_of_the_baseline(self) -> None:
        one = train(make("dat", {"lam": 0.0}, dropout=0.5), 5)
        other = train(make("ser", dropout=0.5), 5)
        assert_same(only("embed", one), only("embed", other))
        assert_same(only("emotion", one), only("emotion", other))

    def test_lambda_makes_a_difference(self) -> None:
        one, other = train(make("dat", {"lam": 1.0}), 2), train(make("ser"), 2)
        assert not torch.equal(one["embed.dense.affine.weight"], other["embed.dense.affine.weight"])

    @pytest.mark.parametrize("lam", [0.0, 0.3, 2.5])
    def test_entropy_instead_of_reversal(self, lam: float) -> None:
        """Li et al. 2020: the embedding minimises L_y - λ H of the head's posteriors, the head minimises L_s."""
        strategy, batch = make("dat", {"lam": lam, "loss": "entropy"}).double().train(), exactly()
        e = strategy.embed(batch.x, batch.lengths)
        y = torch.nn.functional.cross_entropy(strategy.emotion(e), batch.y)
        p = torch.softmax(strategy.speaker(e), 1)
        (y + lam * (p * p.log()).sum(1).mean()).backward(retain_graph=True)
        expected = {n: p.grad.clone() for n, p in strategy.named_parameters() if not n.startswith("speaker")}
        strategy.zero_grad()
        torch.nn.functional.cross_entropy(strategy.speaker(e.detach()), batch.s).backward()
        expected |= {n: p.grad.clone() for n, p in strategy.named_parameters() if n.startswith("speaker")}
        torch.testing.assert_close(gradients(strategy, batch), expected, rtol=1e-6, atol=1e-9)

    def test_entropy_leaves_the_heads_statistics_to_its_own_loss(self) -> None:
        one, other = (make("dat", {"lam": 1.0, "loss": loss}).train() for loss in ("entropy", "reversal"))
        for strategy in (one, other):
            strategy(draw())
        for (name, a), (_, b) in zip(one.named_buffers(), other.named_buffers(), strict=True):
            assert torch.equal(a, b), name

    def test_entropy_at_lambda_0_trains_the_very_model_of_the_baseline(self) -> None:
        one = train(make("dat", {"lam": 0.0, "loss": "entropy"}, dropout=0.5), 5)
        other = train(make("ser", dropout=0.5), 5)
        assert_same(only("embed", one), only("embed", other))

    def test_entropy_is_highest_where_nobody_can_be_told(self) -> None:
        assert entropy(torch.zeros(3, 8)) == pytest.approx(math.log(8))
        assert entropy(torch.tensor([[100.0, 0.0], [0.0, 100.0]])) == pytest.approx(0.0, abs=1e-6)

    def test_an_unknown_loss_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="entropy, reversal"):
            make("dat", {"loss": "hinge"})

    def test_reversal_layer(self) -> None:
        e = torch.randn(3, 4, requires_grad=True)
        out = reverse_gradient(e, 0.3)
        assert torch.equal(out, e)
        towards = torch.randn(3, 4)
        out.backward(towards)
        torch.testing.assert_close(e.grad, -0.3 * towards)

    @pytest.mark.parametrize(
        ("progress", "expected"), [(0.0, 0.0), (0.1, 0.46211716), (0.5, 0.98661430), (1.0, 0.99990920)]
    )
    def test_ganins_schedule(self, progress: float, expected: float) -> None:
        assert DATOptions(lam=1.0, schedule="ganin").at(progress) == pytest.approx(expected, abs=1e-8)
        assert DATOptions(lam=0.3, schedule="ganin").at(progress) == pytest.approx(0.3 * expected, abs=1e-8)

    def test_gamma_is_its_steepness(self) -> None:
        assert DATOptions(lam=1.0, schedule="ganin", gamma=3.0).at(0.5) == pytest.approx(2 / (1 + math.exp(-1.5)) - 1)

    def test_warm_up_then_the_schedule_on_the_rest(self) -> None:
        late, plain = DATOptions(lam=1.0, schedule="ganin", warmup=0.2), DATOptions(lam=1.0, schedule="ganin")
        assert late.at(0.0) == late.at(0.1999) == 0.0
        assert late.at(0.2) == 0.0
        assert late.at(0.6) == pytest.approx(plain.at(0.5))
        assert late.at(1.0) == pytest.approx(plain.at(1.0))
        constant = DATOptions(lam=0.4, warmup=0.2)
        assert [constant.at(p) for p in (0.0, 0.19, 0.2, 1.0)] == [0.0, 0.0, 0.4, 0.4]

    def test_the_cap_bounds_lambda(self) -> None:
        capped = DATOptions(lam=1.0, schedule="ganin", cap=0.25)
        assert capped.at(0.01) == DATOptions(lam=1.0, schedule="ganin").at(0.01)
        assert capped.at(0.5) == capped.at(1.0) == 0.25

    def test_constant_by_default(self) -> None:
        assert [DATOptions(lam=0.3).at(p) for p in (0.0, 0.5, 1.0)] == [0.3] * 3

    def test_the_schedule_follows_the_progress(self) -> None:
        strategy = make("dat", {"lam": 1.0, "schedule": "ganin"}).train()
        at_start = gradients(strategy, draw())
        assert strategy.observations()["lam"] == 0.0
        assert_same(only("embed", at_start), only("embed", gradients(make("ser").train(), draw())))
        strategy.progress = 0.5
        gradients(strategy, draw())
        assert strategy.observations()["lam"] == pytest.approx(0.98661430)

    def test_the_adversarys_figures_stand_beside_chance(self) -> None:
        strategy = make("dat").train()
        strategy(draw())
        noted = strategy.observations()
        assert noted["chance_entropy"] == pytest.approx(math.log(S))
        assert 0 <= noted["speaker_accuracy"] <= 1

    @pytest.mark.parametrize("wrong", [{"schedule": "linear"}, {"warmup": 1.0}, {"warmup": -0.1}])
    def test_options_out_of_range(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            make("dat", wrong)
