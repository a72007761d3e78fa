"""`unheard demo`: what the package does, shown on real clips and on a corpus with a shortcut, or on a real corpus."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from unheard.cli.common import Workers, option, say

PAUSE = 1.5
"""Seconds between the clips of the joined recording."""


def demo(
    *,
    out: Annotated[Path, option("Folder to write; another call does only what is missing.")] = Path("demo"),
    corpus: Annotated[str, option("Show a real corpus instead of invented voices; it is downloaded.")] = "",
    data: Annotated[Path | None, option("Folder of that corpus, if it is on this machine.")] = None,
    seeds: Annotated[int, option("Number of training seeds.")] = 5,
    epochs: Annotated[int, option("Epochs of each training (0: as intended).")] = 0,
    workers: Workers = 0,
) -> int:
    """Show what the package does, in two minutes, offline: the model `starter` on real clips, then the four systems.

    Example: unheard demo --out demo

    The systems are compared on invented voices whose speakers betray the emotion in training and not in the test: the
    table shows what each method does to this shortcut. Such results support no claim about speech. With --corpus, such
    as emodb, a network and an SVM are compared on speakers that they have not heard, before and after adaptation.
    """
    recognise_samples(out)
    return of_corpus(out / corpus, corpus, data, workers) if corpus else of_shortcut(out, seeds, epochs, workers)


def recognise_samples(out: Path) -> None:
    """Print truth, prediction and confidence of the samples, and draw the timeline of all of them in a row."""
    import numpy as np

    from unheard.audio import read_audio
    from unheard.recogniser import load
    from unheard.samples import samples

    recogniser = load("starter")
    print("The model `starter` on four clips of speakers who act an emotion\n")
    print(f"{'clip':16}{'true':10}{'predicted':10} confidence")
    clips, truth, end = [], [], 0.0
    for sample in samples():
        found = recogniser.predict(sample.path)
        confidence = f"{max(found.probabilities.values()):.0%}" if found.probabilities else found.abstained
        print(f"{sample.file:16}{sample.emotion:10}{found.label or '–':10} {confidence}")
        clips += [read_audio(sample.path, sample_rate=16_000), np.zeros(round(PAUSE * 16_000), np.float32)]
        truth.append((end + len(clips[-2]) / 32_000, sample.emotion))
        end += (len(clips[-2]) + len(clips[-1])) / 16_000
    axes = recogniser.predict(np.concatenate(clips[:-1]), sample_rate=16_000).plot()
    for middle, emotion in truth:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
        axes.text(middle, 0, emotion, ha="center", va="center", fontsize=9, bbox=box)
    axes.set_yticks([])
    axes.set_title("colour: predicted, in writing: true", loc="left", fontsize=9)
    out.mkdir(parents=True, exist_ok=True)
    axes.figure.savefig(out / "timeline.png", dpi=150, bbox_inches="tight")
    print(f"\nTimeline of the clips in a row: {out / 'timeline.png'}\n")


def of_shortcut(out: Path, seeds: int, epochs: int, workers: int) -> int:
    """Compare the four systems on the synthetic corpus with a shortcut, and print what they do to it."""
    from unheard.corpora.synthetic import write
    from unheard.experiments import shortcut
    from unheard.experiments.run import experiment

    say("Making invented voices")
    write(out / "voices", shortcut.SETTINGS)
    settings: dict[str, Any] = shortcut.EXPERIMENT
    if epochs:
        settings = {**settings, "training": {**shortcut.TRAINING, "epochs": epochs}}
    run = experiment(
        root=str(out / "voices"), out=str(out / "shortcut"), seeds=seeds, workers=workers, say=say, **settings
    )
    print("The four systems on invented speakers whose channel betrays the emotion in training, not in the test\n")
    print(shortcut.shortcut_table(run.records.lines, run.records.labels, shortcut.channel_emotions()))
    print(
        f"\n{seeds} seeds, percent, 95 % intervals over the test speakers. Everything else: {run.folder / 'table.md'}"
    )
    return int(bool(run.failed))


def of_corpus(out: Path, corpus: str, data: Path | None, workers: int) -> int:
    """Cross-validate a network and an SVM on a real corpus, and adapt the network to four utterances."""
    from unheard.corpora.fetch import fetch
    from unheard.experiments.adaptation import adapt
    from unheard.experiments.run import experiment

    root = data or fetch(corpus, Path("data") / corpus)
    run = experiment(
        corpus=corpus, root=str(root), out=str(out), recipe="strong", systems=("ser", "svm"), workers=workers, say=say,
    )  # fmt: skip
    print(run.table)
    if run.failed:
        return 1
    print("Before (k = 0) and after hearing four unlabelled utterances of each test speaker:\n")
    sys.stdout.write(adapt(run.folder, sizes=[0, 4], say=say))
    return 0
