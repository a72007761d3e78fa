"""How many times faster than real time features are made, on one core, side by side.

    python benchmarks/features.py                    # on recordings made up on the spot
    python benchmarks/features.py FOLDER             # on the WAV, FLAC, OGG and MP3 files under FOLDER
    python benchmarks/features.py --seconds 60
    python benchmarks/features.py --pitch            # our other front ends beside the default one

Every row reads the same files from disk, one process, one thread. The rows take turns on every file, and each
file counts at its best of all rounds: whatever else the machine does can only slow a round down.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = "1"  # before numpy is imported

import numpy as np
import soundfile

from unheard.audio import info
from unheard.errors import AudioError
from unheard.features import FeatureSettings, extract
from unheard.features.functionals import functionals

SUFFIXES = {".wav", ".flac", ".ogg", ".mp3"}


def ours(path: Path) -> None:
    """MFCC, deltas and VAD."""
    extract(path)


def with_pitch(path: Path) -> None:
    """MFCC, deltas, Kaldi's pitch and VAD."""
    extract(path, FeatureSettings(pitch=True))


def log_mel_with_pitch(path: Path) -> None:
    """40 log-mel bands, Kaldi's pitch and VAD."""
    extract(path, FeatureSettings(kind="fbank", mel_bins=40, deltas=0, pitch=True))


def one_vector(path: Path) -> None:
    """Functionals."""
    functionals(path)


def plain_kaldi_native_fbank(path: Path) -> None:
    """MFCC alone, by the loop of that library's documentation."""
    import kaldi_native_fbank as knf

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    options = knf.MfccOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = rate
    options.mel_opts.num_bins = 23
    extractor = knf.OnlineMfcc(options)
    extractor.accept_waveform(rate, (samples.mean(axis=1) * 32768).tolist())
    extractor.input_finished()
    np.stack([extractor.get_frame(index) for index in range(extractor.num_frames_ready)])


def librosa_with_deltas(path: Path) -> None:
    """MFCC and two orders of deltas."""
    import librosa

    samples, rate = librosa.load(path, sr=16_000)
    mfcc = librosa.feature.mfcc(
        y=samples, sr=rate, n_mfcc=13, n_mels=23, n_fft=512, win_length=400, hop_length=160, center=False
    )
    # Its deltas need frames for their window, 9 wide.
    if mfcc.shape[1] >= 9:
        np.concatenate([mfcc, librosa.feature.delta(mfcc), librosa.feature.delta(mfcc, order=2)])


ROWS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "unheard": ("MFCC + deltas + VAD", ours),
    "kaldi-native-fbank, plain loop": ("MFCC", plain_kaldi_native_fbank),
    "librosa": ("MFCC + deltas", librosa_with_deltas),
}

PITCH_ROWS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "unheard": ROWS["unheard"],
    "unheard --features.pitch": ("and pitch", with_pitch),
    "unheard, 40 bands, pitch": ("fbank + pitch + VAD", log_mel_with_pitch),
    "unheard, functionals": ("functionals", one_vector),
}


def recordings(folder: Path, seconds: float) -> tuple[list[Path], float]:
    """Readable files under `folder`, spread over it, until they last `seconds`."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    order = np.random.default_rng(0).permutation(len(found))
    chosen: list[Path] = []
    total = 0.0
    for path in (found[at] for at in order):
        if total >= seconds:
            break
        try:
            total += info(path).seconds
        except AudioError:
            continue
        chosen.append(path)
    if not chosen:
        raise SystemExit(f"no recording was found under {folder}")
    return chosen, total


def synthesise(folder: Path, seconds: float) -> None:
    """Utterances of 3 s of noise with the loudness of syllables, half WAV and half FLAC."""
    random = np.random.default_rng(0)
    for index in range(max(2, round(seconds / 3))):
        loudness = np.repeat(random.uniform(0.001, 0.2, 30), 1600)
        noise = np.convolve(random.normal(0, 1, 48_000), [1, 0.9, 0.5], mode="same") * loudness
        soundfile.write(folder / f"{index}.{'flac' if index % 2 else 'wav'}", noise, 16_000, subtype="PCM_16")


def measure(files: list[Path], rounds: int, rows: dict[str, tuple[str, Callable[[Path], None]]]) -> dict[str, float]:
    """Seconds that each row took over all files, each file at its best."""
    best = {name: np.full(len(files), np.inf) for name in rows}
    for _ in range(rounds + 1):  # the first round warms up: it is never the best
        for index, path in enumerate(files):
            for name, (_, run) in rows.items():
                begin = time.perf_counter()
                run(path)
                best[name][index] = min(best[name][index], time.perf_counter() - begin)
    return {name: float(times.sum()) for name, times in best.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=120.0, help="how much audio to read a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pitch", action="store_true", help="our front ends with pitch instead of other libraries")
    options = parser.parse_args(arguments)
    rows = PITCH_ROWS if options.pitch else dict(ROWS)
    if not find_spec("librosa"):
        rows.pop("librosa", None)
    with tempfile.TemporaryDirectory() as scratch:
        if options.folder is None:
            synthesise(Path(scratch), options.seconds)
        files, seconds = recordings(options.folder or Path(scratch), options.seconds)
        best = measure(files, options.rounds, rows)
    print(f"{len(files)} recordings, {seconds:.0f} s; one core; best of {options.rounds} rounds")
    print(f"{'':32}{'computes':22}{'× real time':>12}{'unheard is':>14}")
    for name, (what, _) in rows.items():
        ratio = "" if name == "unheard" else f"{best[name] / best['unheard']:.1f}× faster"
        print(f"{name:32}{what:22}{seconds / best[name]:>12,.0f}{ratio:>14}")


if __name__ == "__main__":
    main()
