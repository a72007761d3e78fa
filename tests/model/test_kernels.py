"""The compiled kernels against plain PyTorch, forwards and backwards; and where they must not be used."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import references
import torch
from torch import Tensor, nn

from unheard.model import cpu
from unheard.model.cpu import kernels_serve
from unheard.model.layers import (
    VARIANCE_FLOOR,
    BiLSTM,
    Dense,
    Dropout,
    Frames,
    affine_relu_norm_dropout,
    mean_std_pooling,
    norm_dropout,
    windows,
)
from unheard.model.network import NetworkSettings
from unheard.training.strategies import Batch, StrategyConfig, build

pytest.importorskip("numba", reason="the kernels are compiled by numba")

MIXED = (7, 1, 30, 12, 1, 12, 29, 2)
INPUTS = 10
all_lengths = pytest.mark.parametrize("lengths", [MIXED, (9,) * 3, (4,) * 5, (13,), (1,), (1,) * 3], ids=str)
Compute = Callable[[], list[Tensor]]


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> Callable[[Compute], list[Tensor]]:
    """Compute something as if numba were not installed."""

    def run(compute: Compute) -> list[Tensor]:
        with monkeypatch.context() as patch:
            patch.setattr(cpu, "_numba_is_here", lambda: False)
            assert not kernels_serve(torch.zeros(1))
            return compute()

    return run


def draw(*shape: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale + shift


def slopes(y: Tensor, *inputs: Tensor) -> list[Tensor]:
    """`y` and the gradients of its inputs, along a drawn direction."""
    return [y.detach(), *torch.autograd.grad(y, inputs, draw(*y.shape, seed=9).to(y.dtype))]


def close(ours: list[Tensor], plain: list[Tensor], tolerance: float = 2e-6) -> None:
    """Each pair agrees to `tolerance` of its largest magnitude (at least 1)."""
    assert len(ours) == len(plain)
    for one, other in zip(ours, plain, strict=True):
        assert one.shape == other.shape
        apart = (one.detach().double() - other.detach().double()).abs().max()
        assert float(apart) <= tolerance * max(1.0, float(other.detach().abs().max()))


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
    @pytest.mark.parametrize(("frames", "channels"), [(2, 7), (63, 64), (64, 1), (65, 7), (1000, 64)])
    @pytest.mark.parametrize("relu", [True, False])
    def test_equals_pytorch_in_double_precision(self, p: float, frames: int, channels: int, relu: bool) -> None:
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

        small_variance = 30.0 if frames == 2 else 1.0  # two frames may lie close: their distance is divided by
        close(compute(torch.float32), compute(torch.float64), 1e-5 * small_variance)

    def test_a_large_mean_costs_no_precision(self) -> None:
        y, norm = draw(5000, 3, shift=1e4), norm_of(3)
        double = copy.deepcopy(norm).double()
        apart = norm_dropout(y, norm, dropout_of(0.0)).double() - double(y.double())
        assert float(apart.detach().abs().max()) < 5e-3  # the input is given to 5e-4
        torch.testing.assert_close(norm.running_var.double(), double.running_var, rtol=1e-4, atol=0)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_nan_and_infinity_are_not_hidden(self, bad: float) -> None:
        y = draw(100, 2)
        y[50, 0] = bad
        out = affine_relu_norm_dropout(y, torch.eye(2), torch.zeros(2), norm_of(2), dropout_of(0.0))
        assert out[:, 0].isnan().all()

    def test_a_gradient_that_is_not_contiguous(self) -> None:
        y, norm = draw(30, 4).requires_grad_(), norm_of(4)
        by_sum = torch.autograd.grad(norm_dropout(y, norm, dropout_of(0.5)).sum(), y)[0]  # an expanded number
        by_ones = torch.autograd.grad(norm_dropout(y, norm, dropout_of(0.5)), y, torch.ones(30, 4))[0]
        assert torch.equal(by_sum, by_ones)

    def test_one_frame_has_no_variance_and_evaluation_is_pytorchs_own(self) -> None:
        layer, x = Dense(3, 4, 0.5), draw(5, 3)
        with pytest.raises(ValueError, match="more than 1 value"):
            layer.train()(x[:1])
        assert torch.equal(layer.eval()(x), layer.norm(layer.affine(x).relu()))


class TestPooling:
    @all_lengths
    def test_equals_pytorch_in_double_precision(self, lengths: tuple[int, ...]) -> None:
        def compute(dtype: torch.dtype) -> list[Tensor]:
            x = draw(sum(lengths), 5, shift=3.0).to(dtype)
            x[:, 0] = 0.25  # a constant, whose variance is floored
            x.requires_grad_()
            return slopes(mean_std_pooling(Frames(x, torch.tensor(lengths))), x)

        close(compute(torch.float32), compute(torch.float64), 1e-5)

    @pytest.mark.parametrize(("share", "slope"), [(0.9, 0.0), (1.1, 0.5)])
    def test_the_floor(self, share: float, slope: float) -> None:
        variance = VARIANCE_FLOOR * share
        x = torch.tensor([[-1.0], [1.0]]).mul_(variance**0.5).requires_grad_()
        pooled = mean_std_pooling(Frames(x, torch.tensor([2])))
        assert float(pooled[0, 1].detach()) == pytest.approx(max(variance, VARIANCE_FLOOR) ** 0.5)
        (gradient,) = torch.autograd.grad(pooled[0, 1], x)
        assert gradient.flatten().tolist() == pytest.approx([-slope, slope])


# The recurrence.


def rnn(cells: int, scale: float = 1.0) -> BiLSTM:
    torch.manual_seed(cells)
    layer = BiLSTM(INPUTS, cells)
    for parameter in layer.parameters():
        parameter.data.mul_(scale)
    return layer


def ragged(lengths: tuple[int, ...] = MIXED) -> Frames:
    return Frames(draw(sum(lengths), INPUTS, seed=1).requires_grad_(), torch.tensor(lengths))


def packed(layer: BiLSTM, frames: Frames) -> Tensor:
    """The same by PyTorch's bidirectional LSTM on a packed batch: (N, 2H)."""
    return torch.cat(references.bilstm(layer, list(frames.values.split(frames.lengths.tolist()))))


