"""The network against plain references: the sizes of Table 1, and padding that never changes an output."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import references
import torch
from torch import Tensor, nn

from unheard.errors import ConfigError
from unheard.model.layers import Dropout, use_stream
from unheard.model.network import NETWORKS, EmbeddingNetwork, Head, NetworkSettings, initialised
from unheard.model.settings import LEAST_DROPOUT

FEATURES = 39
SMALL = NetworkSettings(tdnn=((10, 5, 2), (8, 3, 4)), lstm=8, dense=9, hidden=(7, 7), dropout=0.0)
ATTENTIVE = replace(SMALL, cell="gru", pooling="attentive")
LENGTHS = (40, 17, 1, 23, 16, 2, 60)


def embedding(settings: NetworkSettings = SMALL, features: int = 5, seed: int = 3) -> EmbeddingNetwork:
    """A network whose batch norms are not the identity: drawn weights, biases and running statistics."""
    net = initialised(EmbeddingNetwork, seed, features, settings)
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


def probabilities(net: nn.Module) -> list[float]:
    return sorted(layer.p for layer in net.modules() if isinstance(layer, Dropout))


class TestTable1:
    @pytest.mark.parametrize(
        ("preset", "speakers", "width", "with_norm", "without"),
        [("iemocap", 8, 512, 225_740, 225_484), ("mandarin", 200, 1024, 794_956, 794_444)],
    )
    def test_parameters_and_sizes(self, preset: str, speakers: int, width: int, with_norm: int, without: int) -> None:
        for rnn_bn, count in ((True, with_norm), (False, without)):
            settings = replace(NETWORKS[preset], rnn_bn=rnn_bn)
            net = EmbeddingNetwork(FEATURES, settings)
            heads = [Head(settings.embedding, settings.hidden, n, settings.dropout) for n in (4, speakers)]
            assert sum(p.numel() for part in (net, *heads) for p in part.parameters()) == count
        e = net(torch.randn(2, 20, FEATURES), torch.tensor([20, 20]))
        assert e.shape == (2, width) == (2, settings.embedding)
        assert heads[0](e).shape == (2, 4)

    def test_dropout_of_one_half_everywhere_but_before_the_outputs_and_batch_norm_is_pytorchs_own(self) -> None:
        net = EmbeddingNetwork(FEATURES, NETWORKS["iemocap"])
        assert probabilities(net) == [0.5] * 4
        assert probabilities(Head(512, (64, 64), 4, 0.5)) == [0.5] * 2
        for change in ({"rnn_dropout": False}, {"pooled_dropout": False}):
            assert probabilities(EmbeddingNetwork(FEATURES, NetworkSettings(**change))) == [0.0, *[0.5] * 3]
        assert replace(SMALL, dropout=0.5, head_dropout=0.25).dropout_of_heads == 0.25
        assert replace(SMALL, dropout=0.5).dropout_of_heads == 0.5
        norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm1d)]
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            *(({name: value}, name) for name, value in (
                ("padding", "full"), ("pooling", "mean"), ("cell", "rnn"), ("dropout", 1.0), ("dropout", -0.1),
            )),
            *(({name: 0.001}, f"{name} 0.001 is") for name in ("dropout", "head_dropout", "summary_dropout")),
        ],
    )  # fmt: skip
    def test_settings_out_of_range(self, wrong: dict[str, object], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            NetworkSettings(**wrong)  # type: ignore[arg-type]

    def test_the_smallest_dropout_that_masks_can_express(self) -> None:
        assert (Dropout(LEAST_DROPOUT)(torch.ones(100_000)) == 0).float().mean() == pytest.approx(1 / 256, rel=0.3)
        for name in ("dropout", "head_dropout", "summary_dropout"):
            assert getattr(NetworkSettings(**{name: LEAST_DROPOUT}), name) == LEAST_DROPOUT  # type: ignore[arg-type]


class TestAgainstPlainReference:
    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("rnn_bn", [False, True])
    @pytest.mark.parametrize("padding", ["valid", "same"])
    @pytest.mark.parametrize("cells", [6, 8])
    def test_embeddings_and_gradients(self, training: bool, rnn_bn: bool, padding: str, cells: int) -> None:
        net = embedding(replace(SMALL, rnn_bn=rnn_bn, padding=padding, lstm=cells)).train(training)
        x, lengths = draw(), torch.tensor(LENGTHS)
        expected = references.embed(net, references.utterances(x, lengths), training)
        towards = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0))
        (expected * towards).sum().backward()
        gradients = {name: p.grad.clone() for name, p in net.named_parameters()}
        net.zero_grad()
        e = net(x, lengths)
        (e * towards).sum().backward()
        torch.testing.assert_close(e, expected, rtol=1e-5, atol=1e-5)
        found = {name: p.grad for name, p in net.named_parameters()}
        torch.testing.assert_close(found, gradients, rtol=1e-3, atol=2e-4)


class TestPadding:
    @pytest.mark.parametrize("preset", ["small", "iemocap", "attentive"])
    def test_alone_and_in_any_batch(self, preset: str) -> None:
        net = embedding({"small": SMALL, "attentive": ATTENTIVE, **NETWORKS}[preset]).eval()
        lengths = torch.tensor(LENGTHS)
        together = net(draw(), lengths)
        for index, length in enumerate(LENGTHS):
            alone = net(draw()[index : index + 1, :length], lengths[index : index + 1])
            torch.testing.assert_close(alone[0], together[index], rtol=0, atol=1e-5)
        order = torch.tensor([4, 2, 6, 0])
        torch.testing.assert_close(net(draw()[order], lengths[order]), together[order], rtol=0, atol=1e-5)

    @pytest.mark.parametrize(("extra", "padding"), [(50, 0.0), (1, 1e9), (50, math.nan), (1, math.inf)])
    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    def test_training_sees_no_padding(self, dropout: float, extra: int, padding: float) -> None:
        values, slopes = [], []
        for x in (draw(), draw(extra=extra, padding=padding)):
            net = embedding(replace(SMALL, dropout=dropout)).train()
            use_stream(net, torch.Generator().manual_seed(1))
            x.requires_grad_()
            e = net(x, torch.tensor(LENGTHS))
            (e * torch.linspace(-1, 1, e.shape[1])).sum().backward()
            values.append((e, dict(net.named_buffers())))
            slopes.append((x.grad[:, : max(LENGTHS)], {n: p.grad for n, p in net.named_parameters()}))
        torch.testing.assert_close(*values, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)
        assert not any(row[length:].any() for row, length in zip(x.grad, LENGTHS, strict=True))

    @pytest.mark.parametrize("settings", [SMALL, ATTENTIVE])
    def test_evaluation_sees_no_padding(self, settings: NetworkSettings) -> None:
        net, lengths = embedding(settings).eval(), torch.tensor(LENGTHS)
        for garbage in (1e9, math.nan, math.inf):
            torch.testing.assert_close(net(draw(extra=9, padding=garbage), lengths), net(draw(), lengths))


@pytest.mark.parametrize("settings", [NETWORKS["iemocap"], replace(SMALL, summary=5, summary_width=3)])
def test_a_profile_is_a_mean_frame_and_is_subtracted(settings: NetworkSettings) -> None:
    network = initialised(EmbeddingNetwork, 0, FEATURES, settings).eval()
    x, lengths, profile = draw((60, 41, 23), FEATURES), torch.tensor([60, 41, 23]), draw((1,), FEATURES)[0]
    means = network.describe(x, lengths)
    assert means.shape == (3, network.features)
    assert torch.allclose(means[1], x[1, :41].mean(0), atol=1e-6)
    with torch.no_grad():
        plain = network(x, lengths)
        assert torch.allclose(network(x, lengths, profile), network(x - profile, lengths), atol=1e-5)
        assert torch.allclose(network(x, lengths, torch.zeros(1, FEATURES)), plain, atol=1e-6)
        assert not torch.allclose(network(x, lengths, profile), plain, atol=1e-3)


def test_functionals_bypass_the_frame_layers_and_are_dropped_in_training_only() -> None:
    settings = replace(SMALL, summary=5, summary_width=3, summary_dropout=0.5)
    network = initialised(EmbeddingNetwork, 0, FEATURES, settings)
    first, second = (network.train()(torch.ones(8, 40, FEATURES), torch.full((8,), 40))[:, 18:] for _ in range(2))
    assert not torch.equal(first, second)
    network = initialised(EmbeddingNetwork, 0, FEATURES, settings).eval()
    x, lengths = 3 * draw((50, 41, 23, 9), FEATURES), torch.tensor([50, 41, 23, 9])
    with torch.no_grad():
        e = network(x, lengths)
        assert e.shape == (4, settings.embedding) == (4, 2 * 9 + 3)
        assert torch.allclose(e[:, 18:], network.summary.affine(x[:, 0, 34:].clamp(-4, 4)), atol=1e-5)
        x[:, :, 34:] = 0
        assert torch.equal(network(x, lengths)[:, :18], e[:, :18])
    with pytest.raises(ConfigError, match="no frame features are left"):
        EmbeddingNetwork(5, settings)


def test_without_tdnn_and_bilstm_frames_are_pooled_as_they_are() -> None:
    net = embedding(replace(SMALL, tdnn=(), lstm=0)).eval()
    x, lengths = draw(), torch.tensor(LENGTHS)
    assert net.receptive_field == 1
    with torch.no_grad():
        for row, (frames, length) in zip(net(x, lengths), zip(x, LENGTHS, strict=True), strict=True):
            states = net.dense.norm(net.dense.affine(frames[:length]).relu())
            torch.testing.assert_close(row[:9], states.mean(0), atol=1e-5, rtol=1e-4)


def test_equal_weights_of_the_layers_are_their_mean() -> None:
    settings = NetworkSettings(layers=3, layer_width=4, dropout=0.0)
    mean = initialised(EmbeddingNetwork, 0, 4 + 2, NetworkSettings(dropout=0.0)).eval()
    weighing = initialised(EmbeddingNetwork, 0, 3 * 4 + 2, settings).eval()
    weighing.load_state_dict(mean.state_dict() | {"weighing.weights": torch.zeros(3)})
    x, lengths = torch.randn(2, 40, 14), torch.tensor([40, 25])
    x[1, 25:] = torch.nan
    averaged = torch.cat([x[:, :, :12].unflatten(2, (3, 4)).mean(2), x[:, :, 12:]], 2)
    torch.testing.assert_close(weighing(x, lengths), mean(averaged, lengths), rtol=1e-4, atol=1e-5)
