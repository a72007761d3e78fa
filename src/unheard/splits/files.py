"""Splits as CSV files: the ones written beside every result, and the ones people bring."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from unheard.errors import SplitError, did_you_mean
from unheard.manifest import Manifest, plain
from unheard.splits.protocols import PARTS
from unheard.splits.split import Fold, Reading, Split

HEADER = ("fold", "reading", "part", "id", "speaker")


def write_splits(split: Split, path: str | Path) -> None:
    """Write `split` as CSV with the columns fold, reading, part (train, dev, test), id, speaker.

    Training rows have an empty reading.
    """
    speakers = {row.id: row.speaker for row in split.manifest}
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows((*row, speakers[row[3]]) for row in split.assignment())


def read_splits(
    path: str | Path,
    manifest: Manifest,
    *,
    group: str = "speaker",
    seed: int = 0,
    protocol: str = "given",
    emotions_may_differ: bool = False,
) -> Split:
    """The split in a CSV file, checked against `manifest` like any other; `SplitError` where it leaks.

    Takes what `write_splits` wrote, and plain files with the columns `id,part` or `speaker,part` (one fold,
    or several with a column `fold`). Rows of the manifest that the file does not name are in no part.
    """
    folds = read_folds(path, manifest)
    return Split(manifest, protocol, folds, group=group, seed=seed, emotions_may_differ=emotions_may_differ)


def read_folds(path: str | Path, manifest: Manifest) -> tuple[Fold, ...]:
    """The folds that a file states, not checked for leaks: for an audit that reports them all.

    Raises `SplitError` for a file that cannot be understood, that names an id the manifest does not have, or
    that gives an utterance another speaker than the manifest does.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = [name.strip().lower() for name in table.fieldnames or []]
            table.fieldnames = columns
            lines = [{key: (value or "").strip() for key, value in row.items() if key} for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SplitError(f"cannot be read: {error}", where=path, mend="A split is a CSV file.") from error
    if "part" not in columns or not {"id", "speaker"} & set(columns):
        raise SplitError(
            f"has the columns {', '.join(columns) or '(none)'}",
            where=path,
            mend="It takes 'part' (train, dev, test) and 'id' or 'speaker'.",
        )
    folds = _collect(lines, manifest, path)
    if not folds:
        raise SplitError("has no row", where=path, mend="Name at least one utterance or speaker a part.")
    return folds


def _collect(lines: Sequence[dict[str, str]], manifest: Manifest, path: Path) -> tuple[Fold, ...]:
    speaker_of = {row.id: row.speaker for row in manifest}
    ids_of: dict[str, list[str]] = {}
    for row in manifest:
        ids_of.setdefault(row.speaker, []).append(row.id)
    # fold -> (training ids, reading -> part -> ids)
    folds: dict[int, tuple[list[str], dict[str, dict[str, list[str]]]]] = {}
    for number, line in enumerate(lines, start=2):
        where = f"{path}, line {number}"
        part = PARTS.get(line["part"].lower())
        if part is None:
            raise SplitError(f"unknown part '{line['part']}'", where=where, mend=did_you_mean(line["part"], PARTS))
        index = _whole_number(line.get("fold") or "0", where)
        train, readings = folds.setdefault(index, ([], {}))
        name, speaker = line.get("id", ""), plain(line.get("speaker", ""))
        if name and name not in speaker_of:
            raise SplitError(
                f"the manifest has no utterance '{name}'",
                where=where,
                mend="Use the manifest that the split was made from.",
            )
        if name and speaker and speaker_of[name] != speaker:
            raise SplitError(
                f"'{name}' is spoken by '{speaker}' here and by '{speaker_of[name]}' in the manifest",
                where=where,
                mend="One of them is wrong: a split made for other speakers proves nothing.",
            )
        if not name and speaker not in ids_of:
            raise SplitError(
                f"the manifest has no speaker '{speaker}'", where=where, mend=did_you_mean(speaker, ids_of)
            )
        ids = [name] if name else ids_of[speaker]
        if part == "train":
            train += ids
        else:
            readings.setdefault(line.get("reading") or "test", {"dev": [], "test": []})[part] += ids
    return tuple(
        Fold(
            index,
            tuple(train),
            tuple(Reading(name, tuple(parts["dev"]), tuple(parts["test"])) for name, parts in readings.items()),
        )
        for index, (train, readings) in sorted(folds.items())
    )


def _whole_number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise SplitError(f"fold '{text}' is not a whole number", where=where, mend="Number the folds from 0.")
    return int(text)
