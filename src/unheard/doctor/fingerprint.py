"""Find near-duplicate recordings: the same take with another gain, format, bit depth or trim.

    samples -> log band energies, 50 frames per second -> silence cut at both ends -> **print** (T, BANDS)
    print -> 16 time slots, unit length -> random hyperplanes -> candidates -> aligned correlation

Takes of one sentence by one actor are similar but not equal: their timing and pitch differ by more than a
frame. `ALIKE` lies between the two; the tests check both on real acted corpora.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Print = npt.NDArray[np.int8]  # (T, BANDS), half decibels around the mean of each band

RATE = 16_000
HOP = 320  # 20 ms
WINDOW = 1024  # 64 ms: long enough that half a hop of offset changes little
BANDS = 20
FLOOR_DB = 50.0  # quieter than this below the loudest cell counts as silence
EDGE_DB = 35.0  # frames this far below the loudest one are cut at both ends
LONGEST = 1000  # frames used, 20 s
SHORTEST = 15  # frames; shorter sounds carry too little to distinguish takes
SLOTS = 16
LAG = 8  # frames tried in either direction, 160 ms
ALIKE = 0.96  # on three acted corpora two takes reach 0.94, copies start at 0.978; some invented voices are above it
ROUGHLY = 0.6  # cosine of two slot vectors below which the prints are not compared
TABLES = 16
CROWD = 40  # neighbours compared within one bucket, which keeps the search linear if all recordings are equal


def _band_edges() -> npt.NDArray[np.int64]:
    """Return the edges of BANDS mel-spaced bands from 80 Hz to 4 kHz, the telephone's range, as FFT bins."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (80.0, 4000.0))
    hertz = 700 * (10 ** (np.linspace(low, high, BANDS + 1) / 2595) - 1)
    edges = np.round(hertz * WINDOW / RATE).astype(np.int64)
    for place in range(1, len(edges)):  # every band has a bin
        edges[place] = max(edges[place], edges[place - 1] + 1)
    return edges


EDGES = _band_edges()
HANN = np.hanning(WINDOW).astype(np.float32)


def fingerprint(samples: npt.NDArray[np.float32]) -> Print | None:
    """Compute the print of a recording at 16 kHz, (N,) -> (T, BANDS); None if it is too short or silent."""
    samples = samples[: (LONGEST + 100) * HOP]
    if len(samples) < WINDOW + SHORTEST * HOP:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]  # (T, WINDOW)
    power = np.abs(np.fft.rfft(frames * HANN, axis=1)) ** 2
    bands = np.add.reduceat(power[:, : EDGES[-1]], EDGES[:-1], axis=1)  # (T, BANDS)
    loudest = bands.max()
    if not loudest > 0:
        return None
    level = bands.sum(axis=1)
    loud = np.flatnonzero(level > level.max() * 10 ** (-EDGE_DB / 10))
    bands = bands[loud[0] : loud[-1] + 1][:LONGEST]
    if len(bands) < SHORTEST:
        return None
    decibels = 10 * np.log10(np.maximum(bands, loudest * 10 ** (-FLOOR_DB / 10)))
    decibels -= decibels.mean(axis=0)
    whole: Print = np.clip(np.round(2 * decibels), -127, 127).astype(np.int8)
    return whole


def likeness(one: Print, other: Print) -> float:
    """Return the correlation of two prints, -1 to 1, at the best alignment within `LAG` frames, in half frames."""
    if abs(len(one) - len(other)) > 2 * LAG:
        return -1.0
    a, b = one.astype(np.float32), other.astype(np.float32)
    between = (b[1:] + b[:-1]) / np.float32(2)  # the frames that lie half a hop later

    def at(lag: int, shifted: npt.NDArray[np.float32]) -> float:
        x, y = a[max(lag, 0) :], shifted[max(-lag, 0) :]
        common = min(len(x), len(y))
        return _correlation(x[:common], y[:common]) if common >= SHORTEST else -1.0

    best, lag = max((at(lag, b), lag) for lag in range(-LAG, LAG + 1))
    return max(best, at(lag, between), at(lag + 1, between))


def _correlation(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> float:
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / scale if scale > 0 else -1.0


def near_duplicates(prints: Sequence[Print | None]) -> list[tuple[int, int, float]]:
    """Return pairs (i, j, likeness), i < j, that are almost surely one recording, best first.

    Candidates are prints of similar length that share a bucket in at least one of `TABLES` tables of
    random hyperplanes, so the work grows with the number of recordings, not with its square. Pairs that follow
    from others (a is b, b is c) are not compared: the pairs connect all copies but are not all pairs of copies.
    """
    places = [place for place, one in enumerate(prints) if one is not None]
    known = [one for one in prints if one is not None]
    copy_of, pairs = list(range(len(known))), []

    def first(place: int) -> int:
        while copy_of[place] != place:
            copy_of[place] = copy_of[copy_of[place]]
            place = copy_of[place]
        return place

    for i, j in _candidates(known):
        if first(i) != first(j) and (score := likeness(known[i], known[j])) >= ALIKE:
            copy_of[first(j)] = first(i)
            pairs.append((places[i], places[j], score))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))


def _candidates(prints: Sequence[Print]) -> Iterator[tuple[int, int]]:
    if len(prints) < 2:
        return
    points = np.stack([_slots(one) for one in prints])  # (N, SLOTS * BANDS)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-6)
    lengths = np.array([len(one) for one in prints])
    bits = int(np.clip(np.ceil(np.log2(len(prints))), 4, 16))
    draw = np.random.default_rng(0)
    seen: set[tuple[int, int]] = set()
    for _ in range(TABLES):
        planes = draw.standard_normal((points.shape[1], bits)).astype(np.float32)
        keys = ((points @ planes) > 0) @ (1 << np.arange(bits))
        order = np.lexsort((lengths, keys))
        for step in range(1, min(CROWD, len(order) - 1) + 1):
            first, second = order[:-step], order[step:]
            close = (keys[first] == keys[second]) & (np.abs(lengths[first] - lengths[second]) <= 2 * LAG)
            if not close.any():
                break
            first, second = first[close], second[close]
            rough = np.einsum("nd,nd->n", points[first], points[second]) >= ROUGHLY
            for i, j in zip(first[rough].tolist(), second[rough].tolist(), strict=True):
                pair = (min(i, j), max(i, j))
                if pair not in seen:
                    seen.add(pair)
                    yield pair


def _slots(one: Print) -> npt.NDArray[np.float32]:
    """Average a print over SLOTS equal stretches of time, flattened: (SLOTS * BANDS,)."""
    total = np.zeros((len(one) + 1, BANDS), np.float32)
    np.cumsum(one, axis=0, out=total[1:])
    bounds = np.linspace(0, len(one), SLOTS + 1, dtype=np.float32)
    below = np.minimum(bounds.astype(np.int64), len(one) - 1)
    share = (bounds - below)[:, None]
    at = (1 - share) * total[below] + share * total[below + 1]  # (SLOTS + 1, BANDS)
    slots: npt.NDArray[np.float32] = (np.diff(at, axis=0) * np.float32(SLOTS / len(one))).ravel()
    return slots
