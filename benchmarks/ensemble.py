"""What an ensemble of a run's seeds would be worth: their probabilities averaged, beside each seed alone.

    python -m benchmarks.ensemble RUN [--system ser]

Reads predictions only. The network distilled from an ensemble is seldom better than it, so that this says what
distilling could bring at most.
"""

from __future__ import annotations

import argparse

import numpy as np

from unheard.experiments.records import read_run
from unheard.training.metrics import unweighted_average_recall, weighted_accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--system", default="ser")
    given = parser.parse_args()
    run = read_run(given.run)
    line = next(line for line in run.lines if line.system == given.system and not line.chosen and line.seeds)
    print(f"{line.name}: WA / UAR in percent, mean of {len(line.seeds)} seeds | their ensemble")
    for part, name in (("dev", "validation"), ("test", "test")):
        said = [getattr(seed, part) for seed in line.seeds]
        together = np.mean([one.probabilities for one in said], axis=0).argmax(axis=1)
        alone = [np.mean([getattr(one, figure) for one in said]) for figure in ("wa", "uar")]
        truth = said[0].truth
        both = (weighted_accuracy(truth, together), unweighted_average_recall(truth, together, len(run.labels)))
        print(f"{name:10} {100 * alone[0]:.1f} / {100 * alone[1]:.1f} | {100 * both[0]:.1f} / {100 * both[1]:.1f}")


if __name__ == "__main__":
    main()
