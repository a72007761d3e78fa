"""Folds and splits; a `Split` that leaks cannot be constructed."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from unheard.errors import SplitError
from unheard.manifest import Manifest, Note, Utterance, plain


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
        for one in self.directions:
            yield one.name, "dev", one.dev
            yield one.name, "test", one.test

    @property
    def held(self) -> tuple[tuple[str, str], ...]:
        """(part, id) of all validation and test utterances, direction by direction."""
        return tuple((part, name) for direction, part, ids in self.parts() if direction for name in ids)

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id once, training first."""
        return tuple(dict.fromkeys(name for _, _, ids in self.parts() for name in ids))


@dataclass(frozen=True, slots=True)
class Leak:
    """A value of `column` (utterance, speaker, session or the group) in two parts of a fold.

    `ids` are the utterances with this value in either part.
    """

    fold: int
    direction: str
    column: str
    value: str
    sides: tuple[str, str]
    ids: tuple[str, ...]

    def __str__(self) -> str:
        first, second = self.sides
        return (
            f"fold {self.fold}, direction '{self.direction}': {self.column} {self.value} is in {first} and in {second}"
        )


def key_of(row: Utterance, column: str) -> str:
    """Return the value that must stay in one part; sessions count within their corpus, '' means none."""
    if column == "utterance":
        return row.id
    if column == "session":
        session, corpus = plain(row.session), plain(row.corpus)
        return f"{corpus}/{session}" if session and corpus else session
    return plain(row.get(column))


def find_leaks(manifest: Manifest, folds: Iterable[Fold], group: str = "speaker") -> list[Leak]:
    """Find every utterance, group, speaker and session in two parts of a fold; dev and test may share a session.

    The ids must be in the manifest. Empty sessions are ignored.
    """
    columns = dict.fromkeys(["utterance", group, "speaker", "session"])
    keys = {column: {row.id: key_of(row, column) for row in manifest} for column in columns}
    leaks = []
    for index, train, direction in ((fold.index, fold.train, one) for fold in folds for one in fold.directions):
        sides = {"training": train, "dev": direction.dev, "test": direction.test}
        for column, key in keys.items():
            values = {side: {key[name] for name in ids} for side, ids in sides.items()}
            for first, second in (("training", "dev"), ("training", "test"), ("dev", "test")):
                shared = (values[first] & values[second]) - {""}
                if not shared or (column == "session" != group and first == "dev"):
                    continue
                members: dict[str, list[str]] = defaultdict(list)
                for name in dict.fromkeys((*sides[first], *sides[second])):
                    members[key[name]].append(name)
                leaks += [
                    Leak(index, direction.name, column, value, (first, second), tuple(members[value]))
                    for value in sorted(shared)
                ]
    return leaks


