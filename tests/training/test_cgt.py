"""SER_SR_CGT against Eq. 2 to 4: what is perturbed, by how much, and what learns from it."""

from __future__ import annotations

import copy
import math
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
from unheard.model.network import NetworkSettings
from unheard.training.strategies import Batch, Setting, build, resolve_options
from unheard.training.strategies.cgt import CGT


def spied(strategy: CGT, batch: Batch) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The terms of one forward pass, and the inputs (B, T, F) of the embedding network during it."""
    inputs: list[Tensor] = []
    hook = strategy.embed.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    terms = strategy(batch)
    hook.remove()
    return terms, inputs


def cgt(**options: Any) -> CGT:
    strategy = settled("cgt", options)
    assert isinstance(strategy, CGT)
    return strategy


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


class TestCGT:
    def test_raw_perturbations_are_equations_2_and_3(self) -> None:
        strategy, batch = cgt(eps_mode="raw", epsilon=2.0), exactly()
        _, (_, x_s, x_y) = spied(strategy, batch)
        of_s, of_y = slopes(strategy, batch)
        assert of_s.abs().max() > 1e-4
        torch.testing.assert_close(x_s - batch.x, 2.0 * of_s, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(x_y - batch.x, 2.0 * of_y, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("std", [1.0, None])
    def test_rms_moves_every_utterance_by_epsilon_standard_deviations(self, std: float | None) -> None:
        strategy, batch = cgt(epsilon=0.3), exactly(extra=4)
        strategy.input_std.copy_(torch.tensor([0.1, 1.0, 5.0, 20.0, 3.0]) if std is None else torch.ones(F))
        _, (_, *moved) = spied(strategy, batch)
        for x, slope in zip(moved, slopes(strategy, batch), strict=True):
            for u, v, g in zip(x, batch.x, slope, strict=True):
                length = int((g.abs().sum(1) > 0).nonzero().max()) + 1
                step = ((u - v) / strategy.input_std)[:length]
                assert float(step.square().mean().sqrt()) == pytest.approx(0.3, rel=1e-6)
                standard = (g * strategy.input_std)[:length]  # dL/d(x/std)
                assert float(nn.functional.cosine_similarity(step.flatten(), standard.flatten(), 0)) > 1 - 1e-9

    def test_rms_at_any_scale_of_the_loss(self) -> None:
        strategy, batch = cgt(epsilon=0.1), exactly()
        strategy.speaker.output.weight.data.mul_(1e-9)
        _, (_, x_s, _) = spied(strategy, batch)
        rms = [float((x_s - batch.x)[i, :n].square().mean().sqrt()) for i, n in enumerate(LENGTHS)]
        assert rms == pytest.approx([0.1] * len(LENGTHS), rel=1e-5)

    def test_a_summary_counts_once_and_not_in_every_frame(self) -> None:
        network = NetworkSettings(**{**vars(NETWORK), "dropout": 0.0, "summary": 3, "summary_dropout": 0.0})
        strategy = build("cgt", Setting(F, C, S, network, 0), {"epsilon": 0.3}).double().eval()
        assert isinstance(strategy, CGT)
        batch = exactly()
        _, (_, *moved) = spied(strategy, batch)
        for x in moved:
            step = x - batch.x
            assert torch.equal(step[:, 1:, F - 3 :], torch.zeros_like(step[:, 1:, F - 3 :]))  # it is read in frame 0
            for i, length in enumerate(LENGTHS):
                read = torch.cat([step[i, :length, : F - 3].flatten(), step[i, 0, F - 3 :]])
                assert float(read.square().mean().sqrt()) == pytest.approx(0.3, rel=1e-6)

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_smoothing_does_not_turn_a_perturbation_round(self, smoothing: float) -> None:
        network = NetworkSettings(**{**vars(NETWORK), "dropout": 0.0})
        strategy = build("cgt", Setting(F, C, S, network, 0, smoothing), {"epsilon": 0.05}).double().eval()
        assert isinstance(strategy, CGT)
        strategy.emotion.output.weight.data.mul_(40)  # very sure of itself
        batch = exactly()
        terms, (_, _, x_y) = spied(strategy, batch)
        before, after = (strategy.logits(x, batch.lengths)[0] for x in (batch.x, x_y))
        lost = nn.functional.cross_entropy(after, batch.y, reduction="none") - nn.functional.cross_entropy(
            before, batch.y, reduction="none"
        )
        assert (lost > 0).all()
        expected = 0.5 * nn.functional.cross_entropy(before, batch.y, label_smoothing=smoothing)
        torch.testing.assert_close(terms["emotion"], expected)

    def test_no_slope_no_step(self) -> None:
        strategy, batch = cgt(), exactly()
        strategy.speaker.output.weight.data.zero_()
        terms, (_, x_s, _) = spied(strategy, batch)
        assert torch.equal(x_s, batch.x)
        assert all(torch.isfinite(term) for term in terms.values())

    @pytest.mark.parametrize("eps_mode", ["raw", "rms"])
    def test_perturbations_are_constants(self, eps_mode: str) -> None:
        strategy = cgt(eps_mode=eps_mode)
        _, inputs = spied(strategy, exactly())
        assert len(inputs) == 3  # one clean forward serves the clean losses and both gradients
        for x in inputs[1:]:
            assert x.grad_fn is None
            assert not x.requires_grad

    @pytest.mark.parametrize("eps_mode", ["raw", "rms"])
    def test_padding_is_not_perturbed(self, eps_mode: str) -> None:
        batch = exactly(extra=6, padding=7.0)
        _, (_, *moved) = spied(cgt(eps_mode=eps_mode, epsilon=5.0), batch)
        for x in moved:
            for u, length in zip(x, batch.lengths.tolist(), strict=True):
                assert (u[length:] == 7.0).all()
                assert (u[:length] != 7.0).all()

    @pytest.mark.parametrize("eps_mode", ["raw", "rms"])
    def test_the_perturbation_does_not_depend_on_the_batch(self, eps_mode: str) -> None:
        strategy, batch = cgt(eps_mode=eps_mode), exactly()
        _, (_, *together) = spied(strategy, batch)
        for first in range(0, 8, 2):
            chosen = [first, first + 1]
            _, (_, *pair) = spied(strategy, part(batch, chosen))
            for x, expected in zip(pair, together, strict=True):
                torch.testing.assert_close(x - batch.x[chosen], (expected - batch.x)[chosen], rtol=1e-6, atol=1e-9)

    def test_nor_does_it_in_training_where_statistics_couple_the_utterances(self) -> None:
        strategy, batch = cgt(eps_mode="raw").train(), exactly()
        twice = part(batch, [*range(8), *range(8)])  # the same batch statistics from twice as many utterances
        _, (_, *once_moved) = spied(strategy, batch)
        _, (_, *twice_moved) = spied(strategy, twice)
        for x, expected in zip(twice_moved, once_moved, strict=True):
            assert (expected - batch.x).abs().max() > 1e-3
            for half in x.split(8):
                torch.testing.assert_close(half - batch.x, expected - batch.x, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("eps_mode", ["raw", "rms"])
    @pytest.mark.parametrize("alpha", [0.5, 0.2, 1.0])
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

    def test_alpha_0_is_mtl(self) -> None:
        one, other = make("cgt", {"alpha": 0.0}, dropout=0.5), make("mtl", dropout=0.5)
        weights, expected = train(one, 5), train(other, 5)
        del weights["input_std"]
        assert_same(weights, expected)
        for name, stream in one.streams().items():
            assert torch.equal(stream.get_state(), other.streams()[name].get_state())

    def test_alpha_makes_a_difference(self) -> None:
        one, other = train(make("cgt", {"alpha": 0.5}), 2), train(make("mtl"), 2)
        assert not torch.equal(one["embed.dense.affine.weight"], other["embed.dense.affine.weight"])

    def test_running_statistics_follow_every_pass(self) -> None:
        strategy = make("cgt").train()
        assert isinstance(strategy, CGT)
        reference = copy.deepcopy(strategy.state_dict())
        _, inputs = spied(strategy, draw())
        plain = make("mtl").train()
        plain.load_state_dict(reference, strict=False)
        with torch.no_grad():
            e, e_s, e_y = (plain.embed(x, draw().lengths) for x in inputs)
            plain.emotion(e)
            plain.emotion(e_s)
            plain.speaker(e)
            plain.speaker(e_y)
        expected = {n: v for n, v in plain.state_dict().items() if "running" in n}
        torch.testing.assert_close({n: strategy.state_dict()[n] for n in expected}, expected)

    def test_clean_statistics_follow_the_clean_pass_only(self) -> None:
        strategy, plain = make("cgt", {"clean_statistics": True}).train(), make("mtl").train()
        strategy(draw())
        plain(draw())
        for name, values in plain.state_dict().items():
            if "running" in name:
                assert torch.equal(strategy.state_dict()[name], values), name

    def test_clean_statistics_change_no_gradient(self) -> None:
        one, other = make("cgt", {"clean_statistics": True}).train(), make("cgt").train()
        assert_same(gradients(one, draw()), gradients(other, draw()))

    def test_figures_of_the_perturbation(self) -> None:
        strategy, batch = cgt(epsilon=0.3), exactly()
        _, (_, x_s, _) = spied(strategy, batch)
        noted = strategy.observations()
        assert noted["perturbation_rms"] == pytest.approx(0.3, rel=1e-4)
        gain = losses(strategy, x_s, batch, False)[1].mean() - losses(strategy, batch.x, batch, False)[1].mean()
        assert noted["speaker_gain"] == pytest.approx(float(gain.detach()), rel=1e-5)
        assert noted["speaker_gain"] > 0  # up the slope of the speaker loss

    def test_figures_steer_nothing(self) -> None:
        one, other = make("cgt", dropout=0.5), make("cgt", dropout=0.5)
        assert isinstance(other, CGT)
        other._observe_gain = lambda *_: None  # type: ignore[method-assign]
        both = [{n: v for n, v in train(each, 3).items() if "num_batches" not in n} for each in (one, other)]
        assert_same(*both)

    def test_the_papers_alpha(self) -> None:
        assert resolve_options("cgt")["alpha"] == 0.5

    @pytest.mark.parametrize("wrong", [{"eps_mode": "max"}, {"alpha": 1.1}, {"alpha": -0.1}, {"alpha": math.nan}])
    def test_options_out_of_range(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            make("cgt", wrong)
