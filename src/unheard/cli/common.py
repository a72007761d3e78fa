"""What verbs have in common: lines for people, lists in a word, and where an answer may be written."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from unheard.errors import AudioError, ConfigError, NoSpeechError, did_you_mean, printable

if TYPE_CHECKING:
    from unheard.recogniser import OnnxModel, Recogniser, SpeakerProfile
    from unheard.recogniser.formats import Writer
    from unheard.recogniser.profiles import ProfileStore
    from unheard.recogniser.recogniser import Options, Progress


def no_recording(kind: object, path: object) -> None:
    """A shell that expands `-o *.wav` gives the first recording to `-o`."""
    from unheard.recogniser.inputs import SUFFIXES

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


# What `predict`, `embed` and `listen` have in common: the model, the profile, the recordings named.

Words = Annotated[str, Parameter(allow_leading_hyphen=True)]  # `-` alone is a list on standard input
Switch = Annotated[bool, Parameter(negative="")]
Clips = Annotated[tuple[Path, ...], Parameter(name="--enrol", negative="")]

_LONG = 60.0  # seconds of a recording from which on a progress bar is worth its place


def check_words(verb: str, model: str, words: Sequence[str], options: Sequence[str]) -> None:
    """Raise `ConfigError` where a recording stands in the model's place, or none was named.

    And for a misspelt option, which would pass for a recording.
    """
    from unheard.recogniser.inputs import SUFFIXES

    if Path(model).suffix.lower() in SUFFIXES:
        raise ConfigError(
            f"the model comes first, and '{model}' is a recording",
            mend=f"Write: unheard {verb} starter {shlex.quote(model)}",
        )
    for word in words:
        if word.startswith("-") and word != "-":
            raise ConfigError(
                f"unknown option '{word}'",
                mend=did_you_mean(word, options) + f" A recording of that name is written ./{word}.",
            )
    if not words:
        raise ConfigError("no recording was named", mend="Name files, folders or patterns, or - for a list.")


def recogniser_of(model: str, window: float, hop: float, threads: int) -> Recogniser:
    """The model, with other windows where they are asked for (0: its own)."""
    from unheard.recogniser import Recogniser, WindowSettings
    from unheard.recogniser.model import open_model

    opened = open_model(model, threads=threads)
    own = opened.metadata.windows
    seconds = window or own.seconds
    return Recogniser(opened, windows=WindowSettings(seconds, hop or min(own.hop, seconds)))


@dataclass
class Adaptation:
    """What is known of a profile at the start, and where it is kept."""

    profile: SpeakerProfile | None = None
    book: ProfileStore | None = None

    def keep(self, profile: SpeakerProfile | None, model: OnnxModel) -> None:
        """Write what was learnt, where the profile has a name."""
        if self.book is not None and profile is not None and profile.utterances:
            self.book.keep(profile, model.name)


def adaptation(
    recogniser: Recogniser, enrol: Sequence[Path], name: str, profiles: Path | None, *, adapt: bool, channel: str
) -> Adaptation:
    """The profile from `--enrol` clips and from the one kept under `--profile`; said on standard error.

    Raises `ConfigError` for an unknown profile, and for one profile with many channels.
    """
    from unheard.recogniser.profiles import ProfileStore
    from unheard.recogniser.sources import channels_of

    if adapt:
        say("adapting: the profile is learnt along the way")
    if not (enrol or name):
        return Adaptation()
    if channel == "each":
        raise ConfigError(
            "every channel is a person of its own, and one profile was given", mend="Choose one --channel."
        )
    model = recogniser.model
    book = ProfileStore(profiles) if name else None
    profile = book.get(name, model.digest, model.profile_width) if book is not None else None
    if enrol:
        useless: list[Path] = []
        for clip in enrol:  # of a call the same channel; a clip with one channel has no other
            of_clip = channel if channel != "mix" and len(channels_of(clip)) > 1 else "mix"
            try:
                profile = recogniser.enrol(clip, channel=of_clip, profile=profile, name=name)
            except NoSpeechError:
                if [*useless, clip] == list(enrol):
                    raise
                useless.append(clip)
                say(f"{clip}: too little speech, nothing was learnt from it")
    elif book is not None and profile is not None and not profile.utterances and not adapt:
        known = ", ".join(book.names())
        raise ConfigError(
            f"nothing is known of the profile '{name}' with this model",
            where=book.folder,
            mend="Give a clip with --enrol." + (f" Known profiles: {known}." if known else ""),
        )
    found = Adaptation(profile, book)
    if enrol:
        found.keep(profile, model)
    if profile is not None:
        say(f"adapted to {profile.name or 'the enrolled profile'}: {profile.utterances} utterances heard")
    return found


def hear(
    recogniser: Recogniser, words: Sequence[str], options: Options, writer: Writer, adapted: Adaptation | None = None
) -> int:
    """Write an answer for every recording as it comes; 1 where one had none, else 0."""
    from unheard.recogniser.inputs import recordings
    from unheard.recogniser.recogniser import Failure, predictions

    failed, low, rate = 0, set[str](), recogniser.model.metadata.features.sample_rate
    with progress_bar() as progress:
        for answer in predictions(recogniser, recordings(words, sys.stdin.buffer), options, progress):
            if isinstance(answer, Failure):
                failed += 1
                say(f"unheard: {' '.join(str(answer.error).split())}")
                writer.failed(answer.file, answer.error)
                continue
            writer.add(answer)
            if _rate_of(answer.file) < rate:
                low.add(answer.file)  # of several channels too it is one recording
            if options.carry and adapted is not None:
                adapted.keep(answer.profile, recogniser.model)
    writer.close()
    if low:
        say(
            f"{len(low)} recording{'s' * (len(low) != 1)} of fewer than {rate:,} samples a second: what the model "
            "listens to is partly missing there, and it is right less often (see its card)"
        )
    if failed:
        say(f"unheard: {failed} recording{'s' * (failed != 1)} could not be read")
    return int(failed > 0)


def _rate_of(file: str) -> float:
    """Samples a second of a recording; infinite where there is no asking again, as of a pipe."""
    from unheard.audio import info

    try:
        return info(file).sample_rate if Path(file).is_file() else math.inf
    except AudioError:
        return math.inf


@contextmanager
def progress_bar() -> Iterator[Callable[[str], Progress | None]]:
    """A bar for each long recording at a terminal; a function of a path that gives one, or None."""
    if not sys.stderr.isatty():
        yield lambda file: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress as Bar

    from unheard.audio import info

    with Bar(console=Console(stderr=True), transient=True) as bar:

        def of(file: str) -> Progress | None:
            for task in bar.task_ids:
                bar.remove_task(task)
            try:
                seconds = info(file).seconds if Path(file).is_file() else 0.0  # a pipe can be read only once
            except AudioError:
                return None  # reading it says what is wrong
            if seconds < _LONG:
                return None
            task = bar.add_task(escape(Path(file).name), total=seconds)
            return lambda done: bar.update(task, completed=done)

        yield of
