"""How fast an exported model answers on one core, beside PyTorch, Whisper in transformers and openSMILE with an SVM.

    python -m benchmarks.inference                    # on invented voices, 3 s each
    python -m benchmarks.inference FOLDER             # on the WAV, FLAC, OGG and MP3 files under FOLDER
    python -m benchmarks.inference --model starter    # that model beside the recipes' own
    python -m benchmarks.inference --model starter --whisper openai/whisper-base
    python -m benchmarks.inference --parts start,memory --rounds 20

The recipes' models are made on the spot with random weights, which cost as much as trained ones. Every recording of up
to a minute is one utterance here. Parts:

    files    times real time with decoding, features and graph; what front end, pitch and graph take of it
    start    seconds of a new `unheard predict` of one file, from nothing to the answer
    stream   milliseconds from the last sample of a window to its answer, live
    memory   the most memory that `unheard predict` holds over a long recording and over a short one

What is compared takes turns, and counts at its best of all rounds (a start at its median too): whatever else the
machine does can only slow a round down.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = "1"  # before numpy is imported

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

import unheard
from benchmarks.features import measure, recordings
from benchmarks.opensmile_svm import Extractor
from unheard.audio import read_audio
from unheard.corpora.synthetic import SyntheticSettings
from unheard.corpora.synthetic.plan import takes
from unheard.corpora.synthetic.voice import render
from unheard.errors import ConfigError
from unheard.experiments.config import load
from unheard.export.onnx import Facts, export_model
from unheard.features import Normaliser, analysis, extract
from unheard.model.saving import Model
from unheard.recogniser import Recogniser, WindowSettings, windows
from unheard.recogniser.model import OnnxModel
from unheard.training.strategies import StrategyConfig, build

RATE, SECONDS, HOP = 16_000, 3.0, 1.0
LABELS = ("angry", "happy", "neutral", "sad")
RECIPES = ("paper", "strong")
WHOLE = WindowSettings(60.0, 60.0)
PARTS = ("files", "start", "stream", "memory")
STAGES = {
    "front end": (windows, "analyse"),
    "of it pitch": (analysis, "pitch_frames"),
    "graph": (OnnxModel, "run"),
}
"""What is timed within an answer: where its function is looked up."""

MEMORY = """
import sys
from unheard.cli import main
main(sys.argv[1:])
found = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(found[0], file=sys.stderr)
"""


def untrained(recipe: str, files: list[Path]) -> Model:
    """The network of a recipe with random weights, normalised by these recordings."""
    run = {"manifest": "none.csv", "out": "none", "emotions": ",".join(LABELS), "protocol": "kfold"}
    chosen = load(None, {**run, "recipe": recipe})
    features, network = chosen.features, chosen.network.resolved(chosen.features)
    frames = np.concatenate([extract(file, features) for file in files[:10]]).astype(np.float64)
    mean, std = frames.mean(axis=0, keepdims=True), np.maximum(frames.std(axis=0, keepdims=True), 1e-3)
    normaliser = Normaliser("train", mean.astype(np.float32), std.astype(np.float32))
    strategy = build("ser", StrategyConfig(features.dim, len(LABELS), 0, network, 0)).eval()
    return Model(strategy, network, LABELS, normaliser, features, {})


def pytorch(model: Model, path: Path) -> NDArray[np.float32]:
    """The probabilities of one recording, as a program with PyTorch would find them."""
    x = torch.from_numpy(model.normaliser.apply(extract(path, model.features)))
    with torch.inference_mode():
        logits, _ = model.network.logits(x[None], torch.tensor([len(x)]))
        found: NDArray[np.float32] = logits.softmax(dim=1).numpy()[0]
    return found


def opensmile(extractor: Extractor, weights: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    """The decision values of a linear SVM on ComParE's functionals; its weights are random."""
    scores: NDArray[np.float32] = extractor(read_audio(path, sample_rate=RATE)) @ weights
    return scores


