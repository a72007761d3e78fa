"""`unheard.load("starter").predict("call.wav")`: the way in for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
import numpy.typing as npt

from unheard.channels import MOST_CHANNELS, channel_index, channel_name
from unheard.errors import AudioError, ModelError, NoSpeechError, UnheardError
from unheard.files import cannot_read
from unheard.recogniser.inputs import Found
from unheard.recogniser.model import OnnxModel, open_model
from unheard.recogniser.prediction import Prediction, Segment
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.sources import Audio, Several, blocks_of, channels_of, name_of
from unheard.recogniser.stream import Stream, Window, WindowCutter, WindowSettings
from unheard.recogniser.window_scorer import LEAST_SPEECH, Ear

Progress: TypeAlias = Callable[[float], object]

LONGEST = 24 * 3600.0
"""Seconds of a recording that are heard at most, unless told otherwise."""


def load(
    model: str | Path,
    *,
    windows: WindowSettings | None = None,
    least_speech: float = LEAST_SPEECH,
    threads: int = 1,
) -> Recogniser:
    """A recogniser from a model's folder, its .onnx file, or the name of a model that came with the package.

    `windows` instead of the model's own, `least_speech` seconds below which it abstains, `threads` for the graph.
    Raises `ModelError` where there is no such model, or one that is broken.
    """
    return Recogniser(open_model(model, threads=threads), windows=windows, least_speech=least_speech)


class Recogniser:
    """A model in use. It keeps nothing of what it hears, and may be used from several threads."""

    def __init__(
        self, model: OnnxModel, *, windows: WindowSettings | None = None, least_speech: float = LEAST_SPEECH
    ) -> None:
        self.model = model
        self.windows = windows or model.metadata.windows
        self.least_speech = least_speech

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions it knows, in index order."""
        return self.model.labels

    @overload
    def predict(
        self,
        audio: Audio,
        *,
        sample_rate: int | None = None,
        channel: str | int = "mix",
        profile: SpeakerProfile | None = None,
        adapt: bool = False,
        longest: float = LONGEST,
        progress: Progress | None = None,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        audio: Several,
        *,
        sample_rate: int | None = None,
        channel: str | int = "mix",
        profile: SpeakerProfile | None = None,
        adapt: bool = False,
        longest: float = LONGEST,
        progress: Progress | None = None,
    ) -> list[Prediction]: ...

    def predict(
        self,
        audio: Audio | Several,
        *,
        sample_rate: int | None = None,
        channel: str | int = "mix",
        profile: SpeakerProfile | None = None,
        adapt: bool = False,
        longest: float = LONGEST,
        progress: Progress | None = None,
    ) -> Prediction | list[Prediction]:
        """What is heard in one recording, or in each of several.

        `audio` is a path, an open binary file, or samples (N,) or (N, channels), floats in [-1, 1] or integers, at
        `sample_rate` (by default the model's own). `channel` is mix, left, right or a number from 1. `profile` is what
        `enrol` knows of the speaker; `adapt` goes on learning it along each recording. More than `longest` seconds
        are refused. `progress` is told the seconds heard so far; what it raises ends the work.
        Raises `AudioError` for audio that cannot be read, `ModelError` for a profile of another model.
        """
        if isinstance(audio, (list, tuple)):
            return [
                self.predict(
                    one,
                    sample_rate=sample_rate,
                    channel=channel,
                    profile=profile,
                    adapt=adapt,
                    longest=longest,
                    progress=progress,
                )
                for one in audio
            ]
        stream = self.stream(profile=profile, adapt=adapt, name=name_of(audio), channel=channel_name(channel))
        for block in blocks_of(audio, self._rate, sample_rate=sample_rate, channel=channel, longest=longest):
            stream.push(block)
            if progress is not None:
                progress(stream.seconds)
        return stream.finish()

    def predict_channels(
        self,
        audio: Audio,
        *,
        sample_rate: int | None = None,
        adapt: bool = False,
        longest: float = LONGEST,
        progress: Progress | None = None,
    ) -> list[Prediction]:
        """A prediction for every channel of one recording, in which each is a person of its own, as in a call."""
        return [
            self.predict(
                audio, sample_rate=sample_rate, channel=channel, adapt=adapt, longest=longest, progress=progress
            )
            for channel in channels_of(audio)
        ]

    def embed(
        self,
        audio: Audio,
        *,
        sample_rate: int | None = None,
        channel: str | int = "mix",
        profile: SpeakerProfile | None = None,
    ) -> npt.NDArray[np.float32]:
        """The embedding (E,) of one recording; raises `AudioError` where there is too little speech for one."""
        found = self.predict(audio, sample_rate=sample_rate, channel=channel, profile=profile)
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
        """What can be learnt of a profile from unlabelled speech of one person, on top of what `profile` knows.

        An utterance enrolled before counts once. Clips longer than one of the model's own windows
        are cut into windows that do not overlap, each an utterance. `longest` and `progress` are as of `predict`.
        Raises `AudioError` where no clip holds enough speech, `ModelError` for a model that cannot adapt.
        """
        self.check_profile(profile, adapting=True)
        learnt = profile or SpeakerProfile.unknown(self.model.digest, self.model.profile_width, name)
        heard = 0
        ear = self._ear()
        for clip in clips if isinstance(clips, (list, tuple)) else [clips]:
            for window in self._apart(clip, sample_rate, channel, longest):
                description = ear(window).description
                if progress is not None:
                    progress((window.first + len(window.samples)) / self._rate)
                if description is not None:
                    learnt, heard = learnt.enrol(description), heard + 1
        if not heard:
            raise NoSpeechError("no clip holds enough speech to learn a profile from", mend="Enrol longer recordings.")
        return learnt

    def stream(
        self,
        *,
        sample_rate: int | None = None,
        profile: SpeakerProfile | None = None,
        adapt: bool = False,
        name: str = "",
        channel: str = "mix",
        watch: Callable[[Segment], object] | None = None,
    ) -> Stream:
        """A stream to push samples of one profile into as they come, floats in [-1, 1] or integers.

        `name` and `channel` say in the prediction what they are of. `watch` is told every step of one hop as it
        settles, a segment of its own.
        """
        self.check_profile(profile, adapting=adapt)
        return Stream(
            self.model,
            self._ear(),
            self.windows,
            sample_rate=sample_rate,
            profile=profile,
            adapting=adapt,
            name=name,
            channel=channel,
            watch=watch,
        )

    @property
    def _rate(self) -> int:
        return self.model.metadata.features.sample_rate

    def _ear(self) -> Ear:
        return Ear(self.model, round(self.windows.hop * self._rate), self.least_speech)

    def check_profile(self, profile: SpeakerProfile | None, *, adapting: bool) -> None:
        """Raise `ModelError` where the model cannot adapt, or `profile` was learnt with another one."""
        if (adapting or profile is not None) and not self.model.profile_width:
            raise ModelError("this model cannot adapt to a profile", where=self.model.where)
        if profile is not None and profile.digest != self.model.digest:
            raise ModelError(
                f"the profile '{profile.name}' was learnt with another model",
                where=self.model.where,
                mend="Enrol it again with this one.",
            )

    def _apart(self, clip: Audio, sample_rate: int | None, channel: str | int, longest: float) -> Iterator[Window]:
        """Windows of one clip that do not overlap: the model's own, so that a clip is the same utterances always."""
        seconds = self.model.metadata.windows.seconds
        apart = WindowSettings(seconds, seconds)
        cutter = WindowCutter(apart, self._rate)
        for block in blocks_of(clip, self._rate, sample_rate=sample_rate, channel=channel, longest=longest):
            yield from cutter.push(block)
        yield from cutter.finish()


