"""Folds and splits; a `Split` that leaks cannot be constructed."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import NamedTuple

from unheard.errors import SplitError, counted, some
from unheard.manifest import Manifest, Note, Utterance, plain
from unheard.splits.speakers import identity


@dataclass(frozen=True, slots=True)
class Direction:
    """One evaluation of a trained fold: ids for model selection (`dev`) and ids that are scored (`test`)."""

    name: str
    dev: tuple[str, ...]
    test: tuple[str, ...]


class Assigned(NamedTuple):
    """The part (train, dev, test) of an utterance in a fold; training rows have an empty direction."""

    fold: int
    direction: str
    part: str
    id: str
    speaker: str


@dataclass(frozen=True, slots=True)
class Fold:
    """One training and its directions: two for `paired` with `test="both"`, otherwise one."""

    index: int
    train: tuple[str, ...]
    directions: tuple[Direction, ...]

    def parts(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Yield direction, part and ids of training, whose direction is empty, and of both parts of each direction."""
        yield "", "train", self.train
        for direction in self.directions:
            yield direction.name, "dev", direction.dev
            yield direction.name, "test", direction.test

    @property
    def held_out(self) -> tuple[tuple[str, str], ...]:
        """(part, id) of all validation and test utterances, direction by direction."""
        return tuple((part, name) for direction, part, ids in self.parts() if direction for name in ids)

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id once, training first."""
        return tuple(dict.fromkeys(name for _, _, ids in self.parts() for name in ids))


class SplitProblem(NamedTuple):
    """The reason why folds cannot be used, a remedy, and the utterances concerned; `kind` is a stable identifier."""

    kind: str
    what: str
    mend: str
    ids: tuple[str, ...] = ()


def key_of(row: Utterance, column: str) -> str:
    """Return the value that must stay in one part; sessions count within their corpus, '' means none."""
    if column == "utterance":
        return row.id
    if column == "session":
        session, corpus = plain(row.session), plain(row.corpus)
        return f"{corpus}/{session}" if session and corpus else session
    return plain(row.get(column))


def identity_of(row: Utterance, column: str) -> str:
    """Return the value for comparison: values that look alike are equal, except speakers, which the user resolved."""
    return key_of(row, column) if column in ("utterance", "speaker") else identity(key_of(row, column))


def find_leaks(manifest: Manifest, folds: Iterable[Fold], group: str = "speaker") -> Iterator[SplitProblem]:
    """Yield a problem for every group, speaker and session in two parts of folds, and one for all such utterances.

    Dev and test may share a session. The ids must be in the manifest. Empty sessions are ignored.
    """
    columns = dict.fromkeys(["utterance", group, "speaker", "session"])
    keys, rows = (
        {column: {row.id: identity_of(row, column) for row in manifest} for column in columns},
        manifest.by_id(),
    )
    leaks: dict[tuple[str, str, str, str], tuple[dict[str, None], dict[str, None]]] = {}
    for number, train, direction in ((str(fold.index), fold.train, d) for fold in folds for d in fold.directions):
        parts = {"training": train, "dev": direction.dev, "test": direction.test}
        for column, key in keys.items():
            values = {part: {key[name] for name in ids} for part, ids in parts.items()}
            for first, second in combinations(parts, 2):
                shared = (values[first] & values[second]) - {""}
                if not shared or (column == "session" != group and first == "dev"):
                    continue
                for name in (*parts[first], *parts[second]):
                    if key[name] in shared:
                        value = "" if column == "utterance" else key[name]
                        numbers, ids = leaks.setdefault((column, value, first, second), ({}, {}))
                        numbers[number] = ids[name] = None
    mends = {
        "session": "Remove the speakers who share a session with dev or test from training.",
        "speaker": f"A speaker has several values of '{group}': keep each speaker in one part.",
        group: f"Keep every {group} in one part; if two corpora only share its name, rename it.",
        "utterance": "Keep every utterance in one part.",
    }
    for (column, value, first, second), (numbers, ids) in leaks.items():
        what = (
            f"{column} {key_of(rows[next(iter(ids))], column)} is" if value else f"{counted(len(ids), 'utterance')} are"
        )
        where = f"{first} and in {second} of fold{'s' * (len(numbers) > 1)} {some(list(numbers), 12)}"
        yield SplitProblem(f"leak_{column}", f"{what} in {where}: {some(list(ids))}", mends[column], tuple(ids))


EMPTY = (
    "Add speakers. Or sessions, or with --group the speakers, tie too many of them together, since none of dev or test "
    "can train: clear the column 'session' if it does not name recording sessions."
)


def find_problems(
    manifest: Manifest, folds: Sequence[Fold], group: str = "speaker", *, validated: bool = True
) -> Iterator[SplitProblem]:
    """Yield all problems of folds; each assumes that the previous ones are fixed.

    Dev parts may be empty unless `validated`.
    """
    rows = manifest.by_id()
    if len({fold.index for fold in folds}) < len(folds) or not folds:
        yield SplitProblem("bad_folds", "the split has no fold, or two with the same index", "Number the folds from 0.")
    bare = {name for name, row in rows.items() if not key_of(row, group)}
    for fold in folds:
        names = [direction.name for direction in fold.directions]
        if not names:
            yield SplitProblem("empty_part", f"fold {fold.index}: dev and test are empty", EMPTY)
        if len(set(names)) < len(names):
            yield SplitProblem("bad_folds", f"fold {fold.index} has two directions of the same name", "Rename one.")
        for direction, part, ids in fold.parts():
            where = f"fold {fold.index}" + (f", direction '{direction}'" if direction else "")
            where += f": {part if direction else 'training'}"
            if not ids and (part != "dev" or validated):
                yield SplitProblem("empty_part", f"{where} is empty", EMPTY)
            if unknown := set(ids) - rows.keys():
                what = f"{where} has '{min(unknown)}', which the manifest does not"
                yield SplitProblem("bad_folds", what, "Use the manifest of the split.")
            if len(set(ids)) < len(ids):
                yield SplitProblem("bad_folds", f"{where} names an utterance twice", "Name it once.")
            if without := bare & set(ids):
                what = f"{where} has utterance '{min(without)}', which has no value in the group column '{group}'"
                yield SplitProblem("no_group", what, "Fill the column, or choose another with --group.")
    yield from find_leaks(manifest, folds, group)
    tested: dict[str, list[int]] = defaultdict(list)
    for index, name in ((fold.index, name) for fold in folds for part, name in fold.held_out if part == "test"):
        tested[name].append(index)
    if repeated := tuple(name for name, indices in tested.items() if len(indices) > 1):
        first, second = tested[repeated[0]][:2]
        what = f"{counted(len(repeated), 'utterance')} tested more than once: {some(repeated)}"
        what += f" (the first in fold {first} and again in fold {second})"
        yield SplitProblem("tested_twice", what, "Test each once, so that pooled results count it once.", repeated)
    for fold in folds:
        trained = {rows[name].emotion for name in fold.train}
        for d in fold.directions:
            for emotion in sorted({rows[name].emotion for name in d.test} - trained):
                ids = tuple(name for name in d.test if rows[name].emotion == emotion)
                people = ", ".join(sorted({rows[name].speaker for name in ids}))
                what = f"fold {fold.index} tests the emotion '{emotion}' (speakers {people}), which its training lacks"
                mend = "Leave it out (--emotions), merge it (--map), or take another --split-seed."
                yield SplitProblem("unseen_emotion", what, mend, ids)


@dataclass(frozen=True)
class Split:
    """Folds of a manifest that share no speaker; constructing a split that leaks raises `SplitError`.

    Every split is checked: each id is in the manifest and once in its part; no part is empty (dev may be, unless
    `validated`); no group, speaker or utterance is in two parts of a fold; no session of training is in dev or test
    (dev and test may share one; sessions are distinct between corpora); no utterance is tested twice; training has
    every emotion of test, unless `emotions_may_differ`. Ids are sorted in the order of the manifest.

    `total_folds` is the number of folds of the protocol if only the first are used; `notes` list rows left out.
    """

    manifest: Manifest = field(repr=False, compare=False)
    protocol: str
    folds: tuple[Fold, ...]
    group: str = "speaker"
    seed: int = 0
    total_folds: int = 0
    notes: tuple[Note, ...] = field(default=(), compare=False)
    emotions_may_differ: bool = False
    validated: bool = True

    def __post_init__(self) -> None:
        for problem in find_problems(self.manifest, self.folds, self.group, validated=self.validated):
            if problem.kind != "unseen_emotion" or not self.emotions_may_differ:
                leaks = "the split leaks: " if problem.kind.startswith("leak") else ""
                raise SplitError(leaks + problem.what, mend=problem.mend)
        order = {name: i for i, name in enumerate(self.manifest.ids)}

        def ordered(ids: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(sorted(ids, key=order.__getitem__))

        folds = []
        for fold in self.folds:
            directions = (Direction(d.name, ordered(d.dev), ordered(d.test)) for d in fold.directions)
            folds.append(Fold(fold.index, ordered(fold.train), tuple(directions)))
        object.__setattr__(self, "folds", tuple(folds))
        object.__setattr__(self, "total_folds", self.total_folds or len(folds))

    def without_validation(self) -> Split:
        """Return the split in which validation utterances train, except those whose session is tested by the fold."""
        session = {row.id: identity_of(row, "session") for row in self.manifest}
        folds = []
        for fold in self.folds:
            directions = tuple(Direction(d.name, (), d.test) for d in fold.directions)
            tested = {name for d in directions for name in d.test}
            sessions = {session[name] for name in tested} - {""}
            validating = dict.fromkeys(name for d in fold.directions for name in d.dev)
            dev = [name for name in validating if name not in tested and session[name] not in sessions]
            folds.append(Fold(fold.index, (*fold.train, *dev), directions))
        notes = tuple(note for note in self.notes if note.kind != "cross_dev")
        return replace(self, folds=tuple(folds), notes=notes, validated=False)

    def assignment(self) -> Iterator[Assigned]:
        """Yield the part of every utterance in every fold and direction."""
        speaker = {row.id: row.speaker for row in self.manifest}
        for fold in self.folds:
            for direction, part, ids in fold.parts():
                yield from (Assigned(fold.index, direction, part, name, speaker[name]) for name in ids)

    @property
    def digest(self) -> str:
        """The `digest_of` the assignment."""
        return digest_of(self.assignment())


def digest_of(rows: Iterable[Assigned]) -> str:
    """Return 16 hexadecimal digits of SHA-256 over the sorted assignment; row order does not matter."""
    lines = sorted("\t".join(map(str, row[:4])) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def exclude_shared_recordings(manifest: Manifest, digests: Mapping[str, str]) -> tuple[Manifest, Note]:
    """Drop recordings that occur more than once; return the manifest and a note with the dropped ids.

    `digests` maps ids to a hash of the decoded samples; an id without one is kept. All copies of a recording with
    several speakers are dropped, because the true speaker is unknown, and likewise all copies of one speaker with
    several emotions. Otherwise the first copy (by id) is kept. The note (kind `shared_recordings`) is added to those of
    the manifest if it has ids.
    """
    copies: dict[str, list[Utterance]] = defaultdict(list)
    for row in manifest:
        if digests.get(row.id):
            copies[digests[row.id]].append(row)
    reasons: dict[str, str] = {}
    for rows in copies.values():
        crossed = next((column for column in ("speaker", "emotion") if len({row.get(column) for row in rows}) > 1), "")
        ids = sorted(row.id for row in rows)
        reasons |= dict.fromkeys(ids if crossed else ids[1:], crossed)
    if not reasons:
        return manifest, Note("shared_recordings", "no recording occurs twice")
    counts = Counter(reasons.values())
    note = Note(
        "shared_recordings",
        f"{counted(len(reasons), 'utterance')} excluded, as the recording occurs more than once: {counts['speaker']} "
        f"under several speakers, {counts['emotion']} under several emotions of one speaker, {counts['']} "
        "repeating a kept one",
        tuple(name for name in manifest.ids if name in reasons),
    )
    remaining = tuple(row for row in manifest if row.id not in reasons)
    return replace(manifest, rows=remaining, notes=(*manifest.notes, note)), note
