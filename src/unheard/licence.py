"""What the licence of a model's weights permits, and what those of its training corpora demand of it."""

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

_DEMANDS = {
    r"\bNC\b": "non-commercial",
    r"\bSA\b|\bODbL\b|Open Database License": "share-alike",
    r"\bresearch\b(?!.*\bCC0)": "for research",
    r"\bagreement\b": "by agreement",
}
"""Words in a corpus's licence -> what it demands of the licence of the weights, which must contain them too."""

_ON_THE_HUB = {
    *("mit", "apache-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    *("cc-by-nc-nd-4.0", "bsd-3-clause", "gpl-3.0", "agpl-3.0", "openrail"),
}
"""Identifiers that the Hugging Face hub knows; any other licence is `other` with its name."""


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


def licence_warnings(licence: str, data: Iterable[tuple[str, str]]) -> list[str]:
    """Return a warning for each demand of the training data's licences that the weights' `licence` does not meet."""
    found = []
    for title, words in data:
        for pattern, demand in _DEMANDS.items():
            if re.search(pattern, words, re.IGNORECASE) and not re.search(pattern, licence, re.IGNORECASE):
                ours = f"'{licence}' is not" if licence else "state it with --licence"
                found.append(f"warning: the licence of {title} is {words}, {demand}; {ours}")
    return found


def hub_licence(licence: str) -> str:
    """Return the hub's identifier of a licence such as `CC BY-NC-SA 4.0`, empty where it has none."""
    plain = re.sub(r"[\s_]+", "-", licence.strip().lower())
    return plain if plain in _ON_THE_HUB else ""
