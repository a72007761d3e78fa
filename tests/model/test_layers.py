"""Layers against PyTorch's own and literal formulas; dropout whose masks come from a random stream of its own."""

from __future__ import annotations

import copy
import math

import pytest
import references
import torch
from torch import Tensor, nn

from unheard.model.layers import (
    TDNN,
    VARIANCE_FLOOR,
    AttentivePooling,
    BiLSTM,
    Dense,
    Dropout,
    Frames,
    frozen_statistics,
    mean_std_pooling,
    use_stream,
)


def draw(lengths: tuple[int, ...], features: int = 4) -> list[Tensor]:
    """Utterances (T, F)."""
    return [torch.randn(n, features, generator=torch.Generator().manual_seed(i)) for i, n in enumerate(lengths)]


class TestLayers:
    @pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
    @pytest.mark.parametrize("padding", ["valid", "same"])
    @pytest.mark.parametrize(("kernel", "dilation"), [(5, 2), (3, 4), (1, 1), (2, 3), (4, 1)])
    def test_tdnn_is_conv1d(self, padding: str, kernel: int, dilation: int) -> None:
        layer, us = TDNN(4, 6, kernel, dilation, 0.0, padding).train(), draw((20, 13, 31))
        out = layer(Frames(torch.cat(us), torch.tensor([20, 13, 31])))
        conv = nn.Conv1d(4, 6, kernel, dilation=dilation, padding=padding)
        conv.load_state_dict(layer.affine.state_dict())
        expected = [conv(u.T[None])[0].T.relu() for u in us]
        assert out.lengths.tolist() == [len(u) for u in expected]
        torch.testing.assert_close(out.values, references.normalise(layer.norm, torch.cat(expected), True))
        assert layer.shortens == 20 - len(expected[0])

    def test_gru_is_nn_gru_on_each_utterance(self) -> None:
        torch.manual_seed(0)
        rnn, us = BiLSTM(4, 8, "gru"), draw((5, 1, 9))
        expected = [torch.cat([rnn.ahead(u)[0], rnn.back(u.flip(0))[0].flip(0)], 1) for u in us]
        torch.testing.assert_close(rnn(Frames(torch.cat(us), torch.tensor([5, 1, 9]))), torch.cat(expected))

    def test_dense_is_affine_relu_norm_dropout(self) -> None:
        layer, x = Dense(4, 3, 0.0).train(), torch.randn(9, 4)
        torch.testing.assert_close(layer(x), nn.BatchNorm1d(3)(layer.affine(x).relu()))
        dropped = Dense(4, 50, 0.5).train()(torch.randn(40, 4)) == 0  # a norm after dropout would fill the zeros
        assert 0.3 < dropped.float().mean() < 0.7

    def test_frozen_statistics_stand_still_and_change_no_output(self) -> None:
        layer, x = Dense(4, 3, 0.0).train(), torch.randn(9, 4)
        before, same = copy.deepcopy(layer.state_dict()), copy.deepcopy(layer)
        with frozen_statistics(layer):
            assert torch.equal(layer(x), same(x))
        before["norm.num_batches_tracked"] += 1
        torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)
        with pytest.raises(ZeroDivisionError), frozen_statistics(layer):
            raise ZeroDivisionError
        layer(x)  # and afterwards, also after an error, they are updated again
        torch.testing.assert_close(layer.norm.running_mean, same.norm.running_mean, rtol=0, atol=0)


class TestAttentivePooling:
    def test_literal_formulas(self) -> None:
        """Okabe et al. 2018, Eq. 2 to 5, in double precision."""
        torch.manual_seed(0)
        layer, us = AttentivePooling(6, 5).double(), [u.double() for u in draw((4, 1, 13), 6)]
        pooled = layer(Frames(torch.cat(us), torch.tensor([4, 1, 13])))
        for u, found in zip(us, pooled, strict=True):
            e = torch.stack(
                [layer.score.weight[0] @ torch.tanh(layer.affine.weight @ h + layer.affine.bias) for h in u]
            )
            alpha = e.exp() / e.exp().sum()
            mean = sum(a * h for a, h in zip(alpha, u, strict=True))
            square = sum(a * h * h for a, h in zip(alpha, u, strict=True))
            deviation = (square - mean * mean).clamp(min=VARIANCE_FLOOR).sqrt()
            torch.testing.assert_close(found, torch.cat([mean, deviation]))


def test_statistics_pooling() -> None:
    pooled = mean_std_pooling(Frames(torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([2, 1])))
    assert pooled[0].tolist() == [2, 1]  # the biased deviation; the unbiased one is sqrt(2)
    assert pooled[1].tolist() == pytest.approx([7, math.sqrt(VARIANCE_FLOOR)])
    large = mean_std_pooling(Frames(torch.tensor([[9999.0], [10001.0]]), torch.tensor([2])))
    assert large[0].tolist() == [10000.0, 1.0]


class TestDropout:
    @pytest.mark.parametrize("p", [0.5, 0.25, 0.1, 0.9, 0.0005, 0.001, 0.0019, 0.002, 0.998, 0.9999])
    def test_mean_and_probability(self, p: float) -> None:
        layer, n = Dropout(p).train(), 400_000
        layer.generator = torch.Generator().manual_seed(0)
        out = layer(torch.ones(n))
        sigma = math.sqrt(p * (1 - p) / n)
        dropped, end = float((out == 0).float().mean()), not 0.1 <= p <= 0.9
        rounding = 1 / 256 + 1e-3 if end else 0 if p in (0.5, 0.25) else 1 / 512
        assert dropped == pytest.approx(p, abs=5 * sigma + rounding if not end else rounding)
        assert float(out.double().mean()) == pytest.approx(1.0, abs=0.2 if end else 5 * sigma / (1 - p))

    def test_neighbouring_masks_are_independent(self) -> None:
        layer = Dropout(0.5).train()
        layer.generator = torch.Generator().manual_seed(0)
        mask = layer(torch.ones(400_000)) - 1
        assert set(mask.tolist()) == {-1.0, 1.0}  # one half is exact
        for lag in (1, 2, 3, 4, 8):  # four masks come from one random word
            assert abs(float((mask[lag:] * mask[:-lag]).mean())) < 5 / math.sqrt(len(mask))

    def test_any_shape_and_type_and_off_in_evaluation_and_at_zero(self) -> None:
        for shape in ((1,), (3,), (5, 7), (0, 4), (2, 3, 5)):
            for dtype in (torch.float32, torch.float64, torch.bfloat16):
                x = torch.ones(shape, dtype=dtype)
                out = Dropout(0.5).train()(x)
                assert (out.shape, out.dtype) == (shape, dtype)
                assert torch.equal(Dropout(0.5).eval()(x), x)
                assert torch.equal(Dropout(0.0).train()(x), x)

    def test_a_stream_of_its_own_or_the_default_one(self) -> None:
        layer, x = Dropout(0.5).train(), torch.ones(64)
        for seed in (lambda: use_stream(layer, torch.Generator().manual_seed(3)), lambda: torch.manual_seed(1)):
            layer.generator = None
            seed()
            state = torch.get_rng_state()
            first, second = layer(x), layer(x)
            assert torch.equal(torch.get_rng_state(), state) is (layer.generator is not None)
            assert not torch.equal(first, second)
            torch.manual_seed(99)
            seed()
            assert torch.equal(layer(x), first)
            assert torch.equal(layer(x), second)

        for p in (-0.1, 1.0, 1.5, math.nan):
            with pytest.raises(ValueError, match="probability"):
                Dropout(p)
