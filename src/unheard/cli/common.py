"""Parameters and helpers that several verbs share."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from unheard.errors import AudioError, ConfigError, NoSpeechError, UnheardError, counted, did_you_mean, printable

if TYPE_CHECKING:
    from unheard.audio import AudioInfo
    from unheard.recogniser import OnnxModel, Recogniser, SpeakerProfile
    from unheard.recogniser.formats import Writer
    from unheard.recogniser.profiles import ProfileStore
    from unheard.recogniser.recogniser import PredictOptions, Progress


def option(text: str, **more: Any) -> Parameter:
    """Describe a parameter in `--help`."""
    return Parameter(help=text, **more)


def output_option(text: str, *names: str) -> Parameter:
    """Describe a parameter `--output`, which is not a recording."""
    return Parameter(help=text, name=["--output", "-o", *names], validator=_refuse_recording)


def _refuse_recording(kind: object, path: object) -> None:
    from unheard.recogniser.sources import SUFFIXES

    if isinstance(path, Path) and path.suffix.lower() in SUFFIXES:  # a shell expands `-o *.wav`
        what = f"-o names the file to write, and '{path}' is a recording"
        raise ConfigError(what, mend="Give -o another name, after the recordings.")


# Arguments

_TABLE = "CSV or JSONL table, Kaldi data directory or audformat database."
TablePath = Annotated[Path, option(_TABLE)]
LabelledTable = Annotated[
    Path, option(f"{_TABLE} Rows with labels that the model does not have are dropped and counted.")
]
TrainedModel = Annotated[Path, option("A model.safetensors file, or the folder of a training (RUN/cells/NAME).")]
RunPath = Annotated[Path, option("Folder of a run (the --out of `unheard experiment`).")]
ModelName = Annotated[str, option("Exported model (folder or .onnx file), name of a packaged one, or hf:OWNER/NAME.")]
Recordings = Annotated[
    str,  # with a hyphen: `-`
    option("Files, folders, quoted patterns, or - for a list of paths on standard input.", allow_leading_hyphen=True),
]

# Options

CorpusName = Annotated[str, option("Name of a corpus; `unheard corpora` lists them.")]
Map = Annotated[str, option("Labels to rename first, such as excited=happy or rabbia=angry,gioia=happy.")]
AudioRoot = Annotated[
    Path | None, option("Folder that relative audio paths start from (default: the table's); subfolders are searched.")
]
Channel = Annotated[
    Literal["mix", "left", "right", "each"],
    option("Channel of multi-channel recordings: the mean of all, one of them, or each as a separate recording."),
]
EACH = "each"  # the channel that stands for every channel, each another speaker
AnyChannel = Annotated[str, option("mix (mean of all channels), left, right, a number from 1, or each (separately).")]
Store = Annotated[Path | None, option("Folder to keep the features in (default: not kept).")]
Device = Annotated[str, option("auto, cpu, cuda or mps.")]
Workers = Annotated[int, option("Processes (0: one per core).")]
ProfilesPath = Annotated[Path | None, option("Folder of the stored profiles (default: in your home folder).")]
MinConfidence = Annotated[float, option('Answer "uncertain" below this probability, such as 0.6 (0: never).')]


def switch(text: str) -> Parameter:
    """Describe a flag that has no `--no-` form."""
    return Parameter(help=text, negative="")


def say(line: str) -> None:
    """Print a line for the user on standard error."""
    from rich.console import Console  # slow to import, and most predictions print nothing here

    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(printable(line))


def emit(text: str, output: Path | None) -> None:
    """Write `text` to `output`, or to standard output."""
    if output is None:
        sys.stdout.write(text)
        return
    from unheard.files import write_text

    write_text(output, text)


def refuse_overwriting(output: Path | None, *inputs: str | Path) -> None:
    """Raise `ConfigError` if `output` is one of the files that are read."""
    if output is None or not output.is_file():
        return
    for one in inputs:
        with suppress(OSError, ValueError):
            if Path(one).samefile(output):
                raise ConfigError(f"the output would overwrite the input '{one}'", mend="Give -o another name.")


def split_list(text: str) -> tuple[str, ...]:
    """Split `a,b` into ("a", "b")."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def split_pairs(text: str) -> dict[str, str]:
    """Split `a=b,c=d` into a dictionary; raises `ConfigError` for anything else."""
    pairs = [word.partition("=") for word in split_list(text)]
    for key, sign, value in pairs:
        if not (key and sign and value):
            raise ConfigError(f"'{key}{sign}{value}' is not a pair", mend="Write it as --map excited=happy.")
    return {key: value for key, _, value in pairs}


