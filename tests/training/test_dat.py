"""SER_SR_DAT against its equation: the gradient reversed, the schedules of λ, the entropy loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny_strategies import S, assert_same, draw, exactly, gradients, losses, make, only, train

from unheard.errors import ConfigError
from unheard.training.strategies.dat import DATOptions, entropy

every_loss = pytest.mark.parametrize("loss", ["reversal", "entropy"])


class TestEquations:
    @every_loss
    @pytest.mark.parametrize("lam", [0.0, 0.3, 1.0, 2.5])
    def test_the_embedding_works_against_the_speaker_head(self, lam: float, loss: str) -> None:
        """Eq. 1 as a saddle point; or Li et al. 2020: the embedding minimises L_y - λ H of the head's posteriors."""
        strategy, batch = make("dat", {"lam": lam, "loss": loss}).double().train(), exactly()
        y, s = (each.mean() for each in losses(strategy, batch.x, batch, True))
        p = torch.softmax(strategy.speaker(strategy.embed(batch.x, batch.lengths)), 1)
        against = -s if loss == "reversal" else (p * p.log()).sum(1).mean()
        (y + lam * against).backward(retain_graph=True)
        expected = {n: p.grad.clone() for n, p in strategy.named_parameters() if not n.startswith("speaker")}
        strategy.zero_grad()
        s.backward()  # the speaker head minimises its loss at the full rate
        expected |= {n: p.grad.clone() for n, p in strategy.named_parameters() if n.startswith("speaker")}
        torch.testing.assert_close(gradients(strategy, batch), expected, rtol=1e-6, atol=1e-9)
        terms = strategy(batch)  # both losses, whatever λ is
        torch.testing.assert_close([terms["emotion"], terms["speaker"]], [y, s])

    def test_the_heads_statistics_follow_its_own_loss_only(self) -> None:
        one, other = (make("dat", {"lam": 1.0, "loss": loss}).train() for loss in ("entropy", "reversal"))
        for strategy in (one, other):
            strategy(draw())
        assert_same(dict(one.named_buffers()), dict(other.named_buffers()))

    def test_entropy_is_highest_for_equal_posteriors(self) -> None:
        assert entropy(torch.zeros(3, 8)) == pytest.approx(math.log(8))
        assert entropy(torch.tensor([[100.0, 0.0], [0.0, 100.0]])) == pytest.approx(0.0, abs=1e-6)


@every_loss
def test_lambda_0_trains_the_baselines_model_to_the_bit(loss: str) -> None:
    one, other = make("dat", {"lam": 0.0, "loss": loss}), make("ser")
    assert_same(only("embed", gradients(one, draw())), only("embed", gradients(other, draw())))
    trained = [
        train(each, 5) for each in (make("dat", {"lam": 0.0, "loss": loss}, dropout=0.5), make("ser", dropout=0.5))
    ]
    for part in ("embed", "emotion"):
        assert_same(only(part, trained[0]), only(part, trained[1]))
    assert not torch.equal(train(make("dat", {"lam": 1.0, "loss": loss}), 2)["embed.dense.affine.weight"],
                           train(make("ser"), 2)["embed.dense.affine.weight"])  # fmt: skip


class TestSchedule:
    def test_ganins_whose_steepness_is_gamma(self) -> None:
        for progress, expected in {0.0: 0.0, 0.1: 0.46211716, 0.5: 0.98661430, 1.0: 0.99990920}.items():
            assert DATOptions(lam=1.0, schedule="ganin").at(progress) == pytest.approx(expected, abs=1e-8)
            assert DATOptions(lam=0.3, schedule="ganin").at(progress) == pytest.approx(0.3 * expected, abs=1e-8)
            assert DATOptions(lam=0.3).at(progress) == 0.3
        assert DATOptions(lam=1.0, schedule="ganin", gamma=3.0).at(0.5) == pytest.approx(2 / (1 + math.exp(-1.5)) - 1)

    def test_warm_up_then_the_schedule_on_the_rest(self) -> None:
        late, plain = DATOptions(lam=1.0, schedule="ganin", warmup=0.2), DATOptions(lam=1.0, schedule="ganin")
        assert [late.at(p) for p in (0.0, 0.1999, 0.2)] == [0.0] * 3
        assert [late.at(p) for p in (0.6, 1.0)] == pytest.approx([plain.at(p) for p in (0.5, 1.0)])
        assert [DATOptions(lam=0.4, warmup=0.2).at(p) for p in (0.0, 0.19, 0.2, 1.0)] == [0.0, 0.0, 0.4, 0.4]

    def test_the_cap_bounds_lambda(self) -> None:
        capped = DATOptions(lam=1.0, schedule="ganin", cap=0.25)
        assert capped.at(0.01) == DATOptions(lam=1.0, schedule="ganin").at(0.01)
        assert capped.at(0.5) == capped.at(1.0) == 0.25

    def test_it_follows_the_progress_and_is_noted_beside_chance(self) -> None:
        strategy = make("dat", {"lam": 1.0, "schedule": "ganin"}).train()
        at_start = gradients(strategy, draw())
        noted = strategy.observations()
        assert (noted["lam"], noted["chance_entropy"]) == (0.0, pytest.approx(math.log(S)))
        assert 0 <= noted["speaker_accuracy"] <= 1
        assert_same(only("embed", at_start), only("embed", gradients(make("ser").train(), draw())))
        strategy.progress = 0.5
        strategy(draw())
        assert strategy.observations()["lam"] == pytest.approx(0.98661430)


@pytest.mark.parametrize("wrong", [{"schedule": "linear"}, {"warmup": 1.0}, {"warmup": -0.1}, {"loss": "hinge"}])
def test_options_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make("dat", wrong)
