"""Messages for users: errors that state what is wrong, where, and how to mend it, and progress lines."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

Say = Callable[[str], None]  # receives progress lines for the user


def silent(line: str) -> None:
    """Discard a line: a `Say` without output."""


class UnheardError(Exception):
    """An error for the user: `what` went wrong, `where`, and how to `mend` it.

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
    """A recording that cannot be opened now, but perhaps later."""


class NoSpeechError(AudioError):
    """A recording with too little speech."""


class TooLongError(AudioError):
    """A recording that is too long to be read at once."""


class CorpusError(UnheardError):
    """A corpus folder whose layout or content differs from what its reader expects."""


class FetchError(UnheardError):
    """A download that fails or differs from its checksum."""


class ManifestError(UnheardError):
    """A manifest that cannot be read or contradicts itself."""


class SplitError(UnheardError):
    """A split that leaks or cannot be made from a manifest."""


class FeatureError(UnheardError):
    """A feature store that is missing, incomplete or computed with different settings."""


class ConfigError(UnheardError):
    """A setting that is unknown or out of range."""


class TrainingError(UnheardError):
    """A training that cannot start or continue."""


class ExportError(UnheardError):
    """A model that cannot be exported, or whose exported file gives different results."""


class ModelError(UnheardError):
    """A model file that is missing or broken, or that does not support an operation."""


class RunError(UnheardError):
    """A folder without a run, or a run with inconsistent files."""


class MissingExtra(UnheardError):
    """An operation whose optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs {package}, which is not installed",
            mend=f'Install it with: pip install "unheard[{extra}]"',
        )


@contextmanager
def needs(package: str, extra: str) -> Iterator[None]:
    """Raise `MissingExtra` if an import in this block fails."""
    try:
        yield
    except ImportError as error:
        raise MissingExtra(package, extra) from error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the `mend` for an unknown `word`: the closest known word, then all known words."""
    known = sorted(known)
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    guess = f"Did you mean '{close[0]}'? " if close else ""
    return f"{guess}Known: {', '.join(known)}."


def some(items: Sequence[str], most: int = 5) -> str:
    """Return the first `most` items joined by commas, and the number of remaining items."""
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def counted(n: int, thing: str) -> str:
    """Return a number and its noun: `1 file`, `2 files`."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def printable(text: str) -> str:
    """Replace control characters, which a terminal would interpret, by `�`."""
    return "".join(letter if letter.isprintable() or "\udc80" <= letter <= "\udcff" else "�" for letter in text)
