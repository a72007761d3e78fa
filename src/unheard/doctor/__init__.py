"""Check corpora and splits, also those made elsewhere.

`examine` decodes every recording of a manifest and reports what makes results on it doubtful: broken, silent or
repeated files, leaking splits, emotions tied to speakers, sentences or sessions.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

from unheard.doctor import sound
from unheard.doctor.findings import (
    SEVERITIES,
    Finding,
    Findings,
    ManifestSummary,
    Severity,
    finding,
    to_json,
    to_markdown,
    to_text,
)
from unheard.doctor.labels import check_labels
from unheard.doctor.sound import Measurement
from unheard.errors import ManifestError, counted, some
from unheard.manifest import Manifest, Utterance
from unheard.splits import Fold, Split, read_folds
from unheard.splits.split import find_problems

__all__ = ["Finding", "Findings", "ManifestSummary", "examine", "to_json", "to_markdown", "to_text"]


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
        findings += sound.check_properties(manifest, measured)
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


def _summary(manifest: Manifest, measured: Sequence[Measurement]) -> ManifestSummary:
    table: dict[str, Counter[str]] = defaultdict(Counter)
    genders: dict[str, set[str]] = defaultdict(set)
    for row in manifest:
        table[row.speaker][row.emotion] += 1
        genders[row.gender or "unknown"].add(row.speaker)
    return ManifestSummary(
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
    """Find the problems of `find_problems`, and recordings (`copies`) in two parts of a fold."""
    for problem in find_problems(manifest, folds, group):
        severity: Severity = "warning" if problem.kind in ("unseen_emotion", "tested_twice") else "error"
        yield Finding(severity, problem.kind, problem.what, problem.ids, problem.mend)
    for number, train, direction in [(fold.index, fold.train, one) for fold in folds for one in fold.directions]:
        side = dict.fromkeys(direction.dev, "dev") | dict.fromkeys(direction.test, "test")
        side |= dict.fromkeys(train, "training")
        if leaking := [rows for rows in copies if len({side[row.id] for row in rows if row.id in side}) > 1]:
            shown = [" = ".join(f"{row.id} ({side.get(row.id, 'unused')})" for row in rows) for rows in leaking]
            message = f"fold {number}, direction '{direction.name}': {counted(len(leaking), 'recording')} in two parts"
            message, mend = f"{message}: {some(shown, 3)}", "Drop all copies, or keep them in one part."
            yield finding("error", "leak_recording", message, mend, [row for rows in leaking for row in rows])
