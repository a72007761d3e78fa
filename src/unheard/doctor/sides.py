"""A given split, examined and never refused: everything it has on two sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from unheard.doctor.findings import Finding, count, some
from unheard.manifest import Manifest, Utterance
from unheard.splits import Fold, find_leaks


def check_split(
    manifest: Manifest, folds: Sequence[Fold], copies: Sequence[Sequence[Utterance]] = (), group: str = "speaker"
) -> Iterator[Finding]:
    """Every speaker, group, session, utterance and recording (`copies`) on two sides; empty parts; lost emotions.

    One finding for each thing that leaks, over all folds. Dev and test may share a session.
    """
    places: dict[tuple[str, str, tuple[str, str]], list[int]] = defaultdict(list)
    ids: dict[tuple[str, str, tuple[str, str]], dict[str, None]] = defaultdict(dict)
    for leak in find_leaks(manifest, folds, group):
        key = (leak.column, "" if leak.column == "utterance" else leak.value, leak.sides)
        if leak.fold not in places[key]:
            places[key].append(leak.fold)
        ids[key].update(dict.fromkeys(leak.ids))
    for (column, value, (first, second)), numbers in places.items():
        names = tuple(ids[column, value, (first, second)])
        what = f"{column} {value} is" if value else f"{count(len(names), 'utterance')} are"
        yield Finding(
            "error",
            f"leak_{column}",
            f"{what} in {first} and in {second} of {_folds(numbers, folds)}: {some(names)}",
            names,
            "Make the split by speakers: results on this one say nothing about unheard voices.",
        )
    yield from _copies_on_two_sides(folds, copies)
    yield from _parts(manifest, folds)


def _folds(numbers: Sequence[int], folds: Sequence[Fold]) -> str:
    if len(folds) == 1:
        return "the split"
    if len(numbers) == len(folds):
        return f"all {len(folds)} folds"
    return f"fold{'' if len(numbers) == 1 else 's'} {some([str(number) for number in numbers], 12)}"


def _copies_on_two_sides(folds: Sequence[Fold], copies: Sequence[Sequence[Utterance]]) -> Iterator[Finding]:
    for fold in folds:
        for reading in fold.readings:
            side = dict.fromkeys(reading.dev, "dev") | dict.fromkeys(reading.test, "test")
            side |= dict.fromkeys(fold.train, "training")
            leaking = [rows for rows in copies if len({side[row.id] for row in rows if row.id in side}) > 1]
            if leaking:
                yield Finding(
                    "error",
                    "leak_recording",
                    f"fold {fold.index}, reading '{reading.name}': {count(len(leaking), 'recording')} on two sides: "
                    + some(
                        [" = ".join(f"{row.id} ({side.get(row.id, 'no part')})" for row in rows) for rows in leaking], 3
                    ),
                    tuple(dict.fromkeys(row.id for rows in leaking for row in rows)),
                    "Leave all copies out, or keep them on one side.",
                )


def _parts(manifest: Manifest, folds: Sequence[Fold]) -> Iterator[Finding]:
    rows = manifest.by_id()
    tested: dict[str, None] = {}
    again: dict[str, None] = {}
    for fold in folds:
        known = {rows[name].emotion for name in fold.train}
        parts = {"training": fold.train}
        for reading in fold.readings:
            parts |= {f"dev of '{reading.name}'": reading.dev, f"test of '{reading.name}'": reading.test}
        for part, ids in parts.items():
            if not ids:
                yield Finding(
                    "error", "empty_part", f"fold {fold.index}: {part} is empty", (), "Give it speakers of its own."
                )
        for reading in fold.readings:
            for emotion in sorted({rows[name].emotion for name in reading.test} - known):
                names = tuple(name for name in reading.test if rows[name].emotion == emotion)
                yield Finding(
                    "warning",
                    "unseen_emotion",
                    f"fold {fold.index} tests the emotion '{emotion}', which its training lacks: {some(names)}",
                    names,
                    "Leave the emotion out, merge it, or move speakers.",
                )
            for name in reading.test:
                (again if name in tested else tested)[name] = None
        if not fold.readings:
            yield Finding("error", "empty_part", f"fold {fold.index}: dev and test are empty", (), "Name them.")
    if again:
        yield Finding(
            "warning",
            "tested_twice",
            f"{count(len(again), 'utterance')} are tested more than once: {some(list(again))}",
            tuple(again),
            "Pooled results would count them twice.",
        )
