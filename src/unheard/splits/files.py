"""Splits as CSV files: the ones written beside every result, and the ones people bring."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
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
    # fold -> (training ids, direction -> part -> ids)
    folds: dict[int, tuple[list[str], dict[str, dict[str, list[str]]]]] = {}
    for number, line in enumerate(lines, start=2):
        where = f"{path}, line {number}"
        part = PARTS.get(line["part"].lower())
        if part is None:
            raise SplitError(f"unknown part '{line['part']}'", where=where, mend=did_you_mean(line["part"], PARTS))
        index = _whole_number(line.get("fold") or "0", where)
        train, directions = folds.setdefault(index, ([], {}))
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
            directions.setdefault(line.get("direction") or "test", {"dev": [], "test": []})[part] += ids
    return tuple(
        Fold(
            index,
            tuple(train),
            tuple(Direction(name, tuple(parts["dev"]), tuple(parts["test"])) for name, parts in directions.items()),
        )
        for index, (train, directions) in sorted(folds.items())
    )


def _whole_number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise SplitError(f"fold '{text}' is not a whole number", where=where, mend="Number the folds from 0.")
    return int(text)


# Development speakers: on whom a recipe may be decided, so that the others are unseen when it is scored.
#
# In cross-validation every validation speaker is some other fold's test speaker: whoever chooses a recipe by the
# validation results of all folds has looked at all speakers. Therefore half of the speakers of the larger corpora
# are set apart before the first decision, and written down in `results/development-speakers.csv`.

DEVELOPMENT, UNTOUCHED = "development", "untouched"
_HEADER = ("corpus", "speaker", "gender", "part")


def development_speakers(manifest: Manifest, seed: int = 0) -> tuple[str, ...]:
    """Half of the speakers, half of each gender, drawn by `seed`; in natural order.

    Where a gender has an odd number of speakers the halves are evened out over the genders, so that the two
    parts of a corpus differ by one speaker at most. The order of the rows plays no role.
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
    """Writes the table corpus, speaker, gender, part; in the corpora named in `untouched` everybody is."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_HEADER)
        for corpus, manifest in manifests.items():
            rows.writerows(_parts(corpus, manifest, seed, corpus in untouched))


def _parts(corpus: str, manifest: Manifest, seed: int, untouched: bool) -> Iterator[tuple[str, ...]]:
    groups = Groups(manifest, "speaker")
    chosen = () if untouched else development_speakers(manifest, seed)
    for name in groups.names:
        yield corpus, name, groups.gender(name), DEVELOPMENT if name in chosen else UNTOUCHED


def read_parts(path: str | Path, corpus: str) -> dict[str, str]:
    """Speaker -> part (`development` or `untouched`) of one corpus.

    Raises `SplitError` where none is listed, or one with two parts.
    """
    found: dict[str, str] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:  # Excel begins with a byte order mark
            for row in csv.DictReader(file):
                speaker, part = row["speaker"].strip(), row["part"].strip()
                if row["corpus"].strip() == corpus and found.setdefault(speaker, part) != part:
                    raise SplitError(
                        f"speaker '{speaker}' of '{corpus}' is '{found[speaker]}' and '{part}'",
                        where=path,
                        mend="Keep one of the rows.",
                    )
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise SplitError(
            f"the parts of the speakers cannot be read ({type(error).__name__}: {error})",
            where=path,
            mend=f"It is a CSV file with the columns {','.join(_HEADER)}.",
        ) from error
    if not found:
        raise SplitError(f"no speaker of '{corpus}' is listed", where=path, mend="Write the table with write_parts.")
    return found


def of_part(manifest: Manifest, chosen: str) -> Manifest:
    """The rows of the speakers that `chosen`, `FILE:PART`, names: those with that part in the table FILE.

    Of every corpus in the manifest by its own rows of the table. Raises `SplitError` where the table cannot be read,
    does not list a corpus, or gives the part to nobody.
    """
    file, colon, part = chosen.rpartition(":")
    if not (file and colon and part):
        raise SplitError(f"'{chosen}' is not FILE:PART", mend=f"For instance speakers.csv:{DEVELOPMENT}.")
    parts = {corpus: read_parts(file, corpus) for corpus in sorted({row.corpus for row in manifest})}
    for corpus, of_corpus in parts.items():
        here = {_name(row) for row in manifest if row.corpus == corpus}
        unlisted, unknown = sorted(here - of_corpus.keys()), sorted(of_corpus.keys() - here)
        if unlisted and unknown:  # a slip: a spreadsheet makes 3 of 03
            raise SplitError(
                f"speaker '{unlisted[0]}' of '{corpus}' is not listed, and '{unknown[0]}' who is listed is not there",
                where=file,
                mend="Write the speakers' names as the corpus has them.",
            )
    kept = manifest.where(lambda row: parts[row.corpus].get(_name(row)) == part)
    if not len(kept):
        known = sorted({part for of_corpus in parts.values() for part in of_corpus.values()})
        raise SplitError(f"no speaker is '{part}'", where=file, mend=did_you_mean(part, known))
    return kept


def _name(row: Utterance) -> str:
    """The speaker as their own corpus calls them: several corpora read together have theirs in the name."""
    return row.speaker.removeprefix(f"{row.corpus}/")
