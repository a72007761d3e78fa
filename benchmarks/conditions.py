"""Accuracy of a model on clean and quieter recordings, in noise at 10 dB and over a telephone line (mu-law).

python -m benchmarks.conditions starter ravdess=data/ravdess nemo=data/nemo \\
    --speakers benchmarks/starter-speakers.csv:samples
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import unheard
from unheard.audio import read_audio
from unheard.corpora import read_corpus, read_manifest
from unheard.features.changes import in_noise, telephone
from unheard.manifest import FOUR, Manifest
from unheard.splits.files import of_part
from unheard.training.metrics import unweighted_average_recall, weighted_accuracy

Samples = NDArray[np.float64]


CONDITIONS: dict[str, Callable[[Samples, np.random.Generator], Samples]] = {
    "clean": lambda x, _: x,
    "noise, 10 dB": in_noise,
    "telephone": lambda x, _: telephone(x),
    "20 dB quieter": lambda x, _: x / 10,
    "40 dB quieter": lambda x, _: x / 100,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model")
    parser.add_argument("corpora", nargs="+", help="NAME=FOLDER, or a manifest")
    parser.add_argument("--speakers", help="FILE:PART, speakers that the model was not trained on")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    manifest = Manifest.concat(
        [read_corpus(*one.split("=", 1)) if "=" in one else read_manifest(one) for one in given.corpora]
    )
    manifest = (of_part(manifest, given.speakers) if given.speakers else manifest).select(FOUR)
    recogniser = unheard.load(given.model)
    print(f"| {len(manifest)} utterances of {len(manifest.speakers)} speakers | WA | UAR | no answer |")
    print("|---|---:|---:|---:|")
    for name, change in CONDITIONS.items():
        random = np.random.default_rng(given.seed)
        truth, predicted, silent = [], [], 0
        for row in manifest:
            x = change(read_audio(row.audio).astype(np.float64), random)
            label = recogniser.predict((x / max(1.0, np.abs(x).max())).astype(np.float32), sample_rate=16_000).label
            if label is None:
                silent += 1
                continue
            truth.append(FOUR.index(row.emotion))
            predicted.append(FOUR.index(label))
        y, p = np.array(truth), np.array(predicted)
        wa, uar = 100 * weighted_accuracy(y, p), 100 * unweighted_average_recall(y, p, len(FOUR))
        print(f"| {name} | {wa:.1f} | {uar:.1f} | {silent} |", flush=True)


if __name__ == "__main__":
    main()
