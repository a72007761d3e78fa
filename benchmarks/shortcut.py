"""What the systems do to the demo's shortcut on other synthetic corpora, CGT with several sizes of the perturbation.

    python -m benchmarks.shortcut -o RUNS

Network, training and corpus are those of `unheard demo`, with other voices and 24 test speakers for each corpus. The
table has the share of test utterances, among those whose channel goes with another emotion than theirs, for which the
channel's emotion is predicted, and its difference from SER_SR_MTL; intervals are over the test speakers of all corpora.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unheard.analysis.intervals import DRAWS, mean_with_interval
from unheard.cli.common import say
from unheard.cli.demo import EXPERIMENT, TRAINING, answers, channel_emotions
from unheard.corpora.synthetic import SyntheticSettings, write
from unheard.experiments.run import experiment
from unheard.files import markdown_table

BASELINE = "SER_SR_MTL"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the runs; what is there is kept")
    parser.add_argument("--corpora", default="101,102,103,104", help="seeds of the synthetic corpora")
    parser.add_argument("--epsilon", default="0.1,0.3,1,3", help="sizes of CGT's perturbation, in standard deviations")
    parser.add_argument("--seeds", type=int, default=2, help="number of training seeds")
    parser.add_argument("--epochs", type=int, default=TRAINING["epochs"])
    parser.add_argument("--speakers", type=int, default=48, help="speakers of a corpus: a third train, half are tested")
    given = parser.parse_args(arguments)
    third = given.speakers // 3
    followed: dict[str, list[Any]] = {}  # by system: the shares of all corpora, in the same order
    speakers: list[str] = []
    for corpus in map(int, given.corpora.split(",")):
        voices = SyntheticSettings(
            speakers=given.speakers,
            dev_speakers=given.speakers - third - given.speakers // 2,
            test_speakers=given.speakers // 2,
            entanglement=1.0,
            seed=corpus,
        )
        folder = given.out / str(corpus)
        write(folder / "voices", voices)
        settings: dict[str, Any] = {**EXPERIMENT, "root": str(folder / "voices"), "seeds": given.seeds, "say": say}
        settings |= {"training": {**TRAINING, "epochs": given.epochs}, "store": str(folder / "features")}
        runs = [experiment(**settings, systems=("ser", "mtl", "dat"), out=str(folder / "others"))]
        for size in map(float, given.epsilon.split(",")):
            options = {"cgt": {"epsilon": size, "clean_statistics": True}}
            runs.append(experiment(**settings, systems=("cgt",), options=options, out=str(folder / f"cgt-{size:g}")))
        for run in runs:
            for line in run.records.lines:
                _, channel, speaker, misled = answers(line, run.records.labels, channel_emotions(voices))
                name = f"{line.name}, ε = {line.value:g}" if line.system == "cgt" else line.name
                followed.setdefault(name, []).extend(channel[misled])
        speakers += [f"{corpus}/{name}" for name in speaker[misled]]
    _, cluster = np.unique(speakers, return_inverse=True)
    rows = []
    for name, values in followed.items():
        x = np.array(values)
        more = "" if name == BASELINE else shown(x - np.array(followed[BASELINE]), cluster, sign="+")
        rows.append((name, shown(x, cluster), more))
    print(f"{len(set(speakers))} test speakers, {len(speakers)} utterances, {given.seeds} seeds; percent\n")
    print(markdown_table(("System", "predicts the channel's emotion", f"difference from {BASELINE}"), rows))


def shown(x: np.ndarray, cluster: np.ndarray, sign: str = "") -> str:
    """The mean of `x` (n,) in percent, with its interval over the speakers `cluster` (n,)."""
    value, low, high = (f"{100 * each:{sign}.1f}".replace("-", "−") for each in mean_with_interval(x, cluster, DRAWS))
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
