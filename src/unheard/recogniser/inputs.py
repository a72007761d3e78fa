"""Find the recordings named on the command line: files, folders, patterns, or a list on standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from unheard.decoding import CONVERTED, can_convert
from unheard.errors import AudioError
from unheard.recogniser.sources import HEADERS

SUFFIXES = frozenset(
    {
        *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"),
        *(".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".nist", ".voc"),
    }
)
"""Endings of recordings in a folder; a file named by its path is read whatever its ending."""

LIST = "-"

Found = str | AudioError
"""A path, or the error for a word that names no recording."""


def recordings(words: Iterable[str], lines: Iterable[bytes] = ()) -> Iterator[Found]:
    """Yield the recordings that `words` name as they are found; `-` stands for `lines`, a path a line."""
    for word in words:
        if word != LIST:
            yield from _named(word)
            continue
        for number, line in enumerate(lines):
            if number == 0 and line.startswith(HEADERS) and b"\0" in line:
                yield AudioError(
                    "standard input must be a list of paths, and this is a recording",
                    where="-",
                    mend="Name /dev/stdin to read it.",
                )
                break
            path = os.fsdecode(line.rstrip(b"\r\n"))
            if path.strip():
                yield from _named("./-" if path == LIST else path)


def is_single(words: Iterable[str]) -> bool:
    """Return whether exactly one recording is named, by its own path; it need not exist."""
    words = list(words)
    if len(words) != 1 or words[0] == LIST:
        return False
    return not Path(words[0]).is_dir() if _exists(words[0]) else not glob.has_magic(words[0])


def _named(word: str) -> Iterator[Found]:
    if _exists(word):
        yield from _in_folder(word) if Path(word).is_dir() else [word]
    elif "\0" in word:
        yield AudioError("not a valid path", where=word.replace("\0", "\\0"), mend="Check the list.")
    elif not glob.has_magic(word):
        yield word  # reading it raises the error
    else:
        matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 - a Path would not take an absolute pattern
        if not matches:
            yield AudioError("no file matches this pattern", where=word, mend="Check it, and put it in quotes.")
        seen = set()  # `**` matches a folder and what is in it
        for match in matches:
            if Path(match).is_dir() and "**" in word:
                continue
            for path in _in_folder(match) if Path(match).is_dir() else [match]:
                if path not in seen:
                    yield path
                seen.add(path)


def _in_folder(folder: str) -> Iterator[Found]:
    """Yield the recordings below `folder`, sorted by path, without hidden files and folders."""
    empty, seen, passed = True, set[str](), list[str]()
    convertible = can_convert()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        real = os.path.realpath(place)
        if real in seen:  # linked twice, or a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                empty = False
                yield str(Path(place) / name)
            elif Path(name).suffix.lower() in CONVERTED and not name.startswith("."):
                empty = False
                if convertible:
                    yield str(Path(place) / name)
                else:
                    passed.append(str(Path(place) / name))
    if passed:
        endings = " ".join(sorted({Path(name).suffix.lower() for name in passed}))
        target = Path(passed[0]).with_suffix(".wav").name
        yield AudioError(
            f"{len(passed)} recording{'s' * (len(passed) != 1)} in this folder need a conversion first ({endings})",
            where=folder,
            mend=f'Convert each with: ffmpeg -i "{passed[0]}" -ac 1 -ar 16000 "{target}"; '
            'or: pip install "unheard[media]"',
        )
    if empty:
        yield AudioError(
            "no recording in this folder", where=folder, mend=f"These endings are read: {' '.join(sorted(SUFFIXES))}."
        )


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):
        return False
