"""The paper's two experiments at full size, on invented voices."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.full_scale import Proof
from benchmarks.shapes import mandarin_shaped
from unheard.corpora.synthetic.plan import takes, voices
from unheard.manifest import Manifest, Utterance
from unheard.splits import make_split


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads memory from /proc")
def test_iemocap_from_the_sound_to_an_epoch_of_all_four_systems(tmp_path: Path) -> None:
    """The proof itself raises where a count is not IEMOCAP's; memory is bounded by the network, not by the corpus."""
    steps = Proof("iemocap", tmp_path).run()
    assert steps["features"].peak_together_mb < 400
    trained = steps["epoch of all systems"].found
    assert {trained[system]["frames"] for system in ("ser", "mtl", "dat", "cgt")} == {trained["ser"]["frames"]}
    assert steps["epoch of SER_only"].peak_process_mb < 3000


def test_mandarin_is_split_into_200_25_and_25_speakers() -> None:
    """All 53,803 utterances, without their sound; the counts of the parts follow from who is drawn."""
    settings = mandarin_shaped()
    names = voices(settings)
    rows = [
        Utterance(take.id, f"{take.id}.wav", names[take.speaker].name, take.emotion, gender=names[take.speaker].gender)
        for take in takes(settings)
    ]
    durations = [take.duration for take in takes(settings)]
    mean = sum(durations) / len(durations)
    assert len(rows) == 53803
    assert abs(mean - 2.80) < 0.01
    assert abs((sum((d - mean) ** 2 for d in durations) / len(durations)) ** 0.5 - 0.68) < 0.01
    (fold,) = make_split(Manifest(tuple(rows)), "random", n=(200, 25, 25)).folds
    (direction,) = fold.directions
    speaker = {row.id: row.speaker for row in rows}
    parts = {"train": fold.train, "dev": direction.dev, "test": direction.test}
    assert {part: len({speaker[name] for name in ids}) for part, ids in parts.items()} == {
        "train": 200,
        "dev": 25,
        "test": 25,
    }
    assert Counter(name for ids in parts.values() for name in ids) == Counter(row.id for row in rows)
