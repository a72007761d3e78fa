"""What adapting to each speaker by their other turns is worth, on utterances joined into invented calls.

    python -m benchmarks.calls nemo --root data/nEMO
    python -m benchmarks.calls nemo --root data/nEMO --turns 8 --dominant 0.7

Two speakers of a corpus alternate with pauses of 0.3 s; no utterance comes twice in a call. Speakers that the model was
trained on are left out. Every call is predicted with its true turns, once with adaptation and once without. With
--dominant, each speaker of a call has an emotion, drawn for the call, to which this share of their turns belongs, as
somebody who is angry throughout; otherwise utterances are drawn from all of the speaker's. Two tables: accuracy with
95 % intervals from resampling speakers, and accuracy by confidence.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import unheard
from unheard.analysis.intervals import bootstrap_weights, percentiles
from unheard.audio import read_audio
from unheard.corpora import read_corpus, read_manifest
from unheard.errors import ConfigError
from unheard.manifest import Manifest, Utterance
from unheard.recogniser import Recogniser
from unheard.recogniser.turns import Turn

RATE, PAUSE = 16_000, 0.3
BANDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
WAYS = {"alone": False, "adapted": True}

Random = np.random.Generator


class Answer(NamedTuple):
    """The prediction of one turn."""

    way: str
    speaker: str
    truth: str
    label: str | None
    confidence: float

    @property
    def right(self) -> bool:
        return self.label == self.truth


def unseen(manifest: Manifest, recogniser: Recogniser, names: str) -> dict[str, list[Utterance]]:
    """Return the utterances of each speaker that the model was not trained on, only of `names` where there are any."""
    trained = json.loads(recogniser.model.metadata.about.get("train_speakers", "[]"))
    found: dict[str, list[Utterance]] = {}
    for row in manifest:
        if names and row.speaker not in names.split(","):
            continue
        if not {row.speaker, f"{row.corpus}/{row.speaker}"} & set(trained) and row.emotion in recogniser.labels:
            found.setdefault(row.speaker, []).append(row)
    if len(found) < 2:
        raise ConfigError("a call needs two speakers that the model was not trained on", mend="Name another corpus.")
    return found


def drawn(rows: Sequence[Utterance], count: int, dominant: float, random: Random) -> list[Utterance]:
    """Draw `count` utterances of a speaker, the share `dominant` of them with one emotion."""
    order = [rows[index] for index in random.permutation(len(rows))]
    if not dominant:
        return order[:count]
    emotion = str(random.choice(sorted({row.emotion for row in rows})))
    many = round(dominant * count)
    own = [row for row in order if row.emotion == emotion][:many]
    found = own + [row for row in order if row.emotion != emotion][: count - len(own)]
    return [found[index] for index in random.permutation(len(found))]


def call(rows: Sequence[Utterance]) -> tuple[NDArray[np.float32], list[Turn]]:
    """Join utterances with pauses; return samples (N,) and a turn for each."""
    pieces: list[NDArray[np.float32]] = []
    turns, first = [], 0
    for row in rows:
        samples = read_audio(row.audio, start=row.start, end=row.end, sample_rate=RATE, channel=row.channel)
        pieces += [samples, np.zeros(round(PAUSE * RATE), np.float32)]
        turns.append(Turn(first / RATE, (first + len(samples)) / RATE, row.speaker))
        first += sum(map(len, pieces[-2:]))
    return np.concatenate(pieces), turns


def predicted(
    recogniser: Recogniser, speakers: dict[str, list[Utterance]], options: argparse.Namespace
) -> list[Answer]:
    """Predict the turns of every call, alone and adapted."""
    random, found = np.random.default_rng(options.seed), []
    for _ in range(options.calls):
        pair = random.choice(sorted(speakers), 2, replace=False)
        both = [drawn(speakers[name], options.turns // 2, options.dominant, random) for name in pair]
        rows = [row for turn in zip(*both, strict=False) for row in turn]
        samples, turns = call(rows)
        for way, adapt in WAYS.items():
            segments = recogniser.predict(samples, sample_rate=RATE, segments=turns, adapt=adapt).segments
            for row, one in zip(rows, segments, strict=True):
                confidence = max(one.probabilities.values(), default=0.0)
                found.append(Answer(way, row.speaker, row.emotion, one.label, confidence))
    return found


def figures(rows: Sequence[Answer], labels: Sequence[str], draws: int = 10_000) -> str:
    """Return a Markdown table: WA and UAR alone and adapted, and the difference; turns without a label are wrong."""
    speakers = sorted({row.speaker for row in rows})
    hits = np.zeros((len(WAYS), len(speakers), len(labels)))
    totals = np.zeros_like(hits)
    for row in rows:
        place = list(WAYS).index(row.way), speakers.index(row.speaker), labels.index(row.truth)
        totals[place] += 1
        hits[place] += row.right
    weights = np.concatenate([np.ones((1, len(speakers))), bootstrap_weights(len(speakers), draws)])
    hit, total = (np.einsum("ds,wsc->dwc", weights, one) for one in (hits, totals))
    with np.errstate(invalid="ignore"):
        both = {"WA": hit.sum(axis=2) / total.sum(axis=2), "UAR": (hit / total).mean(axis=2)}
    lines = ["| | alone, % | adapted, % | difference, points |", "|---|---:|---:|---:|"]
    for name, of in both.items():
        cells = []
        for values, factor in ((of[:, 0], ""), (of[:, 1], ""), (of[:, 1] - of[:, 0], "+")):
            low, high = percentiles(100 * values[1:])
            cells.append(f"{100 * values[0]:{factor}.1f} ({low:{factor}.1f} to {high:{factor}.1f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def reliability(rows: Sequence[Answer]) -> str:
    """Return a Markdown table: turns and accuracy for bands of confidence, alone and adapted."""
    lines = ["| Confidence | alone: turns | correct, % | adapted: turns | correct, % |", "|---|---:|---:|---:|---:|"]
    for low, high in pairwise(BANDS):
        cells = []
        for way in WAYS:
            right = [row.right for row in rows if row.way == way and row.label and low < row.confidence <= high]
            cells += [str(len(right)), f"{100 * np.mean(right):.0f}" if right else "–"]
        lines.append(f"| {100 * low:.0f} to {100 * high:.0f} % | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="name of a corpus, or a manifest")
    parser.add_argument("--root", help="folder of the corpus")
    parser.add_argument("--model", default="starter")
    parser.add_argument(
        "--speakers", default="", help="only these, separated by commas: such as those that a run tests"
    )
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--turns", type=int, default=16, help="of both speakers together")
    parser.add_argument("--dominant", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    recogniser = unheard.load(options.model)
    manifest = read_corpus(options.corpus, options.root) if options.root else read_manifest(options.corpus)
    speakers = unseen(manifest, recogniser, options.speakers)
    rows = predicted(recogniser, speakers, options)
    turns = [row for row in rows if row.way == "alone"]
    silent = sum(row.label is None for row in turns)
    print(
        f"{options.corpus}: {options.calls} calls of {options.turns} turns, {len(speakers)} speakers, "
        f"{len(turns)} turns, {silent} of them without a label; "
        f"dominant emotion {options.dominant:g}, seed {options.seed}\n"
    )
    print(figures(rows, list(recogniser.labels)), reliability(rows), sep="\n\n")


if __name__ == "__main__":
    main(sys.argv[1:])
