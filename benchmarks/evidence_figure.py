"""Draw the figures of the README and of the page of claims from the published runs.

python -m benchmarks.evidence_figure results docs/images/evidence.png docs/images/same-weights.png
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from statistics import fmean

import numpy as np

from unheard.experiments.adaptation import average, read_counts
from unheard.experiments.records import RunRecords, read_run

GROUPS = {"EmoDB": "emodb", "RAVDESS": "ravdess", "nEMO": "nemo", "corpora never heard": "leave-corpus-out"}
"""Label and run of each group of bars; the last one is the mean over `CORPORA`, each left out."""

CORPORA = {"emodb", "ravdess", "nemo"}

COLOURS = {
    "paper, as written": "#c8c8c8",
    "ComParE 2016 + SVM": "#9db4c0",
    "Whisper + SVM": "#e0a458",
    "encoder (ours)": "#b5482f",
    "after 4 utterances": "#6d1f14",
}


def accuracy(run: RunRecords, system: str, evaluation: str = "") -> float:
    """WA in percent, mean over seeds and over the test corpora in `CORPORA`."""
    line = next(line for line in run.lines if line.system == system and evaluation in line.evaluation)
    found = []
    for test in (seed.test for seed in line.seeds):
        corpora = np.array([run.utterances[name].get("corpus", "") for name in test.ids])
        tested = [corpus for corpus in np.unique(corpora) if corpus in CORPORA]
        found += [float((test.truth == test.predicted)[corpora == corpus].mean()) for corpus in tested]
    return 100 * fmean(found)


def adapted(folder: Path) -> float:
    """WA in percent after 4 utterances, mean over the test corpora in `CORPORA`."""
    counts = [one for one in read_counts(folder) if (one.system, one.k) == ("ser", 4)]
    corpora = {one.speaker.rpartition("/")[0] for one in counts} & {"", *CORPORA}
    each = (average([one for one in counts if one.speaker.rpartition("/")[0] == corpus]) for corpus in corpora)
    return 100 * fmean(results[0].wa for results in each)


@cache
def bars(results: Path, name: str) -> list[float | None]:
    """Return the heights of a group's bars in the order of `COLOURS`, None for what was not trained."""
    encoder = read_run(results / f"{name}-encoder")
    ours = [accuracy(encoder, "pooled"), accuracy(encoder, "ser"), adapted(results / f"{name}-encoder")]
    if not (results / f"{name}-paper").is_dir():
        return [None, None, *ours]
    paper, strong = (read_run(results / f"{name}-{recipe}") for recipe in ("paper", "strong"))
    return [accuracy(paper, "ser", "written"), accuracy(strong, "opensmile"), *ours]


def same_weights(results: Path, out: Path) -> None:
    """Draw WA of the paper's four systems under both evaluations of the same weights."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(9, 2.9), sharey=True, layout="constrained")
    systems = {"ser": "SER_only", "mtl": "MTL", "dat": "DAT", "cgt": "CGT"}
    for axes, (title, name) in zip(
        panels, {"EmoDB": "emodb", "RAVDESS": "ravdess", "ASED": "ased"}.items(), strict=True
    ):
        run = read_run(results / f"{name}-paper")
        wa = {(line.system, line.evaluation): line.over_seeds("wa").mean for line in reversed(run.lines)}
        for place, (label, colour) in enumerate(
            {"as written": "#c8c8c8", "batch norm re-estimated": "#b5482f"}.items()
        ):
            heights = [100 * (wa[system, label] or 0.0) for system in systems]
            at = np.arange(len(systems)) + 0.42 * (place - 0.5)
            for bar in axes.bar(at, heights, 0.4, color=colour, label=label):
                axes.annotate(
                    f"{bar.get_height():.1f}", (bar.get_x() + 0.2, bar.get_height() + 1), ha="center", fontsize=7
                )
        axes.set_xticks(range(len(systems)), systems.values(), fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("WA on unseen speakers, %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.savefig(out, dpi=130)


def main(arguments: list[str] | None = None) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    results, out, claims = map(Path, arguments or sys.argv[1:])
    same_weights(results, claims)
    figure, axes = pyplot.subplots(figsize=(9, 3.2), layout="constrained")
    ticks, at = [], 0.0
    for name in GROUPS.values():
        drawn = [
            (height, colour)
            for height, colour in zip(bars(results, name), COLOURS.values(), strict=True)
            if height is not None
        ]
        ticks.append(at + (len(drawn) - 1) / 2)
        for height, colour in drawn:
            axes.bar(at, height, 0.85, color=colour)
            axes.text(at, height + 0.8, f"{height:.1f}", ha="center", fontsize=8)
            at += 1
        at += 1
    axes.set_xticks(ticks, GROUPS)
    axes.set_ylabel("WA on unseen speakers, %")
    axes.set_ylim(0, 108)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    figure.legend(handles, COLOURS, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    main()
