"""Normalisation of features before the network sees them.

`none`, `train` (a mean and variance per dimension from the training utterances), `utterance`, `sliding` (Kaldi's
`apply-cmvn-sliding`) and `speaker`. The last needs all utterances of the test speakers, though without labels: it is
marked transductive, and a report that uses it must say so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from unheard.errors import ConfigError, FeatureError, did_you_mean

Floats = npt.NDArray[np.float32]


class FeatureSource(Protocol):
    """Input of `Normaliser.fit`: a feature store, or utterances (T, F) in memory by id."""

    @property
    def dim(self) -> int:
        """F, the number of features."""

    def __contains__(self, name: object, /) -> bool: ...

    def __getitem__(self, name: str, /) -> Floats: ...


KINDS = ("none", "train", "utterance", "sliding", "speaker")
SLIDING_FRAMES = 300
"""The window of Kaldi's x-vector recipes: three seconds at 10 ms per frame. They normalise all frames and then select
the voiced ones; here the window slides over the voiced frames, since only these are kept."""

TRANSDUCTIVE = "transductive: normalised with the test speakers' recordings"
"""The note shown with all results of `speaker` normalisation."""

LEAST_STD = 1e-5  # a dimension with a smaller deviation counts as constant: it is centred, not divided


@dataclass(frozen=True, eq=False)
class Normaliser:
    """A feature normalisation; `fit` returns a fitted copy, which `apply` needs for `train` and `speaker`.

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
        """Whether the normalisation uses (unlabelled) utterances of the test speakers."""
        return self.kind == "speaker"

    def fit(self, store: FeatureSource, ids: Iterable[str], speakers: Mapping[str, str] | None = None) -> "Normaliser":
        """Return a copy fitted on the utterances `ids`.

        Pass the utterances of the training speakers for `train`, and those of all speakers for `speaker`, with their
        speakers in `speakers`. Ids that the store skipped are ignored. Raises `FeatureError` if no utterance is left,
        or a speaker is missing.
        """
        if self.kind not in ("train", "speaker"):
            return self
        sums: dict[str, Moments] = {}
        for name in ids:
            if name in store:
                speaker = "" if self.kind == "train" else (speakers or {}).get(name)
                if speaker is None:
                    mend = "Speaker normalisation needs a speaker for every utterance."
                    raise FeatureError(f"the speaker of '{name}' is not known", mend=mend)
                sums.setdefault(speaker, Moments(store.dim)).add(store[name])
        if not sums:
            raise FeatureError("there is no utterance to take the mean and variance from")
        speakers_read, moments = zip(*sorted(sums.items()), strict=True)
        return replace(
            self,
            mean=np.stack([m.mean for m in moments]).astype(np.float32),
            std=np.stack([guarded(np.sqrt(m.variance)) for m in moments]).astype(np.float32),
            speakers=speakers_read if self.kind == "speaker" else (),
        )

    def apply(self, x: Floats, speaker: str | None = None) -> Floats:
        """Normalise the features (T, F) of one utterance; only the kind `speaker` needs its `speaker`.

        Raises `FeatureError` before `fit`, and for a speaker that was not in `fit`.
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
    """Subtract from each frame of (T, F) the mean of the `window` frames around it.

    The window is shifted inwards at the edges, and shortened for shorter utterances. Source: Kaldi,
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
    """Return the mean and standard deviation over time of frames (T, F), (2F,), as the embedding pools them."""
    return np.concatenate([x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)])


class Moments:
    """Running mean and variance (F,) over utterances, without cancellation (Chan et al. 1983)."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = np.zeros(dim)
        self._squares = np.zeros(dim)

    def add(self, x: Floats) -> None:
        """Add the frames (T, F) of an utterance."""
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
        """The variance of all frames so far, (F,)."""
        return self._squares / max(self.count, 1)


def guarded(std: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return standard deviations with 1 for constant dimensions, to divide by."""
    return np.where(std < LEAST_STD, 1.0, std)
