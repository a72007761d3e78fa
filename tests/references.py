"""Plain references for the network: one utterance at a time, no padding, written from Table 1 and nothing else.

They take their weights from the network they are compared with, so that gradients can be compared too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, linear
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from unheard.model.layers import BiLSTM
from unheard.model.network import EmbeddingNetwork, Head


def utterances(x: Tensor, lengths: Tensor) -> list[Tensor]:
    """The utterances (T, F) of a padded batch."""
    return [row[:n] for row, n in zip(x, lengths.tolist(), strict=True)]


def repeat_edges(u: Tensor, at_least: int) -> Tensor:
    """`u` (T, F) with its first and last frame repeated, one by one, until it is long enough."""
    frames, last = list(u), True
    while len(frames) < at_least:
        frames = [*frames, frames[-1]] if last else [frames[0], *frames]
        last = not last
    return torch.stack(frames)


def normalise(norm: nn.Module, frames: Tensor, training: bool) -> Tensor:
    """Batch normalisation of (N, C) as its formula, without touching the running statistics."""
    if isinstance(norm, nn.Identity):
        return frames
    assert isinstance(norm, nn.BatchNorm1d)
    if training:
        mean, variance = frames.mean(0), frames.var(0, unbiased=False)
    else:
        mean, variance = norm.running_mean, norm.running_var
    return norm.weight * (frames - mean) / (variance + 1e-5).sqrt() + norm.bias


def normalise_each(norm: nn.Module, us: Sequence[Tensor], training: bool) -> list[Tensor]:
    """The same statistics for all utterances' frames together."""
    return list(normalise(norm, torch.cat(list(us)), training).split([len(u) for u in us]))


def _directions(rnn: BiLSTM) -> Iterator[tuple[str, nn.LSTM]]:
    yield "", rnn.ahead
    yield "_reverse", rnn.back


def bilstm(rnn: BiLSTM, us: Sequence[Tensor]) -> list[Tensor]:
    """PyTorch's bidirectional LSTM on packed sequences, with the weights of `rnn`."""
    weights = {f"{name}{end}": w for end, lstm in _directions(rnn) for name, w in lstm.named_parameters()}
    plain = nn.LSTM(rnn.ahead.input_size, rnn.ahead.hidden_size, bidirectional=True).to(us[0].dtype)
    assert set(weights) == {name for name, _ in plain.named_parameters()}
    packed = pack_sequence(list(us), enforce_sorted=False)
    out, _ = torch.func.functional_call(plain, weights, (packed,))
    return list(unpack_sequence(out))


def embed(net: EmbeddingNetwork, us: Sequence[Tensor], training: bool = False) -> Tensor:
    """Embeddings (B, E) of utterances (T, F): Table 1's embedding sub-network, without dropout."""
    same = net.tdnn[0].padding == "same"
    us = list(us) if same else [repeat_edges(u, 17) for u in us]
    for layer, dilation in zip(net.tdnn, (2, 4), strict=True):
        affine = layer.affine
        edges = "same" if same else "valid"
        us = [conv1d(u.T[None], affine.weight, affine.bias, padding=edges, dilation=dilation)[0].T.relu() for u in us]
        us = normalise_each(layer.norm, us, training)
    us = normalise_each(net.rnn_norm, bilstm(net.rnn, us), training)
    us = [linear(u, net.dense.affine.weight, net.dense.affine.bias).relu() for u in us]
    us = normalise_each(net.dense.norm, us, training)
    return torch.stack([pool(u) for u in us])


def pool(u: Tensor) -> Tensor:
    """Mean and biased standard deviation of (T, C), the variance floored at 1e-5."""
    mean = u.sum(0) / len(u)
    variance = ((u - mean) ** 2).sum(0) / len(u)
    return torch.cat([mean, variance.clamp(min=1e-5).sqrt()])


def classify(head: Head, e: Tensor, training: bool = False) -> Tensor:
    """Logits of a head, without dropout."""
    for layer in head.hidden:
        e = normalise(layer.norm, linear(e, layer.affine.weight, layer.affine.bias).relu(), training)
    return linear(e, head.output.weight, head.output.bias)


def cross_entropy(logits: Tensor, index: Tensor) -> Tensor:
    """-log softmax of the true class for each row, (B,)."""
    return torch.stack([-(row[i] - row.exp().sum().log()) for row, i in zip(logits, index, strict=True)])
