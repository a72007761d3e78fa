"""Recognise emotions from Python: `unheard.load("starter").predict("call.wav")`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, overload

import numpy as np
import numpy.typing as npt

from unheard.audio import Samples, channel_name
from unheard.errors import AudioError, ConfigError, ModelError, NoSpeechError
from unheard.recogniser.model import OnnxModel, open_model
from unheard.recogniser.prediction import Prediction, Segment, Totals
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.sources import AudioInput, AudioInputs, blocks_of, channels_of, name_of
from unheard.recogniser.stream import OnSegment, Stream
from unheard.recogniser.turns import Turn, TurnsByRecording, in_order, read_turns, turns_of
from unheard.recogniser.windows import LEAST_SPEECH, Window, WindowResult, WindowSettings, cut, score_window
from unheard.settings import check_number

if TYPE_CHECKING:
    from typing_extensions import Unpack

Progress: TypeAlias = Callable[[float], object]

Segments: TypeAlias = str | Path | TurnsByRecording | Sequence[Turn | tuple[float, float, str] | Mapping[str, Any]]
"""Turns: a file or folder, the result of `read_turns`, or the turns of the recording, also as mappings."""

LONGEST = 24 * 3600.0  # default limit for the length of a recording, seconds
_BEYOND = 2.0  # seconds by which the end of a turn may lie behind that of its recording
_BLOCK_SECONDS = 1  # between two calls of `progress`, after each of which others may have their turn


class PredictOptions(TypedDict, total=False):
    """Keyword arguments of `Recogniser.predict`."""

    sample_rate: int | None
    channel: str | int
    profile: SpeakerProfile | None
    adapt: bool | None
    longest: float
    progress: Progress | None
    min_confidence: float
    segments: Segments | None
    watch: OnSegment | None


def load(
    model: str | Path,
    *,
    windows: WindowSettings | None = None,
    least_speech: float = LEAST_SPEECH,
    threads: int = 1,
) -> Recogniser:
    """Load a recogniser from a model folder, an .onnx file, a model's name in the package, or `hf:OWNER/NAME`.

    `windows` overrides those of the model; the recogniser abstains below `least_speech` seconds of speech; the graph
    runs on `threads` threads. Raises `ModelError` for a missing or broken model.
    """
    return Recogniser(open_model(model, threads=threads), windows=windows, least_speech=least_speech)


class Recogniser:
    """A model ready to use. It keeps no audio, and several threads may share it."""

    def __init__(
        self, model: OnnxModel, *, windows: WindowSettings | None = None, least_speech: float = LEAST_SPEECH
    ) -> None:
        check_number("least_speech", least_speech, 0, math.inf)
        self.model = model
        self.windows = windows or model.metadata.windows
        self.least_speech = least_speech
        self._rate = model.metadata.features.sample_rate

    def __repr__(self) -> str:
        return f"Recogniser({self.model.name!r}: {', '.join(self.labels)})"

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions in index order."""
        return self.model.labels

    @overload
    def predict(self, audio: AudioInput, **options: Unpack[PredictOptions]) -> Prediction: ...

    @overload
    def predict(self, audio: AudioInputs, **options: Unpack[PredictOptions]) -> list[Prediction]: ...

    def predict(
        self,
        audio: AudioInput | AudioInputs,
        *,
        sample_rate: int | None = None,
        channel: str | int = "mix",
        profile: SpeakerProfile | None = None,
        adapt: bool | None = None,
        longest: float = LONGEST,
        progress: Progress | None = None,
        min_confidence: float = 0.0,
        segments: Segments | None = None,
        watch: OnSegment | None = None,
    ) -> Prediction | list[Prediction]:
        """Predict the emotion of one recording, or of each in a list.

        `audio` is a path, an open binary file, or samples (N,) or (N, channels), floats in [-1, 1] or integers, at
        `sample_rate` (default: that of the model). `channel` is mix, left, right or a number from 1. `profile` is the
        result of `enrol`; `adapt` updates it along each recording. `progress` receives the seconds done so far; an
        exception that it raises ends the work. A recording or segment whose highest probability is below
        `min_confidence` has no label and abstains as uncertain; it keeps its probabilities. See `stream` for `watch`.
        With `segments` every turn is one segment, and the model adapts to each speaker by that speaker's other turns,
        unless `adapt` is False; the channel is then held in memory (230 MB an hour).
        Raises `AudioError` for audio that cannot be read, `TooLongError` above `longest` seconds, `ModelError` for a
        profile of another model, `ManifestError` for broken `segments`.
        """
        found, done = [], progress or (lambda seconds: None)
        for one in audio if isinstance(audio, (list, tuple)) else [audio]:
            name, named = name_of(one), channel_name(channel)
            blocks = blocks_of(one, self._rate, sample_rate=sample_rate, channel=channel, longest=longest)
            if segments is not None:
                if profile is not None:
                    what = "a profile is of one speaker, and segments name several"
                    raise ConfigError(what, mend="Leave one of them.")
                turns = _turns(segments, name)
                held = bytearray()  # grows in place, where joining blocks would need them twice
                for block in blocks:
                    held += block.tobytes()
                samples = np.frombuffer(held, np.float32)
                prediction = self._predict_turns(samples, turns, adapt, name, named, done)
                found.append(prediction.at_least(min_confidence))
                continue
            stream = self.stream(
                profile=profile, adapt=bool(adapt), name=name, channel=named, watch=watch, min_confidence=min_confidence
            )
            for block in self._short(blocks):
                stream.push(block)
                done(stream.seconds)
            found.append(stream.finish())
        return found if isinstance(audio, (list, tuple)) else found[0]

    def predict_channels(self, audio: AudioInput, **options: Unpack[PredictOptions]) -> list[Prediction]:
        """Predict every channel of one recording as a separate speaker, as in a call."""
        return [self.predict(audio, **(options | {"channel": channel})) for channel in channels_of(audio)]

    def embed(self, audio: AudioInput, **options: Unpack[PredictOptions]) -> npt.NDArray[np.float32]:
        """Compute the embedding (E,) of one recording; raises `AudioError` where there is too little speech."""
        if isinstance(audio, (list, tuple)):
            raise AudioError("embed takes one recording", mend="Call it for each.")
        found = self.predict(audio, **options)
        if found.embedding is None:
            raise AudioError(f"no embedding: {found.abstained}", where=found.file or None, mend="Use more speech.")
        return found.embedding

    def enrol(
        self,
        clips: AudioInput | AudioInputs,
        *,
        sample_rate: int | None = None,
        channel: str | int = "mix",
        profile: SpeakerProfile | None = None,
        name: str = "",
        longest: float = LONGEST,
        progress: Progress | None = None,
    ) -> SpeakerProfile:
        """Make a speaker profile from unlabelled speech of one person, or add to `profile`.

        Clips are cut into windows of the model's length that do not overlap. Each counts as an utterance, and an
        utterance that `profile` already contains counts once. Other arguments are those of `predict`.
        Raises `AudioError` where no clip has enough speech, `ModelError` for a model that cannot adapt.
        """
        self.check_profile(profile, adapting=True)
        found = profile or SpeakerProfile.unknown(self.model.digest, self.model.profile_width, name)
        enough = False
        for clip in clips if isinstance(clips, (list, tuple)) else [clips]:
            blocks = blocks_of(clip, self._rate, sample_rate=sample_rate, channel=channel, longest=longest)
            for description in self.descriptions(blocks, progress):
                found, enough = found.enrol(description), True
        if not enough:
            raise NoSpeechError("no clip holds enough speech for a speaker profile", mend="Enrol longer recordings.")
        return found

    def descriptions(
        self, blocks: Iterable[Samples], progress: Progress | None = None
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the description (V,) of every non-overlapping window with enough speech."""
        seconds = self.model.metadata.windows.seconds
        for window in cut(blocks, WindowSettings(seconds, seconds), self._rate):
            description = self.score(window).description
            if progress is not None:
                progress((window.first + len(window.samples)) / self._rate)
            if description is not None:
                yield description

    def stream(
        self,
        *,
        sample_rate: int | None = None,
        profile: SpeakerProfile | None = None,
        adapt: bool = False,
        name: str = "",
        channel: str = "mix",
        watch: OnSegment | None = None,
        min_confidence: float = 0.0,
    ) -> Stream:
        """Start a stream for samples of one speaker, floats in [-1, 1] or integers.

        `name` and `channel` appear in the prediction. `watch` receives every step of one hop once it is final, as a
        segment. Segments whose highest probability is below `min_confidence` have no label.
        """
        self.check_profile(profile, adapting=adapt)
        return Stream(self, sample_rate, profile, adapt, (name, channel), watch, min_confidence)

    def check_profile(self, profile: SpeakerProfile | None, *, adapting: bool) -> None:
        """Raise `ModelError` where the model cannot adapt, or `profile` belongs to another model."""
        if not isinstance(profile, SpeakerProfile | None):
            mend = "Give what `enrol` returns."
            raise ConfigError(f"a speaker profile cannot be a {type(profile).__name__}", mend=mend)
        if (adapting or profile is not None) and not self.model.profile_width:
            raise ModelError("this model cannot adapt to a speaker", where=self.model.where)
        if profile is not None and profile.digest != self.model.digest:
            what = f"the speaker profile '{profile.name}' was made with another model"
            raise ModelError(what, where=self.model.where, mend="Enrol the speaker again with this one.")

    def score(self, window: Window, profile: SpeakerProfile | None = None) -> WindowResult:
        """Score one window, with a profile."""
        return score_window(self.model, window, round(self.windows.hop * self._rate), self.least_speech, profile)

    def _short(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Cut blocks into shorter ones, after each of which the caller can be told."""
        size = _BLOCK_SECONDS * self._rate
        return (block[first : first + size] for block in blocks for first in range(0, len(block), size))

    def _predict_turns(
        self, samples: Samples, turns: list[Turn], adapt: bool | None, name: str, channel: str, done: Progress
    ) -> Prediction:
        """Predict sorted turns of samples (N,) at the model's rate, each as a recording of its own.

        Unless `adapt` is False or the model cannot adapt, a turn is scored with the profile of its speaker's other
        turns. Speakers without a name, or called unknown, are not adapted to. The answer on the whole is the mean over
        the turns, weighted by their speech. Raises `ConfigError` for turns that begin after the end of the samples, or
        end more than `_BEYOND` seconds after it.
        """
        model, duration = self.model, len(samples) / self._rate
        latest = max((turn.end for turn in turns if math.isfinite(turn.end)), default=0.0)  # infinite: to the end
        if turns[-1].start >= duration or latest > duration + _BEYOND:
            begins = turns[-1].start >= duration
            place = f"begins at {turns[-1].start:.1f}" if begins else f"ends at {latest:.1f}"
            what = f"a turn {place} s, and the recording ends at {duration:.1f} s"
            raise ConfigError(what, where=name or None, mend="Give the segments of this recording, in seconds.")
        self.check_profile(None, adapting=bool(adapt))
        adapt = model.profile_width > 0 if adapt is None else adapt
        edges = [(round(turn.start * self._rate), round(min(turn.end, duration) * self._rate)) for turn in turns]
        edges = [(min(first, len(samples) - 1), last) for first, last in edges]
        pieces = [samples[first : max(first + 1, last)] for first, last in edges]
        known = [adapt and turn.known for turn in turns]
        work = sum(len(piece) * (1 + one) for piece, one in zip(pieces, known, strict=True))
        passed = 0

        def blocks(piece: Samples) -> Iterator[Samples]:
            nonlocal passed
            for block in self._short([piece]):
                yield block
                passed += len(block)
                done(duration * passed / work)

        parts = zip(pieces, known, strict=True)
        descriptions = [list(self.descriptions(blocks(piece))) if one else [] for piece, one in parts]
        profiles = _profiles_of_others([turn.speaker for turn in turns], descriptions, model)
        totals, segments, spoken = Totals(), [], 0.0
        for turn, piece, profile in zip(turns, pieces, profiles, strict=True):
            stream = self.stream(profile=profile)
            for block in blocks(piece):
                stream.push(block)
            one = stream.finish()
            answer = one.label, one.probabilities, one.abstained
            segments.append(Segment(turn.start, min(turn.end, duration), *answer, turn.speaker))
            totals.add(one.speech_seconds, [*one.probabilities.values()], one.embedding, one.abstained)
            spoken += one.speech_seconds
        return Prediction(
            **totals.answer(self.labels),
            file=name,
            segments=tuple(segments),
            duration=duration,
            speech_seconds=spoken,
            channel=channel,
            model=model.name,
        )


def _profiles_of_others(
    speakers: Sequence[str], descriptions: Sequence[Sequence[npt.NDArray[np.float32]]], model: OnnxModel
) -> Iterator[SpeakerProfile | None]:
    """Yield the profile for each turn, by the descriptions (V,) of its speaker's other turns; None without any."""
    sums = np.zeros((len(speakers), model.profile_width))
    for number, own in enumerate(descriptions):
        if own:
            sums[number] = np.sum(own, axis=0, dtype=np.float64)
    counts, numbers = np.array([len(own) for own in descriptions]), {name: n for n, name in enumerate(speakers)}
    who = np.array([numbers[name] for name in speakers])
    for number in range(len(who)):
        others = (who == who[number]) & (np.arange(len(who)) != number)
        count = int(counts[others].sum())
        yield SpeakerProfile(model.digest, sums[others].sum(axis=0) / count, count) if count else None


def _turns(segments: Segments, recording: str) -> list[Turn]:
    """Return the turns of one recording, sorted; raises `UnheardError` where there are none, or broken ones."""
    if isinstance(segments, (str, Path)):
        segments = read_turns(segments)
    if isinstance(segments, Mapping):
        segments = turns_of(segments, recording)
    if not isinstance(segments, Sequence) or not segments:
        raise ConfigError("there are no turns", mend="Give a list of (start, end, speaker).")
    return in_order(map(_turn, segments))


def _turn(one: Any) -> Turn:
    if isinstance(one, Mapping):
        one = one.get("start"), one.get("end"), one.get("speaker", "")
    try:
        return one if isinstance(one, Turn) else Turn(*one)
    except TypeError:
        raise ConfigError(f"{one!r} is no turn", mend="Give (start, end, speaker), times in seconds.") from None
