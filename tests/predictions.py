"""Predictions made by hand, and what the writers make of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from unheard.errors import AudioError
from unheard.recogniser import Prediction, Segment
from unheard.recogniser.formats import Job, Sink, writer

LABELS = ("angry", "sad")
JOB, SINGLE = Job(LABELS, "tiny", "0.1.0", "CC0"), Job(LABELS, "tiny", single=True)
ANGRY, SAD = {"angry": 0.75, "sad": 0.25}, {"angry": 0.125, "sad": 0.875}


def long_one(file: str = "my calls/a.wav", channel: str = "mix") -> Prediction:
    """Angry until 2 s, nothing until 3.5 s, sad until 65.25 s."""
    segments = (
        Segment(0.0, 2.0, "angry", ANGRY),
        Segment(2.0, 3.5, None, {}, "no speech"),
        Segment(3.5, 65.25, "sad", SAD),
    )
    return Prediction(
        file, "sad", SAD, np.ones(3, np.float32), segments, None, 65.25, 50.0, channel, None, False, "tiny"
    )


def silent_one(file: str = "b.wav") -> Prediction:
    return Prediction(file, None, {}, None, (Segment(0.0, 1.0, None, {}, "silence"),), "silence", 1.0, 0.0)


def written(format: str, *predictions: Prediction, job: Job = JOB, failed: str = "", output: Path | None = None) -> str:
    """The text of a format, or of a folder its path."""
    text = io.StringIO()
    out = writer(format, job, Sink(text), output)
    for one in predictions:
        out.add(one)
    if failed:
        out.failed(failed, AudioError("the file is empty", where=failed, mend="Copy it again."))
    out.close()
    return str(output) if output else text.getvalue()
