"""The invariance of every system of a run, from the files in its folder."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unheard.analysis.speaker_leakage import (
    FORMAT,
    INPUT,
    UNSEEN,
    Invariance,
    LineInvariance,
    examine_embeddings,
    markdown,
)
from unheard.corpora import read_manifest
from unheard.corpora.channels import choose_channel
from unheard.errors import ConfigError, FeatureError, SplitError, TrainingError, UnheardError
from unheard.experiments.cell import NAMESAKES, full_name, versions
from unheard.experiments.evaluate import heard, rows_it_knows, trained_on
from unheard.experiments.records import Assigned, CellRecord, RunRecords, SeedRecord
from unheard.features import FeatureStore, Normaliser
from unheard.features.normalise import TRANSDUCTIVE
from unheard.files import write_json
from unheard.manifest import Manifest
from unheard.model.saving import Model
from unheard.splits.protocols import GENDERS, default_protocol, make_split
from unheard.splits.split import Split, key_of

if TYPE_CHECKING:
    from unheard.experiments.config import Experiment
    from unheard.manifest import Manifest


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
            store = FeatureStore(folder)
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


# The invariance of any trained model on any labelled manifest.

EMBEDDINGS = "embeddings"


@dataclass(frozen=True)
class Probed:
    """What a model keeps of the speakers of a manifest, and what its input held; `left_out` counts by reason.

    `whose` recordings they are: `unseen speakers`, where that is so.
    """

    embeddings: Invariance
    input_features: Invariance
    left_out: Mapping[str, int]
    about: Mapping[str, Any]
    whose: str = UNSEEN
    transductive: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "embeddings": self.embeddings.as_dict(),
            "input_features": self.input_features.as_dict(),
            "left_out": dict(self.left_out),
            "whose": self.whose,
            "transductive": self.transductive,
            "model": dict(self.about),
            "versions": versions(),
        }

    def as_markdown(self) -> str:
        """A table, what it is to be read against, and the speakers served worst."""
        lines = {
            name: LineInvariance(name, (), (one,))
            for name, one in ((EMBEDDINGS, self.embeddings), (INPUT, self.input_features))
        }
        text = markdown(lines, self.whose) + (f"\nThe model is {TRANSDUCTIVE}.\n" if self.transductive else "")
        groups = self.embeddings.groups
        if groups is not None:
            worst, best = groups.worst, groups.best
            if groups.spread > 0:
                text += (
                    f"Worst speaker: {worst.speaker} ({worst.recordings} recordings, {worst.emotions} emotions), "
                    f"UAR {100 * worst.uar.value:.1f} %; best: {best.speaker}, {100 * best.uar.value:.1f} %.\n"
                )
            else:
                text += f"Every speaker's UAR is {100 * worst.uar.value:.1f} %.\n"
            if groups.gender_unknown:
                text += f"The gender of {groups.gender_unknown} speakers is not known.\n"
        return text


def probe_model(
    model: str | Path,
    manifest: str | Path | Manifest,
    *,
    mapping: Mapping[str, str] | None = None,
    channel: str = "mix",
    seen: bool = False,
    store: str | Path | None = None,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> Probed:
    """Examine the embeddings that `model` (a file or a cell's folder) makes of the rows of `manifest`.

    Speakers the model was trained on are left out and counted, unless `seen`; so are those with one recording.
    `channel` is mix, left, right or each; `store` keeps the features. Raises `UnheardError` where fewer than two
    speakers remain, or the model or the manifest cannot be used.
    """
    trained = Model.load(model)
    table = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
    rows = rows_it_knows(trained, table, mapping, say)
    left_out = {"label unknown": len(table) - len(rows)}
    known = trained_on(trained)
    if not known:
        say("beware: the model does not say whom it was trained on")
    rows = choose_channel(rows, channel)
    heard_before = {full_name(row) for row in rows} & known
    # by the names the table has, too: each channel gets a name of its own
    of_table = table.where(lambda row: full_name(row) in known)
    heard_before |= {full_name(row) for row in choose_channel(of_table, channel)}
    if not seen:
        before = len(rows)
        rows = rows.where(lambda row: full_name(row) not in heard_before)
        left_out["speaker trained on"] = before - len(rows)
        if len(rows) < before:
            doubt = f" ({NAMESAKES})" if all(name.startswith("/") for name in heard_before) else ""
            gone = f"{before - len(rows)} of {before} utterances"
            say(f"{gone} are of speakers the model was trained on: left out{doubt}")
    _at_least_two(rows, "that the model was not trained on" if known and not seen else "in the manifest", known, seen)
    with heard(trained, rows, store=store, device=device, say=say) as result:
        left_out["not usable"] = len(rows) - len(result.rows)
        counts = Counter(row.speaker for row in result.rows)
        places = [i for i, row in enumerate(result.rows) if counts[row.speaker] > 1]
        left_out["only recording of its speaker"] = single = len(result.rows) - len(places)
        if single:
            say(f"{single} speakers have one recording and are left out")
        kept = Manifest(tuple(result.rows[i] for i in places))
        _at_least_two(kept, "with two recordings or more", known, True)
        speakers, texts = kept.column("speaker"), kept.column("text")
        say(f"Probing {len(kept)} recordings of {len(kept.speakers)} speakers")
        scores = result.scores
        embeddings = examine_embeddings(
            scores.embeddings[places],
            speakers,
            texts,
            kept.column("gender"),
            [int(i) for i in scores.truth[places]],
            [int(i) for i in scores.predicted[places]],
        )
        inputs = examine_embeddings(input_statistics(result.frames, kept.ids), speakers, texts)
    among = len(heard_before & {full_name(row) for row in kept})
    whose = f"speakers ({among} of them trained on)" if among else UNSEEN if known else "speakers"
    return Probed(embeddings, inputs, left_out, trained.about, whose, trained.normaliser.transductive)


def _at_least_two(rows: Manifest, which: str, known: set[str], seen: bool) -> None:
    if len(rows.speakers) < 2:
        also = "" if seen or not known else ", or --seen to examine those it was trained on too"
        raise TrainingError(
            f"a speaker probe needs at least 2 speakers {which}; here are {len(rows.speakers)}",
            mend=f"Give recordings of more speakers{also}.",
        )


# Where invariance can be measured: one fold with at least four unseen speakers, or a run of its own for it.

LEAST_UNSEEN = 4
"""Unseen speakers, dev and test together, whose embeddings come from one network."""
FOLDER = "invariance"
_LEAST = 2  # speakers that train, validate and test
_TRIES = 200


def unseen_speakers(split: Split) -> int:
    """How many speakers the first reading of the first fold holds out, with more than one recording.

    A single one cannot be both learnt and tested.
    """
    reading = split.folds[0].readings[0]
    speaker = {row.id: row.speaker for row in split.manifest}
    recordings = Counter(speaker[name] for name in (*reading.dev, *reading.test))
    return sum(several > 1 for several in recordings.values())


def sub_run_settings(settings: Experiment, manifest: Manifest) -> Experiment | None:
    """The run in RUN/invariance, or None where the run's own first fold has at least four unseen speakers.

    The same experiment (systems, seeds, recipe, feature store) on one seeded `random` split: as many speakers validate
    and are tested as in a part of the corpus's usual `kfold` (EmoDB 6 / 2 / 2). The split seed is the first from the
    run's own on with which the unseen speakers have the genders in the corpus's proportions. `manifest` has the rows
    that take part. Raises `ConfigError` where the corpus has fewer than six speakers.
    """
    from unheard.experiments.plan import choose_split

    if unseen_speakers(choose_split(settings, manifest)) >= LEAST_UNSEEN:
        return None
    groups = {key_of(row, settings.group) for row in manifest}
    usual, options = default_protocol(settings.corpus, manifest)
    parts = int(str(options["k"])) if usual == "kfold" else 5
    held = max(_LEAST, round(len(groups) / parts))
    if len(groups) < 2 * held + _LEAST:
        raise ConfigError(
            f"invariance needs at least {2 * held + _LEAST} values of '{settings.group}', {_LEAST} each to train, "
            f"validate and test; here are {len(groups)}",
            mend="Leave out --invariance, or take a corpus with more speakers.",
        )
    sizes = (len(groups) - 2 * held, held, held)
    return dataclasses.replace(
        settings,
        out=str(Path(settings.out) / FOLDER),
        store=settings.store or str(Path(settings.out) / "features"),
        protocol="random",
        test="both",
        n=sizes,
        split_seed=_balanced_seed(manifest, settings.group, sizes, settings.split_seed),
        folds=0,
        k=0,
        column="",
        train_corpora=(),
        test_corpora=(),
        invariance=False,
    )


def _balanced_seed(manifest: Manifest, group: str, sizes: tuple[int, int, int], first: int) -> int:
    """The first split seed from `first` on that holds out women and men in the corpus's proportions.

    Where none of many does, or a gender is not known, the first with which the split can be made at all.
    """
    gender = {row.speaker: GENDERS.get(row.gender.strip().lower(), "") for row in manifest}
    fallback = None
    for seed in range(first, first + _TRIES):
        try:
            split = make_split(manifest, "random", group=group, n=sizes, seed=seed)
        except SplitError as error:
            refused = error
            continue
        fallback = seed if fallback is None else fallback
        if unseen_speakers(split) >= LEAST_UNSEEN and _proportionate(split, gender):
            return seed
    if fallback is None:
        raise refused
    return fallback


def _proportionate(split: Split, gender: Mapping[str, str]) -> bool:
    if "" in gender.values():
        return True
    reading = split.folds[0].readings[0]
    speaker = {row.id: row.speaker for row in split.manifest}
    unseen = [gender[name] for name in {speaker[i] for i in (*reading.dev, *reading.test)}]
    wanted = len(unseen) * list(gender.values()).count("female") / len(gender)
    return abs(unseen.count("female") - wanted) < 1


# Where it started: the same questions asked of what goes into the network.


class Frames(Protocol):
    """The normalised frames (T, F) of an utterance, by its id."""

    def __getitem__(self, utterance: str, /) -> NDArray[np.float32]: ...


def input_statistics(frames: Frames, ids: Sequence[str]) -> NDArray[np.float64]:
    """Mean ‖ standard deviation over time of the features that the network sees: (n, 2F).

    The same pooling as the embedding's, without a network in between.
    """

    def pooled(x: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.concatenate([x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)])

    return np.stack([pooled(frames[name]) for name in ids])
