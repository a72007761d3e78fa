"""The network against plain references: padding never changes an answer, and every layer is what it says."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import references
import torch
from torch import Tensor, nn

from unheard.errors import ConfigError
from unheard.model.layers import (
    TDNN,
    VARIANCE_FLOOR,
    BiLSTM,
    Dense,
    Dropout,
    Frames,
    frozen_statistics,
    mean_std_pooling,
    use_stream,
    valid_frames,
)
from unheard.model.network import NETWORKS, EmbeddingNetwork, Head, NetworkSettings, count_parameters, initialised

FEATURES = 39
SMALL = NetworkSettings(tdnn=((10, 5, 2), (8, 3, 4)), lstm=8, dense=9, hidden=(7, 7), dropout=0.0)
LENGTHS = (40, 17, 1, 23, 16, 2, 60)


def embedding(settings: NetworkSettings = SMALL, features: int = 5, seed: int = 3) -> EmbeddingNetwork:
    """A network whose batch norms are not the identity: drawn weights, biases and running statistics."""
    net = initialised(EmbeddingNetwork, seed, features, settings)
    assert isinstance(net, EmbeddingNetwork)
    generator = torch.Generator().manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm1d):
            for values in (layer.weight.data, layer.running_var):
                values.uniform_(0.5, 2.0, generator=generator)
            for values in (layer.bias.data, layer.running_mean):
                values.normal_(generator=generator)
    return net


def draw(lengths: tuple[int, ...] = LENGTHS, features: int = 5, extra: int = 0, padding: float = 0.0) -> Tensor:
    """A batch (B, max + extra, F) whose valid frames depend on the utterance's index only."""
    x = torch.full((len(lengths), max(lengths) + extra, features), padding)
    for index, length in enumerate(lengths):
        x[index, :length] = torch.randn(length, features, generator=torch.Generator().manual_seed(index))
    return x


def running(net: nn.Module) -> dict[str, Tensor]:
    return {name: values for name, values in net.state_dict().items() if "running" in name}


