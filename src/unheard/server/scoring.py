"""An upload to answers: decoded in memory, scored block by block, given up where nobody waits any more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO

from unheard.audio import AudioInfo, info
from unheard.errors import AudioError, ConfigError, ManifestError, TooLongError
from unheard.recogniser.prediction import Prediction, Segment
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.recogniser import Progress, Recogniser
from unheard.recogniser.sources import channels_of
from unheard.recogniser.turns import Turn, read_turns
from unheard.server.refusals import Refusal
from unheard.server.upload import Upload
from unheard.server.work import Job

MOST_CHANNELS = 16  # a compressed file can claim 255, and would take 255 times the memory while it is decoded
MOST_TURNS, MOST_OVERLAP = 5000, 4  # turns of a recording, and people who may speak at once
LARGEST, LONGEST_NAME = 1_000_000, 100  # bytes of a file of turns, letters of a speaker's name


@contextmanager
def usable(longest: float = 0.0, of: str = "") -> Iterator[None]:
    """Turn errors of the library into refusals: 413 for too long a recording, 422 for an unusable one.

    Where a recording is can name places on this machine and is left out.
    """
    try:
        yield
    except TooLongError:
        raise Refusal("too_large", longest, "seconds") from None
    except AudioError as error:
        raise Refusal("unusable_audio", f"{of}{error.what}", error.mend or "Send another recording.") from None
    except (ManifestError, ConfigError) as error:  # of a file of turns, whose place is a line
        where = f"{error.where}: " if error.where else ""
        mend = (error.mend or "Send other turns.")[:300]
        raise Refusal("unusable_segments", f"{where}{error.what}"[:300], mend) from None


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A prediction, the steps of one hop that its segments are made of, and a remark on the recording, if any."""

    prediction: Prediction
    steps: tuple[Segment, ...]
    remark: str | None = None

    @classmethod
    def of(
        cls, recogniser: Recogniser, prediction: Prediction, steps: list[Segment], rate: int, channels: int = 1
    ) -> Scored:
        """Return what was found in audio of `channels` that was sampled at `rate`; `steps` were watched."""
        needed, remarks = recogniser.model.metadata.features.sample_rate, []
        if rate < needed:
            what = f"sampled at {rate:,} Hz, below the model's {needed:,} Hz: the model is less accurate on it"
            remarks.append(f"{what} (see its card)")
        if channels > 1 and prediction.channel == "mix":
            remarks.append(f"the mean of {channels} channels: if each is another person's, ask for each (/channels)")
        remark = "; ".join(remarks) or None
        if not steps or prediction.duration <= recogniser.windows.seconds:  # turns; one utterance has one answer
            return cls(prediction, prediction.segments, remark)
        return cls(prediction, (*steps[:-1], replace(steps[-1], end=prediction.duration)), remark)


def inspect(upload: Upload, longest: float) -> AudioInfo:
    """Read the header of the recording; raises `Refusal` 422 for no audio, 413 for more than `longest` seconds."""
    with usable():
        header = info(BytesIO(upload.recording))
    if header.channels > MOST_CHANNELS:
        what = f"has {header.channels} channels, more than the {MOST_CHANNELS} taken here"
        raise Refusal("unusable_audio", what, "Mix them first.")
    if longest < header.seconds < float("inf"):
        raise Refusal("too_large", longest, "seconds")
    return header


def score(
    recogniser: Recogniser,
    upload: Upload,
    header: AudioInfo,
    longest: float,
    job: Job,
    channel: str | None,
    min_confidence: float = 0.0,
) -> list[Scored]:
    """Score one channel, mix, left, right or a number, or (None) each on its own.

    Raises `Refusal` 413 for too long a recording, 422 for an unusable one, 504 when stopped.
    """
    file, seconds, done, found = BytesIO(upload.recording), min(header.seconds, longest), 0.0, list[Scored]()

    def go_on(_: object = None) -> None:
        job.pause()
        if job.stop:
            raise Refusal("timeout")

    def progress(of_channel: float) -> None:
        go_on()
        job.share = min(1.0, (done + of_channel) / max(seconds * len(channels), 0.1))

    with usable(longest):
        channels = channels_of(file) if channel is None else [channel]
        profile = _enrolled(recogniser, upload.enrol, channels[0], longest, go_on)
        turns = None if upload.segments is None else _turns(*upload.segments, seconds)
        for one in channels:
            steps: list[Segment] = []
            prediction = recogniser.predict(
                file,
                channel=one,
                profile=profile,
                longest=longest,
                progress=progress,
                min_confidence=min_confidence,
                segments=turns,
                watch=steps.append,
            )
            done += prediction.duration
            prediction = replace(prediction, file=upload.name)
            found.append(Scored.of(recogniser, prediction, steps, header.sample_rate, header.channels))
    return found


def _enrolled(
    recogniser: Recogniser, clips: list[bytes], channel: str, longest: float, go_on: Progress
) -> SpeakerProfile | None:
    """Return the speaker profile from the enrolment clips, if any."""
    if clips and not recogniser.model.profile_width:
        raise Refusal("no_adaptation")
    profile = None
    for number, clip in enumerate(clips, 1):
        with usable(longest, f"enrolment clip {number}: "):
            file = BytesIO(clip)
            own = channel if len(channels_of(file)) > 1 else "mix"
            profile = recogniser.enrol(file, channel=own, profile=profile, longest=longest, progress=go_on)
    return profile


def _turns(name: str, content: bytes, seconds: float) -> Sequence[Turn]:
    """Return the turns in a file of one recording of so many seconds; raises `ManifestError` for others or too many."""
    if len(content) > LARGEST:
        raise ManifestError(f"a file of turns must not exceed {LARGEST / 1e6:g} MB", mend="Send the turns alone.")
    found = read_turns(name, content)
    if len(found) > 1:
        what = f"the turns of {len(found)} recordings"
        raise ManifestError(what, where=name, mend="Send those of this recording alone.")
    (turns,) = found.values()
    if any(len(turn.speaker) > LONGEST_NAME for turn in turns):
        raise ManifestError(f"a speaker's name has more than {LONGEST_NAME} letters", where=name, mend="Shorten it.")
    spoken = sum(min(turn.end, seconds) - min(turn.start, seconds) for turn in turns)
    if len(turns) > MOST_TURNS or spoken > MOST_OVERLAP * seconds + 1:
        what = f"{len(turns)} turns of {spoken:.0f} s in all are too many"
        raise ManifestError(what, where=name, mend=f"Send at most {MOST_TURNS}, and {MOST_OVERLAP} at a time.")
    return turns
