"""Observations whose recorded values (`experiments.json`, `tiny.json`, `published.json`) must not change.

They were recorded once, before the restructuring, each file with a description of the machine; nothing here writes
them. Everything that depends on names or file formats inside `unheard` is in the functions under "Adapters".
"""

from __future__ import annotations

import csv
import hashlib
import json
import platform
import re
from contextlib import redirect_stdout
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import unheard

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "results"
RECORDINGS = ROOT / "tests" / "golden" / "kaldi"
SPEECH = ("speech_male", "speech_female", "speech_german")
"""The recordings that are joined, half a second of silence between them."""

PAPER: dict[str, Any] = {
    "recipe": "paper",
    "epochs": 2,
    "training": {"batchnorm": "running", "batch_size": 8, "lr": 0.02},
}
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "paper": {**PAPER, "systems": ["ser", "mtl", "dat", "cgt"], "protocol": "paired", "test": "both", "folds": 1},
    "strong": {"recipe": "strong", "epochs": 2, "systems": ["ser", "mtl", "dat", "cgt"]},
    "reestimated": {
        **PAPER,
        "systems": ["ser"],
        "seeds": 2,
        "training": {**PAPER["training"], "select": "last", "decision": "even", "batchnorm": "reestimate"},
    },
    "tuned": {
        **PAPER,
        "systems": ["dat"],
        "network": {"dropout": 0.0},
        "tune": "grid",
        "seeds": 2,
        "protocol": "kfold",
        "k": 3,
        "folds": 2,
        "normalise": "speaker",
    },
    "svm": {"systems": ["svm"], "protocol": "kfold", "k": 3, "normalise": "speaker", "validation": "held-out"},
}
"""Settings of `unheard.experiment` on the synthetic corpus; `strong` draws enrolment and is adapted to its speakers."""

AS_WRITTEN, LAST, REESTIMATED = "as written", "as written, last epoch", "batch norm re-estimated"
MOVED: dict[str, tuple[str, str] | None] = {
    **{f"{corpus}-paper": (f"{corpus}-paper", AS_WRITTEN) for corpus in ("ased", "emodb", "ravdess")},
    **{f"{corpus}-paper-anew": (f"{corpus}-paper", REESTIMATED) for corpus in ("ased", "emodb", "ravdess")},
    "ravdess-paper-last": ("ravdess-paper", LAST),
    "emodb-paper/invariance": ("emodb-paper/invariance", AS_WRITTEN),
    "emodb-paper-anew/invariance": ("emodb-paper/invariance", REESTIMATED),
    **{f"emodb-lambda/{value}": ("emodb-lambda-epsilon", f"dat-lam{value}") for value in ("0.3", "1", "3", "10")},
    "emodb-lambda/entropy-1": ("emodb-lambda-epsilon", "dat-lam1-entropy"),
    **{f"emodb-epsilon/{value}": ("emodb-lambda-epsilon", f"cgt-epsilon{value}") for value in ("1", "3")},
    **{f"speaker-normalised/{corpus}": (f"{corpus}-speaker-normalised", "") for corpus in ("ased", "emodb", "ravdess")},
    # trained before batches were purely random, and superseded
    **{f"first/{corpus}-{recipe}": None for corpus in ("emodb", "ravdess") for recipe in ("paper", "strong")},
    **{f"first/emodb-{what}": None for what in ("no-dropout", "no-pooled-dropout", "random-batches")},
    "first/emodb-paper/invariance": None,
    "first/ased-strong": None,
    "emodb-paper-long": None,
}
"""Recorded name of a published run -> its folder under results/ and the evaluation or system there; None: dropped."""


# Adapters: what follows the names and formats of `unheard`.


def write_corpus(folder: Path) -> None:
    """Write 6 speakers x 4 emotions x 2 sentences; two speakers for each of training, validation and test."""
    from unheard.corpora.synthetic import SyntheticSettings, write

    settings = SyntheticSettings(
        speakers=6,
        sentences=2,
        mean_duration=0.8,
        std_duration=0.2,
        shortest=0.4,
        longest=1.5,
        dev_speakers=2,
        test_speakers=2,
        sessions=True,
    )
    write(folder, settings, progress=False)


