"""Splits and tables of development speakers as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from unheard.errors import SplitError, did_you_mean
from unheard.manifest import Manifest, Utterance, plain
from unheard.splits.protocols import PARTS, Groups
from unheard.splits.split import Direction, Fold, Split

HEADER = ("fold", "direction", "part", "id", "speaker")


def write_splits(split: Split, path: str | Path) -> None:
    """Write `split` as CSV with the columns fold, direction, part (train, dev, test), id, speaker.

    Training rows have an empty direction.
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
    """Read a split from a CSV file; raises `SplitError` if it leaks.

    Reads files of `write_splits`, and files with the columns `id,part` or `speaker,part` (one fold, or several with a
    column `fold`). Rows of the manifest that the file does not name are not used.
    """
    folds = read_folds(path, manifest)
    return Split(manifest, protocol, folds, group=group, seed=seed, emotions_may_differ=emotions_may_differ)


def read_folds(path: str | Path, manifest: Manifest) -> tuple[Fold, ...]:
    """Read the folds of a file without checking for leaks, so that an audit can report them all.

    Raises `SplitError` for an invalid file, an id that is not in the manifest, and an utterance whose speaker differs
    from the manifest's.
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
        mend = "A split needs 'part' (train, dev, test) and 'id' or 'speaker'."
        raise SplitError(f"has the columns {', '.join(columns) or '(none)'}", where=path, mend=mend)
    folds = _collect(lines, manifest, path)
    if not folds:
        raise SplitError("has no rows", where=path, mend="Name at least one utterance or speaker per part.")
    return folds


def _collect(lines: Sequence[dict[str, str]], manifest: Manifest, path: Path) -> tuple[Fold, ...]:
    speaker_of = {row.id: row.speaker for row in manifest}
    ids_of: dict[str, list[str]] = {}
    for row in manifest:
        ids_of.setdefault(row.speaker, []).append(row.id)
    # fold -> (training ids, direction -> part -> ids)
    folds: dict[int, tuple[list[str], dict[str, dict[str, list[str]]]]] = {}
    for number, line in enumerate(lines, start=2):
        part, fold = PARTS.get(line["part"].lower(), ""), line.get("fold") or "0"
        name, speaker = line.get("id", ""), plain(line.get("speaker", ""))
        problem: tuple[str, str] | None = None
        if not part:
            problem = f"unknown part '{line['part']}'", did_you_mean(line["part"], PARTS)
        elif not (fold.isascii() and fold.isdigit()):
            problem = f"fold '{fold}' is not a whole number", "Number the folds from 0."
        elif name and name not in speaker_of:
            problem = f"the manifest has no utterance '{name}'", "Use the manifest that the split was made from."
        elif name and speaker and speaker_of[name] != speaker:
            problem = (
                f"the speaker of '{name}' is '{speaker}' here and '{speaker_of[name]}' in the manifest",
                "Correct one of them, or use the manifest that the split was made from.",
            )
        elif not name and speaker not in ids_of:
            problem = f"the manifest has no speaker '{speaker}'", did_you_mean(speaker, ids_of)
        if problem is not None:
            raise SplitError(problem[0], where=f"{path}, line {number}", mend=problem[1])
        train, directions = folds.setdefault(int(fold), ([], {}))
        ids = [name] if name else ids_of[speaker]
        if part == "train":
            train += ids
        else:
            directions.setdefault(line.get("direction") or "test", {"dev": [], "test": []})[part] += ids
    return tuple(
        Fold(
            index,
            tuple(train),
            tuple(Direction(name, tuple(parts["dev"]), tuple(parts["test"])) for name, parts in directions.items()),
        )
        for index, (train, directions) in sorted(folds.items())
    )


# Development speakers, on which recipes are chosen
#
# In cross-validation, every validation speaker is a test speaker of another fold: choosing a recipe by the validation
# results of all folds uses all speakers. Therefore half of the speakers of the larger corpora are set apart before the
# first choice, in `results/development-speakers.csv`; the others are untouched when the recipe is scored.

DEVELOPMENT, UNTOUCHED = "development", "untouched"
_HEADER = ("corpus", "speaker", "gender", "part")


def development_speakers(manifest: Manifest, seed: int = 0) -> tuple[str, ...]:
    """Draw half of the speakers, half of each gender; return them in natural order.

    For odd numbers the halves are balanced over the genders, so that the two parts of a corpus differ by one speaker at
    most. The order of the rows does not matter.
    """
    groups = Groups(manifest, "speaker")
    chosen: list[str] = []
    seen = 0
    for stratum in groups.shuffled_strata([[name] for name in groups.names], f"development/{seed}"):
        seen += len(stratum)
        chosen += [block[0] for block in stratum[: seen // 2 - len(chosen)]]
    return tuple(name for name in groups.names if name in set(chosen))


def write_parts(
    path: str | Path, manifests: Mapping[str, Manifest], *, seed: int = 0, untouched: Collection[str] = ()
) -> None:
    """Write the table corpus, speaker, gender, part; all speakers of the corpora in `untouched` are untouched."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_HEADER)
        for corpus, manifest in manifests.items():
            groups = Groups(manifest, "speaker")
            chosen = () if corpus in untouched else development_speakers(manifest, seed)
            for name in groups.names:
                rows.writerow((corpus, name, groups.gender(name), DEVELOPMENT if name in chosen else UNTOUCHED))