@dataclass(frozen=True)
class Split:
    """Folds of a manifest that share no speaker; constructing a split that leaks raises `SplitError`.

    Checked for every split, however it was made: each id is in the manifest and once in its part; no part is empty; no
    group, speaker or utterance is in two parts of a fold; no session of training is in dev or test (dev and test may
    share one; sessions count within their corpus); no utterance is tested twice; training has every emotion of test,
    unless `emotions_may_differ`. Ids are put into the order of the manifest.

    `total_folds` is the number of folds of the protocol if only the first are used; `notes` list what was left out.
    """

    manifest: Manifest = field(repr=False, compare=False)
    protocol: str
    folds: tuple[Fold, ...]
    group: str = "speaker"
    seed: int = 0
    total_folds: int = 0
    notes: tuple[Note, ...] = field(default=(), compare=False)
    emotions_may_differ: bool = False

    def __post_init__(self) -> None:
        for what, mend in self._problems():
            raise SplitError(what, mend=mend)
        order = {name: place for place, name in enumerate(self.manifest.ids)}

        def ordered(ids: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(sorted(ids, key=order.__getitem__))

        folds = tuple(
            Fold(
                f.index,
                ordered(f.train),
                tuple(Direction(d.name, ordered(d.dev), ordered(d.test)) for d in f.directions),
            )
            for f in self.folds
        )
        object.__setattr__(self, "folds", folds)
        object.__setattr__(self, "total_folds", self.total_folds or len(folds))

    def _problems(self) -> Iterator[tuple[str, str | None]]:
        """Yield what is wrong and how to mend it; what follows a problem takes for granted that there is none."""
        rows = self.manifest.by_id()
        if not self.folds:
            yield "the split has no fold", "Make it with at least one."
        if len({fold.index for fold in self.folds}) < len(self.folds):
            yield "two folds have the same index", "Number them from 0."
        bare = {name for name, row in rows.items() if not key_of(row, self.group)}
        for fold in self.folds:
            names = [direction.name for direction in fold.directions]
            if not names or len(set(names)) < len(names):
                yield f"fold {fold.index} needs directions with different names, and has {names}", None
            for direction, part, ids in fold.parts():
                where = f"fold {fold.index}: " + (f"{part} of direction '{direction}'" if direction else "training")
                members = set(ids)
                if not ids:
                    yield (
                        f"{where} is empty",
                        "Add speakers. Or sessions tie too many speakers together, since a session of dev or test "
                        "cannot train: clear the column 'session' if it does not name recording sessions.",
                    )
                if unknown := members - rows.keys():
                    yield f"{where} has '{min(unknown)}', which the manifest does not", "Use the manifest of the split."
                if len(members) < len(ids):
                    yield f"{where} names an utterance twice", "Name it once."
                if without := bare & members:
                    what = (
                        f"{where} has utterance '{min(without)}', which has no value in the group column '{self.group}'"
                    )
                    yield what, "Fill the column, or choose another with --group."
        if leaks := find_leaks(self.manifest, self.folds, self.group):
            column, more = leaks[0].column, f", and {len(leaks) - 1} more leaks" if len(leaks) > 1 else ""
            mend = f"Keep every {column} in one part; if two corpora only share its name, rename it."
            if column == "session":
                mend = "Remove the speakers who share a session with dev or test from training."
            elif column == "speaker" != self.group:
                mend = f"A speaker has several values of '{self.group}': keep each speaker in one part."
            yield f"the split leaks: {leaks[0]}{more}", mend
        tested: dict[str, int] = {}
        for index, name in ((fold.index, name) for fold in self.folds for part, name in fold.held if part == "test"):
            if name in tested:
                what = f"utterance '{name}' is tested in fold {tested[name]} and again in fold {index}"
                yield what, "Test every utterance once, so that pooled results count it once."
            tested[name] = index
        for fold in self.folds if not self.emotions_may_differ else ():
            known = {rows[name].emotion for name in fold.train}
            for one in fold.directions:
                speakers = {(rows[name].emotion, rows[name].speaker) for name in one.test}
                for unseen in sorted({emotion for emotion, _ in speakers} - known):
                    who = ", ".join(sorted(speaker for emotion, speaker in speakers if emotion == unseen))
                    what = f"fold {fold.index} tests the emotion '{unseen}' (speakers {who}), which its training lacks"
                    yield what, "Leave it out (--emotions), merge it (--map), or take another --split-seed."

    def assignment(self) -> Iterator[Assigned]:
        """Yield the part of every utterance in every fold and direction."""
        speaker = {row.id: row.speaker for row in self.manifest}
        for fold in self.folds:
            for direction, part, ids in fold.parts():
                yield from (Assigned(fold.index, direction, part, name, speaker[name]) for name in ids)

    @property
    def digest(self) -> str:
        """See `digest_of`."""
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
        f"{len(reasons)} utterances are excluded because their recording occurs more than once: {counts['speaker']} "
        f"under several speakers, {counts['emotion']} under several emotions of one speaker, {counts['']} further "
        "copies of a kept one",
        tuple(name for name in manifest.ids if name in reasons),
    )
    kept = tuple(row for row in manifest if row.id not in reasons)
    return replace(manifest, rows=kept, notes=(*manifest.notes, note)), note
