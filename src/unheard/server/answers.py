"""What the server says, as types: they make the JSON and its description in `/openapi.json`."""

from __future__ import annotations

from pydantic import BaseModel, Field

from unheard.recogniser.prediction import rounded
from unheard.server.upload import Heard


class SegmentAnswer(BaseModel):
    """A stretch of the recording with one answer; seconds."""

    start: float
    end: float
    label: str | None = Field(description="None where the recogniser abstained")
    probabilities: dict[str, float] = Field(description="Empty where the recogniser abstained")
    abstained: str | None = Field(description="Why there is no label")


class VoiceAnswer(BaseModel):
    """What was known of the voice."""

    utterances: int = Field(description="How many utterances it is known from")


class Answer(BaseModel):
    """What was heard in a recording, or in one channel of it."""

    channel: str
    label: str | None = Field(description="The most probable emotion; None where the recogniser abstained")
    probabilities: dict[str, float] = Field(description="Calibrated, over all of the model's emotions")
    abstained: str | None = Field(description="Why there is no label")
    segments: list[SegmentAnswer] = Field(description="The timeline: they cover the recording without gaps")
    steps: list[SegmentAnswer] | None = Field(description="What segments are made of; only with `steps=true`")
    duration: float = Field(description="Seconds")
    speech: float = Field(description="Seconds of speech")
    voice: VoiceAnswer | None = Field(description="None without adaptation")
    remark: str | None = Field(description="What makes an answer on this recording less certain than others")
    embedding: list[float] | None = Field(description="Only with `embedding=true`")
    model: str

    @classmethod
    def of(cls, heard: Heard, *, embedding: bool = False, steps: bool = False) -> Answer:
        """What was heard, less the name of its file, which the server does not know."""
        prediction = heard.prediction
        vector = prediction.embedding if embedding else None
        return cls(
            channel=prediction.channel,
            label=prediction.label,
            probabilities=rounded(prediction.probabilities),
            abstained=prediction.abstained,
            segments=[SegmentAnswer(**segment.as_dict()) for segment in prediction.segments],
            steps=[SegmentAnswer(**step.as_dict()) for step in heard.steps] if steps else None,
            duration=round(prediction.duration, 3),
            speech=round(prediction.speech_seconds, 3),
            voice=None if prediction.profile is None else VoiceAnswer(utterances=prediction.profile.utterances),
            remark=heard.remark,
            embedding=None if vector is None else [float(value) for value in vector],
            model=prediction.model,
        )


class Learnt(BaseModel):
    """A voice, for the client to keep: the server forgets it with the answer."""

    token: str = Field(description="Send it back in the header `Voice`")
    utterances: int


class Limits(BaseModel):
    """What the server takes."""

    bytes: int
    seconds: float
    timeout: float
    concurrency: int
    waiting: int


class Health(BaseModel):
    """That the server is there, with which model, and what it takes."""

    status: str
    version: str
    model: str
    labels: list[str]
    licence: str = Field(description="Of the model's weights")
    adapts: bool = Field(description="Whether the model can adapt to a voice")
    busy: int = Field(description="Recordings worked on or waiting")
    limits: Limits


class Problem(BaseModel):
    """Why there is no answer."""

    what: str
    mend: str