def read_parts(path: str | Path, corpus: str) -> dict[str, str]:
    """Read the part (`development` or `untouched`) of each speaker of one corpus.

    Raises `SplitError` if no speaker is listed, or one with two parts.
    """
    found: dict[str, str] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:  # Excel begins with a byte order mark
            for row in csv.DictReader(file):
                speaker, part = row["speaker"].strip(), row["part"].strip()
                if row["corpus"].strip() == corpus and found.setdefault(speaker, part) != part:
                    what = f"speaker '{speaker}' of '{corpus}' is '{found[speaker]}' and '{part}'"
                    raise SplitError(what, where=path, mend="Keep one of the rows.")
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        what = f"cannot be read as a table of speakers ({type(error).__name__}: {error})"
        raise SplitError(what, where=path, mend=f"Write a CSV file with the columns {','.join(_HEADER)}.") from error
    if not found:
        raise SplitError(f"no speaker of '{corpus}' is listed", where=path, mend="Write the table with write_parts.")
    return found


def of_part(manifest: Manifest, chosen: str) -> Manifest:
    """Return the rows of the speakers with the part PART in the table FILE, where `chosen` is `FILE:PART`.

    Each corpus of the manifest has its own rows in the table. Raises `SplitError` if the table cannot be read, does not
    list a corpus, or has no speaker with this part.
    """
    file, colon, part = chosen.rpartition(":")
    if not (file and colon and part):
        raise SplitError(f"'{chosen}' is not FILE:PART", mend=f"For instance speakers.csv:{DEVELOPMENT}.")
    parts = {corpus: read_parts(file, corpus) for corpus in sorted({row.corpus for row in manifest})}
    for corpus, of_corpus in parts.items():
        here = {_name(row) for row in manifest if row.corpus == corpus}
        unlisted, unknown = sorted(here - of_corpus.keys()), sorted(of_corpus.keys() - here)
        if unlisted and unknown:  # such as 3 for 03, by a spreadsheet
            what = f"speaker '{unlisted[0]}' of '{corpus}' is not listed, and the listed '{unknown[0]}' is not in it"
            raise SplitError(what, where=file, mend="Write the speakers' names as the corpus has them.")
    kept = manifest.where(lambda row: parts[row.corpus].get(_name(row)) == part)
    if not len(kept):
        known = sorted({part for of_corpus in parts.values() for part in of_corpus.values()})
        raise SplitError(f"no speaker is '{part}'", where=file, mend=did_you_mean(part, known))
    return kept


def _name(row: Utterance) -> str:
    """Return the speaker name without the corpus, which Manifest.concat prepends."""
    return row.speaker.removeprefix(f"{row.corpus}/")
