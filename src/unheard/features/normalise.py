"""Normalisation of features before the network sees them.

`none`, `train` (one mean and variance a dimension from the training utterances), `utterance`, `sliding`
(Kaldi's `apply-cmvn-sliding`) and `speaker`. The last needs utterances of the test speakers, unlabelled but
all of them: it is marked transductive, and a report that uses it must say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from unheard.errors import ConfigError, FeatureError, did_you_mean

Floats = npt.NDArray[np.float32]


class Source(Protocol):
    """What `Normaliser.fit` reads: a feature store, or utterances (T, F) by id in memory."""

    @property
    def dim(self) -> int:
        """F, the number of features."""

    def __contains__(self, name: object, /) -> bool: ...

    def __getitem__(self, name: str, /) -> Floats: ...


KINDS = ("none", "train", "utterance", "sliding", "speaker")
SLIDING_FRAMES = 300
"""As many as in Kaldi's x-vector recipes, three seconds at 10 ms a frame. Those slide over all frames and choose the
voiced ones then; here the window is over the voiced frames, which alone are kept."""

TRANSDUCTIVE = "transductive: normalised with the test speakers' recordings"
"""What is said wherever figures of `speaker` are shown."""

LEAST_STD = 1e-5  # below this a dimension is constant: it is centred, not divided


@dataclass(frozen=True, eq=False)
class Normaliser:
    """One way to normalise features; `fit` returns a fitted copy, `apply` needs it for `train` and `speaker`.

    `mean` and `std` are (1, F) for `train`, and (speakers, F) for `speaker` in the order of `speakers`.
    Raises `ConfigError` for an unknown kind.
    """

    kind: str = "train"
    mean: Floats | None = None
    std: Floats | None = None
    speakers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"unknown normalisation '{self.kind}'", mend=did_you_mean(self.kind, KINDS))

    @property
    def transductive(self) -> bool:
        """Whether it uses (unlabelled) utterances of the speakers it is tested on."""
        return self.kind == "speaker"

    def fit(self, store: Source, ids: Iterable[str], speakers: Mapping[str, str] | None = None) -> Normaliser:
        """A copy that knows the statistics of the utterances `ids`, read one after the other.

        `ids` are those of the training speakers for `train`, those of everyone for `speaker`, which takes
        the speaker of each from `speakers`. Ids that the store skipped are passed over.
        Raises `FeatureError` where nothing is left, or a speaker is not known.
        """
        if self.kind not in ("train", "speaker"):
            return self
        sums: dict[str, Moments] = {}
        for name in ids:
            if name in store:
                speaker = "" if self.kind == "train" else (speakers or {}).get(name)
                if speaker is None:
                    mend = "Speaker normalisation needs one for every utterance."
                    raise FeatureError(f"the speaker of '{name}' is not known", mend=mend)
                sums.setdefault(speaker, Moments(store.dim)).add(store[name])
        if not sums:
            raise FeatureError("there is no utterance to take the mean and variance from")
        speakers_read, moments = zip(*sorted(sums.items()), strict=True)
        return replace(
            self,
            mean=np.stack([one.mean for one in moments]).astype(np.float32),
            std=np.stack([guarded(np.sqrt(one.variance)) for one in moments]).astype(np.float32),
            speakers=speakers_read if self.kind == "speaker" else (),
        )

    def apply(self, x: Floats, speaker: str | None = None) -> Floats:
        """Features (T, F) of one utterance normalised, (T, F); `speaker` matters for `speaker` alone.

        Raises `FeatureError` before `fit`, and for a speaker whose utterances `fit` has not seen.
        """
        if self.kind == "none":
            return x
        if self.kind == "utterance":
            mean, std = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
            normalised: Floats = (x - mean.astype(np.float32)) / guarded(std).astype(np.float32)
            return normalised
        if self.kind == "sliding":
            return sliding_mean_removed(x)
        if self.mean is None or self.std is None:
            raise FeatureError(f"'{self.kind}' normalisation has not been fitted", mend="Call fit first.")
        row = 0
        if self.kind == "speaker":
            if speaker not in self.speakers:
                mend = "Fit the normaliser on all speakers, or choose another normalisation."
                raise FeatureError(f"no utterance of speaker '{speaker}' was seen", mend=mend)
            row = self.speakers.index(speaker)
        fitted: Floats = (x - self.mean[row]) / self.std[row]
        return fitted


def sliding_mean_removed(x: Floats, window: int = SLIDING_FRAMES) -> Floats:
    """Features (T, F) minus their mean over the `window` frames around each, (T, F).

    At the edges the window is shifted inwards, and shortened for utterances below it. Source: Kaldi,
    `apply-cmvn-sliding --center=true --norm-vars=false`.
    """
    frames = len(x)
    begin = np.clip(np.arange(frames) - window // 2, 0, max(frames - window, 0))
    end = np.minimum(begin + window, frames)
    sums = np.zeros((frames + 1, x.shape[1]), np.float64)
    np.cumsum(x, axis=0, dtype=np.float64, out=sums[1:])
    mean = (sums[end] - sums[begin]) / (end - begin)[:, None]
    centred: Floats = x - mean.astype(np.float32)
    return centred


def pool(x: Floats) -> npt.NDArray[np.float64]:
    """Return mean and standard deviation over time of frames (T, F): (2F,), the pooling of the embedding."""
    return np.concatenate([x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)])


class Moments:
    """Running mean and variance (F,), utterance after utterance, without cancellation (Chan et al. 1983)."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = np.zeros(dim)
        self._squares = np.zeros(dim)

    def add(self, x: Floats) -> None:
        """Take in the frames (T, F) of an utterance."""
        if not len(x):
            return
        count = self.count + len(x)
        mean = x.mean(axis=0, dtype=np.float64)
        step = mean - self.mean
        self._squares += np.square(x - mean).sum(axis=0) + step**2 * (self.count * len(x) / count)
        self.mean += step * (len(x) / count)
        self.count = count

    @property
    def variance(self) -> npt.NDArray[np.float64]:
        """Of all frames so far, (F,)."""
        return self._squares / max(self.count, 1)


def guarded(std: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Deviations to divide by: 1 where a dimension is constant."""
    return np.where(std < LEAST_STD, 1.0, std)
