"""Licences: the uses that a model's licence permits, and the conditions that its training corpora impose on it."""

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
"""Pattern in a corpus's licence -> the condition; the licence of the weights must match the same pattern."""

_ON_THE_HUB = {
    *("mit", "apache-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    *("cc-by-nc-nd-4.0", "bsd-3-clause", "gpl-3.0", "agpl-3.0", "openrail"),
}
"""Licence identifiers of the Hugging Face hub; any other licence is given as `other` with its name."""


def commercial_use(licence: str, data: Iterable[tuple[str, str]] = ()) -> str:
    """Return whether weights under `licence` may be used commercially: a line that begins with Yes, No or Unclear.

    `data` are the titles and licences of the training corpora. Only the names of licences are read; this is not legal
    advice.
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
    """Return a warning for each condition of the training data's licences that the weights' `licence` does not meet."""
    found = []
    for title, words in data:
        for pattern, demand in _DEMANDS.items():
            if re.search(pattern, words, re.IGNORECASE) and not re.search(pattern, licence, re.IGNORECASE):
                ours = f"'{licence}' is not" if licence else "state it with --licence"
                found.append(f"warning: the licence of {title} is {words}, {demand}; {ours}")
    return found


def hub_licence(licence: str) -> str:
    """Return the hub's identifier of a licence such as `CC BY-NC-SA 4.0`, or an empty string if it has none."""
    plain = re.sub(r"[\s_]+", "-", licence.strip().lower())
    return plain if plain in _ON_THE_HUB else ""
