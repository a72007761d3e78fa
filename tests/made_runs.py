"""Records of a run written by hand: speakers, folds, seeds, and what each system said, as letters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from unheard.experiments.config import load
from unheard.experiments.records import CellRecord, RunRecords
from unheard.experiments.selection import TUNED_OPTIONS
from unheard.experiments.summary import Line, Predictions, SeedRecord
from unheard.splits.split import Assigned, digest_of

LABELS = ("angry", "sad")
Said = Mapping[str, str]
"""Speaker -> "aa as ss": emotion and prediction of each utterance."""

ORDER = ("s0", "s1", "s2", "s3")


def predictions(said: Said) -> Predictions:
    """Each speaker is tested in a fold of its own."""
    words = [(speaker, pair) for speaker, text in said.items() for pair in text.split()]
    ids = [f"{speaker}-{place}" for speaker, text in said.items() for place in range(len(text.split()))]
    truth, predicted = (np.array(["as".index(pair[side]) for _, pair in words]) for side in (0, 1))
    return Predictions(
        ids=tuple(ids),
        speakers=tuple(speaker for speaker, _ in words),
        folds=np.array([ORDER.index(speaker) for speaker, _ in words]),
        directions=("test",) * len(words),
        truth=truth,
        predicted=predicted,
        probabilities=np.eye(2)[predicted],
    )


def line(system: str, seeds: Mapping[int, Said], *, chosen: bool = False, wanted: int = 0) -> Line:
    """A line with these seeds complete; validation is always one angry right, one sad taken for angry."""
    dev = predictions({"s0": "aa sa"})
    records = tuple(
        SeedRecord(
            seed,
            dev,
            predictions(said),
            tuple(
                CellRecord(f"{system}-{fold}-{seed}", Path(), Path(), system, fold, seed, {"proof": PROOF})
                for fold in range(len(said))
            ),
        )
        for seed, said in seeds.items()
    )
    folds = max([len(said) for said in seeds.values()], default=1)
    done = len(seeds) * folds
    value = 0.1 if system in ("dat", "cgt") and not chosen else None
    return Line(
        system, f"{TUNED_OPTIONS[system].symbol} chosen" if chosen else "", value, records, done, max(done, wanted)
    )


PROOF = {"data": "d0", "features": "f0", "versions": {"unheard": "0.1.0", "torch": "2.13.0"}}


def run(*lines: Line, out: str = "RUN", **settings: object) -> RunRecords:
    """A run of leave-one-speaker-out folds over the speakers of the first line that has a seed."""
    test = next(one.seeds[0].test for one in lines if one.seeds)
    said = dict(zip(test.ids, test.speakers, strict=True))
    speakers = list(dict.fromkeys(said.values()))
    rows = []
    for fold, held in enumerate(speakers):
        validating = speakers[(fold + 1) % len(speakers)]
        for name, speaker in said.items():
            part = "test" if speaker == held else "dev" if speaker == validating else "train"
            rows.append(Assigned(fold, "" if part == "train" else "test", part, name, speaker))
    words = {"corpus": "emodb", "root": "data", "out": out, "emotions": "angry,sad", "recipe": "paper"}
    return RunRecords(
        folder=Path(out),
        settings=load(None, {**words, **settings}),
        labels=LABELS,
        utterances={
            name: {"id": name, "speaker": speaker, "emotion": LABELS[emotion]}
            for (name, speaker), emotion in zip(said.items(), test.truth, strict=True)
        },
        splits=tuple(rows),
        split_digest=digest_of(rows),
        lines=lines,
        candidates=(),
        cells=tuple(cell for one in lines for seed in one.seeds for cell in seed.cells),
    )


def resplit(records: RunRecords, rows: list[Assigned]) -> RunRecords:
    """The same run with another split."""
    return replace(records, splits=tuple(rows), split_digest=digest_of(rows))
