"""The recogniser on a model whose answers are visible: windows, timeline, streams, adaptation, abstention."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import RATE, call, hiss, murmur, silence, write

import unheard
from unheard.errors import AudioError, ConfigError, ModelError, TooLongError
from unheard.features.analysis import analyse
from unheard.recogniser import Prediction, Recogniser, SpeakerProfile, WindowSettings, load
from unheard.recogniser.window_scorer import find_speech

SETTINGS = unheard.FeatureSettings()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny_model.write_tiny(path / "model.onnx")
    return path


@pytest.fixture(scope="module")
def recogniser(folder: Path) -> Recogniser:
    return load(folder)


def exactly(prediction: Prediction) -> tuple[object, ...]:
    """Everything in a prediction, to the last bit."""
    embedding = None if prediction.embedding is None else prediction.embedding.tobytes()
    profile = None if prediction.profile is None else (prediction.profile.mean.tobytes(), prediction.profile.utterances)
    return (
        prediction.label,
        dict(prediction.probabilities),
        embedding,
        prediction.segments,
        prediction.abstained,
        prediction.duration,
        prediction.speech_seconds,
        profile,
    )


def by_hand(features: np.ndarray, profile: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The tiny model in numpy: probabilities (C,) and embedding (E,) of one utterance."""
    embedding = features.mean(axis=0, dtype=np.float64) - profile
    logits = embedding @ tiny_model.weights(SETTINGS.dim, 4).astype(np.float64) / tiny_model.TEMPERATURE
    powers = np.exp(logits - logits.max())
    return powers / powers.sum(), embedding


# one utterance


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


def test_files_arrays_and_open_files_agree(recogniser: Recogniser, tmp_path: Path) -> None:
    samples = (murmur(4.2) * 20_000).astype(np.int16)
    path = write(tmp_path / "a.wav", samples)
    expected = exactly(recogniser.predict(samples))
    assert exactly(recogniser.predict(path)) == expected
    assert exactly(recogniser.predict(str(path))) == expected
    assert exactly(recogniser.predict(io.BytesIO(path.read_bytes()))) == expected
    assert exactly(recogniser.predict(np.stack([samples, samples], axis=1))) == expected
    both = recogniser.predict([path, samples])
    assert [exactly(one) for one in both] == [expected, expected]
    assert [one.file for one in both] == [str(path), ""]


def test_embed_is_the_embedding(recogniser: Recogniser) -> None:
    np.testing.assert_array_equal(recogniser.embed(murmur(2)), recogniser.predict(murmur(2)).embedding)
    with pytest.raises(AudioError, match="no embedding: silence"):
        recogniser.embed(silence(2))


def test_another_rate_is_resampled(recogniser: Recogniser, tmp_path: Path) -> None:
    samples = murmur(7, rate=44_100)
    path = write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    found = recogniser.predict(path)
    assert exactly(found) == exactly(recogniser.predict(samples, sample_rate=44_100))
    assert found.duration == pytest.approx(7.0, abs=1e-4)


# channels


