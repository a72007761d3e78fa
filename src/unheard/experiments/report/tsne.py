"""The paper's Fig. 2: embeddings of unseen speakers laid flat, coloured by emotion and by speaker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unheard.errors import MissingExtra
from unheard.experiments.report.svg import INK, SHAPES, Canvas, Panel

EMOTIONS = {
    "angry": "#d55e00", "happy": "#e0a100", "neutral": "#8c8c8c", "sad": "#0072b2", "surprised": "#009e73",
    "fearful": "#cc79a7", "disgusted": "#8b6914", "calm": "#56b4e9", "bored": "#6a51a3", "excited": "#c2a5cf",
    "frustrated": "#a6761d", "other": "#b0b0b0",
}  # fmt: skip
SPEAKERS = ("#4477aa", "#ee6677", "#228833", "#aa3377")
POINTS = 1500
"""Utterances drawn at most; of more, so many are picked with a seed."""


def picked(utterances: int, seed: int = 0) -> list[int]:
    """The places of at most POINTS of so many utterances, the same for every system that scored the same ones."""
    if utterances <= POINTS:
        return list(range(utterances))
    return sorted(np.random.default_rng(seed).permutation(utterances)[:POINTS].tolist())


def four_speakers(speakers: Sequence[str], seed: int = 0, n: int = 4) -> list[str]:
    """Four of the speakers, picked at random with a seed, in order."""
    known = sorted(set(speakers))
    chosen = np.random.default_rng(seed).permutation(len(known))[:n]
    return [known[i] for i in sorted(chosen)]


def flat(e: NDArray[np.floating], seed: int = 0) -> NDArray[np.float64]:
    """t-SNE of e (n, E) as (n, 2), on one thread, so that the same points come out every time.

    van der Maaten & Hinton (2008) as in scikit-learn; perplexity 30, less for fewer than 91 points. Raises
    `MissingExtra` without scikit-learn.
    """
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError as error:
        raise MissingExtra("scikit-learn", "train") from error

    perplexity = min(30.0, max(1.0, (len(e) - 1) / 3))
    with threadpool_limits(1):
        map_ = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
        points: NDArray[np.float64] = map_.fit_transform(np.asarray(e, np.float64)).astype(np.float64)
    return points


def panels(
    title: str,
    points: NDArray[np.float64],
    emotions: Sequence[str],
    speakers: Sequence[str],
    labels: Sequence[str],
    shown: Sequence[str],
) -> tuple[Panel, Panel]:
    """Emotions, and beside them the speakers `shown` among all others in grey."""
    side, air = 300.0, 8.0
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (side - 2 * air) / max(float((high - low).max()), 1e-9)
    centred = (points - (low + high) / 2) * scale + side / 2
    by_emotion = _scatter(
        f"{title}: emotions",
        side,
        centred,
        [(label, EMOTIONS.get(label, INK), [e == label for e in emotions]) for label in labels],
        None,
    )
    rest = [speaker not in shown for speaker in speakers]
    groups = [(s, SPEAKERS[k % 4], [speaker == s for speaker in speakers]) for k, s in enumerate(shown)]
    by_speaker = _scatter(f"{title}: {len(shown)} speakers", side, centred, groups, rest)
    return by_emotion, by_speaker


def _scatter(
    title: str,
    side: float,
    points: NDArray[np.float64],
    groups: Sequence[tuple[str, str, Sequence[bool]]],
    rest: Sequence[bool] | None,
) -> Panel:
    canvas = Canvas(side, side)
    canvas.add("rect", x=0.5, y=0.5, width=side - 1, height=side - 1, fill="none", stroke=INK, stroke_opacity=".25")
    size = 5.0 if len(points) < 600 else 3.5
    if rest is not None:
        others = [(float(x), float(y)) for (x, y), out in zip(points, rest, strict=True) if out]
        canvas.marks(others, "circle", INK, 2.5, opacity=".15")
    counts = []
    for place, (name, colour, members) in enumerate(groups):
        own = [(float(x), float(y)) for (x, y), inside in zip(points, members, strict=True) if inside]
        canvas.marks(own, SHAPES[place % len(SHAPES)], colour, size, hint=name, opacity=".85")
        counts.append(f"{name} {len(own)}")
    return canvas.panel(title, f"t-SNE map, {title}; utterances: {', '.join(counts)}.")
