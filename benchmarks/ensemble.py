"""What an ensemble would be worth: probabilities averaged, beside its members alone.

    python -m benchmarks.ensemble RUN:ser                   # of a run's seeds
    python -m benchmarks.ensemble RUN:ser RUN:svm           # of systems, of one run or of several on the same split

Of systems it is made seed by seed, and the mean over seeds is shown; a member with fewer seeds than another takes part
with its own again. Reads predictions only. The network distilled from an ensemble is seldom better than it, so that
this says what distilling could bring at most.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from unheard.experiments.records import read_run
from unheard.experiments.summary import Predictions, SeedRecord
from unheard.features.normalise import TRANSDUCTIVE
from unheard.training.metrics import unweighted_average_recall, weighted_accuracy


def seeds_of(member: str) -> tuple[tuple[SeedRecord, ...], bool]:
    """The complete seeds of RUN:SYSTEM, and whether their test speakers' recordings normalised them."""
    folder, _, system = member.rpartition(":")
    run = read_run(folder)
    there = {line.system: line.seeds for line in run.lines if line.seeds and not line.chosen}
    if system not in there:
        raise SystemExit(f"{folder} has no complete seed of '{system}', but of {', '.join(there) or 'nothing'}")
    return there[system], run.settings.normalise == "speaker"


def together(said: Sequence[Predictions]) -> tuple[float, float]:
    """WA and UAR of the mean of the members' probabilities; they have to have heard the same utterances."""
    if any((one.ids, one.folds.tolist()) != (said[0].ids, said[0].folds.tolist()) for one in said):
        raise SystemExit("the members are of different splits")
    mean = np.mean([one.probabilities for one in said], axis=0)
    predicted, truth = mean.argmax(axis=1), said[0].truth
    return weighted_accuracy(truth, predicted), unweighted_average_recall(truth, predicted, mean.shape[1])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("members", nargs="+", metavar="RUN:SYSTEM")
    members, transductive = zip(*(seeds_of(name) for name in parser.parse_args(arguments).members), strict=True)
    if len(set(transductive)) > 1:
        raise SystemExit("some members are normalised with the test speakers' recordings, and some are not")
    most = max(map(len, members))
    ensembles = list(members) if len(members) == 1 else [[own[k % len(own)] for own in members] for k in range(most)]
    mark = f" ({TRANSDUCTIVE})" if all(transductive) else ""
    print(f"WA / UAR in percent, mean: of {' | '.join(f'{len(own)} seeds' for own in members)} | the ensemble{mark}")
    for part in ("dev", "test"):
        columns = [[together([getattr(seed, part)]) for seed in own] for own in members]
        columns.append([together([getattr(seed, part) for seed in seeds]) for seeds in ensembles])
        shown = (100 * np.mean(column, axis=0) for column in columns)
        print(f"{part:5}" + " | ".join(f"{wa:.1f} / {uar:.1f}" for wa, uar in shown))


if __name__ == "__main__":
    main()
