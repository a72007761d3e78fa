"""SER_SR_CGT against Eq. 2 to 4: what is perturbed, by how much, and what learns from it."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_strategies import (
    LENGTHS,
    NETWORK,
    C,
    F,
    S,
    assert_same,
    draw,
    exactly,
    gradients,
    losses,
    make,
    part,
    settled,
    train,
)
from torch import Tensor, nn

from unheard.errors import ConfigError
from unheard.training.strategies import Batch, StrategyConfig, build, resolve_options
from unheard.training.strategies.cgt import CGT

both_units = pytest.mark.parametrize("eps_mode", ["raw", "rms"])


def cgt(**options: Any) -> CGT:
    strategy = settled("cgt", options)
    assert isinstance(strategy, CGT)
    return strategy


def spied(strategy: CGT, batch: Batch) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The terms of one forward pass, and the inputs (B, T, F) of the embedding network during it."""
    inputs: list[Tensor] = []
    hook = strategy.embed.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    terms = strategy(batch)
    hook.remove()
    assert len(inputs) == 3  # one clean forward serves the clean losses and both gradients
    return terms, inputs


def slopes(strategy: CGT, batch: Batch) -> tuple[Tensor, Tensor]:
    """∇_X L_s and ∇_X L_y (B, T, F), each utterance alone in the plain reference."""
    of_s, of_y = torch.zeros_like(batch.x), torch.zeros_like(batch.x)
    for i, length in enumerate(batch.lengths.tolist()):
        alone = part(batch, [i])
        for index, out in ((1, of_s), (0, of_y)):
            x = alone.x[:, :length].clone().requires_grad_()
            losses(strategy, x, alone, training=False)[index].sum().backward()
            out[i, :length] = x.grad
    strategy.zero_grad()
    return of_s, of_y


class TestPerturbation:
    @pytest.mark.parametrize(("std", "scale"), [((1.0,) * F, 1e-9), ((0.1, 1.0, 5.0, 20.0, 3.0), 1.0)])
    def test_rms_moves_every_utterance_by_epsilon_standard_deviations(
        self, std: tuple[float, ...], scale: float
    ) -> None:
        strategy, batch = cgt(epsilon=0.3), exactly(extra=4)
        strategy.input_std.copy_(torch.tensor(std))
        strategy.speaker.output.weight.data.mul_(scale)
        _, (_, *moved) = spied(strategy, batch)
        for x, slope in zip(moved, slopes(strategy, batch), strict=True):
            for u, v, g, length in zip(x, batch.x, slope, LENGTHS, strict=True):
                step = ((u - v) / strategy.input_std)[:length]
                assert float(step.square().mean().sqrt()) == pytest.approx(0.3, rel=1e-5)
                standard = (g * strategy.input_std)[:length]  # dL/d(x/std)
                cosine = nn.functional.cosine_similarity(step.flatten(), standard.flatten(), 0, eps=1e-30)
                assert float(cosine) > 1 - 1e-9

    def test_functionals_count_once_and_not_in_every_frame(self) -> None:
        network = replace(NETWORK, dropout=0.0, summary=3, summary_dropout=0.0)
        strategy = build("cgt", StrategyConfig(F, C, S, network, 0), {"epsilon": 0.3}).double().eval()
        assert isinstance(strategy, CGT)
        batch = exactly()
        _, (_, *moved) = spied(strategy, batch)
        for x in moved:
            step = x - batch.x
            assert not step[:, 1:, F - 3 :].any()  # they are read in frame 0
            for i, length in enumerate(LENGTHS):
                read = torch.cat([step[i, :length, : F - 3].flatten(), step[i, 0, F - 3 :]])
                assert float(read.square().mean().sqrt()) == pytest.approx(0.3, rel=1e-6)

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_smoothing_does_not_reverse_it(self, smoothing: float) -> None:
        config = StrategyConfig(F, C, S, replace(NETWORK, dropout=0.0), 0, smoothing)
        strategy = build("cgt", config, {"epsilon": 0.05}).double().eval()
        assert isinstance(strategy, CGT)
        strategy.emotion.output.weight.data.mul_(40)  # posteriors near 0 and 1
        batch = exactly()
        terms, (_, _, x_y) = spied(strategy, batch)
        before, after = (strategy.logits(x, batch.lengths)[0] for x in (batch.x, x_y))
        lost = [nn.functional.cross_entropy(logits, batch.y, reduction="none") for logits in (after, before)]
        assert (lost[0] > lost[1]).all()
        expected = 0.5 * nn.functional.cross_entropy(before, batch.y, label_smoothing=smoothing)
        torch.testing.assert_close(terms["emotion"], expected)

    def test_without_a_slope_there_is_no_step(self) -> None:
        strategy, batch = cgt(), exactly()
        strategy.speaker.output.weight.data.zero_()
        terms, (_, x_s, _) = spied(strategy, batch)
        assert torch.equal(x_s, batch.x)
        assert all(torch.isfinite(term) for term in terms.values())

    @both_units
    def test_it_is_a_constant_and_spares_padding(self, eps_mode: str) -> None:
        batch = exactly(extra=6, padding=7.0)
        _, (_, *moved) = spied(cgt(eps_mode=eps_mode, epsilon=5.0), batch)
        for x in moved:
            assert x.grad_fn is None
            assert not x.requires_grad
            for u, length in zip(x, LENGTHS, strict=True):
                assert (u[length:] == 7.0).all()
                assert (u[:length] != 7.0).all()