def whisper(source: str, layers: int) -> Callable[[Path], NDArray[np.float32]]:
    """The first layers of a Whisper encoder as transformers runs it, on 30 s of padded sound, and a linear classifier.

    The weights of the classifier are random.
    """
    try:
        transformers = import_module("transformers")
    except ImportError:
        raise ConfigError("--whisper needs transformers", mend="pip install 'unheard[transformers]'.") from None
    extractor = transformers.AutoFeatureExtractor.from_pretrained(source)
    encoder = transformers.AutoModel.from_pretrained(source, decoder_layers=0).encoder.float().eval()
    if layers > len(encoder.layers):
        raise ConfigError(f"an encoder of fewer than {layers} layers", where=source, mend="Name openai/whisper-base.")
    del encoder.layers[layers:]
    weights = torch.randn(2 * encoder.config.d_model, len(LABELS))

    def answer(path: Path) -> NDArray[np.float32]:
        sound = read_audio(path, sample_rate=RATE)
        inputs = extractor(sound, sampling_rate=RATE, return_tensors="pt").input_features
        with torch.inference_mode():
            frames = encoder(inputs).last_hidden_state[0, : max(2, len(sound) // 320)]
            found: NDArray[np.float32] = (torch.cat([frames.mean(0), frames.std(0)]) @ weights).softmax(0).numpy()
        return found

    return answer


class Stages:
    """Seconds that the parts of answers took, where they are called."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within this every call of a stage is timed; what that costs is far below a thousandth."""
        watchers = [
            patch.object(place, name, self._timed(stage, getattr(place, name)))
            for stage, (place, name) in STAGES.items()
        ]
        for watcher in watchers:
            watcher.start()
        try:
            yield
        finally:
            for watcher in watchers:
                watcher.stop()

    def _timed(self, stage: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            begin = time.perf_counter()
            try:
                return run(*arguments)
            finally:
                self.seconds[stage] += time.perf_counter() - begin

        return timed


def shares(recogniser: Recogniser, files: list[Path], rounds: int) -> dict[str, float]:
    """What each stage takes of an answer, between 0 and 1, in the quickest round over all files."""
    best: tuple[float, dict[str, float]] = (np.inf, {})
    for _ in range(rounds):
        stages = Stages()
        with stages.watched():
            begin = time.perf_counter()
            for file in files:
                recogniser.predict(file)
            took = time.perf_counter() - begin
        best = min(best, (took, {name: stages.seconds[name] / took for name in STAGES}), key=lambda pair: pair[0])
    return best[1]


def files_part(
    files: list[Path],
    seconds: float,
    models: Mapping[str, Path],
    trained: Mapping[str, Model],
    rounds: int,
    encoder: str = "",
) -> None:
    """Prints times real time, and what else takes how many times as long."""
    ours = {name: unheard.load(path, windows=WHOLE) for name, path in models.items()}
    rows: dict[str, tuple[str, Callable[[Path], Any]]] = {}
    for name, recogniser in ours.items():
        answers = [recogniser.predict(file) for file in files]
        silent = [answer.file for answer in answers if answer.label is None]
        if silent:
            raise SystemExit(f"{name} has no answer on {len(silent)} of the recordings, which would cost less")
        rows[name] = (name, recogniser.predict)
        if name in trained:
            theirs = pytorch(trained[name], files[0])
            if np.abs(theirs - list(answers[0].probabilities.values())).max() > 1e-3:
                raise SystemExit(f"{name}: PyTorch's answer is another")
            rows[f"{name} in PyTorch"] = (name, partial(pytorch, trained[name]))
    try:
        weights = np.random.default_rng(0).standard_normal((6373, len(LABELS))).astype(np.float32)
        rows["openSMILE ComParE + SVM"] = (next(iter(ours)), partial(opensmile, Extractor(), weights))
    except ConfigError as missing:
        print(missing)
    if encoder:
        rows |= {f"Whisper, {n} layers, 30 s": (next(iter(ours)), whisper(encoder, n)) for n in (3, 6)}
    best = measure(files, rounds, rows)
    print(f"files: {len(files)} recordings, {seconds:.0f} s; one core; best of {rounds} rounds")
    print(f"{'':26}{'× real time':>12}  " + "".join(f"{stage:>13}" for stage in STAGES))
    for name, (base, _) in rows.items():
        line = f"{name:26}{seconds / best[name]:>12,.0f}  "
        if name in ours:
            print(line + "".join(f"{share:>13.0%}" for share in shares(ours[name], files, rounds).values()))
        else:
            others = base if name.endswith("PyTorch") else ", ".join(ours)
            ratios = ", ".join(f"{best[name] / best[other]:.2f}" for other in others.split(", "))
            print(line + f"takes {ratios} times as long as {others}")


def start_part(file: Path, models: Mapping[str, Path], rounds: int) -> None:
    """Prints what a new process takes to answer, beside what everybody's imports take."""
    base = "python -c 'import numpy, onnxruntime'"
    commands = {
        "python -c pass": ["-c", "pass"],
        base: ["-c", "import numpy, onnxruntime"],
        "python -c 'import torch'": ["-c", "import torch"],
        **{
            f"unheard predict ({name})": ["-m", "unheard", "predict", str(path), str(file)]
            for name, path in models.items()
        },
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, arguments in commands.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            if number:  # the first round brings files into memory
                took[name].append(time.perf_counter() - begin)
    print(f"start: a new process each; {rounds} rounds")
    print(f"{'':40}{'best s':>8}{'median s':>10}{'ratio':>8}")
    for name, times in took.items():
        ratio = median(times) / median(took[base])
        print(f"{name:40}{min(times):>8.2f}{median(times):>10.2f}{ratio:>8.2f}")


def stream_part(files: list[Path], models: Mapping[str, Path], rounds: int) -> None:
    """Prints what a block takes that completes a window, where sound comes in tenths of a second."""
    sound = np.concatenate([read_audio(file, sample_rate=RATE) for file in files])
    blocks = [sound[first : first + RATE // 10] for first in range(0, len(sound), RATE // 10)]
    print(f"stream: windows of {SECONDS:g} s, a hop of {HOP:g} s, blocks of 0.1 s; {rounds} rounds")
    print(f"{'':26}{'median ms':>10}{'95 % ms':>10}{'worst ms':>10}{'of a hop':>10}")
    for name, path in models.items():
        recogniser = unheard.load(path, windows=WindowSettings(SECONDS, HOP))
        took = []
        for _ in range(rounds):
            stream = recogniser.stream(sample_rate=RATE)
            for number, block in enumerate(blocks, 1):
                begin = time.perf_counter()
                stream.push(block)
                if number >= 10 * SECONDS and (number - 10 * SECONDS) % (10 * HOP) == 0:
                    took.append(time.perf_counter() - begin)
        middle, late, worst = 1000 * np.array([median(took), np.quantile(took, 0.95), max(took)])
        print(f"{name:26}{middle:>10.1f}{late:>10.1f}{worst:>10.1f}{middle / 1000 / HOP:>10.1%}")


def memory_part(file: Path, models: Mapping[str, Path], minutes: float, folder: Path) -> None:
    """Prints the peak of resident memory of a process, libraries included."""
    if not sys.platform.startswith("linux"):
        print("memory: looked up in /proc, which is not here")
        return
    sound = read_audio(file, sample_rate=RATE)
    long = folder / "long.wav"
    with soundfile.SoundFile(long, "w", RATE, 1, "PCM_16") as out:
        for _ in range(round(60 * minutes * RATE / len(sound))):
            out.write(sound)
    print(f"memory: the peak of a process; a recording of {minutes:g} minutes, with its timeline")
    print(f"{'':26}{'MB, short':>10}{'MB, long':>10}{'× real time':>13}")
    for name, path in models.items():
        peaks = []
        for one in (file, long):
            begin = time.perf_counter()
            command = [sys.executable, "-c", MEMORY, "predict", str(path), str(one)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            took = time.perf_counter() - begin
            peaks.append(int(done.stderr.split()[-1]) / 1e3)
        print(f"{name:26}{peaks[0]:>10.0f}{peaks[1]:>10.0f}{60 * minutes / took:>13,.0f}")
    long.unlink()


def voices(folder: Path, seconds: float) -> None:
    """Recordings of 3 s of invented voices, half WAV and half FLAC."""
    settings = SyntheticSettings()
    said = np.zeros(0, np.int16)
    drawn = takes(settings)
    for number in range(max(2, round(seconds / SECONDS))):
        while len(said) < SECONDS * RATE:
            said = np.concatenate([said, render(settings, next(drawn))])
        mine, said = np.split(said, [round(SECONDS * RATE)])
        soundfile.write(folder / f"{number}.{'flac' if number % 2 else 'wav'}", mine, RATE)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--model", action="append", default=[], help="a model beside those of the recipes")
    parser.add_argument("--whisper", default="", help="a Whisper folder or hub id, to run by transformers")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=60.0, help="how much audio to read a round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=30.0, help="of the long recording")
    given = parser.parse_args(arguments)
    parts = given.parts.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"--parts are of {', '.join(PARTS)}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        sounds = Path(scratch) / "sounds"
        sounds.mkdir()
        if given.folder is None:
            voices(sounds, given.seconds)
        files, seconds = recordings(given.folder or sounds, given.seconds)
        trained = {recipe: untrained(recipe, files) for recipe in RECIPES}
        models = {}
        for name, model in trained.items():
            (Path(scratch) / name).mkdir()
            models[name] = export_model(model, Path(scratch) / name / "model.onnx", Facts(name=name)).parent
        models |= {name: name for name in given.model}
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}: trust nothing where others work")
        if "files" in parts:
            files_part(files, seconds, models, trained, given.rounds, given.whisper)
        if "start" in parts:
            start_part(files[0], models, given.rounds)
        if "stream" in parts:
            stream_part(files, models, given.rounds)
        if "memory" in parts:
            memory_part(files[0], models, given.minutes, Path(scratch))


if __name__ == "__main__":
    main()