def test_channels_are_people_of_their_own(recogniser: Recogniser, tmp_path: Path) -> None:
    left, right = murmur(5), np.roll(murmur(5, 3, loudness=0.5), 900)
    path = write(tmp_path / "call.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    found = recogniser.predict_channels(path)
    assert [one.channel for one in found] == ["left", "right"]
    assert [exactly(one) for one in found] == [exactly(recogniser.predict(left)), exactly(recogniser.predict(right))]
    opened = recogniser.predict_channels(io.BytesIO(path.read_bytes()))
    assert [exactly(one) for one in opened] == [exactly(one) for one in found]
    assert exactly(recogniser.predict(path, channel="right")) == exactly(found[1])
    assert len(recogniser.predict_channels(np.stack([left] * 3, axis=1))) == 3


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
def test_it_abstains_and_says_why(recogniser: Recogniser, samples: np.ndarray, reason: str) -> None:
    found = recogniser.predict(samples)
    assert found.label is None
    assert found.embedding is None
    assert found.probabilities == {}
    assert reason in (found.abstained or "")
    assert [(one.label, one.abstained) for one in found.segments] == [(None, found.abstained)]


def test_a_long_silence_is_one_segment(recogniser: Recogniser) -> None:
    found = recogniser.predict(silence(9.5))
    assert [(one.start, one.end, one.abstained) for one in found.segments] == [(0.0, 9.5, "no speech")]
    assert found.abstained == "silence"


def test_how_little_speech_is_too_little_can_be_chosen(folder: Path) -> None:
    assert load(folder, least_speech=0.1).predict(murmur(0.2)).label is not None
    assert "at least 3 s" in (load(folder, least_speech=3).predict(murmur(2)).abstained or "")


def test_real_speech_is_not_taken_for_noise(recogniser: Recogniser, corpora: Path) -> None:
    files = [file for name in ("emodb", "ravdess") for file in sorted((corpora / name).rglob("*.*"))]
    files = [file for file in files if file.suffix in (".wav", ".flac")][::40]
    assert len(files) > 10
    assert [one.file for one in recogniser.predict(files) if one.label is None] == []


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
            analysis = analyse(piece, SETTINGS)
            speech = find_speech(analysis.log_energy, SETTINGS)
            spoken, frames = speech.seconds, speech.frames
            chance = None if speech.too_little else by_hand(analysis.features)[0]
        windows.append((first, len(piece), chance, spoken, frames))
        if first + length >= len(samples):
            break
        first += step
    labels = []
    for start in range(0, len(samples), step):
        covering = [w for w in windows if w[0] < start + step and start < w[0] + min(w[1], length)]
        covering = [w for w in covering if w[0] <= start]
        share = []
        for at, _, _, _, frames in covering:
            middles = at + 160 * np.arange(len(frames)) + 200
            share.append(np.count_nonzero(frames & (middles >= start) & (middles < start + step)) / 100)
        good = [w for w in covering if w[2] is not None]
        if not good or np.mean(share) < 0.1 * hop:
            labels.append(-1)
        else:
            labels.append(int((sum(w[3] * w[2] for w in good)).argmax()))
    good = [w for w in windows if w[2] is not None]
    whole = sum(w[3] * w[2] for w in good) / sum(w[3] for w in good)
    return labels, whole


@pytest.mark.parametrize(("seconds", "hop"), [(3.0, 1.0), (2.0, 0.5), (1.5, 1.0), (2.5, 2.5)])
def test_a_timeline_is_what_its_definition_says(recogniser: Recogniser, seconds: float, hop: float) -> None:
    samples = call()
    labels, whole = literally(samples, seconds, hop)
    found = Recogniser(recogniser.model, windows=WindowSettings(seconds, hop)).predict(samples)
    assert set(labels) > {-1}
    assert len(set(labels)) > 2
    named = [recogniser.labels[label] if label >= 0 else None for label in labels]
    steps = [
        next(one.label for one in found.segments if one.start <= (number + 0.01) * hop < one.end)
        for number in range(len(labels))
    ]
    assert steps == named
    np.testing.assert_allclose(list(found.probabilities.values()), whole, atol=1e-5)
    assert sum(found.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("beyond", [1, 640, 1_440, 1_700, 4_000])
def test_speech_that_ends_a_little_into_a_step_is_speech_to_the_end(recogniser: Recogniser, beyond: int) -> None:
    found = recogniser.predict(murmur(4)[: 3 * RATE + beyond])
    assert all(segment.label is not None for segment in found.segments)
    assert found.segments[-1].end == found.duration == pytest.approx(3 + beyond / RATE)
    assert all(segment.end - segment.start > 0.05 for segment in found.segments)


def test_steps_lie_where_their_windows_do(recogniser: Recogniser) -> None:
    """A third of a second is no whole number of samples: windows begin every 5,333, and so do steps."""
    samples = np.concatenate([murmur(30), silence(30)])
    windows = WindowSettings(1.0, 1 / 3)
    found = Recogniser(recogniser.model, windows=windows).predict(samples)
    edges = [segment.start * RATE / 5333 for segment in found.segments]
    assert len(edges) > 1
    assert edges == pytest.approx(np.round(edges), abs=1e-6)


def test_segments_cover_the_recording_and_neighbours_differ(recogniser: Recogniser) -> None:
    found = recogniser.predict(call())
    assert found.segments[0].start == 0
    assert found.segments[-1].end == found.duration == pytest.approx(20)
    for one, other in zip(found.segments, found.segments[1:], strict=False):
        assert one.end == other.start
        assert one.label != other.label
    for one in found.segments:
        if one.label is not None:
            assert sum(one.probabilities.values()) == pytest.approx(1)
            assert one.label == max(one.probabilities, key=lambda label: one.probabilities[label])


def test_speech_is_counted_once(recogniser: Recogniser) -> None:
    found = recogniser.predict(np.concatenate([murmur(10), silence(10)]))
    assert found.speech_seconds == pytest.approx(10, abs=0.3)


@given(
    sizes=st.lists(st.integers(1, 70_000), min_size=1, max_size=30),
    adapt=st.booleans(),
    rate=st.sampled_from([8000, 16_000, 44_100]),
)
@settings(max_examples=10, deadline=None)
def test_streamed_and_offline_agree_exactly(recogniser: Recogniser, sizes: list[int], adapt: bool, rate: int) -> None:
    samples = call()[3 * RATE : 14 * RATE]
    offline = recogniser.predict(samples, sample_rate=rate, adapt=adapt)
    stream = recogniser.stream(sample_rate=rate, adapt=adapt)
    ended = []
    first = 0
    for size in sizes:
        ended += stream.push(samples[first : first + size])
        first += size
    ended += stream.push(samples[first:])
    found = stream.finish()
    assert exactly(found) == exactly(offline)
    assert tuple(ended) == found.segments[: len(ended)]


def test_a_stream_is_known_early_and_does_not_change_its_mind(recogniser: Recogniser) -> None:
    samples = call()
    stream = recogniser.stream()
    ended = []
    for first in range(0, len(samples), 1600):
        new = stream.push(samples[first : first + 1600])
        for one in new:  # a step is settled when the window that begins with it is complete
            assert one.end + 1.0 <= stream.seconds + 1.0
            assert stream.seconds == pytest.approx(one.end + 3.0, abs=0.11)
        ended += new
        if stream.current is not None:
            assert stream.current.end <= stream.seconds
    found = stream.finish()
    assert found.segments[: len(ended)] == tuple(ended)
    assert exactly(stream.finish()) == exactly(found)
    with pytest.raises(AudioError, match="has ended"):
        stream.push(samples)


def test_a_stream_takes_what_predict_takes(recogniser: Recogniser) -> None:
    samples = (murmur(4) * 20_000).astype(np.int16)
    expected = exactly(recogniser.predict(samples))
    for pushed in (samples, np.stack([samples] * 2, axis=1), samples.astype(np.float64) / 32_768):
        stream = recogniser.stream()
        stream.push(pushed)
        assert exactly(stream.finish()) == expected


def test_channels_that_cancel_each_other_are_an_error_live_too(recogniser: Recogniser) -> None:
    both = np.stack([murmur(2.0), -murmur(2.0)], axis=1)
    with pytest.raises(AudioError, match="cancel each other out"):
        recogniser.predict(both)
    stream = recogniser.stream()
    for first in range(0, len(both), 1600):
        stream.push(both[first : first + 1600])
    for _ in range(2):  # asked again it says no other thing
        with pytest.raises(AudioError, match="cancel each other out"):
            stream.finish()


def test_a_window_that_was_interrupted_is_heard_all_the_same(
    folder: Path, recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the midst of a window, as when listening is ended: the rest is answered with it."""
    samples = murmur(7.0)
    whole = recogniser.predict(samples)
    model = load(folder)
    stream, run, calls = model.stream(), type(model.model).run, 0

    def interrupted(*given: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return run(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(type(model.model), "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stream.push(samples)
    assert exactly(stream.finish()) == exactly(whole)
    assert calls > 5


@pytest.mark.parametrize("window", [3.0, 60.0])
@pytest.mark.parametrize("beyond", [0.02, 0.2, 1.1])
def test_the_last_step_is_judged_by_what_there_is_of_it(recogniser: Recogniser, window: float, beyond: float) -> None:
    """Windows that share nothing: the last may be much shorter than a step."""
    apart = Recogniser(recogniser.model, windows=WindowSettings(window, window), least_speech=0.01)
    samples = np.concatenate([murmur(window), 0.2 * np.sin(np.arange(round(beyond * RATE)) * 0.3)]).astype(np.float32)
    samples[-round(beyond * RATE) :] *= np.linspace(0.2, 1, round(beyond * RATE), dtype=np.float32)
    (*_, last) = apart.predict(samples).segments
    assert last.end == pytest.approx(window + beyond, abs=1e-6)
    if beyond < 0.05:
        assert last.start == 0
    assert last.label is not None


def test_a_clip_is_the_same_utterances_whatever_the_windows(recogniser: Recogniser) -> None:
    known = recogniser.enrol(murmur(10.0))
    for seconds in (2.0, 5.0):
        other = Recogniser(recogniser.model, windows=WindowSettings(seconds, 1.0))
        assert other.enrol(murmur(10.0), profile=known).utterances == known.utterances


def test_enrolling_can_be_given_up_and_is_bounded(recogniser: Recogniser) -> None:
    heard: list[float] = []

    def enough(seconds: float) -> None:
        heard.append(seconds)
        if len(heard) == 2:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        recogniser.enrol(murmur(12.0), progress=enough)
    assert heard == [3.0, 6.0]
    with pytest.raises(TooLongError):
        recogniser.enrol(murmur(12.0), longest=10.0)


def test_open_files_that_cannot_go_back(recogniser: Recogniser, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", murmur(1.0))
    with path.open("rb") as file:
        pass
    with pytest.raises(AudioError, match="cannot be read from its beginning"):
        recogniser.predict(file)


def test_a_stream_of_plain_numbers(recogniser: Recogniser) -> None:
    stream = recogniser.stream()
    stream.push([0.0, 0.5])  # type: ignore[arg-type]
    assert stream.seconds == pytest.approx(2 / RATE)
    stream.push(np.zeros((0, 2), np.float32))
    assert stream.seconds == pytest.approx(2 / RATE)


@pytest.mark.parametrize("channel", ["each", "foo"])
def test_each_is_advised_only_where_it_is_meant(recogniser: Recogniser, channel: str) -> None:
    with pytest.raises(AudioError, match="unknown channel") as raised:
        recogniser.predict(murmur(1.0), channel=channel)
    assert ("predict_channels" in str(raised.value)) == (channel == "each")


def test_a_stream_of_nothing_is_an_error(recogniser: Recogniser) -> None:
    with pytest.raises(AudioError, match="holds no samples"):
        recogniser.stream().finish()
    with pytest.raises(AudioError, match="not all numbers"):
        recogniser.stream().push(np.array([np.nan], np.float32))


@pytest.mark.parametrize(("seconds", "hop"), [(0.1, 0.1), (61, 1), (3, 4), (3, 0.01), (float("nan"), 1)])
def test_windows_out_of_range(seconds: float, hop: float) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        WindowSettings(seconds, hop)


def test_memory_does_not_grow_with_the_recording(recogniser: Recogniser, tmp_path: Path) -> None:
    minutes, block = 9, murmur(30)
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(2 * minutes):
            file.write(block)
    wide = Recogniser(recogniser.model, windows=WindowSettings(30, 30))
    tracemalloc.start()
    found = wide.predict(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.duration == 60 * minutes
    assert most < 20e6 < 0.6 * 4 * RATE * 60 * minutes  # the samples alone are 35 MB


def test_longest_and_progress(recogniser: Recogniser, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", murmur(5))
    for audio in (path, murmur(5)):
        with pytest.raises(TooLongError):
            recogniser.predict(audio, longest=4)
    with pytest.raises(ConfigError, match="sample rate of 0 Hz"):
        recogniser.predict(murmur(1), sample_rate=0)
    told: list[float] = []
    recogniser.predict(path, progress=told.append)
    assert told == [5.0]

    def stop(seconds: float) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        recogniser.predict(path, progress=stop)


# adaptation


def test_a_voice_is_the_shrunk_mean_of_descriptions(recogniser: Recogniser) -> None:
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


def test_enrolling_goes_on_and_long_clips_are_several_utterances(recogniser: Recogniser) -> None:
    profile = recogniser.enrol(murmur(7.5))
    assert profile.utterances == 3  # 3 s, 3 s and 1.5 s
    assert recogniser.enrol([silence(3), murmur(2)], profile=profile).utterances == 4
    with pytest.raises(AudioError, match="no clip holds enough speech"):
        recogniser.enrol([silence(3)])


def test_running_adaptation_is_causal(recogniser: Recogniser) -> None:
    samples = call()
    windows = [samples[first : first + 3 * RATE] for first in range(0, 4 * RATE, RATE)]
    described = [unheard.extract(window).mean(axis=0, dtype=np.float64) for window in windows]
    chances = [by_hand(unheard.extract(window))[0] for window in windows[:1]]
    for number in (1, 2, 3):  # only window 0 shares no sample with the last that taught
        chances.append(by_hand(unheard.extract(windows[number]), described[0] / 5)[0])
    spoken = [find_speech(analyse(window, SETTINGS).log_energy, SETTINGS).seconds for window in windows]
    found = recogniser.predict(samples[: 6 * RATE], adapt=True)
    expected = sum(s * c for s, c in zip(spoken, chances, strict=True)) / sum(spoken)
    np.testing.assert_allclose(list(found.probabilities.values()), expected, atol=1e-4)
    assert found.adapting
    assert found.profile is not None
    assert found.profile.utterances == 2  # windows 0 and 3
    assert recogniser.predict(samples[: 6 * RATE]).profile is None


def test_what_comes_later_changes_nothing_before(recogniser: Recogniser) -> None:
    samples = call()
    stream = recogniser.stream(adapt=True)
    early = stream.push(samples[: 14 * RATE])
    other = recogniser.stream(adapt=True)
    assert other.push(np.concatenate([samples[: 14 * RATE], murmur(6, 5)]))[: len(early)] == early


def test_a_voice_of_another_model_is_refused(recogniser: Recogniser, tmp_path: Path) -> None:
    stranger = SpeakerProfile.unknown("0" * 64, SETTINGS.dim, "anna").learnt(np.ones(SETTINGS.dim, np.float32))
    with pytest.raises(ModelError, match="'anna' was made with another model"):
        recogniser.predict(murmur(2), profile=stranger)
    deaf = load(tiny_model.write_tiny(tmp_path / "deaf.onnx", profile=False))
    assert deaf.predict(murmur(2)).label
    for hear in (lambda: deaf.enrol(murmur(2)), lambda: deaf.predict(murmur(2), adapt=True)):
        with pytest.raises(ModelError, match="cannot adapt"):
            hear()


# what is loaded

LOADED = """
import json, os, sys
import unheard
early = "onnxruntime" in sys.modules or "numpy" in sys.modules
found = unheard.load(sys.argv[1]).predict(sys.argv[2])
packages = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps([early, found.label, packages, os.environ["ORT_DISABLE_TELEMETRY"]]))
"""


@pytest.mark.parametrize("telemetry", [None, "0"])
def test_a_prediction_loads_nothing_heavy_and_writes_nothing(
    folder: Path, tmp_path: Path, telemetry: str | None
) -> None:
    path, home = write(tmp_path / "a.wav", murmur(2)), tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-W", "error", "-c", LOADED, str(folder), str(path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    environment |= {"HOME": str(home), **({} if telemetry is None else {"ORT_DISABLE_TELEMETRY": telemetry})}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    early, label, packages, disabled = json.loads(done.stdout)
    assert not early
    assert label
    assert not set(packages) & {"torch", "sklearn", "scipy", "pandas", "onnx", "matplotlib", "librosa", "numba"}
    assert not set(packages) & {"pydantic", "audformat"}
    assert disabled == telemetry or (telemetry is None and disabled == "1")
    if telemetry is None:
        assert not list(home.rglob("*"))