# Many recordings, one after the other: a broken one is an answer too, and does not stop the rest.

EACH = "each"
"""The channel that stands for every channel, each a person of its own."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A recording without a prediction, and why."""

    file: str
    error: UnheardError


@dataclass(frozen=True, slots=True)
class Options:
    """How recordings are heard; `channel` may be `each`.

    With `adapt` the profile is updated along each recording; with `carry` it is kept for the next recording,
    as is right for recordings of one person.
    """

    channel: str = "mix"
    profile: SpeakerProfile | None = None
    adapt: bool = False
    carry: bool = False


def predictions(
    recogniser: Recogniser,
    found: Iterable[Found],
    options: Options,
    progress: Callable[[str], Progress | None] = lambda file: None,
) -> Iterator[Prediction | Failure]:
    """An answer, or several for several channels, for every recording, in their order and as soon as it is known.

    Raises `AudioError` for a channel that no recording has, `ModelError` for a profile that does not fit.
    """
    profile = options.profile
    if options.channel != EACH:
        channel_index(options.channel, MOST_CHANNELS, "--channel")
    recogniser.check_profile(profile, adapting=options.adapt)
    for file in found:
        if isinstance(file, UnheardError):
            yield Failure(file.where or "", file)
            continue
        try:
            if options.channel == EACH:
                answers = recogniser.predict_channels(file, adapt=options.adapt, progress=progress(file))
            else:
                answers = [
                    recogniser.predict(
                        file, channel=options.channel, profile=profile, adapt=options.adapt, progress=progress(file)
                    )
                ]
        except UnheardError as error:
            yield Failure(file, error)
            continue
        except OSError as problem:
            yield Failure(file, cannot_read(file, problem))
            continue
        if options.carry:
            profile = answers[-1].profile
        yield from answers
