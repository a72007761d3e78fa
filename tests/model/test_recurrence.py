"""The compiled recurrence against `torch.nn.LSTM` on packed sequences; and where it must step aside."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from unheard.model import cpu as compiled
from unheard.model.cpu import kernels_serve, lstm
from unheard.model.layers import BiLSTM, Frames

pytest.importorskip("numba", reason="the kernels are compiled by numba")

LENGTHS = {
    "all sorts": (7, 1, 30, 12, 1, 12, 29, 2),
    "equal": (9, 9, 9),
    "odd and equal": (4,) * 5,
    "one utterance": (13,),
    "one frame": (1,),
    "frames alone": (1, 1, 1),
}
INPUTS = 10


def rnn(cells: int, scale: float = 1.0, inputs: int = INPUTS) -> BiLSTM:
    torch.manual_seed(cells)
    layer = BiLSTM(inputs, cells)
    for parameter in layer.parameters():
        parameter.data.mul_(scale)
    return layer


def draw(lengths: tuple[int, ...], inputs: int = INPUTS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(sum(lengths), inputs, generator=generator).requires_grad_(), torch.tensor(lengths)


def packed(layer: BiLSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """The same by PyTorch's own bidirectional LSTM on a packed batch: (N, 2H)."""
    lstm = nn.LSTM(layer.ahead.input_size, layer.ahead.hidden_size, bidirectional=True, batch_first=True)
    lstm = lstm.to(x.dtype)
    names = [name for name, _ in layer.ahead.named_parameters()]
    own = {name: dict(layer.ahead.named_parameters())[name] for name in names}
    own |= {f"{name}_reverse": dict(layer.back.named_parameters())[name] for name in names}
    padded = pad_sequence(list(x.split(lengths.tolist())), batch_first=True)
    batch = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
    out, _ = pad_packed_sequence(torch.func.functional_call(lstm, own, (batch,))[0], batch_first=True)
    return torch.cat([row[:length] for row, length in zip(out, lengths.tolist(), strict=True)])


def with_gradients(layer: BiLSTM, y: Tensor, x: Tensor) -> list[Tensor]:
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), [x, *layer.parameters()])]


