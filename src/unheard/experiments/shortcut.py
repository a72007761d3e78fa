"""What a method does to a shortcut: an emotion that the speaker's recording channel betrays in training only.

In the synthetic corpus at entanglement 1 each training speaker favours one emotion and speaks through a channel that
goes with it; channels and emotions of test speakers are independent. A system that learned the channel instead of the
voice answers the channel's emotion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from unheard.analysis.intervals import DRAWS, mean_with_interval
from unheard.corpora.synthetic.plan import SyntheticSettings, voices
from unheard.experiments.summary import Line, baseline_of, markdown_table

SETTINGS = SyntheticSettings(speakers=32, dev_speakers=8, test_speakers=8, entanglement=1.0)
"""16 speakers to train on, whose channel betrays the emotion, 8 to validate and 8 to test, 16 utterances each."""

NETWORK = {"tdnn": [[32, 5, 1], [32, 3, 2]], "lstm": 0, "dense": 64, "hidden": [32], "dropout": 0.0}
TRAINING = {
    "epochs": 30, "optimizer": "adamw", "schedule": "onecycle", "lr": 0.004, "weight_decay": 0.01, "select": "last",
    "batchnorm": "running",
}  # fmt: skip
EXPERIMENT = {
    "corpus": "synthetic", "protocol": "given", "column": "part", "recipe": "paper", "features": {"thin": 4},
    "network": NETWORK, "training": TRAINING,
}  # fmt: skip
"""A small network without dropout that is trained in seconds; systems and objectives are the paper's."""


def channel_emotions(settings: SyntheticSettings = SETTINGS) -> dict[str, str]:
    """Return speaker -> the emotion that goes with the speaker's channel among the training speakers."""
    return {voice.name: settings.emotions[voice.colour] for voice in voices(settings)}


def shortcut_table(lines: Sequence[Line], labels: Sequence[str], channels: Mapping[str, str]) -> str:
    """Return a table of the systems in Markdown, means over seeds with intervals over test speakers.

    WA; among the utterances whose emotion is not the channel's, WA and the share answered with the channel's emotion
    (the shortcut), with its difference to SER_only.
    """
    rows = []
    for line in lines:
        if not line.seeds:
            continue
        right, followed, speaker, against = _answers(line, labels, channels)
        base = baseline_of(line, lines)
        everywhere = np.ones_like(against)
        shown = [_shown(x, speaker, of) for x, of in ((right, everywhere), (right, against), (followed, against))]
        more = ""
        if base is not None and base is not line:
            more = _shown(followed - _answers(base, labels, channels)[1], speaker, against, sign=True)
        rows.append([line.name, *shown, more])
    heads = ["System", "WA", "WA, channel misleads", "answers the channel's emotion", "difference to SER_only"]
    return markdown_table(heads, rows)


def _answers(
    line: Line, labels: Sequence[str], channels: Mapping[str, str]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.str_], NDArray[np.bool_]]:
    """Per test utterance (n,): right and channel's emotion answered (means over seeds), speaker, channel misleads."""
    first = line.seeds[0].test
    channel = np.array([labels.index(channels[name]) for name in first.speakers])
    predicted = np.stack([seed.test.predicted for seed in line.seeds])  # (seeds, n)
    right, followed = ((predicted == given).mean(axis=0) for given in (first.truth, channel))
    return right, followed, np.array(first.speakers), channel != first.truth


def _shown(x: NDArray[np.float64], speaker: NDArray[np.str_], of: NDArray[np.bool_], sign: bool = False) -> str:
    """The mean of `x` over the utterances `of`, with its interval over speakers, in percent."""
    _, cluster = np.unique(speaker[of], return_inverse=True)
    found = mean_with_interval(x[of], cluster.reshape(-1), DRAWS)
    value, low, high = (f"{100 * each:{'+' if sign else ''}.0f}".replace("-", "−") for each in found)
    return f"{value} ({low} to {high})"
