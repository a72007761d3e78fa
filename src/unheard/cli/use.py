"""`unheard predict` and `unheard profiles`: recordings to emotions, adapted to a profile where one is known."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from cyclopts import Parameter

from unheard.cli.common import Clips, Output, Switch, Words, adaptation, check_words, hear, not_over, recogniser_of, say
from unheard.errors import AudioError, ConfigError
from unheard.files import cannot_read

if TYPE_CHECKING:
    from io import BufferedReader

    from unheard.channels import Samples
    from unheard.recogniser import Segment
    from unheard.recogniser.microphone import Microphone


Format = Literal["table", "json", "jsonl", "csv", "rttm", "srt", "textgrid", "audformat", "labelstudio"]

OPTIONS = (
    *("--format", "--output", "--channel", "--window", "--hop", "--timeline", "--enrol", "--profile", "--profiles"),
    *("--adapt", "--min-confidence", "--threads", "--version"),
)


def predict(
    model: str = "",
    /,
    *audio: Words,
    format: Literal["table", "json", "jsonl", "csv", "rttm", "srt", "textgrid", "audformat", "labelstudio"]
    | None = None,
    output: Output | None = None,
    channel: str = "mix",
    window: float = 0.0,
    hop: float = 0.0,
    timeline: Switch = False,
    enrol: Clips = (),
    profile: str = "",
    profiles: Path | None = None,
    adapt: Switch = False,
    min_confidence: float = 0.0,
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
        table, json, jsonl, csv, rttm, srt or textgrid (for one recording), labelstudio, or audformat (a folder); by
        default the ending of the output decides, else table.
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
    profile
        Name under which what is learnt of the profile is kept on this machine, and found again.
    profiles
        Folder of kept profiles (default: this user's).
    adapt
        Learn the profile along each recording; with a speaker, across recordings too, and keep it.
    min_confidence
        Lowest probability of an answer, such as 0.6; below it the answer is "uncertain" (0: off).
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
    if not 0 <= min_confidence <= 1:
        raise ConfigError(f"--min-confidence {min_confidence:g} is out of range", mend="Use 0 to 1.")
    from unheard.recogniser.formats import FOLDERS, Job, format_of, sink, writer
    from unheard.recogniser.inputs import is_single
    from unheard.recogniser.recogniser import EACH, Options

    not_over(output, *audio, *enrol)
    wanted = format or format_of(output)
    if wanted in FOLDERS and channel == EACH:
        raise ConfigError(f"{wanted} has no place for channels", mend="Choose one --channel, or another --format.")
    recogniser = recogniser_of(model, window, hop, threads)
    about = recogniser.model.metadata
    single = is_single(audio) and channel != EACH
    job = Job(recogniser.labels, recogniser.model.name, about.version, about.licence, timeline, single)
    adapted = adaptation(recogniser, enrol, profile, profiles, adapt=adapt, channel=channel)
    options = Options(channel, adapted.profile, adapt, carry=adapt and bool(profile), min_confidence=min_confidence)
    with sink(output) if wanted not in FOLDERS else nullcontext(None) as out:
        return hear(recogniser, audio, options, writer(wanted, job, out, output), adapted)


def _versions(model: str) -> int:
    """Print what the model, or every model of the package, says of itself."""
    from unheard import __version__
    from unheard.recogniser.model import describe, open_model, packaged_models

    names = [model] if model else list(packaged_models())
    sys.stdout.write("\n".join(describe(open_model(name)) for name in names) or f"unheard {__version__}, no model\n")
    return 0


def profiles(
    *,
    forget: str = "",
    profiles: Path | None = None,
) -> None:
    """List the profiles that are kept on this machine, or forget one.

    Example: unheard profiles --forget anna

    Parameters
    ----------
    forget
        Name of a profile to delete.
    profiles
        Folder of kept profiles (default: this user's).
    """
    from unheard.recogniser.profiles import ProfileStore

    book = ProfileStore(profiles)
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
        print(f"no profile is kept in {book.folder}")


# `unheard embed`: what a model makes of a recording, as a vector.

EMBED_OPTIONS = ("--output", "--channel", "--window", "--hop", "--enrol", "--profile", "--profiles", "--threads")


def embed(
    model: str,
    /,
    *audio: Words,
    output: Output | None = None,
    channel: str = "mix",
    window: float = 0.0,
    hop: float = 0.0,
    enrol: Clips = (),
    profile: str = "",
    profiles: Path | None = None,
    threads: int = 1,
) -> int:
    """Write the embedding of each recording; of a long one, the mean over its windows, weighted by the speech in them.

    Example: unheard embed starter recordings/ -o embeddings.npz

    Exits with 1 where a recording could not be read.

    Parameters
    ----------
    model
        A model's folder, its .onnx file, or the name of one that came with the package.
    audio
        Recordings, folders, patterns in quotes, or - for a list of paths on standard input.
    output
        A .jsonl, .csv or .npz file (default: JSON lines on standard output).
    channel
        mix (their mean), left, right, a number from 1, or each.
    window
        Seconds of a window (0: the model's own).
    hop
        Seconds from one window to the next (0: the model's own).
    enrol
        A clip of the same person speaking, unlabelled; may be given several times.
    profile
        Name under which what is learnt of the profile is kept on this machine, and found again.
    profiles
        Folder of kept profiles (default: this user's).
    threads
        Threads of one prediction.
    """
    check_words("embed", model, audio, EMBED_OPTIONS)
    from unheard.recogniser.formats import Writer, sink
    from unheard.recogniser.formats.tables import ArrayEmbeddings, JsonlEmbeddings, check_suffix
    from unheard.recogniser.recogniser import Options

    if output is not None:
        check_suffix(output)
        not_over(output, *audio, *enrol)
    recogniser = recogniser_of(model, window, hop, threads)
    adapted = adaptation(recogniser, enrol, profile, profiles, adapt=False, channel=channel)
    text = output is None or output.suffix == ".jsonl"
    with sink(output) if text else nullcontext(None) as out:
        writer: Writer = JsonlEmbeddings(out) if out is not None else ArrayEmbeddings(output or Path())
        code = hear(recogniser, audio, Options(channel, adapted.profile), writer)
    for one in writer.left_out if isinstance(writer, ArrayEmbeddings) else ():
        say(f"{one.file} ({one.channel}) has no embedding and no row: {one.abstained}")
    return code


# `unheard listen`: emotions while somebody speaks, from a microphone or a pipe of raw samples.

Pipe = Annotated[str, Parameter(allow_leading_hyphen=True)]


def listen(
    model: str,
    /,
    *,
    pcm: Pipe = "",
    rate: int = 16_000,
    format: Literal["u8", "s16le", "s16be", "s24le", "s32le", "f32le"] = "s16le",
    channels: int = 1,
    channel: str = "mix",
    device: str = "",
    jsonl: Switch = False,
    partial: Switch = False,
    window: float = 0.0,
    hop: float = 0.0,
    enrol: Clips = (),
    profile: str = "",
    profiles: Path | None = None,
    adapt: Switch = False,
    threads: int = 1,
) -> None:
    """Print emotions while somebody speaks, each stretch as soon as it is known; Ctrl-C ends it. No sound is kept.

    Example: unheard listen starter

    From a pipe: arecord -t raw -f S16_LE -r 16000 | unheard listen starter --pcm - --rate 16000 --format s16le

    Parameters
    ----------
    model
        A model's folder, its .onnx file, or the name of one that came with the package.
    pcm
        Raw samples instead of a microphone: - for standard input, or the path of a file or named pipe.
    rate
        Samples a second in the pipe.
    format
        Samples in the pipe: u8, s16le, s16be, s24le, s32le or f32le, interleaved.
    channels
        Channels in the pipe.
    channel
        Of several: mix (their mean), left, right or a number from 1.
    device
        Name or number of the microphone (default: the system's).
    jsonl
        One line of JSON a segment.
    partial
        Also say what is known of the segment that goes on, after every step.
    window
        Seconds of a window (0: the model's own).
    hop
        Seconds from one window to the next, the step of the timeline (0: the model's own).
    enrol
        A clip of the same person speaking, unlabelled; may be given several times.
    profile
        Name under which what is learnt of the profile is kept on this machine, and found again.
    profiles
        Folder of kept profiles (default: this user's).
    adapt
        Learn the profile along the way; with a speaker, keep it.
    threads
        Threads of one prediction.
    """
    recogniser = recogniser_of(model, window, hop, threads)
    adapted = adaptation(recogniser, enrol, profile, profiles, adapt=adapt, channel=channel)
    printer = _Printer(jsonl, partial)
    microphone: Microphone | None = None
    with ExitStack() as stack:
        wanted = recogniser.model.metadata.features.sample_rate
        if pcm:
            blocks, given = _pipe(stack, pcm, format, channels, channel), rate
        else:
            microphone = _microphone(stack, wanted, device)
            blocks, given = microphone.blocks(), microphone.rate
        stream = recogniser.stream(sample_rate=given, profile=adapted.profile, adapt=adapt, name=pcm or "microphone")
        gone: AudioError | None = None
        try:
            for block in blocks:
                for segment in stream.push(block):
                    printer.ended(segment)
                printer.going_on(stream.current)
        except KeyboardInterrupt:
            pass
        except AudioError as error:  # what was heard until then stays
            gone = error
    if gone is not None and not stream.seconds:
        raise gone
    if not stream.seconds:
        raise AudioError("nothing was heard", where=pcm or "microphone")
    prediction = stream.finish()
    for segment in prediction.segments[printer.count :]:
        printer.ended(segment)
    if adapt:
        adapted.keep(prediction.profile, recogniser.model)
    times = f"{prediction.duration:.1f} s, {prediction.speech_seconds:.1f} s of it speech"
    say(f"{times}: {prediction.label or prediction.abstained}")
    if microphone is not None and (microphone.lost or microphone.overflows):
        from unheard.recogniser.microphone import BLOCK_SECONDS

        seconds = microphone.lost * BLOCK_SECONDS
        say(f"beware: sound came faster than it could be heard; {seconds:.1f} s or more are missing, times are early")
    if gone is not None:
        raise gone


class _Printer:
    """Segments on standard output; `count` have ended so far."""

    def __init__(self, jsonl: bool, partial: bool) -> None:
        self.count = 0
        self._jsonl, self._partial = jsonl, partial
        self._last: Segment | None = None

    def ended(self, segment: Segment) -> None:
        """Print a segment that will not change any more."""
        self.count += 1
        self._print(segment, final=True)

    def going_on(self, segment: Segment | None) -> None:
        """Print what is known so far of the one that goes on, where that is wanted and has changed."""
        if self._partial and segment is not None and segment != self._last:
            self._print(segment, final=False)
            self._last = segment

    def _print(self, segment: Segment, *, final: bool) -> None:
        from unheard.recogniser.formats import takes_all
        from unheard.recogniser.formats.tables import as_json, line

        if self._jsonl:
            values: dict[str, Any] = segment.as_dict()
            if self._partial:
                values["final"] = final
            text = as_json(values, ascii=not takes_all(sys.stdout))
        else:
            text = line(segment) + ("" if final else "  …")
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _pipe(stack: ExitStack, pcm: str, format: str, channels: int, channel: str) -> Iterator[Samples]:
    from unheard.recogniser.sources import pcm_blocks

    if pcm == "-":
        return pcm_blocks(cast("BufferedReader", sys.stdin.buffer), format, channels=channels, channel=channel)
    try:
        file = stack.enter_context(Path(pcm).open("rb"))  # noqa: SIM115 - the stack closes it
    except OSError as problem:
        raise cannot_read(pcm, problem, AudioError) from None
    return pcm_blocks(file, format, channels=channels, channel=channel)


def _microphone(stack: ExitStack, wanted: int, device: str) -> Microphone:
    from unheard.recogniser.microphone import Microphone

    microphone = stack.enter_context(Microphone(wanted, int(device) if device.isdecimal() else device or None))
    say("listening; Ctrl-C ends it")
    return microphone


# `unheard serve`: a model over HTTP, and a page to try it.


def serve(
    model: str,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    max_megabytes: float = 32.0,
    max_seconds: float = 900.0,
    timeout: float = 30.0,
    concurrency: int = 0,
    waiting: int = 64,
    max_wait: float = 60.0,
    grace: float = 20.0,
    token: Annotated[str, Parameter(env_var="UNHEARD_TOKEN")] = "",
    cors: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    workers: int = 1,
    root_path: str = "",
    access_log: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Serve a model over HTTP, with a page to try it; keeps nothing it is sent.

    Example: unheard serve starter --port 8000

    The page is at http://127.0.0.1:8000/, the interface for programs at /docs and /openapi.json.

    Parameters
    ----------
    model
        A name that came with the package, an exported model's folder, or its .onnx file.
    host
        Address to listen on. Any but a loopback address lets others in: see the page on the server.
    port
        0: any free one.
    name
        Host name that the server also answers to, such as one behind a proxy; can be given several times.
    max_megabytes
        Largest upload.
    max_seconds
        Longest recording.
    timeout
        Seconds of work on a short recording; a long one gets a tenth of its duration in addition.
    concurrency
        Recordings scored at once (0: one a core, at most 4).
    waiting
        Recordings that may wait; one more is answered 429.
    max_wait
        Seconds a recording may be expected to wait; one that would wait longer is answered 429.
    grace
        Seconds that running work gets to finish after SIGTERM.
    token
        Bearer token that requests must carry.
    cors
        Origin of another site whose pages may use the server, such as https://example.org; can be given several times.
    workers
        Processes, forked after the model is loaded.
    root_path
        Path under which a proxy serves it.
    access_log
        Write a JSON line to standard error for every request.
    """
    try:
        from unheard.server.run import serve as run
        from unheard.server.settings import ServerSettings
    except ModuleNotFoundError as error:
        from unheard.errors import MissingExtra

        needed = ("fastapi", "starlette", "pydantic", "anyio", "uvicorn", "markdown_it", "python_multipart")
        if error.name not in (*needed, "prometheus_client"):
            raise
        raise MissingExtra(error.name or "fastapi", "server") from None
    from unheard.recogniser.recogniser import load

    settings = ServerSettings(
        host=host,
        port=port,
        names=name,
        megabytes=max_megabytes,
        seconds=max_seconds,
        timeout=timeout,
        waiting=waiting,
        max_wait=max_wait,
        grace=grace,
        token=token,
        cors=cors,
        workers=workers,
        root_path=root_path,
        access_log=access_log,
        **({"concurrency": concurrency} if concurrency else {}),
    )
    recogniser = load(model)

    def ready(address: str) -> None:
        if not settings.local and not token:
            say("unheard: others can reach this server, and whoever does can use it; --token asks for a password.")
        say(f"{recogniser.model.name} is at {address} (Ctrl-C stops it)")

    run(recogniser, settings, ready=ready)
