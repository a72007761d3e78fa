"""A corpus of a few short invented voices, and experiments on it that take moments."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch

from unheard.cli import main
from unheard.corpora.synthetic import SyntheticSettings, write
from unheard.experiments.cell import Outcome, run_cell
from unheard.experiments.plan import Cell

TIMINGS = ("frames_per_second", "train_seconds", "seconds", "resumed")

SITE = """
import os
import unheard.training.trainer as trainer
trainer.CHECKPOINT_SECONDS = 0
if os.environ.get("SLOW_EPOCHS"):
    import time
    step = trainer.Trainer._one_epoch
    trainer.Trainer._one_epoch = lambda self: (time.sleep(float(os.environ["SLOW_EPOCHS"])), step(self))[1]
"""
"""Runs first in a subprocess: a checkpoint after every epoch, and work slow enough to be killed in its midst."""

RAY_SITE = f"""
import sys
if any("default_worker" in word for word in sys.orig_argv):  # Ray's other processes start quicker without torch
    exec({SITE!r})
"""


@cache
def corpus() -> Path:
    """6 speakers x 2 emotions x 2 sentences, half a second each; two speakers a part."""
    folder = Path(mkdtemp(prefix="unheard-tests-"))
    settings = SyntheticSettings(
        speakers=6,
        sentences=2,
        emotions=("angry", "sad"),
        mean_duration=0.5,
        std_duration=0.1,
        shortest=0.3,
        longest=0.8,
        dev_speakers=2,
        test_speakers=2,
        sessions=True,
    )
    write(folder, settings, progress=False)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def table(folder: Path, **changes: Any) -> Path:
    """The corpus as a user's own CSV, with absolute paths; `changes` (column=function of a row) alter it."""
    rows = rows_of(corpus() / "manifest.csv")
    for row in rows:
        row["audio"] = str(corpus() / row["audio"])
        for column, change in changes.items():
            row[column] = change(row)
    return write_rows(folder / "manifest.csv", rows)


def flags(out: Path, *more: str, source: Sequence[str] = ()) -> list[str]:
    """Arguments of an experiment that learns something in three epochs; later flags are the caller's."""
    source = source or ("--corpus", "synthetic", "--root", str(corpus()))
    quick = {
        "recipe": "paper",
        "emotions": "angry,sad",
        "training.batch-size": "4",
        "training.lr": "0.03",
        "training.batchnorm": "running",
        "network.dropout": "0",
    }
    chosen = [word for name, value in quick.items() if f"--{name}" not in more for word in (f"--{name}", value)]
    return [*source, "--out", str(out), *chosen, *more]


def experiment(out: Path, *more: str, source: Sequence[str] = ()) -> int:
    """`unheard experiment` in this process."""
    return main(["experiment", *flags(out, *more, source=source)])


def in_this_process(cells: Sequence[Cell], tick: Callable[[], None] | None = None) -> Iterator[Outcome]:
    """What `run_cells` does, without processes: torch need not be imported again."""
    for cell in cells:
        try:
            run_cell(cell)
            yield cell, ""
        except Exception as error:
            yield cell, str(error)


def environment(site: Path | None = None, text: str = SITE, **variables: str) -> dict[str, str]:
    """For a subprocess; `site` is a folder for `text`, which runs first in it and in its workers."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    if site is not None:
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(text)
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), env.get("PYTHONPATH")]))
    return env


def start(arguments: Sequence[str], script: str = "", **how: Any) -> subprocess.Popen[str]:
    """`unheard ...`, or a script with these arguments, as a process that leads a group of its own and minds Ctrl-C."""
    command = [sys.executable, *([script] if script else ["-m", "unheard"]), *arguments]
    how |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    minding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # in the background a shell has it ignored
    return subprocess.Popen(command, preexec_fn=minding, **how)


def wait_until(true: Callable[[], object], process: subprocess.Popen[str] | None = None, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def cells(run: Path) -> dict[str, Path]:
    return {folder.name: folder for folder in sorted((run / "cells").iterdir())}


def only(run: Path, start: str = "") -> Path:
    """The one cell whose name begins with `start`."""
    (folder,) = [folder for name, folder in cells(run).items() if name.startswith(start)]
    return folder


def result(folder: Path) -> dict[str, Any]:
    """A `result.json` without what the clock said."""
    read = json.loads((folder / "result.json").read_text())
    return {name: value for name, value in read.items() if name not in TIMINGS}


def history(folder: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if "seconds" not in name} for record in records]


def numbers(folder: Path, *, whole: bool = True) -> dict[str, Any]:
    """Everything a cell's folder (or a readout's) says, comparable with ==; `whole`: the training's state too."""
    with np.load(folder / "embeddings.npz") as arrays:
        embeddings = {name: arrays[name].tobytes() for name in arrays.files}
    said: dict[str, Any] = {
        "result": result(folder),
        "predictions": (folder / "predictions.csv").read_bytes(),
        "embeddings": embeddings,
        "models": {path.name: path.read_bytes() for path in folder.glob("model*.safetensors")},
    }
    if whole:
        state = torch.load(folder / "checkpoint.pt", weights_only=True)
        said["history"] = history(folder)
        said["weights"] = {name: value.numpy().tobytes() for name, value in state["weights"].items()}
        said["epoch"] = state["epoch"]
    return said


def all_numbers(run: Path) -> dict[str, Any]:
    """Everything a run says but for timings."""
    results = [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows_of(run / "results.csv")]
    texts = {name: (run / name).read_text() for name in ("table.md", "splits.csv")}
    return {"results": results, **texts, **{name: numbers(folder) for name, folder in cells(run).items()}}


def times_of_change(run: Path) -> dict[str, int]:
    """When each file of the cells and the features was written last."""
    files = [path for room in ("cells", "features") for path in (run / room).rglob("*") if path.is_file()]
    return {str(path): path.stat().st_mtime_ns for path in files if path.name != ".lock"}
