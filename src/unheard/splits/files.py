"""Splits and tables of development speakers as CSV files."""

from collections import Counter, defaultdict
from pathlib import Path

from unheard.corpora.table import read_cells
from unheard.errors import ManifestError, SplitError, did_you_mean
from unheard.files import csv_text, write_text
from unheard.manifest import Manifest, Utterance, plain
from unheard.splits.protocols import PARTS
from unheard.splits.split import Assigned, Direction, Fold, Split


def write_splits(split: Split, path: str | Path) -> None:
    """Write `split` as CSV with the columns fold, direction, part, id and speaker (see `Assigned`)."""
    write_text(Path(path), csv_text([Assigned._fields, *split.assignment()]))


def read_assignment(path: str | Path) -> tuple[Assigned, ...]:
    """Read a file of `write_splits` without its manifest; raises `SplitError` for any other file."""
    try:
        lines = [cells for _, cells in _read(path)[1]]
        return tuple(Assigned(**{**cells, "fold": int(cells["fold"])}) for cells in lines)  # type: ignore[arg-type]
    except (KeyError, ValueError, TypeError) as error:
        what = f"is not the split of a run ({type(error).__name__}: {error})"
        mend = "Run the same experiment again: it writes this file, and trains only what is missing."
        raise SplitError(what, where=path, mend=mend) from error


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
    validated = any(direction.dev for fold in folds for direction in fold.directions)
    return Split(manifest, protocol, folds, group, seed, emotions_may_differ=emotions_may_differ, validated=validated)


def read_folds(path: str | Path, manifest: Manifest) -> tuple[Fold, ...]:
    """Read the folds of a file without checking for leaks, so that an audit can report them all.

    Raises `SplitError` for an invalid file, an id that is not in the manifest, and an utterance whose speaker differs
    from the manifest's.
    """
    columns, lines = _read(path)
    if "part" not in columns or not {"id", "speaker"} & set(columns):
        mend = "A split needs 'part' (train, dev, test) and 'id' or 'speaker'."
        raise SplitError(f"has the columns {', '.join(columns) or '(none)'}", where=path, mend=mend)
    if not lines:
        raise SplitError("has no rows", where=path, mend="Name at least one utterance or speaker per part.")
    speaker_of = {row.id: row.speaker for row in manifest}
    ids_of: dict[str, list[str]] = defaultdict(list)
    for name, speaker in speaker_of.items():
        ids_of[speaker].append(name)
    folds: dict[int, dict[str, dict[str, list[str]]]] = {}  # fold -> direction ("" of training) -> part -> ids
    for number, line in lines:
        part, fold = PARTS.get(line["part"].lower(), ""), line.get("fold") or "0"
        name, speaker = line.get("id", ""), plain(line.get("speaker", ""))
        what, mend = "", "Use the manifest that the split was made from."
        if not part:
            what, mend = f"unknown part '{line['part']}'", did_you_mean(line["part"], PARTS)
        elif not (fold.isascii() and fold.isdigit()):
            what, mend = f"fold '{fold}' is not a whole number", "Number the folds from 0."
        elif name and name not in speaker_of:
            what = f"the manifest has no utterance '{name}'"
        elif name and speaker and speaker_of[name] != speaker:
            what = f"the speaker of '{name}' is '{speaker}' here and '{speaker_of[name]}' in the manifest"
        elif not name and speaker not in ids_of:
            what, mend = f"the manifest has no speaker '{speaker}'", did_you_mean(speaker, ids_of)
        if what:
            raise SplitError(what, where=f"{path}, line {number}", mend=mend)
        direction = "" if part == "train" else line.get("direction") or "test"
        parts = folds.setdefault(int(fold), {"": {"train": []}}).setdefault(direction, {"dev": [], "test": []})
        parts[part] += [name] if name else ids_of[speaker]
    return tuple(
        Fold(
            index,
            tuple(directions[""]["train"]),
            tuple(Direction(name, tuple(of["dev"]), tuple(of["test"])) for name, of in directions.items() if name),
        )
        for index, directions in sorted(folds.items())
    )


# In cross-validation, every validation speaker is a test speaker of another fold: choosing a recipe by the validation
# results of all folds uses all speakers. Therefore half of the speakers of the larger corpora were set apart before the
# first choice, in `results/development-speakers.csv` (drawn by `benchmarks/development_speakers.py`); the others are
# untouched when the recipe is scored.


def of_part(manifest: Manifest, chosen: str) -> Manifest:
    """Return the rows of the speakers with the part PART in the table FILE, where `chosen` is `FILE:PART`.

    The table has the columns corpus, speaker and part; each corpus of the manifest has its own rows in it. Raises
    `SplitError` if the table cannot be read, gives a speaker two parts, does not list a corpus, or has no speaker with
    this part.
    """
    file, colon, part = chosen.rpartition(":")
    if not (file and colon and part):
        raise SplitError(f"'{chosen}' is not FILE:PART", mend="For instance speakers.csv:development.")
    columns, lines = _read(file)
    if missing := {"corpus", "speaker", "part"} - set(columns):
        raise SplitError(f"has no column '{min(missing)}'", where=file, mend="It needs corpus, speaker and part.")
    corpora, parts = sorted({row.corpus for row in manifest}), dict[tuple[str, str], str]()
    for corpus, speaker, other in ((line["corpus"], line["speaker"], line["part"]) for _, line in lines):
        first = parts.setdefault((corpus, speaker), other)
        if first != other and corpus in corpora:
            what = f"speaker '{speaker}' of '{corpus}' is '{first}' and '{other}'"
            raise SplitError(what, where=file, mend="Keep one of the rows.")
    for corpus in corpora:
        listed = {speaker for of, speaker in parts if of == corpus}
        if not listed:
            raise SplitError(f"no speaker of '{corpus}' is listed", where=file, mend="Add the corpus, or leave it out.")
        here = {_name(row) for row in manifest if row.corpus == corpus}
        if here - listed and listed - here:  # such as 3 for 03, by a spreadsheet
            what = f"speaker '{min(here - listed)}' of '{corpus}' is not listed, and the listed '{min(listed - here)}'"
            mend = "Write the speakers' names as the corpus has them."
            raise SplitError(f"{what} is not in it", where=file, mend=mend)
    rows = manifest.where(lambda row: parts.get((row.corpus, _name(row))) == part)
    if not len(rows):
        mend = did_you_mean(part, {other for (corpus, _), other in parts.items() if corpus in corpora})
        raise SplitError(f"no speaker is '{part}'", where=file, mend=mend)
    return rows


def _name(row: Utterance) -> str:
    """Return the speaker without the corpus that `Manifest.concat` prepends."""
    return row.speaker.removeprefix(f"{row.corpus}/")


def _read(path: str | Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the lower-case columns of a table, and its lines by number; outer spaces are stripped."""
    try:
        (_, header), *lines = [*read_cells(Path(path))] or [(1, [])]
    except ManifestError as error:
        what = f"cannot be read: {error.what.removeprefix('cannot be read ')}"
        raise SplitError(what, where=error.where, mend=error.mend) from error
    columns = [name.strip().lower() for name in header]
    if twice := [name for name, count in Counter(columns).items() if name and count > 1]:
        raise SplitError(f"has the column '{twice[0]}' twice", where=path, mend="Rename or remove one of them.")
    return columns, [(place, dict(zip(columns, map(str.strip, cells), strict=False))) for place, cells in lines]
