"""Speaker names: detection of names that look alike, and of names for unknown speakers."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Literal

from unheard.errors import SplitError, counted
from unheard.manifest import Manifest, Note

_UNSEEN = ("Zs", "Zl", "Zp", "Cf", "Cc")  # Unicode categories of spaces and invisible characters
_LATIN = str.maketrans(
    "авекмнорстухіјѕαβεζηικμνορτυχı\u2018\u2019`\u2212", "abekmhopctyxijsabezhikmnoptyxi'''-", "\u0307"
)
"""Cyrillic, Greek and Turkish letters that look like Latin ones in upper or lower case."""
_QUOTES = "#<>[](){}'\".,;:"  # around a name; they do not tell speakers apart


@lru_cache(10_000)
def _folded(name: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    kinds = {c: unicodedata.category(c) for c in text}
    text = "".join("-" if kinds[c] in ("Pd", "Pc") else c for c in text if kinds[c] not in _UNSEEN).translate(_LATIN)
    text = re.sub(r"(?<=\d)[.,]0+$", "", re.sub("-+", "-", text))
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"\d", lambda digit: str(int(digit[0])), text))


_NOBODY = (
    "n/a n.a na nan nil none null n.n nobody noname nospeaker tbd tba undefined undetermined unspecified "
    "unidentified notknown unkown unnamed notspecified undisclosed redacted withheld missing blank "
    "ref! value! other others misc various multiple mixed \\n notavailable notapplicable "
    "unbekannt unbekannte unbekannter k.a o.a inconnu inconnue desconocido desconocida desconhecido desconhecida "
    "sconosciuto sconosciuta onbekend okänd ukjent ukendt tuntematon nieznany neznámý bilinmiyor неизвестно "
    "неизвестный 未知 不明 不詳 모름"
)
UNKNOWN = frozenset(map(_folded, _NOBODY.split()))
"""Names for unknown speakers, besides names with `unk` or `anon`, negative numbers, and names without letters."""


def identity(name: str) -> str:
    """Normalise `name` for comparison: drop case, leading zeros, spaces, invisible characters, outer quotes and `.0`.

    Characters are normalised (NFKC), all kinds of dashes and underscores are equal, and dashes next to a letter are
    dropped. Cyrillic and Greek letters become the Latin letters that they look like. A corpus before a slash is kept.
    """
    text = _folded(name)
    return re.sub(r"(?<=[^\W\d])-(?=\w)|(?<=\w)-(?=[^\W\d])", "", text.strip(_QUOTES) or text)


def is_unknown(name: str) -> bool:
    """Return whether a name does not identify a speaker, such as `Unknown`, `N/A`, `?` or `-1`."""
    folded = _folded(name)
    person = folded.rpartition("/")[2]  # with several corpora, the corpus precedes a slash
    nameless = re.search(
        r"(^|\W|speaker)(unk(nown)?|anon([yi]m\w*)?)([^a-z]|speaker|(fe)?male$|$)|^-\d+$|^#nv$|^\W*$", person
    )
    return nameless is not None or any(identity(text) in UNKNOWN for text in (name, person))


def lookalikes(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the sets of different names with the same identity, such as `01` and `1`."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[identity(name)].append(name)
    return sorted(tuple(same) for same in groups.values() if len(same) > 1)


def resolve_speakers(
    manifest: Manifest,
    same: Literal["", "merge", "distinct"] = "",
    unknown: Literal["drop", "each"] = "drop",
) -> Manifest:
    """Return the manifest with speaker names that a split can separate; changes are in its notes.

    Names that look alike raise `SplitError` unless `same` says whether they are one person (`merge`, under the first
    name) or several (`distinct`). Rows whose speaker is unknown are dropped, or (`each`) become separate speakers.
    """
    alike, rows, notes = lookalikes(manifest.speakers), manifest.rows, list(manifest.notes)
    if alike and not same:
        shown = "; ".join(" and ".join(map(repr, names)) for names in alike[:3])
        more = f" and {len(alike) - 3} more" if len(alike) > 3 else ""
        mend = "Say which they are: --same-speakers merge (one person) or distinct (several), or correct the table."
        raise SplitError(f"speakers have names that look like one person's: {shown}{more}", mend=mend)
    if same == "merge" and alike:
        first = {name: names[0] for names in alike for name in names}
        rows = tuple(replace(row, speaker=first.get(row.speaker, row.speaker)) for row in rows)
        notes.append(Note("merged_speakers", f"{counted(len(alike), 'speaker')} merged from names that look alike"))
    unnamed = {name for name in manifest.speakers if is_unknown(name)}
    if unnamed:
        ids = tuple(row.id for row in rows if row.speaker in unnamed)
        what = "dropped" if unknown == "drop" else "counted as one speaker each"
        notes.append(Note("unknown_speakers", f"{counted(len(ids), 'utterance')} of unknown speakers {what}", ids))
        rows = tuple(
            replace(row, speaker=f"{row.speaker}#{row.id}") if row.speaker in unnamed else row
            for row in rows
            if unknown == "each" or row.speaker not in unnamed
        )
    if not rows:
        mend = "Fill the column 'speaker', or treat each utterance as another speaker: --unknown-speakers each."
        raise SplitError("every speaker is unknown", mend=mend)
    return manifest if rows is manifest.rows else replace(manifest, rows=rows, notes=tuple(notes))
