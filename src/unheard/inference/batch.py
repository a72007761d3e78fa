"""Many recordings, one after the other: a broken one is an answer too, and does not stop the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from unheard.channels import MOST_CHANNELS, channel_index
from unheard.errors import UnheardError
from unheard.files import cannot_read
from unheard.inference.inputs import Found
from unheard.inference.prediction import Prediction
from unheard.inference.recogniser import Progress, Recogniser
from unheard.inference.voices import Voice

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

    With `adapt` the voice is learnt along each recording; with `carry` what one recording taught is known in the next,
    as is right for recordings of one person.
    """

    channel: str = "mix"
    voice: Voice | None = None
    adapt: bool = False
    carry: bool = False


def predictions(
    recogniser: Recogniser,
    found: Iterable[Found],
    options: Options,
    progress: Callable[[str], Progress | None] = lambda file: None,
) -> Iterator[Prediction | Failure]:
    """An answer, or several for several channels, for every recording, in their order and as soon as it is known.

    Raises `AudioError` for a channel that no recording has, `ModelError` for a voice or adapting that the model cannot.
    """
    voice = options.voice
    if options.channel != EACH:
        channel_index(options.channel, MOST_CHANNELS, "--channel")
    recogniser.check_voice(voice, adapting=options.adapt)
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
                        file, channel=options.channel, voice=voice, adapt=options.adapt, progress=progress(file)
                    )
                ]
        except UnheardError as error:
            yield Failure(file, error)
            continue
        except OSError as problem:
            yield Failure(file, cannot_read(file, problem))
            continue
        if options.carry:
            voice = answers[-1].voice
        yield from answers
