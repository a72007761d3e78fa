"""Every error a user can meet says what is wrong, where, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class UnheardError(Exception):
    """An error meant for a person: `what` went wrong, `where`, and how to `mend` it.

    The command line prints it on one line and exits with code 2.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, mend: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.mend = mend
        place = f"{self.where}: " if self.where else ""
        remedy = f" {mend}" if mend else ""
        super().__init__(f"{place}{what.rstrip('.')}.{remedy}")


class AudioError(UnheardError):
    """A recording that cannot be read or used."""


class UnreachableError(AudioError):
    """A recording that could not be opened just now: another time it may."""


class NoSpeechError(AudioError):
    """There is too little speech in a recording for what was asked of it."""


class TooLongError(AudioError):
    """A recording longer than is read at once."""


class CorpusError(UnheardError):
    """A corpus tree that is not what its reader expects."""


class FetchError(UnheardError):
    """A download that cannot start, cannot go on, or brought something else than expected."""


class ManifestError(UnheardError):
    """A manifest that cannot be read or contradicts itself."""


class SplitError(UnheardError):
    """A split that leaks or cannot be made from this manifest."""


class FeatureError(UnheardError):
    """A feature store that is missing, incomplete or made with other settings."""


class ConfigError(UnheardError):
    """A setting that is unknown or out of range."""


class TrainingError(UnheardError):
    """A training that cannot start or cannot go on."""


class ExportError(UnheardError):
    """A model that cannot be exported, or whose exported file is not what it should be."""


class ModelError(UnheardError):
    """A model file that is missing, broken, or cannot do what is asked of it."""


class RunError(UnheardError):
    """A folder that holds no run, or a run whose files contradict each other."""


class MissingExtra(UnheardError):
    """A verb that needs an optional dependency which is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs {package}, which is not installed",
            mend=f'Install it with: pip install "unheard[{extra}]"',
        )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The `mend` sentence for an unknown `word`: the closest known one, then all of them."""
    known = sorted(known)
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    guess = f"Did you mean '{close[0]}'? " if close else ""
    return f"{guess}Known: {', '.join(known)}."


def printable(text: str) -> str:
    """`text` without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() or "\udc80" <= letter <= "\udcff" else "�" for letter in text)
