"""What the licence of a model's weights permits, in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterable

_FORBIDS = re.compile(r"\bNC\b|non-?commercial|\bresearch\b", re.IGNORECASE)
_DOUBTFUL = re.compile(r"\bagreement\b|not stated|unknown|^$", re.IGNORECASE)
_PERMITS = re.compile(r"\b(MIT|BSD|ISC|Apache|CC0|CC[ -]BY|GPL|AGPL|LGPL|MPL|OpenRAIL|Unlicense)\b", re.IGNORECASE)
_DUTIES = {
    r"\bBY\b": "name the authors",
    r"\bSA\b|GPL": "share changes under the same licence",
    r"\bND\b": "share no changes",
}


def commercial_use(licence: str, data: Iterable[tuple[str, str]] = ()) -> str:
    """Answer whether weights under `licence` may be used commercially; `data` are title and licence of their corpora.

    One line, which begins with Yes, No or Unclear. It reads the licences' names only, and is not legal advice.
    """
    bound = [
        f"{title} ({words or 'not stated'})"
        for title, words in data
        if (_FORBIDS.search(words) or _DOUBTFUL.search(words)) and "CC0" not in words
    ]
    if _FORBIDS.search(licence):
        return f"No: the licence of the weights, {licence}, is for non-commercial use."
    if not licence:
        return "Unclear: the weights have no licence; ask their makers." + _about(bound)
    if not _PERMITS.search(licence):
        return f"Unclear: read the licence of the weights, {licence}." + _about(bound)
    duties = [duty for words, duty in _DUTIES.items() if re.search(words, licence)]
    asked = f"; {', '.join(duties)}" if duties else ""
    if bound:
        return f"Unclear: the licence of the weights, {licence}, permits it{asked}." + _about(bound)
    return f"Yes: the licence of the weights, {licence}, permits it{asked}."


def _about(bound: list[str]) -> str:
    return f" The training data may not: {', '.join(bound)}." if bound else ""
