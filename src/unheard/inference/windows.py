"""Long audio as windows of fixed length, each an utterance of its own.

Window k covers [k·hop, k·hop + seconds). The last one is shorter where the audio ends inside it; audio no longer than
one window is one window. Which windows there are depends on the samples alone, not on the blocks they come in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unheard.channels import Samples
from unheard.errors import ConfigError

SHORTEST, LONGEST = 0.5, 60.0


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """Windows of `seconds`, a new one every `hop` seconds.

    Raises `ConfigError` for windows outside 0.5 to 60 s, and a hop below 0.1 s or above the window.
    """

    seconds: float = 3.0
    hop: float = 1.0

    def __post_init__(self) -> None:
        if not SHORTEST <= self.seconds <= LONGEST:
            raise ConfigError(
                f"windows of {self.seconds:g} s are out of range", mend=f"Use {SHORTEST:g} to {LONGEST:g} s."
            )
        if not 0.1 <= self.hop <= self.seconds:
            raise ConfigError(
                f"a hop of {self.hop:g} s is out of range", mend=f"Use 0.1 to {self.seconds:g} s, the window's length."
            )

    @property
    def reach(self) -> int:
        """How many windows cover one hop at most."""
        return math.ceil(round(self.seconds / self.hop, 9))


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Samples (N,) of window number `index`, the first of them sample number `first` of the stream."""

    index: int
    first: int
    samples: Samples


class WindowCutter:
    """Cuts windows out of samples that come in blocks of any size; keeps no more than it still needs."""

    def __init__(self, settings: WindowSettings, sample_rate: int) -> None:
        self.length = round(settings.seconds * sample_rate)
        self.hop = round(settings.hop * sample_rate)
        self.heard = 0
        """Samples so far."""
        self._next = 0
        self._kept: Samples = np.zeros(0, np.float32)  # from sample `_next * hop` on

    def push(self, block: Samples) -> list[Window]:
        """The windows that `block` completes."""
        self.heard += len(block)
        self._kept = np.concatenate([self._kept, block])
        found = []
        while len(self._kept) >= self.length:
            found.append(Window(self._next, self._next * self.hop, self._kept[: self.length]))
            self._kept = self._kept[self.hop :]
            self._next += 1
        return found

    def finish(self) -> list[Window]:
        """The last, shorter window, where samples are in no window yet."""
        covered = (self._next - 1) * self.hop + self.length if self._next else 0
        if self.heard <= covered:
            return []
        return [Window(self._next, self._next * self.hop, self._kept)]
