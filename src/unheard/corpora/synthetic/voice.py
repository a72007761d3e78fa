"""Synthesis: a source of pulses and noise, filtered frame by frame by the envelope of the vocal tract.

    Take -> syllables -> knots in time (sound, loudness) -> frames of a spectrum -> overlap-add -> int16 (N,)

K knots, F frames of 16 ms, H bins of a spectrum. Formants are textbook values of vowels (Peterson & Barney 1952, men),
scaled by the speaker's vocal tract.
"""

import hashlib
from functools import lru_cache
from random import Random

import numpy as np
from numpy.typing import NDArray

from unheard.corpora.synthetic.plan import SyntheticSettings, Take, Voice, voices

Array = NDArray[np.float64]
Single = NDArray[np.float32]  # spectra: sufficient precision for 16-bit sound

_SILENT = -9.0  # natural logarithm of a magnitude: -78 dB
_VOICED = {  # formants in Hz, and loudness as a logarithm
    "a": ((730, 1090, 2440), 0.0),
    "e": ((530, 1840, 2480), 0.0),
    "i": ((270, 2290, 3010), -0.2),
    "o": ((570, 840, 2410), 0.0),
    "u": ((300, 870, 2240), -0.3),
    "y": ((490, 1350, 1690), -0.2),
    "m": ((250, 1100, 2200), -1.2),
    "n": ((260, 1500, 2500), -1.2),
    "l": ((360, 1200, 2700), -0.8),
}
_NOISE = {"s": (5800, 1500, 0.30), "S": (3000, 1200, 0.30), "f": (4800, 3500, 0.10), "t": (3600, 2200, 0.22),
          "k": (1800, 900, 0.22)}  # centre, width in Hz, loudness  # fmt: skip
_SOUNDS = ("_", *_VOICED, *_NOISE)
_BANDWIDTHS = (70.0, 100.0, 140.0, 200.0, 280.0)
_ONSETS = ("m", "n", "l", "s", "S", "f", "t", "k", "")
_COLOUR_DB = 9.0
_LEVEL_DB = -36.0
_FLOOR_DB = -72.0


