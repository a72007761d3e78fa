"""Draw the figure of the README from the published runs.

python -m benchmarks.evidence_figure results docs/images/evidence.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from unheard.experiments.adaptation import read_counts, summarise
from unheard.experiments.records import RunRecords, read_run

CORPORA = {"EmoDB": "emodb", "RAVDESS": "ravdess"}
COLOURS = {
    "paper, as written": "#c8c8c8",
    "ComParE 2016 + SVM": "#9db4c0",
    "Whisper + SVM": "#e0a458",
    "encoder (ours)": "#b5482f",
    "after 4 utterances": "#6d1f14",
}


def accuracy(run: RunRecords, system: str, evaluation: str = "") -> float:
    """WA in percent, mean over seeds."""
    line = next(line for line in run.lines if line.system == system and evaluation in line.evaluation)
    return 100 * sum(seed.test.wa for seed in line.seeds) / len(line.seeds)


def bars(results: Path, corpus: str) -> list[float]:
    """Return the heights of a corpus's bars in the order of `COLOURS`."""
    paper, strong, encoder = (read_run(results / f"{corpus}-{recipe}") for recipe in ("paper", "strong", "encoder"))
    counts = summarise(read_counts(results / f"{corpus}-encoder"))
    adapted = next(one for one in counts if (one.system, one.k) == ("ser", 4))
    return [
        accuracy(paper, "ser", "written"),
        accuracy(strong, "opensmile"),
        accuracy(encoder, "pooled"),
        accuracy(encoder, "ser"),
        100 * adapted.wa,
    ]


def main(arguments: list[str] | None = None) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    results, out = map(Path, arguments or sys.argv[1:])
    figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    for place, corpus in enumerate(CORPORA.values()):
        for number, (height, colour) in enumerate(zip(bars(results, corpus), COLOURS.values(), strict=True)):
            at = place * (len(COLOURS) + 1) + number
            axes.bar(at, height, 0.85, color=colour)
            axes.text(at, height + 0.8, f"{height:.1f}", ha="center", fontsize=8)
    axes.set_xticks([place * (len(COLOURS) + 1) + (len(COLOURS) - 1) / 2 for place in range(len(CORPORA))], CORPORA)
    axes.set_ylabel("WA on unseen speakers, %")
    axes.set_ylim(0, 108)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    figure.legend(handles, COLOURS, loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    main()
