"""Recognise emotions from Python: `unheard.load("starter").predict("call.wav")`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypedDict, overload

import numpy as np
import numpy.typing as npt

from unheard.audio import MOST_CHANNELS, Samples, channel_index, channel_name
from unheard.errors import AudioError, ConfigError, ModelError, NoSpeechError, UnheardError
from unheard.files import cannot_read
from unheard.recogniser.calls import Segments, predict_turns, turns_for
from unheard.recogniser.inputs import Found
from unheard.recogniser.model import OnnxModel, open_model
from unheard.recogniser.prediction import Prediction
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.sources import Audio, Several, blocks_of, channels_of, name_of
from unheard.recogniser.stream import Stream, Watch, WindowSettings, cut
from unheard.recogniser.window_scorer import LEAST_SPEECH, WindowScorer

if TYPE_CHECKING:
    from typing_extensions import Unpack

Progress: TypeAlias = Callable[[float], object]

LONGEST = 24 * 3600.0
"""Default limit for the length of a recording, seconds."""


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


def load(
    model: str | Path,
    *,
    windows: WindowSettings | None = None,
    least_speech: float = LEAST_SPEECH,
    threads: int = 1,
) -> Recogniser:
    """Load a recogniser from a model folder, an .onnx file, a model's name in the package, or `hf:OWNER/NAME`.

    `windows` replaces the model's own; the recogniser abstains below `least_speech` seconds of speech; the graph runs
    on `threads` threads. Raises `ModelError` where there is no such model, or a broken one.
    """
    return Recogniser(open_model(model, threads=threads), windows=windows, least_speech=least_speech)


class Recogniser:
    """A model ready to use. It keeps no audio, and several threads may share it."""

    def __init__(
        self, model: OnnxModel, *, windows: WindowSettings | None = None, least_speech: float = LEAST_SPEECH
    ) -> None:
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
    def predict(self, audio: Audio, **options: Unpack[PredictOptions]) -> Prediction: ...

    @overload
    def predict(self, audio: Several, **options: Unpack[PredictOptions]) -> list[Prediction]: ...

    def predict(
        self,
        audio: Audio | Several,
        *,
        sample_rate: int | None = None,
        channel: str | int = "mix",
        profile: SpeakerProfile | None = None,
        adapt: bool | None = None,
        longest: float = LONGEST,
        progress: Progress | None = None,
        min_confidence: float = 0.0,
        segments: Segments | None = None,
    ) -> Prediction | list[Prediction]:
        """Predict the emotion of one recording, or of each in a list.

        `audio` is a path, an open binary file, or samples (N,) or (N, channels), floats in [-1, 1] or integers, at
        `sample_rate` (default: that of the model). `channel` is mix, left, right or a number from 1. `profile` is the
        result of `enrol`; `adapt` updates it along each recording. `progress` receives the seconds done so far; an
        exception that it raises ends the work. A recording or segment whose highest probability is below
        `min_confidence` has no label and abstains as uncertain; it keeps its probabilities.
        With `segments` every turn is one segment, and each speaker is adapted to by the other turns of the recording
        that are theirs, unless `adapt` is False; the channel is then held in memory (230 MB an hour).
        Raises `AudioError` for audio that cannot be read, `TooLongError` above `longest` seconds, `ModelError` for a
        profile of another model, `ManifestError` for broken `segments`.
        """
        if isinstance(audio, (list, tuple)):
            options = PredictOptions(
                sample_rate=sample_rate,
                channel=channel,
                profile=profile,
                adapt=adapt,
                longest=longest,
                progress=progress,
                min_confidence=min_confidence,
                segments=segments,
            )
            return [self.predict(one, **options) for one in audio]
        name, named = name_of(audio), channel_name(channel)
        blocks = blocks_of(audio, self._rate, sample_rate=sample_rate, channel=channel, longest=longest)
        if segments is not None:
            if profile is not None:
                raise ConfigError("a profile is of one speaker, and segments name several", mend="Leave one of them.")
            turns = turns_for(segments, name)
            samples = np.concatenate([np.zeros(0, np.float32), *blocks])
            found = predict_turns(self, samples, turns, adapt=adapt, name=name, channel=named, progress=progress)
            return found.at_least(min_confidence)
        stream = self.stream(
            profile=profile, adapt=bool(adapt), name=name, channel=named, min_confidence=min_confidence
        )
        for block in blocks:
            stream.push(block)
            if progress is not None:
                progress(stream.seconds)
        return stream.finish()

    def predict_channels(self, audio: Audio, **options: Unpack[PredictOptions]) -> list[Prediction]:
        """Predict every channel of one recording; each is another speaker, as in a call."""
        return [self.predict(audio, **(options | {"channel": channel})) for channel in channels_of(audio)]

    def embed(self, audio: Audio, **options: Unpack[PredictOptions]) -> npt.NDArray[np.float32]:
        """Compute the embedding (E,) of one recording; raises `AudioError` where there is too little speech."""
        found = self.predict(audio, **options)
        if found.embedding is None:
            raise AudioError(f"no embedding: {found.abstained}", where=found.file or None, mend="Use more speech.")
        return found.embedding

    def enrol(
        self,
        clips: Audio | Several,
        *,
        sample_rate: int | None = None,
        channel: str | int = "mix",
        profile: SpeakerProfile | None = None,
        name: str = "",
        longest: float = LONGEST,
        progress: Progress | None = None,
    ) -> SpeakerProfile:
        """Make a speaker profile from unlabelled speech of one person, or add to `profile`.

        Clips are cut into windows of the model's own length that do not overlap, each an utterance; an utterance that
        is in `profile` already counts once. Other arguments are as of `predict`.
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
        """Yield the description (V,) of every window with enough speech, of windows that do not overlap."""
        score, seconds = self._scorer(), self.model.metadata.windows.seconds
        for window in cut(blocks, WindowSettings(seconds, seconds), self._rate):
            description = score(window).description
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
        watch: Watch | None = None,
        min_confidence: float = 0.0,
    ) -> Stream:
        """Start a stream for samples of one speaker, floats in [-1, 1] or integers.

        `name` and `channel` appear in the prediction. `watch` receives every step of one hop once it is final, as a
        segment. Segments whose highest probability is below `min_confidence` have no label.
        """
        self.check_profile(profile, adapting=adapt)
        return Stream(
            self.model,
            self._scorer(),
            self.windows,
            sample_rate=sample_rate,
            profile=profile,
            adapting=adapt,
            name=name,
            channel=channel,
            watch=watch,
            min_confidence=min_confidence,
        )

    def check_profile(self, profile: SpeakerProfile | None, *, adapting: bool) -> None:
        """Raise `ModelError` where the model cannot adapt, or `profile` belongs to another model."""
        if (adapting or profile is not None) and not self.model.profile_width:
            raise ModelError("this model cannot adapt to a speaker", where=self.model.where)
        if profile is not None and profile.digest != self.model.digest:
            raise ModelError(
                f"the speaker profile '{profile.name}' was made with another model",
                where=self.model.where,
                mend="Enrol the speaker again with this one.",
            )

    def _scorer(self) -> WindowScorer:
        return WindowScorer(self.model, round(self.windows.hop * self._rate), self.least_speech)