def read_folder(folder: Path) -> Any:
    """Read a run's folder: its lines, each with the predictions of its seeds."""
    from unheard.experiments.records import read_run

    return read_run(folder)


def predictions(run: Any) -> dict[str, dict[str, list[Any]]]:
    """`system[+] seed` (+: λ or ε chosen) -> `fold part id` -> predicted label and probabilities by label index.

    `run` is what `read_folder` returns. Two directions of a fold test different utterances, so the key is unique.
    """
    found: dict[str, dict[str, list[Any]]] = {}
    for line in run.lines:
        for seed in line.seeds:
            rows = found[f"{line_key(line)} {seed.seed}"] = {}
            for part in ("dev", "test"):
                own = getattr(seed, part)
                columns = (own.folds, own.ids, own.predicted, own.probabilities)
                for fold, name, predicted, probabilities in zip(*columns, strict=True):
                    rows[f"{fold} {part} {name}"] = [run.labels[predicted], *map(float, probabilities)]
    return found


def accuracies(run: Any, which: str = "") -> dict[str, dict[str, list[Any]]]:
    """`system[+]` -> seed -> pooled WA and UAR of the test predictions, and their number."""
    return {
        line_key(line): {str(seed.seed): [seed.test.wa, seed.test.uar, len(seed.test.ids)] for seed in line.seeds}
        for line in run.lines
        if line.seeds and selected(line, which)
    }


def selected(line: Any, which: str) -> bool:
    """Whether a line is of the evaluation or system `which`; classical systems were recorded with the re-estimated."""
    if not which or line.system == which:
        return True
    return line.evaluation == which or (line.classical and which == REESTIMATED)


def line_key(line: Any) -> str:
    return line.system.partition("-")[0] + "+" * line.chosen


def choices(run: Any) -> list[list[Any]]:
    """System, fold, value, validation WA and UAR, and whether it was chosen, for every value tried."""
    return [[c.system, c.fold, c.value, c.val_wa, c.val_uar, c.chosen] for c in run.candidates]


def contrasts(run: Any, which: str = "") -> dict[str, dict[str, Any]]:
    """`system[+] metric` -> its difference to SER_only with interval, p values and detectable difference."""
    from unheard.experiments.summary import summarise

    key = {line.name: line_key(line) for line in run.lines if selected(line, which)}
    return {
        f"{key[one.name]} {one.metric}": {
            "difference": one.difference,
            "interval": [one.interval.low, one.interval.high] if one.interval else None,
            "p": one.p,
            "p_holm": one.p_holm,
            "exact": one.exact,
            "detectable": one.detectable,
        }
        for one in summarise(run).contrasts
        if one.name in key
    }


def contrast_numbers(*names: str, options: tuple[str, ...]) -> list[list[str]]:
    """Every number in the tables of `unheard contrast RUN... --baseline opensmile OPTIONS`, a list for each row."""
    folders = [str(RESULTS / f"{name}-strong") for name in names]
    text = run_cli("contrast", *folders, "--baseline", "opensmile", *options).replace("−", "-")
    rows = [line.split("|")[2:] for line in text.splitlines() if line.startswith("|")]
    return [numbers for row in rows if (numbers := re.findall(r"[+-]?\d+(?:\.\d+)?", " | ".join(row)))]


