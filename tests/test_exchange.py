"""Voices exchanged: how speakers differ, and by how much utterances are moved."""

from __future__ import annotations

import numpy as np
import pytest

from unheard.training.exchange import Exchange

BASE = {"a": np.array([1.0, 0.0]), "b": np.array([-1.0, 4.0]), "c": np.array([10.0, 10.0])}
EMOTION = {0: np.array([0.0, 100.0]), 1: np.array([50.0, 0.0]), 2: np.array([-7.0, 7.0])}
SAID = {"a": [0, 0, 0, 1], "b": [0, 1, 1, 1, 1], "c": [2]}


def exchange(most: float = 1.0) -> Exchange:
    """Speakers with a sound of their own who express emotions in very different shares."""
    described, speakers, emotions = {}, {}, {}
    for speaker, said in SAID.items():
        for i, emotion in enumerate(said):
            name = f"{speaker}{i}"
            described[name] = (BASE[speaker] + EMOTION[emotion]).astype(np.float32)
            speakers[name], emotions[name] = speaker, emotion
    return Exchange(described, speakers, emotions, most)


def test_what_somebody_often_expresses_is_not_how_they_sound() -> None:
    assert exchange().between(0, 1) == pytest.approx([-2, 4])
    assert exchange().between(1, 0) == pytest.approx([2, -4])


def test_speakers_who_share_no_emotion_are_not_compared() -> None:
    assert exchange().between(0, 2) == pytest.approx([0, 0])


@pytest.mark.parametrize("most", [0.5, 2.0])
def test_an_utterance_goes_a_share_of_the_way(most: float) -> None:
    found = exchange(most)
    shares = [float(found.draw("a0", np.random.default_rng(seed))[1]) / 4 for seed in range(300)]
    assert min(shares) == 0  # to itself, or to c
    assert 0.9 * most < max(shares) < most
    assert np.mean([share == 0 for share in shares]) == pytest.approx(2 / 3, abs=0.1)
    assert found.draw("a0", np.random.default_rng(0)).dtype == np.float32


def test_the_draw_is_the_seeds() -> None:
    one, same, other = (exchange().draw("b1", np.random.default_rng(seed)) for seed in (1, 1, 5))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
