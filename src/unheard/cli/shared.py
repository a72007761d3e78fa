"""What verbs have in common: lines for people, lists in a word, and where an answer may be written."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unheard.errors import ConfigError, printable


def no_recording(kind: object, path: object) -> None:
    """A shell that expands `-o *.wav` gives the first recording to `-o`."""
    from unheard.inference.inputs import SUFFIXES

    if isinstance(path, Path) and path.suffix.lower() in SUFFIXES:
        raise ConfigError(
            f"-o takes what is to be written, and '{path}' is a recording",
            mend="Give -o a name of its own, after the recordings.",
        )


Output = Annotated[Path, Parameter(name=["--output", "-o"], validator=no_recording)]


def not_over(output: Path | None, *inputs: str | Path) -> None:
    """Raise `ConfigError` where an answer would be written over what it is made from."""
    if output is None or not output.is_file():
        return
    for one in inputs:
        with suppress(OSError, ValueError):
            if Path(one).samefile(output):
                raise ConfigError(
                    f"the answer would be written over '{one}', which is read", mend="Give -o another name."
                )


def say(line: str) -> None:
    """A line for the person at the terminal, on standard error."""
    from rich.console import Console  # not at the top: an answer of `unheard predict` needs none of it

    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(printable(line))


def words(text: str) -> tuple[str, ...]:
    """`a,b` as ("a", "b")."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def pairs(text: str) -> dict[str, str]:
    """`a=b,c=d` as a dictionary; raises `ConfigError` for anything else."""
    found = {}
    for word in words(text):
        key, sign, value = word.partition("=")
        if not (key and sign and value):
            raise ConfigError(f"'{word}' is no pair", mend="Write it as --map excited=happy.")
        found[key] = value
    return found
