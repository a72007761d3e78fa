"""The doctor: everything that makes results on a manifest hard to believe."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from unheard.doctor.findings import SEVERITIES, Finding, Findings, Summary, count, some
from unheard.doctor.labels import check_labels, check_predictable
from unheard.doctor.sound import (
    Measurement,
    check_repeats,
    check_sound,
    measure_all,
    nearly_repeated,
    recordings,
    repeated,
)
from unheard.errors import ManifestError
from unheard.manifest import Manifest, Utterance
from unheard.splits import Fold, Split, find_leaks, read_folds

DURATION_TELLS = 0.3  # above chance; slower speech is a true cue of sadness, so only the glaring is named


def examine(
    manifest: Manifest,
    *,
    splits: str | Path | Split | Iterable[Fold] | None = None,
    group: str = "speaker",
    workers: int | None = None,
    progress: bool = True,
    listen: bool = True,
) -> Findings:
    """Examine a manifest, its recordings and, where given, a split of it.

    `splits` is a CSV file as `read_splits` takes it, a split, or folds; what leaks is reported, never raised.
    Without `listen` the table alone is examined. A broken recording is a finding and stops nothing.
    Raises `ManifestError` for an empty manifest and `SplitError` for a file that cannot be understood.
    """
    if not len(manifest):
        raise ManifestError("the manifest has no row", mend="Check its path, and the emotions chosen.")
    folds = _folds(splits, manifest)
    measured = measure_all(manifest, workers=workers, progress=progress) if listen else []
    findings = [Finding("note", note.kind, note.message, note.ids) for note in manifest.notes]
    groups, pairs = repeated(manifest, measured), nearly_repeated(manifest, measured)
    copies = recordings(manifest, groups, pairs)
    if measured:
        findings += [*check_sound(manifest, measured), *check_repeats(groups, pairs), *_telltales(manifest, measured)]
    findings += check_labels(manifest)
    if folds is not None:
        findings += check_split(manifest, folds, _together(manifest, copies), group)
    return Findings(
        tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
        _summary(manifest, measured),
        MappingProxyType({row.id: s.digest for row, s in zip(manifest, measured, strict=False) if s.digest}),
        MappingProxyType(copies),
    )


def _together(manifest: Manifest, copies: Mapping[str, str]) -> list[list[Utterance]]:
    """All rows of each recording that there is more than once: also those that only a third one connects."""
    groups: dict[str, list[Utterance]] = {}
    for row in manifest:
        if row.id in copies:
            groups.setdefault(copies[row.id], []).append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def _folds(splits: str | Path | Split | Iterable[Fold] | None, manifest: Manifest) -> Sequence[Fold] | None:
    if splits is None:
        return None
    if isinstance(splits, Split):
        return splits.folds
    if isinstance(splits, (str, Path)):
        return read_folds(splits, manifest)
    return tuple(splits)


def _telltales(manifest: Manifest, measured: Sequence[Measurement]) -> Iterator[Finding]:
    """Properties of the files, not of the voices, that tell the emotion."""
    ids = {row.id for row, sound in zip(manifest, measured, strict=True) if not sound.error}
    usable = manifest.where(lambda row: row.id in ids)
    sounds = [sound for sound in measured if not sound.error]
    yield from check_predictable(usable, "the sample rate", [sound.rate for sound in sounds])
    yield from check_predictable(usable, "the file format", [(s.format, s.channels) for s in sounds])
    seconds = sorted(sound.seconds for sound in sounds)
    bounds = [seconds[len(seconds) * tenth // 10] for tenth in range(1, 10)] if seconds else []
    tenths = [bisect_right(bounds, sound.seconds) for sound in sounds]  # equal durations are in one
    yield from check_predictable(usable, "the duration", tenths, DURATION_TELLS)


def _summary(manifest: Manifest, measured: Sequence[Measurement]) -> Summary:
    table: dict[str, Counter[str]] = defaultdict(Counter)
    genders: dict[str, set[str]] = defaultdict(set)
    for row in manifest:
        table[row.speaker][row.emotion] += 1
        genders[row.gender or "unknown"].add(row.speaker)
    return Summary(
        utterances=len(manifest),
        speakers=len(table),
        hours=sum(sound.seconds for sound in measured) / 3600 if measured else None,
        genders={gender: len(names) for gender, names in sorted(genders.items())},
        emotions=manifest.counts(),
        sample_rates=dict(sorted(Counter(sound.rate for sound in measured if not sound.error).items())),
        table={speaker: dict(sorted(table[speaker].items())) for speaker in sorted(table)},
    )


# A given split: everything it has on two sides, empty parts, emotions that training lacks.


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
            f"{what} in {first} and in {second} of {_named_folds(numbers, folds)}: {some(names)}",
            names,
            "Make the split by speakers: results on this one say nothing about unheard voices.",
        )
    yield from _copies_on_two_sides(folds, copies)
    yield from _parts(manifest, folds)


def _named_folds(numbers: Sequence[int], folds: Sequence[Fold]) -> str:
    if len(folds) == 1:
        return "the split"
    if len(numbers) == len(folds):
        return f"all {len(folds)} folds"
    return f"fold{'' if len(numbers) == 1 else 's'} {some([str(number) for number in numbers], 12)}"


def _copies_on_two_sides(folds: Sequence[Fold], copies: Sequence[Sequence[Utterance]]) -> Iterator[Finding]:
    for fold in folds:
        for direction in fold.directions:
            side = dict.fromkeys(direction.dev, "dev") | dict.fromkeys(direction.test, "test")
            side |= dict.fromkeys(fold.train, "training")
            leaking = [rows for rows in copies if len({side[row.id] for row in rows if row.id in side}) > 1]
            if leaking:
                yield Finding(
                    "error",
                    "leak_recording",
                    f"fold {fold.index}, {direction.name}: {count(len(leaking), 'recording')} on two sides: "
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
        for direction in fold.directions:
            parts |= {f"dev of '{direction.name}'": direction.dev, f"test of '{direction.name}'": direction.test}
        for part, ids in parts.items():
            if not ids:
                yield Finding(
                    "error", "empty_part", f"fold {fold.index}: {part} is empty", (), "Give it speakers of its own."
                )
        for direction in fold.directions:
            for emotion in sorted({rows[name].emotion for name in direction.test} - known):
                names = tuple(name for name in direction.test if rows[name].emotion == emotion)
                yield Finding(
                    "warning",
                    "unseen_emotion",
                    f"fold {fold.index} tests the emotion '{emotion}', which its training lacks: {some(names)}",
                    names,
                    "Leave the emotion out, merge it, or move speakers.",
                )
            for name in direction.test:
                (again if name in tested else tested)[name] = None
        if not fold.directions:
            yield Finding("error", "empty_part", f"fold {fold.index}: dev and test are empty", (), "Name them.")
    if again:
        yield Finding(
            "warning",
            "tested_twice",
            f"{count(len(again), 'utterance')} are tested more than once: {some(list(again))}",
            tuple(again),
            "Pooled results would count them twice.",
        )
