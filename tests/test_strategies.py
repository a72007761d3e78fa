"""The strategies against their literal equations and limits; whatever the table names is tested."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import references
import torch
from torch import Tensor, nn

from unheard.errors import ConfigError
from unheard.experiments.work import balanced
from unheard.training.layers import Dropout
from unheard.training.network import NetworkSettings
from unheard.training.strategies import STRATEGIES, Batch, Setting, Strategy, build, resolve_options
from unheard.training.strategies.base import emotion_entropy, emotion_loss
from unheard.training.strategies.cgt import CGT
from unheard.training.strategies.dat import DATOptions, entropy, reverse_gradient

F, C, S = 5, 4, 3
NETWORK = NetworkSettings(tdnn=((8, 5, 2), (6, 3, 4)), lstm=8, dense=12, hidden=(16, 16), dropout=0.0)
LENGTHS = (20, 33, 9, 17, 25, 40, 18, 1)

every_strategy = pytest.mark.parametrize("key", STRATEGIES)


def make(key: str, options: Mapping[str, Any] | None = None, *, dropout: float = 0.0, seed: int = 0) -> Strategy:
    setting = Setting(F, C, S, NetworkSettings(**{**vars(NETWORK), "dropout": dropout}), seed)
    return build(key, setting, options)


def settled(key: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """In evaluation mode, where utterances are independent; batch norms not the identity; double precision."""
    strategy = make(key, options)
    generator = torch.Generator().manual_seed(1)
    for norm in strategy.modules():
        if isinstance(norm, nn.BatchNorm1d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(generator=generator).mul_(0.3)
            norm.running_var.uniform_(0.05, 0.3, generator=generator)
    return strategy.double().eval()


def draw(seed: int = 0, lengths: tuple[int, ...] = LENGTHS, extra: int = 0, padding: float = 0.0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.full((len(lengths), max(lengths) + extra, F), padding)
    for row, length in zip(x, lengths, strict=True):
        row[:length] = torch.randn(length, F, generator=generator)
    y = torch.randint(C, (len(lengths),), generator=generator)
    s = torch.randint(S, (len(lengths),), generator=generator)
    return Batch(x, torch.tensor(lengths), y, s)


def exactly(seed: int = 0, **how: Any) -> Batch:
    """The same batch in double precision."""
    batch = draw(seed, **how)
    return Batch(batch.x.double(), batch.lengths, batch.y, batch.s)


def part(batch: Batch, chosen: list[int]) -> Batch:
    return Batch(batch.x[chosen], batch.lengths[chosen], batch.y[chosen], batch.s[chosen])


def gradients(strategy: Strategy, batch: Batch) -> dict[str, Tensor]:
    """The gradient of the objective for every parameter that has one."""
    strategy.zero_grad()
    torch.stack(list(strategy(batch).values())).sum().backward()
    return {name: p.grad.clone() for name, p in strategy.named_parameters() if p.grad is not None}


def only(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {name: v for name, v in values.items() if name.startswith(f"{prefix}.")}
    assert found
    return found


def train(strategy: Strategy, steps: int) -> dict[str, Tensor]:
    """The weights after some steps of the paper's optimiser, faster; each on another batch."""
    strategy.train()
    optimizer = torch.optim.SGD(strategy.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    for step in range(steps):
        strategy.progress = step / steps
        optimizer.zero_grad()
        torch.stack(list(strategy(draw(step)).values())).sum().backward()
        optimizer.step()
    return strategy.state_dict()


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Equal to the bit."""
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def losses(strategy: Strategy, x: Tensor, batch: Batch, training: bool) -> tuple[Tensor, Tensor]:
    """L_y and L_s of each utterance (B,), by the plain references."""
    e = references.embed(strategy.embed, references.utterances(x, batch.lengths), training)
    y = references.cross_entropy(references.classify(strategy.emotion, e, training), batch.y)
    s = references.cross_entropy(references.classify(strategy.speaker, e, training), batch.s)
    return y, s


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
    def test_the_batch_is_left_as_it_was(self, key: str) -> None:
        strategy, batch, same = make(key).train(), draw(), draw()
        gradients(strategy, batch)
        assert torch.equal(batch.x, same.x)
        assert not batch.x.requires_grad
        assert batch.x.grad is None

    @every_strategy
    def test_forward_leaves_no_gradient_behind(self, key: str) -> None:
        strategy = make(key).train()
        strategy(draw())
        assert all(p.grad is None for p in strategy.parameters())
        for p in strategy.parameters():
            p.grad = torch.ones_like(p)
        strategy(draw())
        assert all(torch.equal(p.grad, torch.ones_like(p)) for p in strategy.parameters())

    @every_strategy
    def test_starts_as_the_baseline_does(self, key: str) -> None:
        weights, baseline = make(key, seed=4).state_dict(), make("ser", seed=4).state_dict()
        assert_same(only("embed", weights), only("embed", baseline))
        assert_same(only("emotion", weights), only("emotion", baseline))
        other = make(key, seed=5).state_dict()
        assert not torch.equal(weights["emotion.output.weight"], other["emotion.output.weight"])

    @every_strategy
    def test_first_masks_are_the_baselines(self, key: str) -> None:
        seen: list[list[Tensor]] = []
        for strategy in (make(key, dropout=0.5), make("ser", dropout=0.5)):
            outputs: list[Tensor] = []
            strategy.embed.register_forward_hook(lambda _, __, e, o=outputs: o.append(e))
            strategy.emotion.register_forward_hook(lambda _, __, e, o=outputs: o.append(e))
            strategy.train()(draw())
            seen.append(outputs[:2])
        for mine, baselines in zip(*seen, strict=True):
            assert torch.equal(mine, baselines)

    @every_strategy
    def test_the_seed_decides_everything(self, key: str) -> None:
        torch.manual_seed(1)
        first = train(make(key, dropout=0.5), 2)
        torch.manual_seed(2)
        assert_same(train(make(key, dropout=0.5), 2), first)

    @every_strategy
    def test_training_draws_from_its_own_streams(self, key: str) -> None:
        state = torch.get_rng_state()
        strategy = make(key, dropout=0.5)
        train(strategy, 1)
        assert torch.equal(torch.get_rng_state(), state)
        streams = list(strategy.streams().values())
        layers = [layer for layer in strategy.modules() if isinstance(layer, Dropout)]
        assert all(any(layer.generator is stream for stream in streams) for layer in layers)

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
        first = strategy.observations()
        assert all(math.isfinite(value) for value in first.values())
        assert 0 <= first["train_wa"] <= 1
        assert strategy.observations() == {}

    @every_strategy
    def test_an_unknown_option_says_which_one_was_meant(self, key: str) -> None:
        options = resolve_options(key)
        with pytest.raises(ConfigError, match=f"system '{key}' has no option 'speling'"):
            make(key, {"speling": 1})
        for name in options:
            with pytest.raises(ConfigError, match=f"Did you mean '{name}'\\?"):
                make(key, {f"{name}x": 1})

    @every_strategy
    def test_options_are_plain_values_with_defaults(self, key: str) -> None:
        options = resolve_options(key)
        assert resolve_options(key, options) == options
        assert all(isinstance(value, (bool, int, float, str, type(None))) for value in options.values())

    @every_strategy
    def test_logits_are_head_of_embedding(self, key: str) -> None:
        strategy, batch = settled(key), exactly()
        logits, e = strategy.logits(batch.x, batch.lengths)
        expected = references.embed(strategy.embed, references.utterances(batch.x, batch.lengths))
        torch.testing.assert_close(e, expected)
        torch.testing.assert_close(logits, references.classify(strategy.emotion, e))

    def test_an_unknown_system_says_which_one_was_meant(self) -> None:
        with pytest.raises(ConfigError, match=r"unknown system 'dta'.*Did you mean 'dat'\?"):
            make("dta")

    def test_the_papers_four(self) -> None:
        names = {key: STRATEGIES[key][0] for key in ("ser", "mtl", "dat", "cgt")}
        assert names == {"ser": "SER_only", "mtl": "SER_SR_MTL", "dat": "SER_SR_DAT", "cgt": "SER_SR_CGT"}

    def test_noted_figures_are_averaged(self) -> None:
        strategy = make("ser")
        strategy.observe(figure=1.0)
        strategy.observe(figure=torch.tensor(2.0))
        assert strategy.observations() == {"figure": 1.5}


class TestSER:
    def test_no_speaker_head_exists(self) -> None:
        assert {name.split(".")[0] for name in make("ser").state_dict()} == {"embed", "emotion"}

    def test_the_objective_is_the_emotion_loss(self) -> None:
        strategy, batch = make("mtl").train(), draw()
        (term,) = make("ser").train()(batch).values()
        torch.testing.assert_close(term, losses(strategy, batch.x, batch, True)[0].mean())

    def test_speakers_are_not_looked_at(self) -> None:
        batch = draw()
        nobody = Batch(batch.x, batch.lengths, batch.y, torch.full_like(batch.s, -1))
        assert_same(gradients(make("ser"), batch), gradients(make("ser"), nobody))


class TestMTL:
    @pytest.mark.parametrize("weight", [1.0, 0.3, 0.0])
    def test_the_literal_equation(self, weight: float) -> None:
        strategy, batch = make("mtl", {"weight": weight}).double().train(), exactly()
        y, s = losses(strategy, batch.x, batch, True)
        (y.mean() + weight * s.mean()).backward()
        expected = {name: p.grad.clone() for name, p in strategy.named_parameters()}
        torch.testing.assert_close(gradients(strategy, batch), expected, rtol=1e-6, atol=1e-9)

    def test_the_weight_is_one_by_default(self) -> None:
        assert resolve_options("mtl") == {"weight": 1.0}


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
        with pytest.raises(ConfigError, match="reversal or entropy"):
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


class TestClassWeights:
    """Every emotion has the same say in the loss, however many utterances it has."""

    @every_strategy
    def test_the_emotions_terms_are_weighted_means(self, key: str) -> None:
        weights = (0.5, 2.0, 1.25, 0.8)[:C]
        plain = make(key).eval()
        weighted = build(key, Setting(F, C, S, NetworkSettings(**{**vars(NETWORK), "dropout": 0.0}), 0, 0.0, weights))
        weighted.load_state_dict(plain.state_dict())
        batch = draw()
        logits, _ = plain.logits(batch.x, batch.lengths)
        each = nn.functional.cross_entropy(logits, batch.y, reduction="none")
        half = 0.5 if key == "cgt" else 1.0
        expected = half * (torch.tensor(weights)[batch.y] * each).mean()
        torch.testing.assert_close(weighted.eval()(batch)["emotion"], expected)

    def test_weighting_leaves_alone_what_smoothing_aims_at(self) -> None:
        """With 9 of one emotion to 1 of another, the loss of either is least where its own probability is 0.95."""
        setting = Setting(F, 2, S, NETWORK, 0, 0.1, balanced([0] * 9 + [1], 2))
        strategy = build("ser", setting)
        probabilities = torch.linspace(0.01, 0.99, 99)
        for emotion in (0, 1):
            other = torch.stack([probabilities, 1 - probabilities], 1)
            logits = (other if emotion == 0 else other.flip(1)).log()
            batch = Batch(torch.empty(0), torch.empty(0), torch.tensor([emotion]), torch.tensor([0]))
            losses = [float(emotion_entropy(strategy, row[None], batch)) for row in logits]
            assert float(probabilities[int(np.argmin(losses))]) == pytest.approx(0.95, abs=1e-6)

    def test_balanced_weights_make_every_emotion_matter_alike(self) -> None:
        emotions = [0] * 6 + [1] * 2 + [2] * 4
        weights = balanced(emotions, 4)
        assert [weights[k] * emotions.count(k) for k in range(4)] == pytest.approx([3, 3, 3, 0])


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


def test_the_emotion_loss_is_the_mean_cross_entropy() -> None:
    strategy, batch = make("ser"), draw()
    logits = torch.randn(8, C)
    expected = references.cross_entropy(logits, batch.y).mean()
    torch.testing.assert_close(emotion_loss(strategy, logits, batch), expected)
    accuracy = sum(int(row.argmax()) == int(y) for row, y in zip(logits, batch.y, strict=True)) / 8
    assert strategy.observations() == {"train_wa": pytest.approx(accuracy)}
