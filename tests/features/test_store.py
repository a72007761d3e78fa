"""The feature store: deterministic, resumable, atomic, and hard to break."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import murmur, write

import unheard.features.store as store_module
from unheard.errors import FeatureError, UnreachableError
from unheard.features import FeatureSettings, FeatureStore, build_store, extract
from unheard.manifest import Manifest, Utterance


def rows(folder: Path, count: int, first: int = 0) -> tuple[Utterance, ...]:
    folder.mkdir(exist_ok=True)
    return tuple(
        Utterance(f"u{k}", str(write(folder / f"{k}.wav", murmur(0.3 + 0.05 * (k % 7), k))), f"s{k % 3}", "neutral")
        for k in range(first, first + count)
    )


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Manifest(rows(tmp_path / "audio", 12))


def build(manifest: Manifest, folder: Path, **options: object) -> FeatureStore:
    return build_store(manifest, folder, progress=False, **options)  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The recordings that are read from here on."""
    done: list[str] = []
    read = store_module.read_recording
    monkeypatch.setattr(store_module, "read_recording", lambda path, **kw: (done.append(path), read(path, **kw))[1])
    return done


def test_a_store_holds_what_extract_gives(manifest: Manifest, tmp_path: Path) -> None:
    copy = replace(manifest.rows[0], id="copy", audio=str(tmp_path / "copy.wav"))
    shutil.copyfile(manifest.rows[0].audio, copy.audio)
    manifest = Manifest((*manifest, copy))
    store = build(manifest, tmp_path / "store", workers=1)
    assert store.ids == manifest.ids
    assert store.audio_digest["u0"] == store.audio_digest["copy"] != store.audio_digest["u1"]
    np.testing.assert_array_equal(store.matrix, np.concatenate([store[row.id] for row in manifest]))
    for row in manifest:
        np.testing.assert_array_equal(store[row.id], extract(row.audio))
    assert not store["u0"].flags.writeable
    with pytest.raises(FeatureError, match="not in this store"):
        store["u99"]
    assert "13 utterances" in store.summary()
    pickled = pickle.dumps(store)
    assert len(pickled) < 500, "only the path travels"
    for again in (pickle.loads(pickled), FeatureStore(tmp_path / "store")):
        np.testing.assert_array_equal(again["u3"], store["u3"])


