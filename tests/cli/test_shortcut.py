"""The table of the shortcut against answers counted by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from recording import write_run

from unheard.cli.demo import VOICES, _shown, channel_emotions, shortcut_table
from unheard.corpora.synthetic.plan import takes, voices
from unheard.experiments.records import read_run


def test_counted_by_hand(tmp_path: Path) -> None:
    """Of four utterances two are misled by the channel (angry): SER follows it once of two times, DAT never."""
    run = read_run(write_run(tmp_path, {("ser", 0, 0): "aa sa ss as", ("dat", 0, 0): "aa ss ss as"}))
    channels = dict.fromkeys({name for seed in run.lines[0].seeds for name in seed.test.speakers}, "angry")
    text = shortcut_table(run.lines, run.labels, channels)
    rows = [[cell.split(" ")[0] for cell in row.strip("| ").split(" | ")] for row in text.splitlines()[2:]]
    assert rows[0][:4] == ["SER_only", "50", "50", "50"]
    assert rows[1][:5] == ["SER_SR_DAT", "75", "100", "0", "−50"]
    assert _shown(np.full(2, -0.004), np.array(["a", "b"]), np.ones(2, bool), sign=True) == "0 (0 to 0)"


def test_the_channel_betrays_the_emotion_in_training_only() -> None:
    channels, people = channel_emotions(), voices(VOICES)
    agree: Counter[tuple[str, bool]] = Counter()
    for take in takes(VOICES):
        agree[VOICES.part(take.speaker), channels[people[take.speaker].name] == take.emotion] += 1
    assert agree["train", True] / (agree["train", True] + agree["train", False]) > 0.75
    assert agree["test", True] * 3 == agree["test", False]