class TestObjective:
    @pytest.mark.parametrize(
        ("alpha", "eps_mode", "training"),
        [(0.5, "rms", True), (0.5, "raw", False), (0.2, "rms", False), (0.2, "raw", True), (1.0, "rms", True)],
    )
    def test_the_update_is_equation_4(self, alpha: float, eps_mode: str, training: bool) -> None:
        epsilon = 0.3
        strategy, batch = cgt(alpha=alpha, eps_mode=eps_mode, epsilon=epsilon).train(training), exactly()
        x = batch.x.clone().requires_grad_()
        y, s = losses(strategy, x, batch, training)
        (of_s,) = torch.autograd.grad(s.sum(), x, retain_graph=True)
        (of_y,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
        if eps_mode == "rms":
            for of in (of_s, of_y):
                for i, length in enumerate(LENGTHS):
                    of[i] /= of[i, :length].square().mean().sqrt()
        x_s, x_y = (batch.x + epsilon * of_s).detach(), (batch.x + epsilon * of_y).detach()
        y_there, _ = losses(strategy, x_s, batch, training)
        _, s_there = losses(strategy, x_y, batch, training)
        loss = (1 - alpha) * (y.mean() + s.mean()) + alpha * (y_there.mean() + s_there.mean())
        loss.backward()
        expected = {name: p.grad.clone() for name, p in strategy.named_parameters()}
        terms = strategy(batch)
        torch.testing.assert_close(torch.stack(list(terms.values())).sum(), loss)
        torch.testing.assert_close(gradients(strategy, batch), expected, rtol=1e-6, atol=1e-9)

    def test_alpha_0_is_mtl_to_the_bit_and_others_are_not(self) -> None:
        one, other = make("cgt", {"alpha": 0.0}, dropout=0.5), make("mtl", dropout=0.5)
        weights, expected = train(one, 5), train(other, 5)
        del weights["input_std"]
        assert_same(weights, expected)
        for name, stream in one.streams().items():
            assert torch.equal(stream.get_state(), other.streams()[name].get_state())
        assert resolve_options("cgt")["alpha"] == 0.5  # the paper's
        changed = train(make("cgt", dropout=0.5), 5)
        assert not torch.equal(changed["embed.dense.affine.weight"], expected["embed.dense.affine.weight"])

    def test_running_statistics_follow_every_pass(self) -> None:
        strategy, plain = make("cgt").train(), make("mtl").train()
        assert isinstance(strategy, CGT)
        reference = copy.deepcopy(strategy.state_dict())
        _, inputs = spied(strategy, draw())
        plain.load_state_dict(reference, strict=False)
        with torch.no_grad():
            e, e_s, e_y = (plain.embed(x, draw().lengths) for x in inputs)
            for head, embeddings in ((plain.emotion, (e, e_s)), (plain.speaker, (e, e_y))):
                for embedding in embeddings:
                    head(embedding)
        expected = {n: v for n, v in plain.state_dict().items() if "running" in n}
        torch.testing.assert_close({n: strategy.state_dict()[n] for n in expected}, expected)

    def test_clean_statistics_follow_the_clean_pass_only_and_change_no_gradient(self) -> None:
        strategy, plain = make("cgt", {"clean_statistics": True}).train(), make("mtl").train()
        assert_same(gradients(strategy, draw()), gradients(make("cgt").train(), draw()))
        plain(draw())
        running = {name: values for name, values in plain.state_dict().items() if "running" in name}
        assert_same({name: strategy.state_dict()[name] for name in running}, running)


class TestFigures:
    def test_of_the_perturbation(self) -> None:
        strategy, batch = cgt(epsilon=0.3), exactly()
        _, (_, x_s, _) = spied(strategy, batch)
        noted = strategy.observations()
        assert noted["perturbation_rms"] == pytest.approx(0.3, rel=1e-4)
        gain = losses(strategy, x_s, batch, False)[1].mean() - losses(strategy, batch.x, batch, False)[1].mean()
        assert noted["speaker_gain"] == pytest.approx(float(gain.detach()), rel=1e-5)
        assert noted["speaker_gain"] > 0  # up the slope of the speaker loss

    @pytest.mark.parametrize("hidden", [(16, 16), ()])  # with and without dropout in the heads
    def test_they_do_not_change_the_training(self, hidden: tuple[int, ...]) -> None:
        one, other = (
            build("cgt", StrategyConfig(F, C, S, replace(NETWORK, dropout=0.5, hidden=hidden), 0)) for _ in range(2)
        )
        assert isinstance(other, CGT)
        other._observe_gain = lambda *_: None  # type: ignore[method-assign]
        both = [{n: v for n, v in train(each, 3).items() if "num_batches" not in n} for each in (one, other)]
        assert_same(*both)


@pytest.mark.parametrize("wrong", [{"eps_mode": "max"}, {"alpha": 1.1}, {"alpha": -0.1}, {"alpha": math.nan}])
def test_options_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make("cgt", wrong)