def with_slopes(layer: BiLSTM, y: Tensor, frames: Frames) -> list[Tensor]:
    return slopes(y, frames.values, *layer.parameters())


class TestRecurrence:
    @pytest.mark.parametrize(("cells", "scale"), [(8, 1.0), (64, 3.0), (128, 1.0)])
    @all_lengths
    def test_equals_a_packed_lstm(self, cells: int, lengths: tuple[int, ...], scale: float) -> None:
        layer, frames = rnn(cells, scale), ragged(lengths)
        exact = rnn(cells, scale).double()
        double = Frames(frames.values.detach().double().requires_grad_(), frames.lengths)
        assert kernels_serve(frames.values, cells)
        ours, theirs = with_slopes(layer, layer(frames), frames), with_slopes(exact, packed(exact, double), double)
        close(ours, theirs, 1e-6 * scale**2)

    @pytest.mark.parametrize("cells", [5, 12, 72, 100])
    def test_cells_that_are_not_whole_tiles(self, cells: int) -> None:
        layer, frames = rnn(cells), ragged()
        assert not kernels_serve(frames.values, cells)
        close(with_slopes(layer, layer(frames), frames), with_slopes(layer, packed(layer, frames), frames), 1e-5)

    def test_large_values_saturate_and_nan_stays_nan(self) -> None:
        layer, frames = rnn(8), ragged((5, 3))
        big = Frames(frames.values.detach() * 1e4, frames.lengths)
        close([layer(big)], [packed(layer, big)])
        bad = frames.values.detach().clone()
        bad[1] = float("nan")
        y = layer(Frames(bad, frames.lengths))
        assert y[1:5, :8].isnan().all()
        assert y[:2, 8:].isnan().all()
        assert not y[0, :8].isnan().any()
        assert not y[5:].isnan().any()

    def test_gradients_are_optional_and_the_bits_always_the_same(self) -> None:
        layer, frames = rnn(64), ragged((50, 3, 77, 77, 21, 64, 1))
        first, second = (with_slopes(layer, layer(frames), frames) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        with torch.no_grad():
            y = layer(frames)
        assert not y.requires_grad
        assert torch.equal(y, first[0])
        layer.requires_grad_(False)(frames).sum().backward()
        assert frames.values.grad is not None
        assert all(p.grad is None for p in layer.parameters())


# The switch.


@pytest.mark.parametrize("system", ["ser", "mtl", "dat", "cgt"])
def test_a_training_step_is_the_same_without_numba(system: str, plainly: Callable[[Compute], list[Tensor]]) -> None:
    def compute() -> list[Tensor]:
        strategy = build(
            system, StrategyConfig(5, 3, 4, NetworkSettings(((16, 5, 2), (8, 3, 4)), 8, 24, (8, 8)), 1)
        ).train()
        lengths, y, s = torch.tensor([40, 17, 5, 23]), torch.tensor([0, 1, 2, 1]), torch.tensor([0, 1, 2, 3])
        terms = strategy(Batch(draw(4, 40, 5), lengths, y, s))
        torch.stack(list(terms.values())).sum().backward()
        grads = [p.grad for p in strategy.parameters() if p.grad is not None]
        return [*(t.detach() for t in terms.values()), *grads, *strategy.state_dict().values()]

    close(compute(), plainly(compute), 1e-4)


def test_other_types_and_devices() -> None:
    x = torch.zeros(3, 4)
    assert kernels_serve(x, 64)
    assert not kernels_serve(x.double(), 64)
    assert not kernels_serve(x.to("meta"), 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert not kernels_serve(x, 64)


@pytest.mark.parametrize(
    "apply",
    [
        mean_std_pooling,
        rnn(8),
        lambda frames: norm_dropout(frames.values, norm_of(INPUTS), dropout_of(0.5)),
        lambda frames: windows(frames, 3, 2),
    ],
)
def test_second_derivatives_are_refused(apply: Callable[[Frames], Tensor]) -> None:
    frames = ragged((20,))
    (first,) = torch.autograd.grad(apply(frames).square().sum(), frames.values, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
