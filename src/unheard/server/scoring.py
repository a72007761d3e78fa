"""An upload to answers: decoded in memory, scored block by block, given up where nobody waits any more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from unheard.audio import AudioInfo, info, read_blocks
from unheard.errors import AudioError, ConfigError, ManifestError, TooLongError
from unheard.recogniser.prediction import Prediction, Segment
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.recogniser import Recogniser
from unheard.recogniser.sources import channels_of
from unheard.recogniser.stream import Stream
from unheard.recogniser.turns import read_turns
from unheard.server.refusals import Refusal
from unheard.server.upload import Recording, Upload
from unheard.server.work import Job

MOST_CHANNELS = 16  # a compressed file can claim 255, and would take 255 times the memory while it is decoded
MOST_TURNS, MOST_OVERLAP = 5000, 4  # turns of a recording, and people who may speak at once
LARGEST = 1_000_000  # bytes of a file of turns
PIECE = 3  # seconds scored between two looks at whether anybody still waits, or is to go first


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
        raise Refusal("unusable_segments", f"{where}{error.what}"[:300], error.mend or "Send other turns.") from None


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A prediction, the steps of one hop that its segments are made of, and a remark on the recording, if any."""

    prediction: Prediction
    steps: tuple[Segment, ...]
    remark: str | None = None

    @classmethod
    def of(cls, recogniser: Recogniser, stream: Stream, steps: list[Segment], rate: int) -> Scored:
        """Finish a stream of audio that was sampled at `rate`; its steps are in `steps`."""
        prediction, remark = stream.finish(), remark_on(recogniser, rate)
        if prediction.duration <= recogniser.windows.seconds:  # one utterance has one answer
            return cls(prediction, prediction.segments, remark)
        return cls(prediction, (*steps[:-1], replace(steps[-1], end=prediction.duration)), remark)


def remark_on(recogniser: Recogniser, rate: int) -> str | None:
    """Return why a recording that was sampled at `rate` is less suitable, if it is."""
    needed = recogniser.model.metadata.features.sample_rate
    what = f"sampled at {rate:,} Hz, below the model's {needed:,} Hz: the model is less accurate on it (see its card)"
    return what if rate < needed else None


def inspect(upload: Upload, longest: float) -> AudioInfo:
    """Read the header of the recording; raises `Refusal` 422 for no audio, 413 for more than `longest` seconds."""
    with usable():
        header = info(Recording(upload.recording))
    if header.channels > MOST_CHANNELS:
        what = f"has {header.channels} channels, more than the {MOST_CHANNELS} taken here"
        raise Refusal("unusable_audio", what, "Mix them first.")
    if longest < header.seconds < float("inf"):
        raise Refusal("too_large", longest, "seconds")
    return header


class Scorer:
    """Scores one upload; raises `Refusal` 413 for too long a recording, 422 for an unusable one, 504 when stopped."""

    def __init__(self, recogniser: Recogniser, upload: Upload, header: AudioInfo, longest: float, job: Job) -> None:
        self._recogniser, self._upload, self._longest, self._job = recogniser, upload, longest, job
        self._file = Recording(upload.recording)
        self._rate, self._rate_before = recogniser.model.metadata.features.sample_rate, header.sample_rate
        self._total, self._done = min(header.seconds, longest), 0.0  # seconds to score of all channels, and scored

    def score(self, channel: str | None, min_confidence: float = 0.0) -> list[Scored]:
        """Score one channel, mix, left, right or a number, or (None) each on its own."""
        with usable(self._longest):
            if channel is not None and self._upload.segments is not None:
                return [self._score_turns(channel, *self._upload.segments, min_confidence)]
            if channel is not None:
                return [self._score(channel, self._enrolled(channel), min_confidence)]
            channels = channels_of(self._file)
            self._total *= len(channels)
            return [self._score(one, None, min_confidence) for one in channels]

    def _enrolled(self, channel: str) -> SpeakerProfile | None:
        """The speaker profile from the enrolment clips."""
        if self._upload.enrol and not self._recogniser.model.profile_width:
            raise Refusal("no_adaptation")
        profile = None
        for number, clip in enumerate(self._upload.enrol, 1):
            with usable(self._longest, f"enrolment clip {number}: "):
                file = Recording(clip)
                profile = self._recogniser.enrol(
                    file,
                    channel=channel if len(channels_of(file)) > 1 else "mix",
                    profile=profile,
                    longest=self._longest,
                    progress=self._go_on,
                )
        return profile

    def _score(self, channel: str, profile: SpeakerProfile | None, min_confidence: float) -> Scored:
        steps: list[Segment] = []
        stream = self._recogniser.stream(
            profile=profile, channel=channel, watch=steps.append, min_confidence=min_confidence
        )
        self._file.seek(0)
        for block in read_blocks(self._file, sample_rate=self._rate, channel=channel, longest=self._longest):
            for first in range(0, len(block), PIECE * self._rate):
                self._go_on()
                piece = block[first : first + PIECE * self._rate]
                stream.push(piece)
                self._done += len(piece) / self._rate
                self._job.share = min(1.0, self._done / max(self._total, 0.1))
        return Scored.of(self._recogniser, stream, steps, self._rate_before)

    def _score_turns(self, channel: str, name: str, content: bytes, min_confidence: float) -> Scored:
        """Score the turns in a file, each adapted to the other turns of its speaker."""
        if len(content) > LARGEST:
            raise ManifestError(f"a file of turns must not exceed {LARGEST / 1e6:g} MB", mend="Send the turns alone.")
        found = read_turns(name, content)
        if len(found) > 1:
            what = f"the turns of {len(found)} recordings"
            raise ManifestError(what, where=name, mend="Send those of this recording alone.")
        (turns,) = found.values()
        spoken = sum(min(turn.end, self._total) - min(turn.start, self._total) for turn in turns)
        if len(turns) > MOST_TURNS or spoken > MOST_OVERLAP * self._total + 1:
            what = f"{len(turns)} turns of {spoken:.0f} s in all are too many"
            mend = f"Send at most {MOST_TURNS}, and {MOST_OVERLAP} at a time."
            raise ManifestError(what, where=name, mend=mend)

        def done(seconds: float) -> None:
            self._go_on()
            self._job.share = min(1.0, seconds / max(self._total, 0.1))

        prediction = self._recogniser.predict(
            self._file,
            channel=channel,
            longest=self._longest,
            progress=done,
            min_confidence=min_confidence,
            segments=turns,
        )
        return Scored(prediction, prediction.segments, remark_on(self._recogniser, self._rate_before))

    def _go_on(self, _: object = None) -> None:
        self._job.pause()
        if self._job.stop:
            raise Refusal("timeout")