def render(settings: SyntheticSettings, take: Take) -> NDArray[np.int16]:
    """Return the samples of one utterance, int16 (N,), determined by the settings and the utterance.

    Results are bit-identical with the same version of NumPy on the same kind of processor.
    """
    voice = voices(settings)[take.speaker]
    digest = hashlib.sha256(f"{settings.seed}/sound/{take.id}".encode()).digest()
    draw = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "big")))
    rate = settings.sample_rate
    hop = 2 * round(0.008 * rate)
    samples = round(take.duration * rate)
    frames = -(-samples // hop) + 1
    middles = np.arange(frames) * (hop / rate)  # s; frame f spans the hop before and the hop after it

    times, sounds, loud, pitch = _knots(settings, voice, take)
    after = np.clip(np.searchsorted(times, middles), 1, len(times) - 1)
    before = after - 1
    share = np.clip((middles - times[before]) / (times[after] - times[before]), 0, 1)
    weight = share.astype(np.float32)[:, None]
    voiced, noisy, tilts, smiles, colours = _tables(voice, rate, hop)
    delivery = take.delivery
    envelope = voiced[sounds[before]] * (1 - weight) + voiced[sounds[after]] * weight  # (F, H), logarithm
    envelope += np.float32(voice.tilt + delivery.tilt) * tilts + np.float32(delivery.smile) * smiles
    loudness = np.interp(middles, times, loud) + draw.normal(0, 0.08, frames)
    envelope += loudness.astype(np.float32)[:, None]
    np.exp(envelope, out=envelope)
    rustle = noisy[sounds[before]] * (1 - weight) + noisy[sounds[after]] * weight  # (F, H)
    rustle += np.float32(max(0.005, voice.breath + delivery.breath)) * envelope

    semitones = np.interp(middles, times, pitch) + np.cumsum(draw.normal(0, 0.12, frames)) * 0.3
    f0 = voice.f0 * 2.0 ** (semitones / 12)
    pulses = _pulses(f0, hop, rate, max(0.001, voice.jitter + delivery.jitter), draw)
    noise = draw.standard_normal((frames + 1) * hop, np.float32)
    spectrum = _spectra(pulses, hop) * envelope
    spectrum += _spectra(noise, hop) * rustle
    spectrum *= colours
    sound = _overlap_add(spectrum, hop)[:samples]

    level = _LEVEL_DB + voice.level + delivery.energy
    power = float(np.mean(np.square(sound), dtype=np.float64))
    sound *= np.float32(32768 * 10 ** (level / 20) / max(power, 1e-18) ** 0.5)
    sound += np.float32(32768 * 10 ** (_FLOOR_DB / 20)) * draw.standard_normal(samples, np.float32)
    clipped: NDArray[np.int16] = np.clip(np.rint(sound), -32768, 32767).astype("<i2")
    return clipped


def _knots(settings: SyntheticSettings, voice: Voice, take: Take) -> tuple[Array, NDArray[np.intp], Array, Array]:
    """Return times, sounds, log loudness and pitch (semitones above the speaker's habit) of the knots: (K,) each.

    A sentence is an endless sequence of syllables, and an utterance is its beginning.
    """
    words = Random(f"{settings.seed}/sentence/{take.sentence}")
    own = Random(f"{settings.seed}/timing/{take.id}")
    delivery = take.delivery
    pause = min(0.12, 0.05 * take.duration)
    spoken = take.duration - 2 * pause
    count = max(2, round(spoken * voice.rate * np.exp(delivery.rate)))
    knots: list[tuple[float, str, float, float]] = []  # width, sound, loudness, accent
    for syllable in range(count):
        onset = words.choice(_ONSETS)
        vowel = words.choice("aeiouy")
        accent = words.choice((-0.5, -0.2, 0.2, 1.0)) + own.gauss(0, 0.25)
        length = words.uniform(0.8, 1.3) * own.uniform(0.9, 1.1)
        if onset in ("t", "k"):
            knots += [(0.25, "_", -1.0, accent), (0.15, onset, 0.0, accent)]
        elif onset:
            knots.append((0.4, onset, 0.0, accent))
        knots += [(0.3 * length, vowel, 0.25 * accent, accent), (0.4 * length, vowel, 0.25 * accent, accent)]
        if words.random() < 0.12 and 0 < syllable < count - 1:
            knots.append((0.5, "_", 0.0, 0.0))
    widths = np.array([width for width, *_ in knots])
    ends = pause + spoken * np.cumsum(widths) / widths.sum()
    times = np.concatenate([[0.0, 0.7 * pause], ends - 0.5 * spoken * widths / widths.sum(),
                            [take.duration - 0.7 * pause, take.duration]])  # fmt: skip
    sounds = np.array([0, 0, *(_SOUNDS.index(sound) for _, sound, *_ in knots), 0, 0])
    place = np.clip(times / take.duration, 0, 1) - 0.5
    loud = np.array([0.0, 0.0, *(loudness for *_, loudness, _ in knots), 0.0, 0.0]) - 0.5 * place
    accents = np.array([0.0, 0.0, *(accent for *_, accent in knots), 0.0, 0.0])
    span = voice.span * np.exp(delivery.span)
    pitch = delivery.level + span * accents + (delivery.slope - 2.5) * place
    return times, sounds, loud, pitch


@lru_cache(maxsize=32)
def _tables(voice: Voice, rate: int, hop: int) -> tuple[Single, Single, Single, Single, Single]:
    """Return log spectra of a voice's voiced sounds and spectra of its noises (sounds, H); tilt, smile, colour (H,)."""
    hertz = np.fft.rfftfreq(3 * hop, 1 / rate)
    shape = (len(_SOUNDS), len(hertz))
    voiced, noisy = np.full(shape, _SILENT), np.zeros(shape)
    for row, sound in enumerate(_SOUNDS):
        if sound in _VOICED:
            formants, loudness = _VOICED[sound]
            voiced[row] = loudness
            for centre, width in zip((*formants, 3500, 4500), _BANDWIDTHS, strict=True):
                ratio = hertz / (centre * voice.tract)
                voiced[row] -= 0.5 * np.log((1 - ratio**2) ** 2 + (ratio * width / centre) ** 2)
            # compensates for the missing formants above the fifth
            voiced[row] += 0.5 * np.log1p((hertz / (4500 * voice.tract)) ** 4) * 1.6
        elif sound in _NOISE:
            centre, width, gain = _NOISE[sound]
            noisy[row] = gain * np.exp(-0.5 * ((hertz - centre * voice.tract) / width) ** 2)
    tilts = np.log2(np.maximum(hertz, 100) / 500) * (np.log(10) / 20)
    smiles = np.exp(-0.5 * ((hertz - 2500) / 700) ** 2) * (np.log(10) / 20)
    voiced[1:] -= 1.0
    # a microphone's low cut, without which most of the energy would be in the first harmonic
    voiced += np.log(hertz**2 / (hertz**2 + 90.0**2) + 1e-4)
    mel = np.log1p(hertz / 700) / np.log1p(hertz[-1] / 700)
    wave = np.cos(2 * np.pi * (1.5 * mel + 0.25 * voice.colour))
    colours = 10 ** (_COLOUR_DB * voice.depth * wave / 20)
    single = [array.astype(np.float32) for array in (voiced, noisy, tilts, smiles, colours)]
    return (single[0], single[1], single[2], single[3], single[4])


def _pulses(f0: Array, hop: int, rate: int, jitter: float, draw: np.random.Generator) -> Array:
    """Return the glottal pulses of a pitch track (F,) in Hz, interpolated between samples: ((F + 1) · hop,)."""
    length = (len(f0) + 1) * hop
    cycles = np.concatenate([[0.0], np.cumsum(f0) * (hop / rate)])
    numbers = np.arange(1, int(cycles[-1]))
    places = np.interp(numbers, cycles, np.arange(len(cycles)) * hop)
    period = np.diff(places, prepend=0.0)
    places = np.clip(places + draw.normal(0, jitter, len(places)) * period, 0, length - 2)
    # the power does not depend on the pitch
    sizes = np.sqrt(np.maximum(period, 1.0)) * np.exp(draw.normal(0, 3 * jitter, len(places)))
    whole = places.astype(np.intp)
    part = places - whole
    train = np.bincount(whole, sizes * (1 - part), length) + np.bincount(whole + 1, sizes * part, length)
    return np.asarray(train, np.float64)


def _spectra(signal: Array | Single, hop: int) -> NDArray[np.complexfloating]:
    """Compute spectra (F, H) of frames of two hops with a Hann window, padded by half a hop on both sides."""
    window = 0.5 - 0.5 * np.cos(np.pi * np.arange(2 * hop) / hop)
    rows = signal.reshape(-1, hop)
    room = np.zeros((len(rows) - 1, 3 * hop), np.float32)
    half = hop // 2
    np.multiply(rows[:-1], window[:hop], out=room[:, half : half + hop], casting="same_kind")
    np.multiply(rows[1:], window[hop:], out=room[:, half + hop : half + 2 * hop], casting="same_kind")
    return np.fft.rfft(room)


def _overlap_add(spectrum: NDArray[np.complexfloating], hop: int) -> Single:
    """Overlap-add frames to a signal that begins at the middle of the first frame."""
    blocks = np.fft.irfft(spectrum, 3 * hop).reshape(len(spectrum), 3, hop)
    rows = np.zeros((len(blocks) + 2, hop), np.float32)
    for number in range(3):
        rows[number : number + len(blocks)] += blocks[:, number]
    return rows.reshape(-1)[hop + hop // 2 :]