def adaptation(run: Path) -> list[list[str]]:
    """The rows of `adaptation.csv`: system, seed, k, draw, speaker, emotion, utterances, correct, correct before."""
    run_cli("adapt", str(run), "--k", "0,4", "--draws", "2")
    with (run / "adaptation.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def weights(paths: tuple[Path, ...]) -> list[str]:
    """A digest of each trained model's weights to the last bit, sorted; names and order of tensors do not count."""
    from safetensors.numpy import load_file

    def digest(path: Path) -> str:
        tensors = load_file(path).values()
        return sha(*sorted(sha(str(one.shape).encode(), one.tobytes()) for one in tensors))

    return sorted(digest(path) for path in paths)


def prediction(found: Any) -> dict[str, Any]:
    """What matters in a `Prediction`; the wording of an abstention does not."""
    return {
        "label": found.label,
        "probabilities": {label: float(p) for label, p in found.probabilities.items()},
        "embedding": None if found.embedding is None else [round(float(x), 6) for x in found.embedding],
        "segments": [segment(one) for one in found.segments],
    }


def segment(one: Any) -> list[Any]:
    return [round(one.start, 3), round(one.end, 3), one.label, {k: float(p) for k, p in one.probabilities.items()}]


def enrolled(recogniser: Any, clips: list[Path], target: Path) -> Any:
    """The prediction of `target` after enrolment with `clips`."""
    return recogniser.predict(target, profile=recogniser.enrol(clips))


def streamed(recogniser: Any, samples: Any, size: int) -> tuple[list[Any], Any]:
    """The segments of a stream as they settle, and its final prediction."""
    settled: list[Any] = []
    stream = recogniser.stream(sample_rate=16000, watch=settled.append)
    for start in range(0, len(samples), size):
        stream.push(samples[start : start + size])
    return settled, stream.finish()


def run_cli(*arguments: str) -> str:
    """What `unheard ARGUMENTS` prints on standard output."""
    from unheard.cli import main

    with redirect_stdout(StringIO()) as text:
        if main(list(arguments)):
            raise RuntimeError(f"unheard {' '.join(arguments)} failed")
    return text.getvalue()


# Observations.


def experiment(name: str, folder: Path) -> dict[str, Any]:
    """Run one of `EXPERIMENTS` in `folder`."""
    corpus = folder / "corpus"
    if not corpus.exists():
        write_corpus(corpus)
    out = folder / name
    how = {"corpus": "synthetic", "root": str(corpus), "out": str(out), "workers": 1, "device": "cpu"}
    done = unheard.experiment(**how, **EXPERIMENTS[name])
    if done.failed:
        raise RuntimeError(str(done.failed))
    run = read_folder(out)
    return {
        "weights": weights(done.models),
        "predictions": predictions(run),
        "accuracies": accuracies(run),
        "choices": choices(run),
        "adaptation": adaptation(out) if name == "strong" else [],
    }


def tiny(name: str) -> dict[str, Any]:
    """Predict a golden recording, `joined`, `stream` or `enrolled` with the small model of the package."""
    recogniser = unheard.load("tiny")
    if name == "enrolled":
        clips = [RECORDINGS / "speech_male.wav", RECORDINGS / "speech_german.wav"]
        return prediction(enrolled(recogniser, clips, RECORDINGS / "speech_female.wav"))
    if name == "joined":
        return prediction(recogniser.predict(joined(), sample_rate=16000))
    if name == "stream":
        settled, last = streamed(recogniser, joined(), 1600)
        return {**prediction(last), "settled": [segment(one) for one in settled]}
    return prediction(recogniser.predict(RECORDINGS / f"{name}.wav"))


def joined() -> Any:
    """The recordings in `SPEECH` one after another, (T,) at 16 kHz."""
    silence = np.zeros(8000, np.float32)
    parts = [soundfile.read(RECORDINGS / f"{name}.wav", dtype="float32")[0] for name in SPEECH]
    return np.concatenate([piece for part in parts for piece in (part, silence)][:-1])


def published(name: str) -> dict[str, Any]:
    """Recompute accuracies and contrasts of a published run from its predictions."""
    folder, which = MOVED.get(name) or (name, "")
    run = read_folder(RESULTS / folder)
    return {"accuracies": accuracies(run, which), "contrasts": contrasts(run, which)}


UNTOUCHED = ("--speakers", f"{RESULTS / 'development-speakers.csv'}:untouched")
CONTRASTS = {
    "opensmile": (),
    "opensmile, untouched": UNTOUCHED,
    "opensmile, both": ("--decision", "both"),
    "opensmile, both, untouched": ("--decision", "both", *UNTOUCHED),
}
"""Options of `unheard contrast --baseline opensmile` on the strong runs, as in their published tables."""


def machine() -> dict[str, str]:
    """What floating-point results may depend on: results are the same to the last bit where this is equal."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    cpu = [line for line in lines if re.match(r"(vendor_id|cpu family|model|flags)\s", line)]
    packages = ("torch", "numpy", "scipy", "scikit-learn", "numba", "onnxruntime")
    known = {name: version(name) for name in packages}
    capability = torch.backends.cpu.get_cpu_capability()
    return {"python": platform.python_version(), "cpu": sha(*sorted(set(cpu))), "capability": capability, **known}


def sha(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:24]


def read_recorded(name: str) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    return recorded
