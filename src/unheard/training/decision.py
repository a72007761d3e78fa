"""Which emotion a network says: the likeliest, or the one that serves UAR, or WA and UAR together.

Trained by cross-entropy, a network says p(emotion | sound) for emotions as common as in its training. Saying the
likeliest is right most often, which is WA. The mean recall, UAR, is served best by the largest p / π, where π is the
emotion's share of the training utterances (Menon et al. 2021, Long-tail learning via logit adjustment), and the mean of
both by the largest p · (1 + 1 / (C π)) / 2. No test utterance is asked how common emotions are there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unheard.training.network import Head


def worth(decision: str, counts: Sequence[int]) -> list[float]:
    """What each emotion's probability is multiplied by, (C,), where `counts` (C,) of each were trained on.

    An emotion that was not trained on is no rare one: its probability stays.

    >>> worth("even", [10, 30])
    [2.0, 0.6666666666666666]
    >>> worth("both", [10, 30])
    [1.5, 0.8333333333333333]
    >>> worth("both", [0, 20, 20])
    [1.0, 1.0, 1.0]
    """
    present = sum(n > 0 for n in counts)
    rarity = [sum(counts) / (present * n) if n else 1.0 for n in counts]
    return {"likeliest": [1.0] * len(counts), "even": rarity, "both": [(1 + one) / 2 for one in rarity]}[decision]


@contextmanager
def decided(head: Head, factors: Sequence[float]) -> Iterator[None]:
    """While it lasts the emotion head multiplies its probabilities by `factors` (C,): their logarithms in its bias."""
    import torch

    bias = head.output.bias
    before = bias.detach().clone()
    with torch.no_grad():
        bias.add_(torch.tensor([math.log(factor) for factor in factors], dtype=bias.dtype, device=bias.device))
    try:
        yield
    finally:
        with torch.no_grad():
            bias.copy_(before)
