"""`unheard predict` and `unheard voices`: recordings to emotions, adapted to a voice where one is known."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Literal, cast

from unheard.cli.hearing import Clips, Switch, Words, adaptation, check_words, hear, recogniser_of
from unheard.cli.shared import Output, not_over, say
from unheard.errors import ConfigError

OPTIONS = (
    *("--format", "--output", "--channel", "--window", "--hop", "--timeline", "--enrol", "--speaker", "--voices"),
    *("--adapt", "--threads", "--version"),
)


def predict(
    model: str = "",
    /,
    *audio: Words,
    format: Literal["table", "json", "jsonl", "csv", "rttm", "audformat", "labelstudio"] | None = None,
    output: Output | None = None,
    channel: str = "mix",
    window: float = 0.0,
    hop: float = 0.0,
    timeline: Switch = False,
    enrol: Clips = (),
    speaker: str = "",
    voices: Path | None = None,
    adapt: Switch = False,
    threads: int = 1,
    version: Switch = False,
) -> int:
    """Say which emotion a recording expresses, with a timeline where it is long.

    Example: unheard predict starter call.wav --format json

    Exits with 1 where a recording could not be read; the others are answered all the same.

    Parameters
    ----------
    model
        A model's folder, its .onnx file, or the name of one that came with the package.
    audio
        Recordings, folders, patterns in quotes, or - for a list of paths on standard input, answered line by line.
    format
        table, json, jsonl, csv, rttm, audformat (a folder) or labelstudio (default: by the ending of the output,
        else table).
    output
        File to write to instead; for audformat the folder.
    channel
        mix (their mean), left, right, a number from 1, or each: a prediction a channel, as for a call.
    window
        Seconds of a window (0: the model's own); a recording no longer than one is a single utterance.
    hop
        Seconds from one window to the next, the step of a timeline (0: the model's own).
    timeline
        In table and csv, a row a segment.
    enrol
        A clip of the same person speaking, unlabelled; may be given several times.
    speaker
        Name under which what is learnt of the voice is kept on this machine, and found again.
    voices
        Folder of kept voices (default: this user's).
    adapt
        Learn the voice along each recording; with a speaker, across recordings too, and keep it.
    threads
        Threads of one prediction.
    version
        Show the model's licence, training data and card instead.
    """
    if version:
        return _versions(model)
    if not model:
        raise ConfigError("no model was named", mend="For example: unheard predict starter call.wav")
    check_words("predict", model, audio, OPTIONS)
    from unheard.inference.batch import EACH, Options
    from unheard.inference.formats import FOLDERS, Job, writer
    from unheard.inference.formats.sink import sink
    from unheard.inference.inputs import is_single

    not_over(output, *audio, *enrol)
    format = format or _of_ending(output)
    if format in FOLDERS and channel == EACH:
        raise ConfigError(f"{format} has no place for channels", mend="Choose one --channel, or another --format.")
    recogniser = recogniser_of(model, window, hop, threads)
    about = recogniser.model.metadata
    single = is_single(audio) and channel != EACH
    job = Job(recogniser.labels, recogniser.model.name, about.version, about.licence, timeline, single)
    adapted = adaptation(recogniser, enrol, speaker, voices, adapt=adapt, channel=channel)
    options = Options(channel, adapted.voice, adapt, carry=adapt and bool(speaker))
    with sink(output) if format not in FOLDERS else nullcontext(None) as out:
        return hear(recogniser, audio, options, writer(format, job, out, output), adapted)


def _of_ending(output: Path | None) -> Literal["table", "json", "jsonl", "csv", "rttm"]:
    """The format that the output's name asks for."""
    ending = "" if output is None else output.suffix.lower()
    if ending in (".json", ".jsonl", ".csv", ".rttm"):
        return cast(Literal["json", "jsonl", "csv", "rttm"], ending[1:])
    return "table"


def _versions(model: str) -> int:
    """Print what the model, or every model of the package, says of itself."""
    from unheard import __version__
    from unheard.inference.describe import describe
    from unheard.inference.packaged import open_model, packaged_models

    names = [model] if model else list(packaged_models())
    sys.stdout.write("\n".join(describe(open_model(name)) for name in names) or f"unheard {__version__}, no model\n")
    return 0


def voices(
    *,
    forget: str = "",
    voices: Path | None = None,
) -> None:
    """List the voices that are kept on this machine, or forget one.

    Example: unheard voices --forget anna

    Parameters
    ----------
    forget
        Name of a voice to delete.
    voices
        Folder of kept voices (default: this user's).
    """
    from unheard.inference.voicebook import VoiceBook

    book = VoiceBook(voices)
    if forget:
        book.forget(forget)
        print(f"forgot {forget}")
        return
    names = book.names()
    for name in names:
        known = [f"{entry['utterances']} utterances with {entry['model']}" for entry in book.entries(name).values()]
        print(f"{name}: {', '.join(known)}")
    for problem in book.broken():
        say(f"unheard: {problem}")
    if not names:
        print(f"no voice is kept in {book.folder}")