class TestTable1:
    @pytest.mark.parametrize(
        ("preset", "speakers", "rnn_bn", "count"),
        [
            ("iemocap", 8, True, 225_740),
            ("iemocap", 8, False, 225_484),
            ("mandarin", 200, True, 794_956),
            ("mandarin", 200, False, 794_444),
        ],
    )
    def test_parameters(self, preset: str, speakers: int, rnn_bn: bool, count: int) -> None:
        settings = NetworkSettings(**{**vars(NETWORKS[preset]), "rnn_bn": rnn_bn})
        width = settings.embedding
        parts = [
            EmbeddingNetwork(FEATURES, settings),
            Head(width, settings.hidden, 4, settings.dropout),
            Head(width, settings.hidden, speakers, settings.dropout),
        ]
        assert sum(map(count_parameters, parts)) == count

    @pytest.mark.parametrize(("preset", "width"), [("iemocap", 512), ("mandarin", 1024)])
    def test_sizes(self, preset: str, width: int) -> None:
        settings = NETWORKS[preset]
        assert settings.embedding == width
        e = EmbeddingNetwork(FEATURES, settings)(torch.randn(2, 20, FEATURES), torch.tensor([20, 20]))
        assert e.shape == (2, width)
        assert Head(width, settings.hidden, 4, 0.5)(e).shape == (2, 4)

    def test_each_utterance_gets_16_frames_shorter(self) -> None:
        net = embedding()
        frames = valid_frames(draw((17, 40)), torch.tensor([17, 40]), at_least=net.receptive_field)
        first, second = net.tdnn
        frames = first(frames)
        assert frames.lengths.tolist() == [17 - 8, 40 - 8]
        frames = second(frames)
        assert frames.lengths.tolist() == [17 - 16, 40 - 16]
        assert frames.values.shape == (1 + 24, 8)
        assert net.receptive_field == 17

    def test_drop_probability_is_one_half_and_every_layer_but_the_outputs_has_it(self) -> None:
        net = EmbeddingNetwork(FEATURES, NETWORKS["iemocap"])
        assert [layer.p for layer in net.modules() if isinstance(layer, Dropout)] == [0.5] * 4
        head = Head(512, (64, 64), 4, 0.5)
        assert [layer.p for layer in head.modules() if isinstance(layer, Dropout)] == [0.5] * 2

    def test_rnn_dropout_is_an_option(self) -> None:
        settings = NetworkSettings(rnn_dropout=False)
        net = EmbeddingNetwork(FEATURES, settings)
        assert sorted(layer.p for layer in net.modules() if isinstance(layer, Dropout) and layer.p) == [0.5] * 3

    def test_dropout_before_pooling_is_an_option(self) -> None:
        net = EmbeddingNetwork(FEATURES, NetworkSettings(pooled_dropout=False))
        assert net.dense.dropout.p == 0.0
        assert sorted(layer.p for layer in net.modules() if isinstance(layer, Dropout) and layer.p) == [0.5] * 3

    def test_batch_norm_is_pytorchs_own(self) -> None:
        for layer in EmbeddingNetwork(FEATURES, NETWORKS["iemocap"]).modules():
            if isinstance(layer, nn.BatchNorm1d):
                assert (layer.eps, layer.momentum) == (1e-5, 0.1)

    @pytest.mark.parametrize("wrong", [{"padding": "full"}, {"dropout": 1.0}, {"dropout": -0.1}])
    def test_settings_out_of_range(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            NetworkSettings(**wrong)  # type: ignore[arg-type]


class TestAgainstPlainReference:
    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("rnn_bn", [False, True])
    @pytest.mark.parametrize("padding", ["valid", "same"])
    @pytest.mark.parametrize("cells", [6, 8])
    def test_embeddings_and_gradients(self, training: bool, rnn_bn: bool, padding: str, cells: int) -> None:
        changes = {"rnn_bn": rnn_bn, "padding": padding, "lstm": cells}
        net = embedding(NetworkSettings(**{**vars(SMALL), **changes})).train(training)
        x, lengths = draw(), torch.tensor(LENGTHS)
        expected = references.embed(net, references.utterances(x, lengths), training)
        towards = torch.randn_like(expected)
        (expected * towards).sum().backward()
        gradients = {name: p.grad.clone() for name, p in net.named_parameters()}
        net.zero_grad()
        e = net(x, lengths)
        (e * towards).sum().backward()
        torch.testing.assert_close(e, expected, rtol=1e-5, atol=1e-5)
        for name, p in net.named_parameters():
            torch.testing.assert_close(p.grad, gradients[name], rtol=1e-3, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}")

    def test_one_utterance_at_a_time(self) -> None:
        net = embedding().eval()
        x, lengths = draw(), torch.tensor(LENGTHS)
        e = net(x, lengths)
        for row, u in zip(e, references.utterances(x, lengths), strict=True):
            torch.testing.assert_close(row, references.embed(net, [u])[0], rtol=1e-5, atol=1e-5)

    def test_full_size(self) -> None:
        net = embedding(NETWORKS["iemocap"], FEATURES).eval()
        x, lengths = draw((30, 3), FEATURES), torch.tensor([30, 3])
        expected = references.embed(net, references.utterances(x, lengths))
        torch.testing.assert_close(net(x, lengths), expected, rtol=1e-5, atol=1e-5)

    def test_running_statistics_follow_the_valid_frames(self) -> None:
        net = embedding().train()
        norm = net.tdnn[0].norm
        before = norm.running_mean.clone(), norm.running_var.clone()
        x, lengths = draw(), torch.tensor(LENGTHS)
        net(x, lengths)
        us = [references.repeat_edges(u, 17) for u in references.utterances(x, lengths)]
        affine = net.tdnn[0].affine
        frames = torch.cat(
            [nn.functional.conv1d(u.T[None], affine.weight, affine.bias, dilation=2)[0].T.relu() for u in us]
        )
        torch.testing.assert_close(norm.running_mean, 0.9 * before[0] + 0.1 * frames.mean(0))
        torch.testing.assert_close(norm.running_var, 0.9 * before[1] + 0.1 * frames.var(0, unbiased=True))

    @pytest.mark.parametrize("training", [False, True])
    def test_head(self, training: bool) -> None:
        head = Head(6, (5, 4), 3, 0.0).train(training)
        e = torch.randn(8, 6)
        torch.testing.assert_close(head(e), references.classify(head, e, training))


class TestPadding:
    @pytest.mark.parametrize("preset", ["small", "iemocap"])
    def test_alone_and_in_any_batch(self, preset: str) -> None:
        net = embedding({"small": SMALL, **NETWORKS}[preset]).eval()
        lengths = torch.tensor(LENGTHS)
        together = net(draw(), lengths)
        for index, length in enumerate(LENGTHS):
            alone = net(draw()[index : index + 1, :length], lengths[index : index + 1])
            torch.testing.assert_close(alone[0], together[index], rtol=0, atol=1e-5)
        order = torch.tensor([4, 2, 6, 0])
        torch.testing.assert_close(net(draw()[order], lengths[order]), together[order], rtol=0, atol=1e-5)

    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    @pytest.mark.parametrize("extra", [1, 50])
    @pytest.mark.parametrize("padding", [0.0, 1e9, math.nan, math.inf])
    def test_training_sees_no_padding(self, dropout: float, extra: int, padding: float) -> None:
        nets = [embedding(NetworkSettings(**{**vars(SMALL), "dropout": dropout})).train() for _ in range(2)]
        answers = []
        for net, x in zip(nets, [draw(), draw(extra=extra, padding=padding)], strict=True):
            use_stream(net, torch.Generator().manual_seed(1))
            x.requires_grad_()
            e = net(x, torch.tensor(LENGTHS))
            (e * torch.linspace(-1, 1, e.shape[1])).sum().backward()
            answers.append((e, x.grad, {n: p.grad for n, p in net.named_parameters()}, running(net)))
        (e, x_grad, grads, stats), (e2, x2_grad, grads2, stats2) = answers
        torch.testing.assert_close(e2, e, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(grads2, grads, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(stats2, stats, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(x2_grad[:, : max(LENGTHS)], x_grad, rtol=1e-4, atol=1e-5)
        for index, length in enumerate(LENGTHS):
            assert torch.equal(x2_grad[index, length:], torch.zeros_like(x2_grad[index, length:]))

    @pytest.mark.parametrize("garbage", [1e9, math.nan, math.inf])
    def test_evaluation_sees_no_padding(self, garbage: float) -> None:
        net = embedding().eval()
        lengths = torch.tensor(LENGTHS)
        torch.testing.assert_close(net(draw(extra=9, padding=garbage), lengths), net(draw(), lengths))

    @pytest.mark.parametrize("length", [1, 2, 16])
    def test_short_utterances_repeat_their_edge_frames(self, length: int) -> None:
        net = embedding().eval()
        (u,) = references.utterances(draw((length,)), torch.tensor([length]))
        missing = 17 - length
        long = torch.cat([u[:1]] * (missing // 2) + [u] + [u[-1:]] * (missing - missing // 2))
        assert len(long) == 17
        short = net(u[None], torch.tensor([length]))
        torch.testing.assert_close(short, net(long[None], torch.tensor([17])))

    def test_valid_frames(self) -> None:
        x = torch.arange(10.0).view(2, 5, 1)
        frames = valid_frames(x, torch.tensor([2, 5]))
        assert frames.values.flatten().tolist() == [0, 1, 5, 6, 7, 8, 9]
        assert frames.owner.tolist() == [0, 0, 1, 1, 1, 1, 1]
        assert frames.position().tolist() == [0, 1, 0, 1, 2, 3, 4]
        assert frames.starts.tolist() == [0, 2]
        longer = valid_frames(x, torch.tensor([2, 5]), at_least=5)
        assert longer.values.flatten().tolist() == [0, 0, 1, 1, 1, 5, 6, 7, 8, 9]
        assert longer.lengths.tolist() == [5, 5]

    def test_repeated_frames_gather_their_gradients(self) -> None:
        x = torch.randn(1, 2, 1, requires_grad=True)
        valid_frames(x, torch.tensor([2]), at_least=17).values.sum().backward()
        assert x.grad.flatten().tolist() == [8, 9]


class TestLayers:
    @pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
    @pytest.mark.parametrize("padding", ["valid", "same"])
    @pytest.mark.parametrize(("kernel", "dilation"), [(5, 2), (3, 4), (1, 1), (2, 3), (4, 1)])
    def test_tdnn_is_conv1d(self, padding: str, kernel: int, dilation: int) -> None:
        layer = TDNN(4, 6, kernel, dilation, 0.0, padding).train()
        lengths = (20, 13, 31)
        us = references.utterances(draw(lengths, 4), torch.tensor(lengths))
        out = layer(Frames(torch.cat(us), torch.tensor(lengths)))
        conv = nn.Conv1d(4, 6, kernel, dilation=dilation, padding=padding)
        conv.load_state_dict(layer.affine.state_dict())
        expected = [conv(u.T[None])[0].T.relu() for u in us]
        assert out.lengths.tolist() == [len(u) for u in expected]
        torch.testing.assert_close(out.values, references.normalise(layer.norm, torch.cat(expected), True))
        assert layer.shortens == 20 - len(expected[0])

    @pytest.mark.parametrize("cells", [3, 8, 64, 128])  # whatever kernel serves that many
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_bilstm_is_nn_lstm_on_packed_sequences(self, cells: int, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        rnn = BiLSTM(4, cells).to(dtype)
        lengths = (5, 1, 9, 2, 9)
        us = references.utterances(draw(lengths, 4).to(dtype), torch.tensor(lengths))
        both = []
        for reference in (False, True):
            values = torch.cat(us).requires_grad_()
            if reference:
                out = torch.cat(references.bilstm(rnn, list(values.split(list(lengths)))))
            else:
                out = rnn(Frames(values, torch.tensor(lengths)))
            rnn.zero_grad()
            (out * torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)).sum().backward()
            both.append((out, values.grad, {name: p.grad for name, p in rnn.named_parameters()}))
        torch.testing.assert_close(both[0], both[1], rtol=1e-5, atol=1e-5 if dtype is torch.float32 else 1e-12)

    def test_dense_is_affine_relu_norm(self) -> None:
        layer = Dense(4, 3, 0.0).train()
        x = torch.randn(9, 4)
        norm = nn.BatchNorm1d(3)
        torch.testing.assert_close(layer(x), norm(layer.affine(x).relu()))

    def test_dense_drops_after_the_norm(self) -> None:
        layer = Dense(4, 50, 0.5).train()
        assert 0.3 < (layer(torch.randn(40, 4)) == 0).float().mean() < 0.7  # a norm after it would fill the zeros

    def test_gradients_are_the_slopes(self) -> None:
        torch.manual_seed(0)
        lengths = torch.tensor([20, 3, 18])
        x = torch.randn(3, 20, 2, dtype=torch.float64, requires_grad=True)
        settings = NetworkSettings(tdnn=((3, 5, 2), (3, 3, 4)), lstm=2, dense=3, dropout=0.0)
        net = EmbeddingNetwork(2, settings).double().train()
        assert torch.autograd.gradcheck(net, (x, lengths), atol=1e-6)

    @pytest.mark.parametrize("layer", [TDNN(2, 3, 3, 2, 0.0), TDNN(2, 3, 3, 2, 0.0, "same"), BiLSTM(2, 2)])
    def test_gradients_of_one_layer(self, layer: nn.Module) -> None:
        layer = copy.deepcopy(layer).double().train()
        lengths = torch.tensor([7, 5])
        values = torch.randn(12, 2, dtype=torch.float64, requires_grad=True)
        parameters = tuple(layer.parameters())

        def run(values: Tensor, *_: Tensor) -> Tensor:
            out = layer(Frames(values, lengths))
            return out.values if isinstance(out, Frames) else out

        assert torch.autograd.gradcheck(run, (values, *parameters))

    def test_initialisation_draws_from_its_seed_alone(self) -> None:
        torch.manual_seed(11)
        state = torch.get_rng_state()
        one, same, other = (initialised(EmbeddingNetwork, seed, 5, SMALL).state_dict() for seed in (7, 7, 8))
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(7)
        plain = EmbeddingNetwork(5, SMALL).state_dict()
        for name, values in one.items():
            assert torch.equal(values, same[name])
            assert torch.equal(values, plain[name])
        assert not torch.equal(one["tdnn.0.affine.weight"], other["tdnn.0.affine.weight"])

    def test_initialisation_is_pytorchs_own(self) -> None:
        torch.manual_seed(5)
        net = EmbeddingNetwork(FEATURES, NETWORKS["iemocap"])
        torch.manual_seed(5)
        conv = nn.Conv1d(FEATURES, 128, 5, dilation=2)
        assert torch.equal(net.tdnn[0].affine.weight, conv.weight)
        bound = 1 / math.sqrt(64)  # nn.LSTM's uniform range
        for name, values in net.rnn.named_parameters():
            assert values.abs().max() <= bound, name
            assert float(values.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.15), name

    def test_frozen_statistics_stand_still_and_change_no_answer(self) -> None:
        net, same = embedding().train(), embedding().train()
        before = {name: values.clone() for name, values in running(net).items()}
        x, lengths = draw(), torch.tensor(LENGTHS)
        with frozen_statistics(net):
            e = net(x, lengths)
        assert torch.equal(e, same(x, lengths))
        torch.testing.assert_close(running(net), before, rtol=0, atol=0)
        net(x, lengths)
        torch.testing.assert_close(running(net), running(same), rtol=0, atol=0)

    def test_statistics_thaw_after_an_error(self) -> None:
        net = embedding()
        with pytest.raises(ZeroDivisionError), frozen_statistics(net):
            raise ZeroDivisionError
        assert {layer.momentum for layer in net.modules() if isinstance(layer, nn.BatchNorm1d)} == {0.1}


class TestPooling:
    def test_literal_formulas(self) -> None:
        lengths = (4, 1, 13)
        us = references.utterances(draw(lengths, 6), torch.tensor(lengths))
        pooled = mean_std_pooling(Frames(torch.cat(us), torch.tensor(lengths)))
        torch.testing.assert_close(pooled, torch.stack([references.pool(u) for u in us]))

    def test_visible_answer(self) -> None:
        pooled = mean_std_pooling(Frames(torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([2, 1])))
        assert pooled[0].tolist() == [2, 1]  # the biased deviation; the unbiased one is sqrt(2)
        assert pooled[1].tolist() == pytest.approx([7, math.sqrt(VARIANCE_FLOOR)])

    def test_a_constant_has_a_finite_slope(self) -> None:
        x = torch.full((5, 2), 3.0, requires_grad=True)
        pooled = mean_std_pooling(Frames(x, torch.tensor([5])))
        assert pooled[0, 2:].tolist() == pytest.approx([math.sqrt(1e-5)] * 2)
        pooled.sum().backward()
        assert torch.allclose(x.grad, torch.full_like(x, 1 / 5))

    def test_a_large_mean_costs_no_precision(self) -> None:
        x = torch.tensor([[9999.0], [10001.0]])
        assert mean_std_pooling(Frames(x, torch.tensor([2])))[0].tolist() == [10000.0, 1.0]

    def test_slopes(self) -> None:
        x = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda v: mean_std_pooling(Frames(v, torch.tensor([4, 5]))), (x,))


def test_a_voice_is_the_mean_frame_and_is_taken_away() -> None:
    network = initialised(EmbeddingNetwork, 0, 39, NETWORKS["iemocap"]).eval()
    generator = torch.Generator().manual_seed(1)
    x, lengths = torch.randn(3, 60, 39, generator=generator), torch.tensor([60, 41, 23])
    said = network.describe(x, lengths)
    assert said.shape == (3, network.features)
    assert torch.allclose(said[1], x[1, :41].mean(0), atol=1e-6)
    voice = torch.randn(1, 39, generator=generator)
    with torch.no_grad():
        assert torch.allclose(network(x, lengths, voice), network(x - voice, lengths), atol=1e-6)
        assert torch.allclose(network(x, lengths, torch.zeros(1, 39)), network(x, lengths), atol=1e-6)
        assert not torch.allclose(network(x, lengths, voice), network(x, lengths), atol=1e-3)


def test_a_summary_passes_the_frames_by() -> None:
    settings = replace(SMALL, summary=5, summary_width=3)
    network = initialised(EmbeddingNetwork, 0, FEATURES, settings).eval()
    generator = torch.Generator().manual_seed(1)
    x, lengths = 3 * torch.randn(4, 50, FEATURES, generator=generator), torch.tensor([50, 41, 23, 9])
    with torch.no_grad():
        e = network(x, lengths)
        assert e.shape == (4, settings.embedding) == (4, 2 * 9 + 3)
        told = torch.nn.functional.linear(x[:, 0, 34:].clamp(-4, 4), network.summary.affine.weight)
        assert torch.allclose(e[:, 18:], told + network.summary.affine.bias, atol=1e-5)
        other = x.clone()
        other[:, :, 34:] = 0
        assert torch.equal(network(other, lengths)[:, :18], e[:, :18])  # frames do not look at it
        # a voice shifts the summary as it shifts the frames
        voice = torch.randn(1, FEATURES, generator=generator)
        assert torch.allclose(network(x, lengths, voice), network(x - voice, lengths), atol=1e-5)
    assert network.features == FEATURES


def test_a_summary_is_dropped_in_training_only_and_frames_must_be_left() -> None:
    settings = replace(SMALL, summary=5, summary_width=3, summary_dropout=0.5)
    network = initialised(EmbeddingNetwork, 0, FEATURES, settings)
    x, lengths = torch.ones(8, 40, FEATURES), torch.full((8,), 40)
    first, second = (network.train()(x, lengths)[:, 18:] for _ in range(2))
    assert not torch.equal(first, second)
    with pytest.raises(ConfigError, match="no frame features are left"):
        initialised(EmbeddingNetwork, 0, 5, settings)
    assert replace(SMALL, dropout=0.5, head_dropout=0.25).dropout_of_heads == 0.25
    assert replace(SMALL, dropout=0.5).dropout_of_heads == 0.5