# `predict`, `embed` and `listen`: the model, the recordings and the speaker profile.


def check_recordings(verb: Callable[..., object], model: str, recordings: Sequence[str]) -> None:
    """Raise `ConfigError` for a recording in place of the model, no recording, or a misspelt option among them."""
    from unheard.recogniser.sources import SUFFIXES

    if Path(model).suffix.lower() in SUFFIXES:
        mend = f"Write: unheard {verb.__name__} starter {shlex.quote(model)}"
        raise ConfigError(f"the model comes first, and '{model}' is a recording", mend=mend)
    names = {*inspect.signature(verb).parameters, *inspect.signature(Using).parameters} - {"model", "audio", "using"}
    for word in recordings:
        if word.startswith("-") and word != "-":
            options = [f"--{name.replace('_', '-')}" for name in names]
            mend = f"{did_you_mean(word, options)} Write a recording of this name as ./{word}."
            raise ConfigError(f"unknown option '{word}'", mend=mend)
    if not recordings:
        raise ConfigError("no recording given", mend="Name files, folders or patterns, or - for a list.")


@dataclass
class Adaptation:
    """The speaker profile as this process last read or stored it, and the store that keeps it."""

    profile: SpeakerProfile | None = None
    store: ProfileStore | None = None

    def save(self, profile: SpeakerProfile | None, model: OnnxModel) -> None:
        """Store a profile that has a name; what other processes have added to it since is kept."""
        if self.store is not None and profile is not None and profile.utterances:
            self.store.keep(profile, model.name, base=self.profile)
        self.profile = profile


@Parameter(name="*")
@dataclass(frozen=True)
class Using:
    """Options of `predict`, `embed` and `listen`: windows, the speaker, threads."""

    window: Annotated[
        float, option("Window length in seconds (0: the model's); a shorter recording is one window.")
    ] = 0.0
    hop: Annotated[float, option("Seconds between windows (0: the model's).")] = 0.0
    enrol: Annotated[
        tuple[Path, ...], option("Unlabelled recording of the same speaker; may be repeated.", negative="")
    ] = ()
    profile: Annotated[str, option("Name of a stored speaker profile to use and update.")] = ""
    profiles: ProfilesPath = None
    threads: Annotated[int, option("Threads per prediction.")] = 1

    def open(self, model: str) -> Recogniser:
        """Open a model; a window and a hop of 0 stand for the model's own."""
        from unheard.recogniser import Recogniser, WindowSettings
        from unheard.recogniser.model import open_model

        opened = open_model(model, threads=self.threads)
        own = opened.metadata.windows
        seconds = self.window or own.seconds
        return Recogniser(opened, windows=WindowSettings(seconds, self.hop or min(own.hop, seconds)))

    def adaptation(self, recogniser: Recogniser, channel: str, *, adapt: bool = False) -> Adaptation:
        """Load the stored profile and enrol the recordings; `adapt`: it will be updated along the way.

        Raises `ConfigError` for an unknown profile, and for one profile with `channel` each.
        """
        from unheard.recogniser.profiles import ProfileStore
        from unheard.recogniser.sources import channels_of

        if adapt:
            say("adapting: the speaker profile is updated with each prediction")
        if not (self.enrol or self.profile):
            return Adaptation()
        if channel == EACH:
            what = "each channel is another speaker, and a profile belongs to one speaker"
            raise ConfigError(what, mend="Choose one --channel.")
        model = recogniser.model
        store = ProfileStore(self.profiles) if self.profile else None
        stored = store.get(self.profile, model.digest, model.profile_width) if store is not None else None
        profile = stored
        useless: list[Path] = []
        for clip in self.enrol:
            # the same channel as in the call, unless the clip has one channel only
            of_clip = channel if channel != "mix" and len(channels_of(clip)) > 1 else "mix"
            try:
                profile = recogniser.enrol(clip, channel=of_clip, profile=profile, name=self.profile)
            except NoSpeechError:
                useless.append(clip)
                if useless == list(self.enrol):
                    raise
                say(f"{clip}: too little speech, not used for enrolment")
        found = Adaptation(stored, store)
        if self.enrol:
            found.save(profile, model)
        elif store is not None and profile is not None and not profile.utterances and not adapt:
            known = f" Stored, of any model: {', '.join(store.names())}." if store.names() else ""
            what, mend = f"there is no profile '{self.profile}' for this model", f"Make it with --enrol.{known}"
            raise ConfigError(what, where=store.folder, mend=mend)
        if profile is not None:
            say(f"adapted to {profile.name or 'the enrolled speaker'}: {counted(profile.utterances, 'utterance')}")
        return found


