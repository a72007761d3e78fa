"""Dropout whose masks come from a stream of its own: exact expectations, one byte an element."""

from __future__ import annotations

import math

import pytest
import torch

from unheard.errors import ConfigError
from unheard.model.layers import Dropout, use_stream
from unheard.model.network import NetworkSettings
from unheard.model.settings import LEAST_DROPOUT


class TestDropout:
    @pytest.mark.parametrize("p", [0.5, 0.25, 0.1, 0.9])
    def test_mean_and_probability(self, p: float) -> None:
        layer, n = Dropout(p).train(), 400_000
        layer.generator = torch.Generator().manual_seed(0)
        out = layer(torch.ones(n))
        dropped = float((out == 0).float().mean())
        sigma = math.sqrt(p * (1 - p) / n)
        assert dropped == pytest.approx(p, abs=5 * sigma + (0 if p in (0.5, 0.25) else 1 / 512))
        assert float(out.double().mean()) == pytest.approx(1.0, abs=5 * sigma / (1 - p))

    def test_one_half_is_exact(self) -> None:
        layer = Dropout(0.5).train()
        out = layer(torch.ones(4096))
        assert set(out.tolist()) == {0.0, 2.0}

    @pytest.mark.parametrize("p", [0.0005, 0.001, 0.0019, 0.002, 0.998, 0.9999])
    def test_probabilities_near_the_ends(self, p: float) -> None:
        layer = Dropout(p).train()
        layer.generator = torch.Generator().manual_seed(0)
        out = layer(torch.ones(200_000))
        assert float((out == 0).float().mean()) == pytest.approx(p, abs=1 / 256 + 1e-3)
        assert float(out.double().mean()) == pytest.approx(1.0, abs=0.2)

    def test_neighbouring_masks_are_independent(self) -> None:
        layer = Dropout(0.5).train()
        layer.generator = torch.Generator().manual_seed(0)
        mask = layer(torch.ones(400_000)) - 1  # +-1
        for lag in (1, 2, 3, 4, 8):  # four masks come from one random word
            assert abs(float((mask[lag:] * mask[:-lag]).mean())) < 5 / math.sqrt(len(mask))

    def test_the_gradient_wears_the_same_mask(self) -> None:
        layer = Dropout(0.5).train()
        x = torch.randn(37, 11, requires_grad=True)
        out = layer(x)
        out.sum().backward()
        torch.testing.assert_close(out, x * x.grad)
        assert set(x.grad.flatten().tolist()) == {0.0, 2.0}

    @pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (0, 4), (2, 3, 5)])
    def test_any_shape(self, shape: tuple[int, ...]) -> None:
        assert Dropout(0.5).train()(torch.ones(shape)).shape == shape

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_keeps_the_type(self, dtype: torch.dtype) -> None:
        assert Dropout(0.5).train()(torch.ones(8, dtype=dtype)).dtype == dtype

    def test_off_in_evaluation_and_at_zero(self) -> None:
        x = torch.randn(50)
        assert torch.equal(Dropout(0.5).eval()(x), x)
        assert torch.equal(Dropout(0.0).train()(x), x)

    def test_a_stream_of_its_own(self) -> None:
        layer, x = Dropout(0.5).train(), torch.ones(64)
        use_stream(layer, torch.Generator().manual_seed(3))
        state = torch.get_rng_state()
        first, second = layer(x), layer(x)
        assert torch.equal(torch.get_rng_state(), state)
        assert not torch.equal(first, second)
        use_stream(layer, torch.Generator().manual_seed(3))
        torch.manual_seed(99)
        assert torch.equal(layer(x), first)
        assert torch.equal(layer(x), second)

    def test_the_default_generator_serves_without_one(self) -> None:
        layer, x = Dropout(0.5).train(), torch.ones(64)
        torch.manual_seed(1)
        first = layer(x)
        torch.manual_seed(1)
        assert torch.equal(layer(x), first)
        assert not torch.equal(layer(x), first)

    @pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, math.nan])
    def test_no_probability(self, p: float) -> None:
        with pytest.raises(ValueError, match="probability"):
            Dropout(p)


@pytest.mark.parametrize("name", ["dropout", "head_dropout", "summary_dropout"])
def test_a_dropout_that_would_drop_nothing(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} 0.001 is too small"):
        NetworkSettings(**{name: 0.001})  # type: ignore[arg-type]
    least = Dropout(LEAST_DROPOUT)
    assert (least(torch.ones(100_000)) == 0).float().mean() == pytest.approx(1 / 256, rel=0.3)
    assert getattr(NetworkSettings(**{name: LEAST_DROPOUT}), name) == LEAST_DROPOUT  # type: ignore[arg-type]