def test_one_and_three_workers_give_the_same_bytes_and_print_nothing(
    manifest: Manifest, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    build(manifest, tmp_path / "one", workers=1)
    build_store(manifest, tmp_path / "three", workers=3)
    assert content(tmp_path / "one") == content(tmp_path / "three")
    assert not list((tmp_path / "three").glob("partial-*"))
    assert capfd.readouterr() == ("", ""), "away from a terminal"


def test_a_grown_manifest_and_several_selections_reuse_what_is_there(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Experiments may share one: what one of them leaves out is not taken from the others."""
    folder = tmp_path / "store"
    some, others = Manifest(manifest.rows[:5]), Manifest(manifest.rows[3:])
    before = np.array(build(some, folder)["u0"])
    store = build(others, folder)
    assert store.ids == (*(row.id for row in others), "u0", "u1", "u2")
    np.testing.assert_array_equal(store["u0"], before)
    done, kept = watch(monkeypatch), content(folder)
    for selection in (some, others, manifest):
        build(selection, folder)
    assert (done, content(folder)) == ([], kept)
    grown = Manifest((*rows(tmp_path / "audio", 3, first=50), *manifest.rows))
    assert build(grown, folder, workers=1).ids == grown.ids
    assert len(done) == 3
    build(grown, tmp_path / "fresh", workers=1)
    assert content(folder) == content(tmp_path / "fresh")


def test_paths_that_are_no_unicode(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9t\xe9"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes Unicode alone")
    row = Utterance("a", str(folder / "missing.wav"), "x", "sad")
    for _ in range(2):
        store = build_store(Manifest((*rows(tmp_path / "audio", 3), row)), tmp_path / "store", workers=1)
        assert "no such file" in store.skipped["a"]


def test_files_that_changed_places_or_content_are_computed_again(manifest: Manifest, tmp_path: Path) -> None:
    """Of one size and one time of change, as an archive leaves them: the mend of mixed-up labels."""
    two = Manifest(manifest.rows[:2])
    first, second = (Path(row.audio) for row in two)
    for number, path in enumerate((first, second)):
        write(path, murmur(0.6, number))
        os.utime(path, (1, 1))
    build(two, tmp_path / "store")
    for old, new in ((first, "aside"), (second, first.name), (first.with_name("aside"), second.name)):
        old.rename(old.with_name(new))
    for again in (False, True):
        if again:
            write(first, murmur(0.6, 999))
        store = build(two, tmp_path / "store")
        for row in two:
            np.testing.assert_array_equal(store[row.id], extract(row.audio))


def test_bad_recordings_are_skipped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = rows(tmp_path / "audio", 3)
    files = {"empty": b"", "text": b"no audio in here, only words"}
    for name, bytes_ in files.items():
        (tmp_path / name).write_bytes(bytes_)
    soundfile.write(tmp_path / "short.wav", np.zeros(399), 16_000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 16_000)
    soundfile.write(tmp_path / "nan.wav", np.full(8000, np.nan), 16_000, subtype="FLOAT")
    bad = tuple(
        Utterance(name, str(tmp_path / name), "s", "sad")
        for name in ("empty", "text", "short.wav", "silent.wav", "nan.wav", "missing")
    )
    stretch = replace(good[0], id="beyond", start=0.1, end=9.0)
    store = build(Manifest((*good, *bad, stretch)), tmp_path / "store", workers=2)
    assert store.ids == ("u0", "u1", "u2", "silent.wav")
    assert set(store.skipped) == {"empty", "text", "short.wav", "nan.wav", "missing", "beyond"}
    assert "too short" in store.skipped["short.wav"]
    assert "short.wav" in store.skipped["short.wav"], "the reason names the file"
    assert store.unvoiced == ("silent.wav",)
    assert store["silent.wav"].shape == (48, 39)
    assert "6 skipped" in store.summary()
    assert "1 without a voiced frame" in store.summary()
    with pytest.raises(FeatureError, match="was skipped"):
        store["missing"]
    soundfile.write(tmp_path / "missing", np.random.default_rng(0).normal(0, 0.1, 8000), 16_000, format="WAV")
    assert "missing" in build(Manifest((*good, *bad, stretch)), tmp_path / "store")
    build(Manifest(bad[:2]), tmp_path / "only bad")
    assert set(build(Manifest(tuple(good)), tmp_path / "only bad").skipped) == {"empty", "text"}


@pytest.mark.parametrize("error", [RuntimeError("a bug"), MemoryError("none"), UnreachableError("no permission")])
def test_a_failure_stops_nothing_and_is_tried_again(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    read = store_module.read_recording

    def fails(path: str, **options: object) -> object:
        if path.endswith("/3.wav"):
            raise error
        return read(path, **options)  # type: ignore[arg-type]

    folder = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "read_recording", fails)
        store = build(manifest, folder, workers=1)
        assert store.ids == tuple(row.id for row in manifest if row.id != "u3")
        assert str(error).rstrip(".") in store.skipped["u3"]
        before = content(folder)
        build(manifest, folder, workers=1)
        assert content(folder) == before
    assert len(build(Manifest(manifest.rows[::-1]), folder)) == 12


def test_a_store_deletes_nothing_that_is_not_its_own(manifest: Manifest, tmp_path: Path) -> None:
    own = ["features-notes.txt", "index-2020.csv", "partial-results/x.txt", "features-0123456789ab.txt"]
    for name in own:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    build_store(manifest, tmp_path, workers=1)
    assert [name for name in own if not (tmp_path / name).exists()] == []


WATCHED = """
    import sys
    from unheard.features import build_store, store
    from unheard.manifest import Manifest, Utterance
    analysed = store._analysed
    def watched(segment, settings):
        print("next", flush=True)
        sys.stdin.readline()
        return analysed(segment, settings)
    store._analysed = watched
    audio, folder = sys.argv[1:]
    rows = tuple(Utterance(f"u{k}", f"{audio}/{k}.wav", f"s{k % 3}", "neutral") for k in range(12))
    build_store(Manifest(rows), folder, workers=1, progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_a_second_process_waits_and_killed_and_resumed_equals_never_killed(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "store"
    command = [sys.executable, "-c", textwrap.dedent(WATCHED), str(tmp_path / "audio"), str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdin.write("\n" * 5)
    process.stdin.flush()
    assert [process.stdout.readline() for _ in range(6)] == ["next\n"] * 6
    with pytest.raises(FeatureError, match="another process is building this store"):
        build(manifest, folder)
    process.kill()
    process.communicate()
    partial = next(folder.glob("partial-*"))
    # What a kill in the middle of a write leaves: features without a commit, and half a line.
    with next(partial.glob("*.bin")).open("ab") as data, next(partial.glob("*.jsonl")).open("ab") as log:
        data.write(b"half an utterance")
        log.write(b'{"crc": 12')
    with pytest.raises(FeatureError, match="no complete feature store"):
        FeatureStore(folder)
    done = watch(monkeypatch)
    build(manifest, folder, workers=1)
    assert len(done) == 7, "what was committed before the kill is not computed again"
    build(manifest, tmp_path / "undisturbed", workers=1)
    assert content(folder) == content(tmp_path / "undisturbed")


def test_damaged_shards_do_not_count(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "store"
    monkeypatch.setattr("unheard.features.store._write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build(manifest, folder, workers=1)
    monkeypatch.undo()
    shard = next(folder.glob("partial-*/*.bin"))
    damaged = bytearray(shard.read_bytes())
    damaged[40] ^= 255
    shard.write_bytes(damaged)
    build(manifest, folder, workers=1)
    build(manifest, tmp_path / "undisturbed", workers=1)
    assert content(folder) == content(tmp_path / "undisturbed")


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process")
def test_a_worker_that_dies_costs_one_recording(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A decoder that crashes, as a module of the worker's own: it is found before the real one.
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "from unheard.features import store\n"
        "read = store.read_recording\n"
        "def crash(path, **options):\n"
        "    if path.endswith('/5.wav'):\n"
        "        os.abort()\n"
        "    return read(path, **options)\n"
        "store.read_recording = crash\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    store = build(manifest, tmp_path / "store", workers=2)
    assert len(store) == 11
    assert "died twice" in store.skipped["u5"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(manifest: Manifest, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    partial = folder / f"partial-{FeatureSettings().digest}"
    partial.mkdir(parents=True)
    (partial / "0.bin").symlink_to("/dev/full")
    with pytest.raises(FeatureError, match=r"cannot be written: No space left.*finished work is kept"):
        build(manifest, folder, workers=2)


def test_what_cannot_be_built_or_opened_is_named(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "store"
    store = build(manifest, folder)
    for of, target, settings, message in (
        (manifest, tmp_path / "file" / "store", None, "cannot be written"),
        (Manifest(()), folder, None, "no utterances"),
        (manifest, folder, FeatureSettings(vad="none"), "vad: xvector, not none"),
    ):
        with pytest.raises(FeatureError, match=message):
            build(of, target, settings=settings)
    with store.matrix_path.open("r+b") as file:
        file.truncate(100)
    described = json.loads((folder / "store.json").read_text())
    lacking = [json.dumps({k: v for k, v in described.items() if k != key}) for key in ("index", "settings", "digest")]
    for text, message in (
        (json.dumps(described), "100 bytes, not"),
        (json.dumps({**described, "format": 99}), "format 99"),
        *((broken, "cannot be read") for broken in ("{", *lacking)),
    ):
        (folder / "store.json").write_text(text)
        with pytest.raises(FeatureError, match=message):
            FeatureStore(folder)
