"""Development speakers: on whom a recipe may be decided, so that the others are unseen when it is scored.

In cross-validation every validation speaker is some other fold's test speaker: whoever chooses a recipe by the
validation results of all folds has looked at all speakers. Therefore half of the speakers of the larger corpora
are set apart before the first decision, and written down in `results/development-speakers.csv`.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from unheard.errors import SplitError, did_you_mean
from unheard.manifest import Manifest, Utterance
from unheard.splits.order import Groups

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
