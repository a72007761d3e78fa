"""Tell voices from tones, noise, hum, clicks and music: a logistic regression on eight statistics of the spectrum.

    samples, log energies, voiced frames -> score; speech where it is above 0

Fitted on half of the speakers of EmoDB, RAVDESS, ASED and nEMO (800 recordings, also quiet, loud, noisy, whispered,
in a room, coded, of telephone bandwidth, under babble and music) and half of the seeds of 51 kinds of synthesised
tones, music, animals, machines and noises. Of the other half 0.5 % of the speech and 97 % of the sounds are left out,
of kinds that were not fitted 96 %. Sounds with less than a second of voiced frames have weights fitted on excerpts of
half of the speakers; `python -m benchmarks.no_voice` measures both on the other half, and docs/use/predict.md has its
table.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

RATE = 16_000
SHORT = 100  # voiced frames of 10 ms below which a sound has weights of its own, as its statistics vary more

_SIZE, _HOP = 512, 400
_WINDOW = np.hanning(_SIZE).astype(np.float32) * np.float32(32_768 / np.sqrt(_SIZE))
_HZ = 700 * (np.exp(np.linspace(np.log(1 + 100 / 700), np.log(1 + 7500 / 700), 19)) - 1)
_EDGES = np.unique(np.round(_HZ / (RATE / _SIZE)).astype(int))  # of the mel bands, in bins

# mean, scale, linear and quadratic weights of the statistics, and the bias
_WEIGHTS = np.array(
    [
        [0.1349, 0.0999, 0.5273, 3.5685, 2.1461, 0.4592, 0.5523, 0.5475],
        [0.0288, 0.0738, 0.0725, 1.0614, 0.9780, 0.1529, 0.1280, 0.1703],
        [0.6354, -0.2330, -0.2895, 0.6815, -0.3140, 0.3592, 0.3040, 0.7202],
        [-0.5400, -0.4812, -0.4515, -0.4123, -0.5175, -0.4215, -0.4315, -0.4187],
    ]
)
_BIAS = 13.0460
_WEIGHTS_SHORT = np.array(
    [
        [0.1382, 0.1064, 0.5904, 2.7995, 2.3409, 1.0482, 0.5854, 0.6774],
        [0.0319, 0.1019, 0.1155, 0.8800, 1.2182, 0.5971, 0.1702, 0.2403],
        [0.3334, -0.3206, -1.4246, 0.7569, -0.7472, -1.3453, -0.4874, 1.9110],
        [-0.1527, -0.2091, -0.3877, -0.4039, -0.8806, 0.2206, -1.0312, -0.4482],
    ]
)
_BIAS_SHORT = 14.3649
_LOUD = 19.0


def statistics(samples: Floats, log_energy: Floats, voiced: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64] | None:
    """Return the statistics (8,) of samples (N,) at 16 kHz; None where there is too little to decide on."""
    count = (len(samples) - _SIZE) // _HOP + 1
    if count < 6:
        return None
    at = np.flatnonzero(voiced[np.minimum((np.arange(count) * _HOP + 56) // 160, len(voiced) - 1)])
    if len(at) < 6:
        return None
    spectrum = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(samples, _SIZE)[::_HOP][at] * _WINDOW)
    gain = np.exp(max(0.0, _LOUD - float(log_energy.max())))  # of quiet recordings, so that the floors do not matter
    power = (spectrum.real**2 + spectrum.imag**2) * np.float32(gain)
    bands = np.add.reduceat(power[:, _EDGES[0] : _EDGES[-1]], _EDGES[:-1] - _EDGES[0], axis=1) / np.diff(_EDGES)
    level = np.log(bands + 1e3)
    shape = level - level.mean(axis=1, keepdims=True)
    change = np.abs(np.diff(shape, axis=0))[np.diff(at) == 1]
    flux, middle = (float(change.mean()), float(np.median(change))) if len(change) else (0.0, 0.0)
    centred = shape - shape.mean(axis=0)
    covariance = centred.T @ centred
    inner = power[:, 3:240]
    peak = inner.argmax(axis=1)
    lag = np.log((np.fft.irfft(power)[:, 40:240] * _LAGS).argmax(axis=1) + 40.0)
    return np.array(
        [
            (inner.max(axis=1) / (inner.sum(axis=1) + 1)).std(),  # does a single harmonic come and go?
            (np.abs(np.diff(lag)) < 0.005).mean(),  # does the pitch stand still?
            flux / (shape.std(axis=0).mean() + 0.1),  # does the timbre glide or jump?
            np.trace(covariance) ** 2 / (np.square(covariance).sum() + 1e-3),  # in how many ways does it change?
            level[:, :7].mean() - level[:, 7:13].mean(),  # slope from low to middle bands
            np.abs(np.diff(log_energy[voiced])).mean(),
            (np.abs(np.diff(peak)) <= 2).mean(),  # does the strongest bin stand still?
            middle,
        ]
    )


def score(samples: Floats, log_energy: Floats, voiced: npt.NDArray[np.bool_]) -> float:
    """Return how much samples (N,) at 16 kHz are like speech; `log_energy` and `voiced` are (T,), a frame each 10 ms.

    Infinite where there is too little to decide on.
    """
    found = statistics(samples, log_energy, voiced)
    if found is None:
        return np.inf
    short = np.count_nonzero(voiced) < SHORT
    mean, scale, linear, square = _WEIGHTS_SHORT if short else _WEIGHTS
    unit = np.clip((found - mean) / scale, -4, 4)
    return float(unit @ linear + unit**2 @ square + (_BIAS_SHORT if short else _BIAS))


_LAGS = (1 / (1 - np.arange(40, 240) / _SIZE)).astype(np.float32)
