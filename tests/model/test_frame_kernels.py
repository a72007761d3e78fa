"""The kernels between the matrix products against plain PyTorch, forwards and backwards; and where they step aside."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from unheard.model import cpu as compiled
from unheard.model.cpu import kernels_serve
from unheard.model.layers import (
    VARIANCE_FLOOR,
    Dense,
    Dropout,
    Frames,
    affine_relu_norm_dropout,
    mean_std_pooling,
    norm_dropout,
    windows,
)
from unheard.model.network import NetworkSettings
from unheard.training.strategies import Batch, Setting, build

pytest.importorskip("numba", reason="the kernels are compiled by numba")

LENGTHS = {"all sorts": (70, 9, 1, 12, 130, 2), "equal": (17, 17), "one utterance": (200,), "one frame": (1,)}


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], list[Tensor]]], list[Tensor]]:
    """Compute something by PyTorch's operations alone."""

    def run(compute: Callable[[], list[Tensor]]) -> list[Tensor]:
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "_numba_is_here", lambda: False)
            return compute()

    return run


def draw(*shape: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale + shift


def slopes(y: Tensor, *inputs: Tensor) -> list[Tensor]:
    """`y` and the gradient of its inputs, along a drawn direction."""
    return [y.detach(), *torch.autograd.grad(y, inputs, draw(*y.shape, seed=9))]


def close(ours: list[Tensor], plain: list[Tensor], tolerance: float = 2e-6) -> None:
    """Each pair agrees to `tolerance` of its largest magnitude (at least 1)."""
    assert len(ours) == len(plain)
    for one, other in zip(ours, plain, strict=True):
        assert one.shape == other.shape
        assert float((one.double() - other.double()).abs().max()) <= tolerance * max(1.0, float(other.abs().max()))


def norm_of(channels: int) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(channels)
    norm.weight.data.copy_(draw(channels, seed=1))
    norm.bias.data.copy_(draw(channels, seed=2))
    return norm.train()


def dropout_of(p: float) -> Dropout:
    dropout = Dropout(p).train()
    dropout.generator = torch.Generator().manual_seed(5)
    return dropout


class TestActivation:
    @pytest.mark.parametrize("p", [0.0, 0.5, 0.3, 0.001])
    @pytest.mark.parametrize("frames", [2, 63, 64, 65, 1000])
    @pytest.mark.parametrize("channels", [1, 7, 64])
    @pytest.mark.parametrize("relu", [True, False])
    def test_equals_pytorchs_own_in_double_precision(self, p: float, frames: int, channels: int, relu: bool) -> None:
        def compute(dtype: torch.dtype) -> list[Tensor]:
            x = draw(frames, 10).to(dtype).requires_grad_()
            weight, bias = (draw(channels, *more, seed=3).to(dtype).requires_grad_() for more in ((10,), ()))
            norm, dropout = norm_of(channels).to(dtype), dropout_of(p)
            if relu:
                y = affine_relu_norm_dropout(x, weight, bias, norm, dropout)
            else:
                y = norm_dropout(x @ weight.t(), norm, dropout)
            inputs = (x, weight, *((bias,) if relu else ()), *norm.parameters())
            return [*slopes(y, *inputs), *(b.clone() for b in norm.buffers()), dropout.generator.get_state()]

        assert not kernels_serve(draw(1).double())
        small_variance = 30.0 if frames == 2 else 1.0  # two frames may lie close: their distance is divided by
        close(compute(torch.float32), compute(torch.float64), 1e-5 * small_variance)

    def test_a_large_mean_costs_no_precision(self) -> None:
        y, norm = draw(5000, 3, shift=1e4).requires_grad_(), norm_of(3)
        double = copy.deepcopy(norm).double()
        ours = norm_dropout(y, norm, dropout_of(0.0))
        assert float((ours.double() - double(y.double())).detach().abs().max()) < 5e-3  # of numbers given to 5e-4
        torch.testing.assert_close(norm.running_var.double(), double.running_var, rtol=1e-4, atol=0)

    def test_nan_and_infinity_are_not_hidden(self) -> None:
        for bad in (float("nan"), float("inf")):
            y = draw(100, 2)
            y[50, 0] = bad
            out = affine_relu_norm_dropout(y, torch.eye(2), torch.zeros(2), norm_of(2), dropout_of(0.0))
            assert out[:, 0].isnan().all()

    def test_a_gradient_that_is_not_contiguous(self) -> None:
        y, norm = draw(30, 4).requires_grad_(), norm_of(4)
        by_sum = torch.autograd.grad(norm_dropout(y, norm, dropout_of(0.5)).sum(), y)[0]  # an expanded number
        by_ones = torch.autograd.grad(norm_dropout(y, norm, dropout_of(0.5)), y, torch.ones(30, 4))[0]
        assert torch.equal(by_sum, by_ones)

    def test_a_layer_is_the_same_without_numba(self, plainly: Callable[..., list[Tensor]]) -> None:
        def compute() -> list[Tensor]:
            torch.manual_seed(0)
            layer, x = Dense(10, 33, 0.5).train(), draw(400, 10).requires_grad_()
            layer.dropout.generator = torch.Generator().manual_seed(5)
            return slopes(layer(x), x, *layer.parameters())

        close(compute(), plainly(compute), 1e-5)

    def test_one_frame_has_no_variance_and_is_refused_as_ever(self) -> None:
        with pytest.raises(ValueError, match="more than 1 value"):
            Dense(3, 4, 0.5).train()(draw(1, 3))

    def test_evaluation_is_pytorchs_own(self) -> None:
        layer, x = Dense(3, 4, 0.5).eval(), draw(5, 3)
        assert torch.equal(layer(x), layer.norm(layer.affine(x).relu()))


class TestWindows:
    @pytest.mark.parametrize("lengths", [(20, 9, 31), (9,), (9, 9)])
    @pytest.mark.parametrize(("taps", "dilation"), [(5, 2), (3, 4), (1, 1), (2, 3)])
    def test_equals_gathering(
        self, lengths: tuple[int, ...], taps: int, dilation: int, plainly: Callable[..., list[Tensor]]
    ) -> None:
        def compute() -> list[Tensor]:
            x = draw(sum(lengths), 3).requires_grad_()
            out = windows(Frames(x, torch.tensor(lengths)), taps, dilation)[:, : 3 * taps]
            return slopes(out, x)

        close(compute(), plainly(compute), 0.0 if taps == 1 else 1e-6)

    def test_visible_answer(self) -> None:
        frames = Frames(torch.arange(7.0)[:, None], torch.tensor([3, 4]))
        assert windows(frames, 2, 2)[:, :2].tolist() == [[0, 2], [3, 5], [4, 6]]

    def test_kernels_get_whole_vectors_filled_up_with_zeros(self) -> None:
        wide = windows(Frames(draw(20, 39), torch.tensor([20])), 5, 2)
        assert wide.shape == (12, 200)
        assert (wide[:, 195:] == 0).all()


class TestPooling:
    @pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
    def test_equals_pytorchs_own_in_double_precision(self, lengths: tuple[int, ...]) -> None:
        def compute(dtype: torch.dtype) -> list[Tensor]:
            x = draw(sum(lengths), 5, shift=3.0).to(dtype)
            x[:, 0] = 0.25  # a constant, whose variance is floored
            x.requires_grad_()
            return slopes(mean_std_pooling(Frames(x, torch.tensor(lengths))), x)

        close(compute(torch.float32), compute(torch.float64), 1e-5)

    def test_the_floor(self) -> None:
        for variance, slope in ((VARIANCE_FLOOR * 0.9, 0.0), (VARIANCE_FLOOR * 1.1, 0.5)):
            x = torch.tensor([[-1.0], [1.0]]).mul_(variance**0.5).requires_grad_()
            pooled = mean_std_pooling(Frames(x, torch.tensor([2])))
            assert float(pooled[0, 1].detach()) == pytest.approx(max(variance, VARIANCE_FLOOR) ** 0.5)
            (gradient,) = torch.autograd.grad(pooled[0, 1], x)
            assert gradient.flatten().tolist() == pytest.approx([-slope, slope])


@pytest.mark.parametrize("system", ["ser", "mtl", "dat", "cgt"])
def test_a_training_step_is_the_same_without_numba(system: str, plainly: Callable[..., list[Tensor]]) -> None:
    lengths = (40, 17, 5, 23)

    def compute() -> list[Tensor]:
        strategy = build(system, Setting(5, 3, 4, NetworkSettings(((16, 5, 2), (8, 3, 4)), 8, 24, (8, 8)), 1)).train()
        batch = Batch(draw(4, 40, 5), torch.tensor(lengths), torch.tensor([0, 1, 2, 1]), torch.tensor([0, 1, 2, 3]))
        terms = strategy(batch)
        torch.stack(list(terms.values())).sum().backward()
        grads = [p.grad for p in strategy.parameters() if p.grad is not None]
        return [*(t.detach() for t in terms.values()), *grads, *strategy.state_dict().values()]

    close(compute(), plainly(compute), 1e-4)


def test_second_derivatives_are_refused() -> None:
    x = draw(20, 4).requires_grad_()
    for out in (
        mean_std_pooling(Frames(x, torch.tensor([20]))),
        norm_dropout(x, norm_of(4), dropout_of(0.5)),
        windows(Frames(x, torch.tensor([20])), 3, 2),
    ):
        (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            first.sum().backward()