def close(a: list[Tensor], b: list[Tensor], tolerance: float = 1e-6) -> None:
    """Each pair agrees to `tolerance` of its largest magnitude (at least 1)."""
    assert len(a) == len(b)
    for one, other in zip([t.detach() for t in a], [t.detach() for t in b], strict=True):
        scale = max(1.0, float(other.abs().max()))
        assert float((one - other).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("cells", [8, 64, 128])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_equals_a_packed_lstm(cells: int, lengths: tuple[int, ...], scale: float) -> None:
    layer = rnn(cells, scale)
    x, count = draw(lengths)
    assert kernels_serve(x, cells)
    ours = with_gradients(layer, layer(Frames(x, count)), x)
    exact, exact_x = rnn(cells, scale).double(), x.detach().double().requires_grad_()
    theirs = with_gradients(exact, packed(exact, exact_x, count), exact_x)
    close([t.double() for t in ours], theirs, 1e-6 * scale**2)


def test_large_values_saturate_and_nan_stays_nan() -> None:
    layer = rnn(8)
    x, count = draw((5, 3))
    big = x.detach() * 1e4
    close([layer(Frames(big, count))], [packed(layer, big, count)])
    bad = x.detach().clone()
    bad[1] = float("nan")
    y = layer(Frames(bad, count))
    assert y[1:5, :8].isnan().all()
    assert y[:2, 8:].isnan().all()
    assert not y[0, :8].isnan().any()
    assert not y[5:].isnan().any()


class TestWhatIsAskedFor:
    def test_gradient_of_the_input_alone(self) -> None:
        layer = rnn(64)
        x, count = draw(LENGTHS["all sorts"])
        whole = with_gradients(layer, layer(Frames(x, count)), x)[1]
        y = layer(Frames(x, count))
        weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
        (alone,) = torch.autograd.grad((y * weight).sum(), [x])
        assert torch.equal(alone, whole)

    def test_weight_products_are_skipped_where_nobody_asks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[int] = []
        before = lstm._before
        monkeypatch.setattr(lstm, "_before", lambda *a: calls.append(1) or before(*a))
        layer = rnn(64)
        x, count = draw(LENGTHS["all sorts"])
        loss = layer(Frames(x, count)).sum()
        torch.autograd.grad(loss, [x], retain_graph=True)
        assert not calls
        torch.autograd.grad(loss, [layer.back.weight_hh_l0], retain_graph=True)
        assert len(calls) == 1
        loss.backward()
        assert len(calls) == 3

    def test_a_graph_may_be_kept_and_used_again(self) -> None:
        layer = rnn(64)
        x, count = draw(LENGTHS["all sorts"])
        once = with_gradients(layer, layer(Frames(x, count)), x)
        y = layer(Frames(x, count))
        weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
        for _ in range(2):
            again = torch.autograd.grad((y * weight).sum(), [x, *layer.parameters()], retain_graph=True)
            assert all(torch.equal(a, b) for a, b in zip(again, once[1:], strict=True))

    def test_without_gradients_the_answer_is_the_same(self) -> None:
        layer = rnn(64)
        x, count = draw(LENGTHS["all sorts"])
        with torch.no_grad():
            y = layer(Frames(x, count))
        assert not y.requires_grad
        assert torch.equal(y, layer(Frames(x, count)).detach())

    def test_frozen_weights_get_no_gradient(self) -> None:
        layer = rnn(8).requires_grad_(False)
        x, count = draw((4, 6))
        layer(Frames(x, count)).sum().backward()
        assert x.grad is not None
        assert all(p.grad is None for p in layer.parameters())

    def test_second_derivatives_are_refused(self) -> None:
        layer = rnn(8)
        x, count = draw((4, 6))
        (first,) = torch.autograd.grad(layer(Frames(x, count)).square().sum(), [x], create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            first.sum().backward()


def test_the_same_twice_bit_for_bit() -> None:
    layer = rnn(64)
    x, count = draw((50, 3, 77, 77, 21, 64, 1))
    first, second = (with_gradients(layer, layer(Frames(x, count)), x) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("cells", [64, 128])
def test_an_utterance_does_not_see_the_others(cells: int) -> None:
    lengths = LENGTHS["all sorts"]
    layer = rnn(cells)
    x, count = draw(lengths)
    parts = x.detach().split(lengths)
    together = layer(Frames(x, count)).detach().split(lengths)
    order = [3, 0, 7, 5, 2, 6, 1, 4]
    shuffled = layer(Frames(torch.cat([parts[i] for i in order]), count[order])).split([lengths[i] for i in order])
    close([shuffled[order.index(i)] for i in range(8)], list(together))
    alone = [layer(Frames(part, torch.tensor([len(part)]))) for part in parts]
    close(alone, list(together))


class TestStepsAside:
    def test_without_numba_the_numbers_are_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        layer = rnn(64)
        x, count = draw(LENGTHS["all sorts"])
        ours = with_gradients(layer, layer(Frames(x, count)), x)
        monkeypatch.setattr(compiled, "_numba_is_here", lambda: False)
        assert not kernels_serve(x, 64)
        close(ours, with_gradients(layer, layer(Frames(x, count)), x), 3e-6)

    @pytest.mark.parametrize("cells", [5, 12, 72, 100])
    def test_for_cells_that_are_no_whole_tiles(self, cells: int) -> None:
        layer = rnn(cells)
        x, count = draw(LENGTHS["all sorts"])
        assert not kernels_serve(x, cells)
        close(
            with_gradients(layer, layer(Frames(x, count)), x), with_gradients(layer, packed(layer, x, count), x), 1e-5
        )

    def test_for_other_types_and_devices(self) -> None:
        x = torch.zeros(3, 4)
        assert kernels_serve(x, 64)
        assert not kernels_serve(x.double(), 64)
        assert not kernels_serve(x.to("meta"), 64)
        with torch.autocast("cpu", torch.bfloat16):
            assert not kernels_serve(x, 64)

    @pytest.mark.filterwarnings("ignore")  # tracing is deprecated, and shapes become constants
    def test_when_traced(self) -> None:
        class Plain(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.rnn = rnn(8)

            def forward(self, x: Tensor) -> Tensor:
                return self.rnn(Frames(x, torch.tensor([4, 6])))

        x = torch.randn(10, INPUTS)
        plain = Plain().eval()
        traced = torch.jit.trace(plain, (x,), check_trace=False)
        close([traced(x)], [plain(x)])
        assert "aten::lstm" in str(traced.inlined_graph)
        assert lstm.Recurrence.__name__ not in str(traced.inlined_graph)
