"""Verbs that use an exported model, without PyTorch: predict, embed, listen, serve."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from cyclopts import Parameter

from unheard.cli import common as cli
from unheard.errors import AudioError, ConfigError, counted
from unheard.files import cannot_read, exists
from unheard.server.settings import ServerSettings

if TYPE_CHECKING:
    from io import BufferedReader

    from unheard.audio import Samples
    from unheard.recogniser import Segment
    from unheard.recogniser.sources import Microphone

Format = Literal["table", "json", "jsonl", "csv", "rttm", "srt", "textgrid", "audformat", "labelstudio"]
ServerFlags = Annotated[ServerSettings, Parameter(name="*")]


def predict(
    model: cli.ModelName = "",
    /,
    *audio: cli.Recordings,
    format: Annotated[
        Format | None,
        cli.option("Output format (default: by the ending of --output, else table). audformat is a folder."),
    ] = None,
    output: Annotated[Path | None, cli.output_option("File (audformat: folder) to write.")] = None,
    channel: cli.AnyChannel = "mix",
    timeline: Annotated[bool, cli.switch("Write a row per segment in table and csv.")] = False,
    segments: Annotated[
        Path | None,
        cli.option(
            "Who spoke when: RTTM, TextGrid, SRT, VTT, a table with start, end, speaker (and file), an audformat "
            "database, or a folder with a file per recording. Each turn is predicted."
        ),
    ] = None,
    adapt: Annotated[
        bool | None,
        cli.option(
            "Adapt to the speaker within each recording; with --profile, also across recordings. With --segments the "
            "default: each turn is adapted to the other turns of its speaker."
        ),
    ] = None,
    min_confidence: cli.MinConfidence = 0.0,
    using: cli.Using = cli.Using(),  # noqa: B008 - frozen
    version: Annotated[bool, cli.switch("Show the licence, training data and card of the model instead.")] = False,
) -> int:
    """Predict the emotion of recordings, with a timeline for long ones.

    Example: unheard predict starter call.wav --format json

    Paths on standard input are predicted line by line. Exits with 1 if a recording could not be read; the others are
    still predicted.
    """
    if version:
        return _print_versions(model)
    if not model:
        raise ConfigError("no model given", mend="For example: unheard predict starter call.wav")
    cli.check_recordings(predict, model, audio)
    from unheard.recogniser.formats import FOLDERS, Job, format_of, sink, writer
    from unheard.recogniser.recogniser import PredictOptions
    from unheard.recogniser.sources import is_single
    from unheard.recogniser.turns import read_turns

    cli.refuse_overwriting(output, *audio, *using.enrol, *filter(None, [segments]))
    chosen = format or format_of(output)
    if segments is not None and (channel == cli.EACH or using.enrol or using.profile):
        what = "--segments names the speakers, and adapts to each by their other turns"
        raise ConfigError(what, mend="Leave --channel each, --enrol and --profile out.")
    if chosen in FOLDERS and channel == cli.EACH:
        raise ConfigError(f"{chosen} cannot hold channels", mend="Choose one --channel, or another --format.")
    recogniser = using.open(model)
    about, name = recogniser.model.metadata, recogniser.model.name
    single = is_single(audio) and channel != cli.EACH
    turns = None if segments is None else read_turns(segments)
    by_turn = turns is not None
    job = Job(recogniser.labels, name, about.version, about.licence, timeline or by_turn, single, by_turn)
    learning = bool(adapt) and not by_turn
    adapted = using.adaptation(recogniser, channel, adapt=learning)
    if by_turn and adapt is not False and recogniser.model.profile_width:
        cli.say("adapting: each turn is predicted with a profile of its speaker's other turns (--no-adapt: without)")
    options = PredictOptions(
        channel=channel, profile=adapted.profile, adapt=adapt, min_confidence=min_confidence, segments=turns
    )
    carry = learning and bool(using.profile)
    with sink(output) if chosen not in FOLDERS else nullcontext(None) as out:
        return cli.write_predictions(recogniser, audio, options, writer(chosen, job, out, output), adapted, carry=carry)


def _print_versions(model: str) -> int:
    from unheard import __version__
    from unheard.recogniser.model import describe, open_model, packaged_models

    names = [model] if model else list(packaged_models())
    sys.stdout.write("\n".join(describe(open_model(name)) for name in names) or f"unheard {__version__}, no model\n")
    return 0


def profiles(
    *, forget: Annotated[str, cli.option("Name of a profile to delete.")] = "", profiles: cli.ProfilesPath = None
) -> None:
    """List the speaker profiles stored on this machine, or delete one.

    Example: unheard profiles --forget anna
    """
    from unheard.recogniser.profiles import ProfileStore

    store = ProfileStore(profiles)
    if forget:
        store.forget(forget)
        print(f"deleted {forget}")
        return
    names = store.names()
    for name in names:
        found = store.entries(name).values()
        known = [f"{counted(one['utterances'], 'utterance')} with {one['model']}" for one in found]
        print(f"{name}: {', '.join(known)}")
    for problem in store.broken():
        cli.say(f"unheard: {problem}")
    if not names:
        print(f"no profiles in {store.folder}")


def embed(
    model: cli.ModelName,
    /,
    *audio: cli.Recordings,
    output: Annotated[
        Path | None, cli.output_option("A .jsonl, .csv or .npz file (default: JSON lines on standard output).")
    ] = None,
    channel: cli.AnyChannel = "mix",
    using: cli.Using = cli.Using(),  # noqa: B008 - frozen
) -> int:
    """Write the embedding of each recording; for a long one, the mean over its windows, weighted by speech.

    Example: unheard embed starter recordings/ -o embeddings.npz

    Exits with 1 if a recording could not be read.
    """
    cli.check_recordings(embed, model, audio)
    from unheard.recogniser.formats import ArrayEmbeddings, Job, JsonlEmbeddings, check_suffix, sink
    from unheard.recogniser.recogniser import PredictOptions

    if output is not None:
        check_suffix(output)
        cli.refuse_overwriting(output, *audio, *using.enrol)
    recogniser = using.open(model)
    adapted = using.adaptation(recogniser, channel)
    text = output is None or output.suffix == ".jsonl"
    with sink(output) if text else nullcontext(None) as out:
        job = Job(recogniser.labels, recogniser.model.name)
        writer = ArrayEmbeddings(output or Path()) if out is None else JsonlEmbeddings(job, out)
        options = PredictOptions(channel=channel, profile=adapted.profile)
        code = cli.write_predictions(recogniser, audio, options, writer, adapted)
    for one in writer.left_out if isinstance(writer, ArrayEmbeddings) else ():
        cli.say(f"{one.file} ({one.channel}) has no embedding and no row: {one.abstained}")
    return code


def listen(
    model: cli.ModelName,
    /,
    *,
    pcm: Annotated[
        str,
        cli.option(
            "Read raw samples, not a microphone: - for standard input, or a file or named pipe.",
            allow_leading_hyphen=True,
        ),
    ] = "",
    rate: Annotated[int, cli.option("Sample rate of the raw samples, in Hz.")] = 16_000,
    format: Annotated[
        Literal["u8", "s16le", "s16be", "s24le", "s32le", "f32le"],
        cli.option("Format of the raw samples, interleaved."),
    ] = "s16le",
    channels: Annotated[int, cli.option("Number of channels of the raw samples.")] = 1,
    channel: Annotated[str, cli.option("mix (mean of all channels), left, right or a number from 1.")] = "mix",
    device: Annotated[str, cli.option("Name or number of the microphone (default: the system's).")] = "",
    jsonl: Annotated[bool, cli.switch("Print a line of JSON per segment.")] = False,
    partial: Annotated[bool, cli.switch("Print the current segment after every step, before it is final.")] = False,
    using: cli.Using = cli.Using(),  # noqa: B008 - frozen
    adapt: Annotated[bool, cli.switch("Adapt to the speaker over time; with --profile, store the profile.")] = False,
    min_confidence: cli.MinConfidence = 0.0,
) -> None:
    """Predict emotions while somebody speaks, and print each segment as soon as it is final. No audio is stored.

    Example: unheard listen starter

    From a pipe: arecord -t raw -f S16_LE -r 16000 | unheard listen starter --pcm - --rate 16000 --format s16le

    Ctrl-C ends it.
    """
    recogniser = using.open(model)
    adapted = using.adaptation(recogniser, channel, adapt=adapt)
    printer = _Printer(jsonl, partial)
    microphone: Microphone | None = None
    with ExitStack() as stack:
        wanted = recogniser.model.metadata.features.sample_rate
        if pcm:
            blocks, given = _pipe(stack, pcm, format, channels, channel), rate
        else:
            from unheard.recogniser.sources import Microphone

            microphone = stack.enter_context(Microphone(wanted, int(device) if device.isdecimal() else device or None))
            cli.say("listening; stop with Ctrl-C")
            blocks, given = microphone.blocks(), microphone.rate
        how: dict[str, Any] = {"profile": adapted.profile, "adapt": adapt, "min_confidence": min_confidence}
        stream = recogniser.stream(sample_rate=given, name=pcm or "microphone", **how)
        failure: AudioError | None = None
        try:
            for block in blocks:
                for segment in stream.push(block):
                    printer.print(segment)
                if partial and stream.current is not None:
                    printer.print(stream.current, final=False)
        except KeyboardInterrupt:
            pass
        except AudioError as error:  # results so far are kept
            failure = error
    if not stream.seconds:
        raise failure or AudioError("no audio received", where=pcm or "microphone")
    prediction = stream.finish()
    for segment in prediction.segments[printer.count :]:
        printer.print(segment)
    if adapt:
        adapted.save(prediction.profile, recogniser.model)
    times = f"{prediction.duration:.1f} s, {prediction.speech_seconds:.1f} s of speech"
    cli.say(f"{times}: {prediction.label or prediction.abstained}")
    if microphone is not None and (microphone.lost or microphone.overflows):
        from unheard.recogniser.sources import BLOCK_SECONDS

        seconds = microphone.lost * BLOCK_SECONDS
        cli.say(
            f"warning: this machine is too slow; {seconds:.1f} s or more of audio are lost, and times are too early"
        )
    if failure is not None:
        raise failure


@dataclass
class _Printer:
    """Print segments on standard output; `count` counts the final ones."""

    jsonl: bool
    partial: bool
    count: int = 0
    last: Segment | None = None

    def print(self, segment: Segment, *, final: bool = True) -> None:
        """Print a segment; one that is not final only if it has changed."""
        from unheard.recogniser.formats import Sink, as_json, line

        out = Sink(sys.stdout)
        self.count += final
        if not final and segment == self.last:
            return
        if self.jsonl:
            values: dict[str, Any] = segment.as_dict() | ({"final": final} if self.partial else {})
            text = as_json(values, ascii=out.ascii)
        else:
            text = line(segment) + ("" if final else "  …")
        self.last = self.last if final else segment
        out.write(text + "\n")


def _pipe(stack: ExitStack, pcm: str, format: str, channels: int, channel: str) -> Iterator[Samples]:
    from unheard.recogniser.sources import pcm_blocks

    try:
        file = sys.stdin.buffer if pcm == "-" else stack.enter_context(Path(pcm).open("rb"))  # noqa: SIM115
    except OSError as problem:
        raise cannot_read(pcm, problem, AudioError) from None
    return pcm_blocks(cast("BufferedReader", file), format, channels=channels, channel=channel)


def serve(model: cli.ModelName, /, *, settings: ServerFlags = ServerSettings()) -> None:  # noqa: B008
    """Serve a model over HTTP, with a web page to try it; nothing that it receives is stored.

    Example: unheard serve starter --port 8000

    The page is at http://127.0.0.1:8000/, the API at /docs and /openapi.json.
    """
    try:
        from unheard.server.run import serve as run
    except ModuleNotFoundError as error:
        from unheard.errors import MissingExtra

        if not error.name or error.name.startswith("unheard"):
            raise
        raise MissingExtra(error.name, "server") from None
    from unheard.recogniser.hub import try_out
    from unheard.recogniser.model import packaged_models
    from unheard.recogniser.recogniser import load

    if model not in packaged_models() and exists(model):
        try_out(model)
    recogniser = load(model)

    def ready(address: str) -> None:
        if not settings.local and not settings.token:
            cli.say("unheard: other machines can reach and use this server; require a password with --token.")
        cli.say(f"{recogniser.model.name} is at {address} (stop with Ctrl-C)")

    run(recogniser, settings, ready=ready)
