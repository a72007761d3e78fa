"""Voices: how much is believed of what was heard, and whose utterances describe whom in training."""

from __future__ import annotations

import numpy as np
import pytest

from unheard.training.augment import SIZES, Companions, profile_of


@pytest.mark.parametrize(("n", "share"), [(1, 0.2), (4, 0.5), (16, 0.8)])
def test_little_is_believed_of_few_utterances(n: int, share: float) -> None:
    assert np.allclose(profile_of(np.full((n, 3), 2.0, np.float32)), 2 * share)


def test_nothing_heard_is_the_average_voice() -> None:
    assert np.array_equal(profile_of(np.zeros((0, 5), np.float32)), np.zeros(5))


class Flat(dict[str, np.ndarray]):
    def length(self, name: str) -> int:
        return len(self[name])


def test_companions_are_others_of_the_same_speaker() -> None:
    # Every utterance is a power of two: which ones were heard can be read off their mean.
    frames = Flat(
        {f"{s}{i}": np.full((3, 2), (1 if s == "a" else -1) * 2.0**i, np.float32) for s in "ab" for i in range(5)}
    )
    speakers = {name: name[0] for name in frames}
    companions = Companions(frames, list(frames), speakers)
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        voice = companions.draw("a2", random)
        for n in SIZES:
            n = min(n, 4)
            total = round(float(voice[0]) * (n + 4), 4)
            if total == int(total) and bin(int(total)).count("1") == n:
                seen.add(int(total))
                assert not int(total) & 4  # never itself
                assert 0 < total < 32
                break
        else:
            pytest.fail(f"{voice} is the mean of no other utterances of the speaker")
    assert 27 in seen  # all four others
    assert {1, 2, 8, 16} <= seen


def test_a_speaker_heard_once_has_no_companions() -> None:
    frames = Flat({"a": np.ones((2, 3), np.float32)})
    voice = Companions(frames, ["a"], {"a": "a"}).draw("a", np.random.default_rng(0))
    assert np.array_equal(voice, np.zeros(3))
