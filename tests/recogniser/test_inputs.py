"""What people hand in: data-set entries, tensors, folders with everything in them; and what they get back."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from predictions import ANGRY, SAD, SINGLE, written
from sounds import RATE, call, murmur, write

import unheard
from unheard.errors import AudioError, ConfigError, UnheardError
from unheard.recogniser import Prediction, Recogniser, Segment, SpeakerProfile, sources
from unheard.recogniser.sources import recordings


def test_an_entry_of_a_data_set(recogniser: Recogniser, tmp_path: Path) -> None:
    samples = murmur(2, rate=44_100)
    expected = recogniser.predict(samples, sample_rate=44_100)
    path = str(write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT"))
    for entry in (
        {"array": samples, "sampling_rate": 44_100, "path": "a.wav"},
        {"array": samples.tolist(), "sampling_rate": 44_100.0},
        {"path": path, "bytes": None},
        {"path": None, "bytes": Path(path).read_bytes()},
    ):
        found = recogniser.predict(entry)
        assert list(found.probabilities.values()) == pytest.approx(list(expected.probabilities.values()), abs=1e-4)
        assert len(recogniser.predict_channels(entry)) == 1
    assert recogniser.predict({"array": samples, "sampling_rate": 44_100, "path": "a.wav"}).file == "a.wav"
    with pytest.raises(ConfigError, match="Give one of them"):
        recogniser.predict({"array": samples, "sampling_rate": 44_100}, sample_rate=RATE)
    with pytest.raises(ConfigError, match="sampling_rate"):
        recogniser.predict({"audio": samples})


@pytest.mark.parametrize(
    ("rate", "message"),
    [("16000", r"is text. .*int\('16000'\)"), (16000.5, "whole number"), (100, "4000 or more"), (True, "a bool")],
)
def test_rates_that_are_none(recogniser: Recogniser, rate: int, message: str) -> None:
    for score in (recogniser.predict, recogniser.enrol):
        with pytest.raises(ConfigError, match=message):
            score(murmur(2), sample_rate=rate)
    with pytest.raises(ConfigError, match=message):
        recogniser.stream(sample_rate=rate)
    with pytest.raises(ConfigError, match="a rate is sample_rate=16000"):
        unheard.extract(murmur(2), rate)  # type: ignore[arg-type]


def test_tensors_are_told_the_way(recogniser: Recogniser) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(AudioError, match=r"torch.Tensor .*\.numpy\(\)"):
        recogniser.predict(torch.zeros(RATE))
    with pytest.raises(AudioError, match=r"paths: list"):
        recogniser.predict(np.array(["a.wav"]))
    with pytest.raises(AudioError, match="embed takes one recording"):
        recogniser.embed(["a.wav"])  # type: ignore[arg-type]
    with pytest.raises(AudioError, match=r"a\.wav: there is no such file"):
        recogniser.predict(np.str_("a.wav"))


def test_folders_with_recordings_to_convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one.wav", "two.m4a", "deep/three.webm", "five.wv", "deep/six.avi", "seven.txt"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "four.wav").touch()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    for at_hand, expected in (
        (True, {"one.wav", "two.m4a", "three.webm", "four.wav"}),
        (False, {"one.wav", "four.wav"}),
    ):
        monkeypatch.setattr(sources, "can_convert", lambda at_hand=at_hand: at_hand)
        found = list(recordings([str(tmp_path / "data")]))
        paths = [Path(one).name for one in found if isinstance(one, str)]
        assert sorted(paths) == sorted(expected)
        (error,) = [str(one) for one in found if isinstance(one, UnheardError)]
        kinds = "2 recordings in this folder to convert first (.avi .wv)" if at_hand else "4 recordings"
        assert kinds in error
        assert "ffmpeg -i" in error
        assert ("unheard[media]" in error) == (not at_hand)


def test_representations_are_short(recogniser: Recogniser) -> None:
    found = recogniser.predict(murmur(9))
    assert repr(found).startswith(f"Prediction('samples': {found.label} ")
    assert "9.0 s" in repr(found)
    profile = SpeakerProfile("0", np.zeros(1000), 3, "anna")
    assert repr(profile) == "SpeakerProfile('anna': 3 utterances)"
    assert all(len(repr(one)) < 120 for one in (found, found.segments[0], recogniser))


def test_an_uncertain_answer_is_none(recogniser: Recogniser) -> None:
    sure = recogniser.predict(murmur(2))
    first, second = sorted(sure.probabilities, key=lambda label: -sure.probabilities[label])[:2]
    unsure = recogniser.predict(murmur(2), min_confidence=0.9999)
    assert (unsure.label, unsure.probabilities, unsure.segments[0].label) == (None, sure.probabilities, None)
    assert (unsure.abstained or "").startswith("uncertain: ")
    assert first in (unsure.abstained or "")
    assert second in (unsure.abstained or "")
    assert recogniser.predict(murmur(2), min_confidence=0.01).label == first
    for wrong in (60, -0.1, "0.6", None, float("nan")):
        for options in ({}, {"segments": [(0, 2, "Anna")]}):
            with pytest.raises(ConfigError, match="0 to 1"):
                recogniser.predict(murmur(2), min_confidence=wrong, **options)


def test_uncertain_segments_of_a_stream(recogniser: Recogniser) -> None:
    whole = recogniser.predict(call())
    likeliest = sorted(one.probabilities[one.label] for one in whole.segments if one.label)
    least, steps = (likeliest[0] + likeliest[-1]) / 2, list[Segment]()
    stream = recogniser.stream(min_confidence=least, watch=steps.append)
    found = [one for first in range(0, len(call()), 9000) for one in stream.push(call()[first : first + 9000])]
    assert all(one.label is None or one.probabilities[one.label] >= least for one in [*found, *steps])
    finished = stream.finish()
    assert finished.segments == recogniser.predict(call(), min_confidence=least).segments
    assert finished.segments[: len(found)] == tuple(found)
    unsure = [one for one in finished.segments if (one.abstained or "").startswith("uncertain")]
    assert 0 < len(unsure) < len(likeliest)
    assert [one.start for one in finished.segments] == [one.start for one in whole.segments]


def test_a_summary_is_the_time_of_each_label() -> None:
    spans = [(0.0, 2.0, "angry"), (2.0, 3.5, None), (3.5, 5.0, "sad"), (5.0, 6.0, "angry"), (6.0, 7.5, "sad")]
    chances = {"angry": ANGRY, "sad": SAD, None: {}}
    segments = tuple(Segment(start, end, label, chances[label]) for start, end, label in spans)
    found = Prediction("a.wav", "sad", SAD, None, segments, None, 7.5, 6.0)
    assert {label: (one.seconds, one.share, one.longest) for label, one in found.summary.items()} == {
        "angry": (3.0, 0.5, (0.0, 2.0)),
        "sad": (3.0, 0.5, (3.5, 5.0)),
    }
    mixed = [replace(found, segments=some).mixed for some in (segments, segments[:3], segments[1:2])]
    assert mixed == [True, True, False]  # the second is angry for 57 % of the time, and its label is sad
    assert not replace(found, segments=segments[:3], label="angry").mixed
    assert found.as_dict()["summary"]["sad"] == {"seconds": 3.0, "share": 0.5, "longest": [3.5, 5.0]}
    first, *_, angry, sad = written("table", found, job=SINGLE).splitlines()
    assert first.startswith("mixed  angry 50%, sad 50% of the time")
    assert angry == "  angry 50% of the time, longest  0:00.0 –  0:02.0"
    assert sad == "  sad 50% of the time, longest  0:03.5 –  0:05.0"


def test_help_and_hasattr_without_torch() -> None:
    code = (
        "import sys\nfor name in ('torch', 'pydantic', 'scipy', 'sklearn'): sys.modules[name] = None\n"
        "import unheard, pydoc\nassert all(hasattr(unheard, name) for name in dir(unheard))\n"
        "assert not hasattr(unheard, 'nothing')\npydoc.render_doc(unheard)\n"
        "try: unheard.experiment()\nexcept unheard.UnheardError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "unheard[train]" in done.stdout, done.stderr
