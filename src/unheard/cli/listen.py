"""`unheard listen`: emotions while somebody speaks, from a microphone or a pipe of raw samples."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from cyclopts import Parameter

from unheard.cli.hearing import Clips, Switch, adaptation, recogniser_of
from unheard.cli.shared import say
from unheard.errors import AudioError
from unheard.files import cannot_read

if TYPE_CHECKING:
    from io import BufferedReader

    from unheard.channels import Samples
    from unheard.inference import Segment
    from unheard.inference.microphone import Microphone

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
    speaker: str = "",
    voices: Path | None = None,
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
    speaker
        Name under which what is learnt of the voice is kept on this machine, and found again.
    voices
        Folder of kept voices (default: this user's).
    adapt
        Learn the voice along the way; with a speaker, keep it.
    threads
        Threads of one prediction.
    """
    recogniser = recogniser_of(model, window, hop, threads)
    adapted = adaptation(recogniser, enrol, speaker, voices, adapt=adapt, channel=channel)
    printer = _Printer(jsonl, partial)
    microphone: Microphone | None = None
    with ExitStack() as stack:
        wanted = recogniser.model.metadata.features.sample_rate
        if pcm:
            blocks, given = _pipe(stack, pcm, format, channels, channel), rate
        else:
            microphone = _microphone(stack, wanted, device)
            blocks, given = microphone.blocks(), microphone.rate
        stream = recogniser.stream(sample_rate=given, voice=adapted.voice, adapt=adapt, name=pcm or "microphone")
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
        adapted.keep(prediction.voice, recogniser.model)
    times = f"{prediction.duration:.1f} s, {prediction.speech_seconds:.1f} s of it speech"
    say(f"{times}: {prediction.label or prediction.abstained}")
    if microphone is not None and (microphone.lost or microphone.overflows):
        from unheard.inference.microphone import BLOCK_SECONDS

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
        from unheard.inference.formats.json import as_json
        from unheard.inference.formats.sink import takes_all
        from unheard.inference.formats.table import line

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
    from unheard.inference.pcm import pcm_blocks

    if pcm == "-":
        return pcm_blocks(cast("BufferedReader", sys.stdin.buffer), format, channels=channels, channel=channel)
    try:
        file = stack.enter_context(Path(pcm).open("rb"))  # noqa: SIM115 - the stack closes it
    except OSError as problem:
        raise cannot_read(pcm, problem, AudioError) from None
    return pcm_blocks(file, format, channels=channels, channel=channel)


def _microphone(stack: ExitStack, wanted: int, device: str) -> Microphone:
    from unheard.inference.microphone import Microphone

    microphone = stack.enter_context(Microphone(wanted, int(device) if device.isdecimal() else device or None))
    say("listening; Ctrl-C ends it")
    return microphone