EACH = "each"
"""The value of `Options.channel` for every channel, each another speaker."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A recording without a prediction, and the error."""

    file: str
    error: UnheardError


@dataclass(frozen=True, slots=True)
class Options:
    """How to score several recordings; `channel` may be `each`.

    With `adapt` the profile is updated along each recording; with `carry`, for recordings of one speaker, it is also
    kept from one recording to the next. `segments` are as in `Recogniser.predict`.
    """

    channel: str = "mix"
    profile: SpeakerProfile | None = None
    adapt: bool | None = None
    carry: bool = False
    min_confidence: float = 0.0
    segments: Segments | None = None


def predictions(
    recogniser: Recogniser,
    found: Iterable[Found],
    options: Options,
    progress: Callable[[str], Progress | None] = lambda file: None,
) -> Iterator[Prediction | Failure]:
    """Predict recordings one after another, each as soon as it is found; a broken one does not stop the others.

    Raises `AudioError` for a channel that no recording has, `ModelError` for a profile or adaptation that does not fit.
    """
    profile = options.profile
    if options.channel != EACH:
        channel_index(options.channel, MOST_CHANNELS, "--channel")
    recogniser.check_profile(profile, adapting=bool(options.adapt))
    for file in found:
        if isinstance(file, UnheardError):
            yield Failure(file.where or "", file)
            continue
        given = PredictOptions(
            adapt=options.adapt,
            progress=progress(file),
            min_confidence=options.min_confidence,
            segments=options.segments,
        )
        try:
            if options.channel == EACH:
                answers = recogniser.predict_channels(file, **given)
            else:
                given |= {"channel": options.channel, "profile": profile}
                answers = [recogniser.predict(file, **given)]
        except UnheardError as error:
            yield Failure(file, error)
            continue
        except OSError as problem:
            yield Failure(file, cannot_read(file, problem))
            continue
        if options.carry:
            profile = answers[-1].profile
        yield from answers
