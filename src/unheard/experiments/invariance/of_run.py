"""The invariance of every system of a run, from the files in its folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.errors import FeatureError, UnheardError
from unheard.experiments.folder import Assigned
from unheard.experiments.invariance.examine import FORMAT, Invariance, examine_embeddings
from unheard.experiments.invariance.inputs import input_statistics
from unheard.experiments.invariance.lines import INPUT, LineInvariance
from unheard.experiments.invariance.split import LEAST_UNSEEN
from unheard.experiments.records import CellRecord, RunRecords, SeedRecord
from unheard.features import FeatureStore, Normaliser
from unheard.files import write_json

CACHE = "invariance.json"


@dataclass(frozen=True)
class Unseen:
    """Who is examined: the dev and test rows of one reading of one fold, which one trained network heard."""

    run: RunRecords
    fold: int
    reading: str
    rows: tuple[Assigned, ...]

    def column(self, name: str) -> list[str]:
        """A column of utterances.csv for every row."""
        return [self.run.utterances.get(row.id, {}).get(name, "") for row in self.rows]

    @property
    def speakers(self) -> list[str]:
        """Who speaks each row."""
        return [row.speaker for row in self.rows]


def unseen_of(run: RunRecords) -> Unseen | None:
    """The unseen speakers of RUN/invariance, or of the run's own first fold; None where they are fewer than four.

    One fold only: networks of different folds have spaces of their own. Of a fold read twice the first reading only,
    because each reading has a network of its own.
    """
    for source in filter(None, (run.invariance, run)):
        fold = source.folds[0]
        held = [row for row in source.splits if row.fold == fold and row.part != "train"]
        counts = Counter(row.speaker for row in held if row.reading == held[0].reading)
        # a single recording cannot be both learnt and tested
        rows = tuple(row for row in held if row.reading == held[0].reading and counts[row.speaker] > 1)
        if len({row.speaker for row in rows}) >= LEAST_UNSEEN:
            return Unseen(source, fold, held[0].reading, rows)
    return None


def of_run(run: RunRecords, say: Callable[[str], None] = lambda _: None) -> dict[str, LineInvariance]:
    """Name of a line -> its invariance over the complete seeds, then the row "input features"; {} where there is none.

    Lines are those of RUN/invariance where it exists. Figures are kept in RUN/invariance.json and made again only for
    trainings that have changed; with that file, a run without its embeddings still has them. Raises `MissingExtra`
    without scikit-learn.
    """
    unseen = unseen_of(run)
    if unseen is None:
        return {}
    cache = _Cache(run.folder / CACHE)
    lines = {}
    for line in unseen.run.lines:
        found = {}
        for seed in line.seeds:
            examined = _of_seed(unseen, seed, cache, say)
            if examined is not None:
                found[seed.seed] = examined
        if found:
            lines[line.name] = LineInvariance(line.name, tuple(found), tuple(found.values()))
    started = _of_input(unseen, cache) if lines else None
    if started is not None:
        lines[INPUT] = LineInvariance(INPUT, (), (started,))
    return lines


def _of_seed(unseen: Unseen, seed: SeedRecord, cache: _Cache, say: Callable[[str], None]) -> Invariance | None:
    cell = next(cell for cell in seed.cells if cell.fold == unseen.fold)

    def examine() -> Invariance | None:
        e = _embeddings(cell, unseen.rows)
        if e is None:
            return None
        if not np.isfinite(e).all():
            say(f"{cell.name} has embeddings that are no numbers: its training diverged, and it is left out")
            return None
        say(f"Speaker probe on {cell.name}")
        truth, predicted = _emotions(seed, unseen)
        return examine_embeddings(e, unseen.speakers, unseen.column("text"), unseen.column("gender"), truth, predicted)

    predictions = (cell.folder / "predictions.csv").read_bytes()
    return cache.get([cell.name, str(cell.result["epochs"]), blake2b(predictions).hexdigest()], unseen, examine)


def _embeddings(cell: CellRecord, rows: Sequence[Assigned]) -> NDArray[np.float32] | None:
    """The embeddings (n, E) of `rows`, or None where they are not kept."""
    found = cell.embeddings()
    if found is None:
        return None
    e, ids, parts = found
    place = {key: i for i, key in reversed(list(enumerate(zip(parts, ids, strict=True))))}  # the first reading's
    if any((row.part, row.id) not in place for row in rows):
        return None
    return e[[place[row.part, row.id] for row in rows]]


def _emotions(seed: SeedRecord, unseen: Unseen) -> tuple[list[int], list[int]]:
    """True and predicted emotion of every row."""
    said = {
        (part, name): (int(truth), int(predicted))
        for part, of_part in (("dev", seed.dev), ("test", seed.test))
        for name, fold, reading, truth, predicted in zip(
            of_part.ids, of_part.folds, of_part.readings, of_part.truth, of_part.predicted, strict=True
        )
        if (fold, reading) == (unseen.fold, unseen.reading)
    }
    pairs = [said[row.part, row.id] for row in unseen.rows]
    return [truth for truth, _ in pairs], [predicted for _, predicted in pairs]


def _of_input(unseen: Unseen, cache: _Cache) -> Invariance | None:
    """The same of mean ‖ std of the normalised input; None where the feature store is not at hand."""
    run = unseen.run

    def examine() -> Invariance | None:
        store = _store(run)
        ids = [row.id for row in unseen.rows]
        train = [row.id for row in run.splits if row.fold == unseen.fold and row.part == "train"]
        everyone = {row.id: row.speaker for row in run.splits if row.fold == unseen.fold}
        if store is None or any(name not in store for name in everyone):
            return None
        fitted = Normaliser(run.settings.normalise)
        fitted = fitted.fit(store, everyone if fitted.transductive else train, everyone)
        x = input_statistics(_Normalised(store, fitted, everyone), ids)
        return examine_embeddings(x, unseen.speakers, unseen.column("text"))

    data = {str(cell.result.get("proof", {}).get("data", "")) for cell in run.cells if cell.fold == unseen.fold}
    key = [INPUT, run.split_digest, run.settings.normalise, run.settings.features.digest, *sorted(data)]
    return cache.get(key, unseen, examine)


@dataclass(frozen=True)
class _Normalised:
    store: FeatureStore
    normaliser: Normaliser
    speakers: Mapping[str, str]

    def __getitem__(self, utterance: str) -> NDArray[np.float32]:
        return self.normaliser.apply(self.store[utterance], self.speakers[utterance])


def _store(run: RunRecords) -> FeatureStore | None:
    named = [Path(run.settings.store)] if run.settings.store else []
    for folder in (*named, run.folder / "features", run.folder.parent / "features"):
        with suppress(FeatureError):
            store = FeatureStore.open(folder)
            if store.settings == run.settings.features:
                return store
    return None


class _Cache:
    """The figures in a file, by a hash of what they were made from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = self._read()
        self.used: dict[str, Any] = {}

    def get(self, key: Sequence[str], unseen: Unseen, examine: Callable[[], Invariance | None]) -> Invariance | None:
        """What is known for `key` and these unseen speakers, or what `examine` says, which is then kept."""
        digest = blake2b(digest_size=16)
        about = zip(unseen.rows, unseen.column("text"), unseen.column("gender"), strict=True)
        for words in ((str(FORMAT), *key), *((row.part, row.id, row.speaker, *more) for row, *more in about)):
            digest.update("\t".join(words).encode() + b"\n")
        name = digest.hexdigest()
        if name in self.found:
            with suppress(KeyError, TypeError, ValueError):  # a damaged entry is made again
                known = Invariance.from_dict(self.found[name]["figures"])
                self.used[name] = self.found[name]
                return known
        made = examine()
        if made is not None:
            self.used[name] = {"of": list(key[:2]), "figures": made.as_dict()}
            self.found.pop(name, None)
            with suppress(UnheardError):  # a folder that cannot be written is only slower the next time
                write_json(self.path, {**self.found, **self.used})
        return made

    def _read(self) -> dict[str, Any]:
        try:
            read = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return read if isinstance(read, dict) else {}
