"""The server's answers as types: they make the JSON and its description in `/openapi.json`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from unheard.server.refusals import REFUSALS
from unheard.server.scoring import Scored

PROBABILITIES = {"angry": 0.71, "happy": 0.2, "neutral": 0.06, "sad": 0.03}


class Options(BaseModel):
    """The parameters of /channels."""

    model_config = ConfigDict(extra="forbid")
    embedding: bool = Field(False, description="Send the embedding too")
    steps: bool = Field(False, description="Send every step of one hop too, not only the segments made of them")
    format: Literal["json", "csv", "rttm"] | None = Field(
        None, description="Default: json, or what the Accept header names"
    )
    min_confidence: float = Field(
        0.0, ge=0, le=1, description='Abstain as "uncertain" where the highest probability is below this one'
    )


class OneChannel(Options):
    """The parameters of /predict."""

    channel: str = Field("mix", pattern=r"^(mix|left|right|[1-9][0-9]?)$", description="mix, left, right or a number")


class SegmentAnswer(BaseModel):
    """A segment of the recording with one label; times in seconds."""

    start: float = Field(examples=[0.0])
    end: float = Field(examples=[4.0])
    label: str | None = Field(description="None where the recogniser abstained", examples=["angry"])
    probabilities: dict[str, float] = Field(
        description="Empty where the recogniser abstained", examples=[PROBABILITIES]
    )
    abstained: str | None = Field(description="Why there is no label", examples=[None])
    speaker: str | None = Field(None, description="Whose turn it is; only with `segments`", examples=["Anna"])


class ShareAnswer(BaseModel):
    """How long a label holds."""

    seconds: float = Field(examples=[8.0])
    share: float = Field(description="Of the time that has a label", examples=[0.8])
    longest: list[float] = Field(description="Start and end of the longest segment", examples=[[0.0, 4.0]])


class ProfileAnswer(BaseModel):
    """The speaker profile that the answer was adapted to."""

    utterances: int = Field(description="Utterances it was enrolled from", examples=[4])


class Answer(BaseModel):
    """The emotion in one channel of a recording."""

    channel: str = Field(examples=["mix"])
    label: str | None = Field(
        description="The most probable emotion; None where the recogniser abstained", examples=["angry"]
    )
    probabilities: dict[str, float] = Field(
        description="Calibrated, over all of the model's emotions", examples=[PROBABILITIES]
    )
    abstained: str | None = Field(description="Why there is no label", examples=[None])
    segments: list[SegmentAnswer] = Field(description="The timeline, without gaps; or the turns that were sent")
    steps: list[SegmentAnswer] | None = Field(description="What segments are made of; only with `steps=true`")
    mixed: bool = Field(description="Whether no label holds for more than half of the time that has one")
    summary: dict[str, ShareAnswer] = Field(description="The share of each label, the largest first")
    duration: float = Field(description="Seconds", examples=[12.4])
    speech: float = Field(description="Seconds of speech", examples=[9.8])
    speakers: dict[str, dict[str, ShareAnswer]] | None = Field(
        None, description="The summary of each speaker; only with `segments`"
    )
    profile: ProfileAnswer | None = Field(description="None without enrolment")
    remark: str | None = Field(description="Why the answer is less certain than usual", examples=[None])
    embedding: list[float] | None = Field(description="Only with `embedding=true`")
    model: str = Field(examples=["starter"])

    @classmethod
    def of(cls, scored: Scored, *, embedding: bool = False, steps: bool = False) -> dict[str, Any]:
        """Return the answer as plain values, without the file's name, which the client knows."""
        found, vector = scored.prediction, scored.prediction.embedding if embedding else None
        more = {
            "steps": [step.as_dict() for step in scored.steps] if steps else None,
            "remark": scored.remark,
            "embedding": None if vector is None else vector.tolist(),
        }
        return cls.model_validate(found.as_dict() | more).model_dump(exclude_unset=True)


class Limits(BaseModel):
    """What the server takes."""

    bytes: int = Field(examples=[32_000_000])
    seconds: float = Field(examples=[900.0])
    timeout: float = Field(description="Seconds of scoring, for a short recording", examples=[30.0])
    concurrency: int = Field(description="Recordings scored at once", examples=[2])
    waiting: int = Field(description="Recordings that may wait", examples=[64])


class Health(BaseModel):
    """The server's version, model and limits."""

    status: str = Field(examples=["ok"])
    version: str = Field(examples=["0.1.0"])
    model: str = Field(examples=["starter"])
    labels: list[str] = Field(examples=[[*PROBABILITIES]])
    licence: str = Field(description="Of the model's weights", examples=["CC BY-NC-SA 4.0"])
    commercial_use: str = Field(
        description="Whether they may be used commercially, in a sentence",
        examples=["No: the licence of the weights, CC BY-NC-SA 4.0, is for non-commercial use."],
    )
    adapts: bool = Field(description="Whether the model can adapt to a speaker", examples=[True])
    busy: int = Field(description="Recordings waiting or being scored", examples=[0])
    limits: Limits


class Readiness(BaseModel):
    """Whether the server takes work."""

    ready: bool = Field(examples=[True])


class Problem(BaseModel):
    """Why there is no answer."""

    code: str = Field(description="For programs", examples=["too_large"], json_schema_extra={"enum": [*REFUSALS]})
    what: str = Field(examples=["the recording exceeds this server's limit of 900 seconds"])
    mend: str = Field(examples=["Send it in shorter pieces."])
