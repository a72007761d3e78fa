"""`unheard embed`: what a model makes of a recording, as a vector."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from unheard.cli.hearing import Clips, Words, adaptation, check_words, hear, recogniser_of
from unheard.cli.shared import Output, not_over, say

OPTIONS = ("--output", "--channel", "--window", "--hop", "--enrol", "--speaker", "--voices", "--threads")


def embed(
    model: str,
    /,
    *audio: Words,
    output: Output | None = None,
    channel: str = "mix",
    window: float = 0.0,
    hop: float = 0.0,
    enrol: Clips = (),
    speaker: str = "",
    voices: Path | None = None,
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
    speaker
        Name under which what is learnt of the voice is kept on this machine, and found again.
    voices
        Folder of kept voices (default: this user's).
    threads
        Threads of one prediction.
    """
    check_words("embed", model, audio, OPTIONS)
    from unheard.inference.batch import Options
    from unheard.inference.formats.base import Writer
    from unheard.inference.formats.embeddings import ArrayEmbeddings, JsonlEmbeddings, check_suffix
    from unheard.inference.formats.sink import sink

    if output is not None:
        check_suffix(output)
        not_over(output, *audio, *enrol)
    recogniser = recogniser_of(model, window, hop, threads)
    adapted = adaptation(recogniser, enrol, speaker, voices, adapt=False, channel=channel)
    text = output is None or output.suffix == ".jsonl"
    with sink(output) if text else nullcontext(None) as out:
        writer: Writer = JsonlEmbeddings(out) if out is not None else ArrayEmbeddings(output or Path())
        code = hear(recogniser, audio, Options(channel, adapted.voice), writer)
    for one in writer.left_out if isinstance(writer, ArrayEmbeddings) else ():
        say(f"{one.file} ({one.channel}) has no embedding and no row: {one.abstained}")
    return code