def write_predictions(
    recogniser: Recogniser,
    words: Sequence[str],
    options: PredictOptions,
    writer: Writer,
    adapted: Adaptation,
    *,
    carry: bool = False,
) -> int:
    """Write a prediction for each recording as it comes; returns 1 if a recording could not be read, else 0."""
    from unheard.audio import MOST_CHANNELS, channel_index
    from unheard.files import cannot_read
    from unheard.recogniser.recogniser import PredictOptions
    from unheard.recogniser.sources import recordings
    from unheard.settings import check_number

    failed, low, mixed, rate = 0, set[str](), set[str](), recogniser.model.metadata.features.sample_rate
    channel = options.get("channel", "mix")
    if channel != EACH:
        channel_index(channel, MOST_CHANNELS, "--channel")
    check_number("--min-confidence", options.get("min_confidence", 0.0), 0, 1)
    recogniser.check_profile(options.get("profile"), adapting=bool(options.get("adapt")))
    with recording_progress() as progress:
        for file in recordings(words, sys.stdin.buffer):
            try:
                if isinstance(file, UnheardError):
                    raise file
                given = options | PredictOptions(progress=progress(file))
                several = recogniser.predict_channels(file, **given) if channel == EACH else None
                answers = several or [recogniser.predict(file, **given)]
            except (UnheardError, OSError) as problem:
                error = cannot_read(str(file), problem) if isinstance(problem, OSError) else problem
                failed += 1
                say(f"unheard: {' '.join(str(error).split())}")
                writer.failed(file if isinstance(file, str) else file.where or "", error)
                continue
            for answer in answers:
                writer.add(answer)
            if header := _header(file):
                low |= {file} if header.sample_rate < rate else set()
                mixed |= {file} if header.channels > 1 and channel == "mix" and not options.get("segments") else set()
            if carry:
                options = options | PredictOptions(profile=answers[-1].profile)
                adapted.save(answers[-1].profile, recogniser.model)
    writer.close()
    if low:
        say(
            f"{counted(len(low), 'recording')} below {rate:,} Hz: higher frequencies that the model uses "
            "are missing, and predictions are less accurate (see the model card)"
        )
    if mixed:
        say(f"{counted(len(mixed), 'recording')} with several channels, mixed into one; a person each: --channel each")
    if failed:
        say(f"unheard: {counted(failed, 'recording')} could not be read")
    return int(failed > 0)


def _header(file: str) -> AudioInfo | None:
    """Read the header of a recording; None for an unreadable file and for a pipe, which can be read only once."""
    from unheard.audio import info

    try:
        return info(file) if Path(file).is_file() else None
    except AudioError:
        return None


@contextmanager
def recording_progress() -> Iterator[Callable[[str], Progress | None]]:
    """Yield a function from a path to a progress bar: None without a terminal or below a minute."""
    if not sys.stderr.isatty():
        yield lambda file: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:

        def start(file: str) -> Progress | None:
            for task in bar.task_ids:
                bar.remove_task(task)
            header = _header(file)
            if header is None or header.seconds < 60:
                return None
            task = bar.add_task(escape(Path(file).name), total=header.seconds)
            return lambda done: bar.update(task, completed=done)

        yield start
