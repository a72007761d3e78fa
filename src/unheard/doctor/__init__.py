"""Check corpora and splits, also those made elsewhere.

`examine` decodes every recording of a manifest and reports what makes results on it doubtful: broken, silent or
repeated files, leaking splits, emotions tied to speakers, sentences or sessions.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

from unheard.doctor import sound
from unheard.doctor.findings import (
    SEVERITIES,
    Finding,
    Findings,
    Summary,
    finding,
    listed,
    to_json,
    to_markdown,
    to_text,
)
from unheard.doctor.labels import check_labels, check_predictable
from unheard.doctor.sound import Measurement
from unheard.errors import ManifestError, counted, some
from unheard.manifest import Manifest, Utterance
from unheard.splits import Fold, Split, find_leaks, read_folds

__all__ = ["Finding", "Findings", "Summary", "examine", "to_json", "to_markdown", "to_text"]

DURATION_BETTER = 0.3  # above chance; slow speech is a true cue of sadness, so only strong effects are reported


def examine(
    manifest: Manifest,
    *,
    splits: str | Path | Split | Iterable[Fold] | None = None,
    group: str = "speaker",
    workers: int | None = None,
    progress: bool = True,
    listen: bool = True,
) -> Findings:
    """Examine a manifest, its recordings and, if given, a split.

    `splits` is a CSV file as for `read_splits`, a split, or folds; leaks are findings, not errors. With `listen` false,
    no recording is decoded. Raises `ManifestError` for an empty manifest and `SplitError` for an invalid file.
    """
    if not len(manifest):
        raise ManifestError("the manifest has no rows", mend="Check its path, and the chosen emotions.")
    folds = None
    if splits is not None:
        given = read_folds(splits, manifest) if isinstance(splits, (str, Path)) else splits
        folds = given.folds if isinstance(given, Split) else tuple(given)
    measured = sound.measure_all(manifest, workers=workers, progress=progress) if listen else []
    findings = [Finding("note", note.kind, note.message, note.ids) for note in manifest.notes]
    groups, pairs = sound.repeated(manifest, measured), sound.nearly_repeated(manifest, measured)
    copies = sound.recordings(manifest, groups, pairs)
    if measured:
        findings += sound.check_sound(manifest, measured)
        findings += sound.check_repeats(groups, pairs)
        findings += _file_properties(manifest, measured)
    findings += check_labels(manifest)
    if folds is not None:
        # all rows of each repeated recording, also those that only a third copy connects
        together: dict[str, list[Utterance]] = {}
        for row in manifest.where(lambda row: row.id in copies):
            together.setdefault(copies[row.id], []).append(row)
        findings += check_split(manifest, folds, list(together.values()), group)
    return Findings(
        tuple(sorted(findings, key=lambda one: SEVERITIES.index(one.severity))),
        _summary(manifest, measured),
        MappingProxyType({row.id: s.digest for row, s in zip(manifest, measured, strict=False) if s.digest}),
        MappingProxyType(copies),
    )


def _file_properties(manifest: Manifest, measured: Sequence[Measurement]) -> Iterator[Finding]:
    """Properties of the files, not of the voices, that predict the emotion."""
    broken = {row.id for row, one in zip(manifest, measured, strict=True) if one.error}
    usable, sounds = manifest.where(lambda row: row.id not in broken), [one for one in measured if not one.error]
    yield from check_predictable(usable, "the sample rate", [one.rate for one in sounds])
    yield from check_predictable(usable, "the file format", [(one.format, one.channels) for one in sounds])
    seconds = sorted(one.seconds for one in sounds)
    bounds = [seconds[len(seconds) * tenth // 10] for tenth in range(1, 10)] if seconds else []
    tenths = [bisect_right(bounds, one.seconds) for one in sounds]  # equal durations are in one tenth
    yield from check_predictable(usable, "the duration", tenths, DURATION_BETTER)


def _summary(manifest: Manifest, measured: Sequence[Measurement]) -> Summary:
    table: dict[str, Counter[str]] = defaultdict(Counter)
    genders: dict[str, set[str]] = defaultdict(set)
    for row in manifest:
        table[row.speaker][row.emotion] += 1
        genders[row.gender or "unknown"].add(row.speaker)
    return Summary(
        utterances=len(manifest),
        speakers=len(table),
        hours=sum(one.seconds for one in measured) / 3600 if measured else None,
        genders={gender: len(names) for gender, names in sorted(genders.items())},
        emotions=manifest.counts(),
        sample_rates=dict(sorted(Counter(one.rate for one in measured if not one.error).items())),
        table={speaker: dict(sorted(table[speaker].items())) for speaker in sorted(table)},
    )


# A given split


def check_split(
    manifest: Manifest, folds: Sequence[Fold], copies: Sequence[Sequence[Utterance]] = (), group: str = "speaker"
) -> Iterator[Finding]:
    """Find groups, speakers, sessions, utterances and recordings (`copies`) in two parts of a fold.

    Also empty parts, and emotions that training lacks. One finding per leaking value, over all folds. Validation and
    test may share a session.
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
        what = f"{column} {value} is" if value else f"{counted(len(names), 'utterance')} are"
        where = f"fold{'s' * (len(numbers) > 1)} {some([str(number) for number in numbers], 12)}"
        if len(numbers) == len(folds):
            where = "the split" if len(folds) == 1 else f"all {len(folds)} folds"
        message = f"{what} in {first} and in {second} of {where}: {some(names)}"
        mend = "Split by speaker: results on this split do not measure accuracy on unseen speakers."
        yield Finding("error", f"leak_{column}", message, names, mend)
    rows = manifest.by_id()
    tested: Counter[str] = Counter()
    for fold in folds:
        if not fold.directions:
            yield finding("error", "empty_part", f"fold {fold.index}: dev and test are empty", "Add speakers to them.")
        if not fold.train:
            yield finding("error", "empty_part", f"fold {fold.index}: training is empty", "Add speakers to it.")
        known = {rows[name].emotion for name in fold.train}
        for direction in fold.directions:
            place = f"fold {fold.index}, direction '{direction.name}'"
            side = dict.fromkeys(direction.dev, "dev") | dict.fromkeys(direction.test, "test")
            side |= dict.fromkeys(fold.train, "training")
            leaking = [same for same in copies if len({side[row.id] for row in same if row.id in side}) > 1]
            if leaking:
                shown = [" = ".join(f"{row.id} ({side.get(row.id, 'unused')})" for row in same) for same in leaking]
                message = f"{place}: {counted(len(leaking), 'recording')} in two parts: {some(shown, 3)}"
                mend = "Drop all copies, or keep them in one part."
                yield finding("error", "leak_recording", message, mend, [row for same in leaking for row in same])
            for part, members in (("dev", direction.dev), ("test", direction.test)):
                if not members:
                    yield finding("error", "empty_part", f"{place}: {part} is empty", "Add speakers to it.")
            for emotion in sorted({rows[name].emotion for name in direction.test} - known):
                lost = [rows[name] for name in direction.test if rows[name].emotion == emotion]
                message = f"{place}: the test emotion '{emotion}' is not in training: {some([row.id for row in lost])}"
                mend = "Leave out the emotion, merge it, or move speakers."
                yield finding("warning", "unseen_emotion", message, mend, lost)
            tested.update(direction.test)
    again = [rows[name] for name, times in tested.items() if times > 1]
    mend = "Test each utterance once: pooled results would count it twice."
    shown = [row.id for row in again]
    yield from listed("warning", "tested_twice", "utterance", "are tested more than once", shown, mend, again)
