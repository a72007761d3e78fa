"""The recogniser on a model whose answers are visible: windows, timeline, streams, adaptation, abstention."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import RATE, call, hiss, murmur, silence, write

import unheard
from unheard.errors import AudioError, ConfigError, ModelError, TooLongError
from unheard.features.analysis import analyse, log_energies
from unheard.recogniser import OnnxModel, Prediction, Recogniser, SpeakerProfile, Stream, WindowSettings, load
from unheard.recogniser.windows import find_speech

SETTINGS = unheard.FeatureSettings()


def exactly(found: Prediction) -> tuple[object, ...]:
    """Everything in a prediction, to the last bit."""
    embedding = None if found.embedding is None else found.embedding.tobytes()
    profile = None if found.profile is None else (found.profile.mean.tobytes(), found.profile.utterances)
    answer = found.label, dict(found.probabilities), found.segments, found.abstained
    return *answer, embedding, found.duration, found.speech_seconds, profile


def by_hand(features: np.ndarray, profile: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The tiny model in numpy: probabilities (C,) and embedding (E,) of one utterance."""
    embedding = features.mean(axis=0, dtype=np.float64) - profile
    logits = embedding @ tiny_model.weights(SETTINGS.dim, 4).astype(np.float64) / tiny_model.TEMPERATURE
    powers = np.exp(logits - logits.max())
    return powers / powers.sum(), embedding


def with_windows(recogniser: Recogniser, seconds: float, hop: float, **options: float) -> Recogniser:
    return Recogniser(recogniser.model, windows=WindowSettings(seconds, hop), **options)


# audio


def test_a_short_recording_is_one_utterance(recogniser: Recogniser) -> None:
    samples = murmur(2.4)
    probabilities, embedding = by_hand(unheard.extract(samples))
    found = recogniser.predict(samples)
    assert list(found.probabilities) == ["angry", "happy", "neutral", "sad"]
    np.testing.assert_allclose(list(found.probabilities.values()), probabilities, atol=1e-5)
    np.testing.assert_allclose(found.embedding, embedding, rtol=1e-4, atol=1e-4)
    assert found.label == list(found.probabilities)[int(probabilities.argmax())]
    (segment,) = found.segments
    assert (segment.start, segment.end, segment.label) == (0.0, 2.4, found.label)
    assert segment.probabilities == found.probabilities
    np.testing.assert_array_equal(recogniser.embed(samples), found.embedding)
    with pytest.raises(AudioError, match="no embedding: silence"):
        recogniser.embed(silence(2))


def test_files_arrays_open_files_and_streams_agree(recogniser: Recogniser, tmp_path: Path) -> None:
    samples = (murmur(4.2) * 20_000).astype(np.int16)
    path, both = write(tmp_path / "a.wav", samples), np.stack([samples, samples], axis=1)
    expected = exactly(recogniser.predict(samples))
    for audio in (path, str(path), io.BytesIO(path.read_bytes()), both):
        assert exactly(recogniser.predict(audio)) == expected
    several = recogniser.predict([path, samples])
    assert [(one.file, exactly(one)) for one in several] == [(str(path), expected), ("", expected)]
    for pushed in (samples, both, samples.astype(np.float64) / 32_768):
        stream = recogniser.stream()
        stream.push(pushed)
        assert exactly(stream.finish()) == expected
    with path.open("rb") as file:
        pass
    with pytest.raises(AudioError, match="cannot be read from its beginning"):
        recogniser.predict(file)


def test_each_channel_is_another_speaker(recogniser: Recogniser, tmp_path: Path) -> None:
    left, right = murmur(5), np.roll(murmur(5, 3, loudness=0.5), 900)
    path = write(tmp_path / "call.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    found = recogniser.predict_channels(path)
    assert [one.channel for one in found] == ["left", "right"]
    expected = [exactly(recogniser.predict(left)), exactly(recogniser.predict(right))]
    assert [exactly(one) for one in found] == expected
    assert [exactly(one) for one in recogniser.predict_channels(io.BytesIO(path.read_bytes()))] == expected
    assert exactly(recogniser.predict(path, channel="right")) == expected[1]
    assert len(recogniser.predict_channels(np.stack([left] * 3, axis=1))) == 3
    for channel in ("each", "foo"):
        with pytest.raises(AudioError, match="unknown channel") as raised:
            recogniser.predict(murmur(1.0), channel=channel)
        assert ("predict_channels" in str(raised.value)) == (channel == "each")


def test_limits_and_progress(recogniser: Recogniser, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", murmur(12))
    for score in (recogniser.predict, recogniser.enrol):
        for audio in (path, murmur(12)):
            with pytest.raises(TooLongError):
                score(audio, longest=10.0)
    seconds: list[float] = []
    recogniser.predict(path, progress=seconds.append)
    assert seconds[-1] == 12.0
    seconds.clear()

    def stop(done: float) -> None:
        seconds.append(done)
        if done >= 6:
            raise TimeoutError

    for score in (recogniser.enrol, recogniser.predict):
        with pytest.raises(TimeoutError):
            score(murmur(12.0), progress=stop)
    assert seconds[:2] == [3.0, 6.0]


def test_memory_does_not_grow_with_the_recording(recogniser: Recogniser, tmp_path: Path) -> None:
    minutes, block = 6, murmur(30)
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(2 * minutes):
            file.write(block)
    wide = with_windows(recogniser, 30, 30)
    tracemalloc.start()
    found = wide.predict(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.duration == 60 * minutes
    assert most < 13e6 < 0.6 * 4 * RATE * 60 * minutes  # the samples alone are 23 MB


# abstention


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (silence(2), "silence"),
        (np.full(2 * RATE, 0.25, np.float32), "silence"),  # an offset alone
        (hiss(2), "a steady sound, no speech"),
        (murmur(0.2), "too little speech"),
        (murmur(0.01), "too short: 0.010 s"),
        (np.concatenate([silence(1.5), murmur(0.1), silence(1)]), "too little speech"),
    ],
)
def test_it_abstains_with_a_reason(recogniser: Recogniser, samples: np.ndarray, reason: str) -> None:
    found = recogniser.predict(samples)
    assert (found.label, found.embedding, found.probabilities) == (None, None, {})
    assert reason in (found.abstained or "")
    assert [(one.label, one.abstained) for one in found.segments] == [(None, found.abstained)]


def test_limits_of_abstention(recogniser: Recogniser, folder: Path) -> None:
    found = recogniser.predict(silence(9.5))
    assert [(one.start, one.end, one.abstained) for one in found.segments] == [(0.0, 9.5, "no speech")]
    assert found.abstained == "silence"
    assert load(folder, least_speech=0.1).predict(murmur(0.2)).label is not None
    assert "at least 3 s" in (load(folder, least_speech=3).predict(murmur(2)).abstained or "")


# windows and timeline


def literally(samples: np.ndarray, seconds: float = 3.0, hop: float = 1.0) -> tuple[list[int], np.ndarray]:
    """The label of every step (-1: none) and the recording's probabilities, from the definition."""
    length, step = round(seconds * RATE), round(hop * RATE)
    windows = []
    first = 0
    while True:
        piece = samples[first : first + length]
        chance, spoken, frames = None, 0.0, np.zeros(0, bool)
        if len(piece) >= 400:
            speech = find_speech(log_energies(piece, SETTINGS), SETTINGS)
            spoken, frames = speech.seconds, speech.frames
            chance = None if speech.too_little else by_hand(analyse(piece, SETTINGS).features)[0]
        windows.append((first, len(piece), chance, spoken, frames))
        if first + length >= len(samples):
            break
        first += step
    labels = []
    for start in range(0, len(samples), step):
        covering = [w for w in windows if w[0] <= start < w[0] + min(w[1], length)]
        share = []
        for at, _, _, _, frames in covering:
            middles = at + 160 * np.arange(len(frames)) + 200
            share.append(np.count_nonzero(frames & (middles >= start) & (middles < start + step)) / 100)
        good = [w for w in covering if w[2] is not None]
        silent = not good or np.mean(share) < 0.1 * hop
        labels.append(-1 if silent else int((sum(w[3] * w[2] for w in good)).argmax()))
    good = [w for w in windows if w[2] is not None]
    return labels, sum(w[3] * w[2] for w in good) / sum(w[3] for w in good)


@pytest.mark.parametrize(("seconds", "hop"), [(3.0, 1.0), (2.0, 0.5), (1.5, 1.0), (2.5, 2.5)])
def test_a_timeline_follows_its_definition(recogniser: Recogniser, seconds: float, hop: float) -> None:
    samples = call()
    labels, whole = literally(samples, seconds, hop)
    found = with_windows(recogniser, seconds, hop).predict(samples)
    assert len(set(labels)) > 2
    steps = [
        next(one.label for one in found.segments if one.start <= (number + 0.01) * hop < one.end)
        for number in range(len(labels))
    ]
    assert steps == [recogniser.labels[label] if label >= 0 else None for label in labels]
    np.testing.assert_allclose(list(found.probabilities.values()), whole, atol=1e-5)
    assert (found.segments[0].start, found.segments[-1].end) == (0, found.duration) == (0, pytest.approx(20))
    for one, other in pairwise(found.segments):
        assert (one.end, one.label != other.label) == (other.start, True)
    for one in (found, *(segment for segment in found.segments if segment.label)):
        assert sum(one.probabilities.values()) == pytest.approx(1)
        assert one.label == max(one.probabilities, key=lambda label: one.probabilities[label])


@pytest.mark.parametrize("beyond", [1, 640, 1_440, 1_700, 4_000])
def test_speech_that_ends_a_little_into_a_step_is_speech_to_the_end(recogniser: Recogniser, beyond: int) -> None:
    found = recogniser.predict(murmur(4)[: 3 * RATE + beyond])
    assert all(segment.label is not None for segment in found.segments)
    assert found.segments[-1].end == found.duration == pytest.approx(3 + beyond / RATE)
    assert all(segment.end - segment.start > 0.05 for segment in found.segments)


@pytest.mark.parametrize("window", [3.0, 60.0])
@pytest.mark.parametrize("beyond", [0.02, 0.2, 1.1])
def test_the_last_step_is_judged_by_its_own_length(recogniser: Recogniser, window: float, beyond: float) -> None:
    """Windows that share nothing: the last may be much shorter than a step."""
    apart = with_windows(recogniser, window, window, least_speech=0.01)
    samples = np.concatenate([murmur(window), 0.2 * np.sin(np.arange(round(beyond * RATE)) * 0.3)]).astype(np.float32)
    samples[-round(beyond * RATE) :] *= np.linspace(0.2, 1, round(beyond * RATE), dtype=np.float32)
    (*_, last) = apart.predict(samples).segments
    assert last.end == pytest.approx(window + beyond, abs=1e-6)
    assert last.start == 0 or beyond >= 0.05
    assert last.label is not None


def test_steps_begin_where_windows_do_and_speech_counts_once(recogniser: Recogniser) -> None:
    """A third of a second is no whole number of samples: windows and steps begin every 5,333."""
    samples = np.concatenate([murmur(30), silence(30)])
    found = with_windows(recogniser, 1.0, 1 / 3).predict(samples)
    edges = [segment.start * RATE / 5333 for segment in found.segments]
    assert len(edges) > 1
    assert edges == pytest.approx(np.round(edges), abs=1e-6)
    assert recogniser.predict(samples).speech_seconds == pytest.approx(30, abs=0.4)


def test_windows_out_of_range() -> None:
    for seconds, hop in ((0.1, 0.1), (61, 1), (3, 4), (3, 0.01), (float("nan"), 1)):
        with pytest.raises(ConfigError, match="out of range"):
            WindowSettings(seconds, hop)


# streams


@given(
    sizes=st.lists(st.integers(1, 70_000), min_size=1, max_size=30),
    adapt=st.booleans(),
    rate=st.sampled_from([8000, 16_000, 44_100]),
)
@settings(max_examples=10, deadline=None)
def test_streamed_and_offline_agree_exactly(recogniser: Recogniser, sizes: list[int], adapt: bool, rate: int) -> None:
    samples = call()[3 * RATE : 14 * RATE]
    stream = recogniser.stream(sample_rate=rate, adapt=adapt)
    ended = []
    edges = [0, *np.cumsum(sizes).tolist(), len(samples)]
    for first, last in pairwise(edges):
        ended += stream.push(samples[first : max(first, last)])
    found = stream.finish()
    assert exactly(found) == exactly(recogniser.predict(samples, sample_rate=rate, adapt=adapt))
    assert tuple(ended) == found.segments[: len(ended)]


def test_segments_of_a_stream_are_early_and_final(recogniser: Recogniser) -> None:
    samples = call()
    stream = recogniser.stream()
    ended = []
    for first in range(0, len(samples), 1600):
        new = stream.push(samples[first : first + 1600])
        for one in new:  # a step is final when the window that begins with it is complete
            assert stream.seconds == pytest.approx(one.end + 3.0, abs=0.11)
        ended += new
        assert stream.current is None or stream.current.end <= stream.seconds
    found = stream.finish()
    assert found.segments[: len(ended)] == tuple(ended)
    assert exactly(stream.finish()) == exactly(found)
    with pytest.raises(AudioError, match="has ended"):
        stream.push(samples)


def test_odd_blocks(recogniser: Recogniser) -> None:
    stream = recogniser.stream()
    stream.push([0.0, 0.5])  # type: ignore[arg-type]
    stream.push(np.zeros((0, 2), np.float32))
    assert stream.seconds == pytest.approx(2 / RATE)
    with pytest.raises(AudioError, match="holds no samples"):
        recogniser.stream().finish()
    with pytest.raises(AudioError, match="not all numbers"):
        recogniser.stream().push(np.array([np.nan], np.float32))
    both, stream = np.stack([murmur(2.0), -murmur(2.0)], axis=1), recogniser.stream()
    for block in np.array_split(both, 20):
        stream.push(block)
    for result in (lambda: recogniser.predict(both), stream.finish, stream.finish):
        with pytest.raises(AudioError, match="cancel each other out"):
            result()


def test_an_interrupted_window_is_scored_again(recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of a window, as when listening ends."""
    samples = murmur(7.0)
    whole, stream, run, calls = recogniser.predict(samples), recogniser.stream(), OnnxModel.run, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return run(*arguments)

    monkeypatch.setattr(OnnxModel, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stream.push(samples)
    assert exactly(stream.finish()) == exactly(whole)
    assert calls > 5


# adaptation


def test_a_profile_is_the_shrunk_mean_of_descriptions(recogniser: Recogniser) -> None:
    clips = [murmur(2, seed) for seed in range(3)]
    profile = recogniser.enrol(clips, name="anna")
    mean = np.mean([unheard.extract(clip).mean(axis=0) for clip in clips], axis=0)
    assert (profile.utterances, profile.name) == (3, "anna")
    np.testing.assert_allclose(profile.mean, mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(profile.vector(4.0), 3 / 7 * mean, rtol=1e-4, atol=1e-4)
    probabilities, embedding = by_hand(unheard.extract(murmur(2, 9)), 3 / 7 * mean)
    found = recogniser.predict(murmur(2, 9), profile=profile)
    np.testing.assert_allclose(found.embedding, embedding, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(list(found.probabilities.values()), probabilities, atol=1e-4)
    assert found.profile is profile
    assert found.as_dict()["profile"] == {"name": "anna", "utterances": 3, "adapting": False}


def test_enrolment_adds_up_and_cuts_long_clips(recogniser: Recogniser) -> None:
    profile = recogniser.enrol(murmur(7.5))
    assert profile.utterances == 3  # 3 s, 3 s and 1.5 s
    assert recogniser.enrol([silence(3), murmur(2)], profile=profile).utterances == 4
    for seconds in (2.0, 5.0):  # whatever the windows, a clip is the same utterances
        assert with_windows(recogniser, seconds, 1.0).enrol(murmur(7.5), profile=profile).utterances == 3
    with pytest.raises(AudioError, match="no clip holds enough speech"):
        recogniser.enrol([silence(3)])


def test_running_adaptation_is_causal(recogniser: Recogniser) -> None:
    samples = call()
    windows = [samples[first : first + 3 * RATE] for first in range(0, 4 * RATE, RATE)]
    described = unheard.extract(windows[0]).mean(axis=0, dtype=np.float64)
    chances = [by_hand(unheard.extract(windows[0]))[0]]  # only window 0 shares no sample with the others
    chances += [by_hand(unheard.extract(window), described / 5)[0] for window in windows[1:]]
    spoken = [find_speech(log_energies(window, SETTINGS), SETTINGS).seconds for window in windows]
    found, expected = recogniser.predict(samples[: 6 * RATE], adapt=True), np.average(chances, axis=0, weights=spoken)
    np.testing.assert_allclose(list(found.probabilities.values()), expected, atol=1e-4)
    assert found.adapting
    assert found.profile is not None
    assert found.profile.utterances == 2  # windows 0 and 3
    assert recogniser.predict(samples[: 6 * RATE]).profile is None

    def early(*more: np.ndarray) -> tuple[Stream, int]:
        stream = recogniser.stream(adapt=True)
        return stream, len(stream.push(np.concatenate([samples[: 14 * RATE], *more])))

    (one, count), (other, _) = early(), early(murmur(6, 5))
    assert count
    assert one.finish().segments[:count] == other.finish().segments[:count]


def test_a_profile_of_another_model_is_refused(recogniser: Recogniser, tmp_path: Path) -> None:
    stranger = SpeakerProfile.unknown("0" * 64, SETTINGS.dim, "anna").learnt(np.ones(SETTINGS.dim, np.float32))
    with pytest.raises(ModelError, match="'anna' was made with another model"):
        recogniser.predict(murmur(2), profile=stranger)
    with pytest.raises(ConfigError, match="profile cannot be a str"):
        recogniser.predict(murmur(2), profile="anna")  # type: ignore[call-overload]
    fixed = load(tiny_model.write_tiny(tmp_path / "fixed.onnx", profile=False))
    assert fixed.predict(murmur(2)).label
    for score in (lambda: fixed.enrol(murmur(2)), lambda: fixed.predict(murmur(2), adapt=True)):
        with pytest.raises(ModelError, match="cannot adapt"):
            score()


# what is loaded and written

LOADED = """
import json, os, sys
import unheard
early = "onnxruntime" in sys.modules or "numpy" in sys.modules
found = unheard.load(sys.argv[1]).predict(sys.argv[2])
packages = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps([early, found.label, packages, os.environ["ORT_DISABLE_TELEMETRY"]]))
"""


@pytest.mark.parametrize("telemetry", [None, "0"])
def test_a_prediction_is_light_and_writes_nothing(folder: Path, tmp_path: Path, telemetry: str | None) -> None:
    path = write(tmp_path / "a.wav", murmur(2))
    (home := tmp_path / "home").mkdir()
    command = [sys.executable, "-W", "error", "-c", LOADED, str(folder), str(path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    environment |= {"HOME": str(home), **({} if telemetry is None else {"ORT_DISABLE_TELEMETRY": telemetry})}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    early, label, packages, disabled = json.loads(done.stdout)
    assert (early, label is None) == (False, False)
    heavy = {"torch", "sklearn", "scipy", "pandas", "onnx", "matplotlib", "librosa", "numba", "pydantic", "audformat"}
    assert not set(packages) & heavy
    assert disabled == (telemetry or "1")
    if not telemetry:
        assert not list(home.rglob("*"))
