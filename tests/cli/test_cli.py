"""The command line: every verb, every kind of mistake, exit codes, and a line instead of a traceback."""

from __future__ import annotations

import builtins
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from experimenting import cells, corpus, environment, experiment, numbers, rows_of, start, table, write_rows
from iemocap_tree import improvised

from unheard.cli import VERBS, demo, main
from unheard.errors import ManifestError


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line of the complaint, which has no traceback."""
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert said.out == ""
    last = said.err.splitlines()[-1]
    assert last.startswith("unheard: ")
    return last


@pytest.mark.parametrize("verb", VERBS)
def test_help_explains_every_verb_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(rf"Example:\s+unheard\s+{verb}", out)


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(verb in said for verb in VERBS)
    assert main(["--version"]) == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", capsys.readouterr().out)


LIGHT = """
import sys
from unheard.cli import main
for words in ([], ["--help"], ["experiment", "--help"], ["corpora"], ["experiment", "--bogus", "1"]):
    assert main(words) == (2 if "--bogus" in words else 0), words
    assert "torch" not in sys.modules, words
"""


def test_what_trains_nothing_loads_no_torch() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, timeout=60, check=True)


def test_prepare_writes_the_papers_subset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = improvised(tmp_path / "IEMOCAP").write()
    output = tmp_path / "manifest.csv"
    assert main(["prepare", "iemocap", str(root), "--subset", "paper", "-o", str(output)]) == 0
    rows = rows_of(output)
    assert len(rows) == 2943
    columns = "id audio start end speaker gender session emotion text corpus language"
    assert list(rows[0])[:11] == columns.split()
    assert "2943 utterances of 10 speakers" in " ".join(capsys.readouterr().out.split())
    assert main(["prepare", "iemocap", str(root), "--subset", "papers", "-o", str(output)]) == 2
    assert main(["prepare", "iemocapp", str(root), "-o", str(output)]) == 2
    assert "'iemocap'" in one_line(capsys)


def test_prepare_writes_other_kinds_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["prepare", "synthetic", str(corpus()), "--emotions", "angry,sad", "-o"]
    assert main([*base, str(tmp_path / "m.jsonl")]) == 0
    assert len((tmp_path / "m.jsonl").read_text().splitlines()) == 24
    assert main([*base, str(tmp_path / "kaldi")]) == 0
    assert (tmp_path / "kaldi" / "wav.scp").exists()
    capsys.readouterr()
    assert main([*base, str(tmp_path / "m.xlsx")]) == 2
    assert "m.xlsx" in one_line(capsys)
    (tmp_path / "file").write_text("")
    assert main([*base, str(tmp_path / "file" / "m.csv")]) == 2
    one_line(capsys)


def test_corpora_and_synthetic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpora"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("iemocap", "emodb", "ravdess", "crema-d", "ased"))
    assert main(["corpora", "--name", "ravdess"]) == 0
    assert "licence:" in capsys.readouterr().out
    assert main(["corpora", "--name", "ravdes"]) == 2
    assert "Did you mean 'ravdess'?" in one_line(capsys)
    assert main(["synthetic", str(tmp_path / "c"), "--entanglement", "2"]) == 2
    assert "entanglement from 0 to 1" in one_line(capsys)
    assert main(["fetch", "iemocap"]) == 2
    one_line(capsys)


def test_features_and_extract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import unheard

    manifest = table(tmp_path)
    rows = rows_of(manifest)
    rows[3]["audio"] = str(tmp_path / "absent.wav")
    write_rows(manifest, rows)
    assert main(["features", str(manifest), "-o", str(tmp_path / "store")]) == 0
    said = capsys.readouterr()
    assert f"skipped {rows[3]['id']}" in said.err
    assert said.out.startswith("23 utterances")
    features = unheard.extract(rows[0]["audio"])
    assert features.shape[1] == 39
    assert features.dtype == np.float32
    assert np.array_equal(unheard.FeatureStore(tmp_path / "store")[rows[0]["id"]], features)
    assert main(["features", str(manifest), "-o", str(tmp_path / "store"), "--vad", "none"]) == 2
    assert "other settings" in one_line(capsys)


def test_doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = table(tmp_path)
    assert main(["doctor", str(manifest)]) == 0
    capsys.readouterr()
    assert main(["doctor", str(manifest), "--format", "json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)
    assert main(["doctor", str(manifest), "--format", "json", "-o", str(tmp_path / "f.json")]) == 0
    assert isinstance(json.loads((tmp_path / "f.json").read_text()), dict)
    rows = rows_of(manifest)
    leaking = [{"id": row["id"], "part": ("train", "dev", "test")[i % 3]} for i, row in enumerate(rows)]
    write_rows(tmp_path / "splits.csv", leaking)
    assert main(["doctor", str(manifest), "--splits", str(tmp_path / "splits.csv"), "--no-listen"]) == 1
    capsys.readouterr()
    assert main(["doctor", str(tmp_path / "absent.csv")]) == 2
    one_line(capsys)


def test_train_says_where_its_model_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--corpus", "synthetic", "--root", str(corpus()), "--emotions", "angry,sad", "--training.batch-size", "4"]
    out = tmp_path / "run"
    assert main(["train", "mtl", *base, "--out", str(out), "--epochs", "2", "--protocol", "paired"]) == 0
    models = [Path(line) for line in capsys.readouterr().out.splitlines() if line.endswith(".safetensors")]
    assert [model.name for model in models] == ["model.safetensors", "model-female.safetensors"]
    # another learning rate in the same folder: its model alone
    assert main(["train", "mtl", *base, "--out", str(out), "--epochs", "1", "--training.lr", "0.1"]) == 0
    (model,) = [line for line in capsys.readouterr().out.splitlines() if line.endswith(".safetensors")]
    assert Path(model).parent != models[0].parent
    assert main(["evaluate", model, str(corpus() / "manifest.csv")]) == 0
    capsys.readouterr()
    assert main(["train", "svm", *base, "--out", str(out)]) == 2
    assert "leaves no model" in one_line(capsys)


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Real clips with truth and confidence, a picture, and what the systems do to a shortcut."""
    few = replace(demo.VOICES, speakers=24, sentences=1, dev_speakers=8, mean_duration=0.4, shortest=0.3)
    monkeypatch.setattr(demo, "VOICES", few)
    monkeypatch.setattr(demo.channel_emotions, "__defaults__", (few,))
    printed = []
    for _ in range(2):
        assert main(["demo", "--out", str(tmp_path / "demo"), "--epochs", "1", "--seeds", "2"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert re.search(r"^angry-en.ogg +angry +\w+ +\d+%$", printed[0], re.MULTILINE)
    assert re.search(r"^\| SER_SR_DAT \|( \d+ \(\d+ to \d+\) \|){3} [+−]\d+ ", printed[0], re.MULTILINE)
    assert (tmp_path / "demo" / "timeline.png").stat().st_size > 5000


def test_demo_of_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--corpus", "synthetic", "--data", str(corpus())]
    assert main(["demo", "--out", str(tmp_path / "demo"), *more]) == 2
    assert "'happy'" in capsys.readouterr().err  # this corpus has two of the four emotions


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--systms", "ser"], "systems"),
        (["--epochs", "many"], "many"),
        *((["--" + flag, "2.7"], "2.7 is not a whole number") for flag in ("seeds", "epochs", "training.batch-size",
          "training.augment.band-masks")),
        *((["--option", option], f"option '{option}' is not SYSTEM.NAME=VALUE")
          for option in ("dat.lam=[", "dat.lam=a: b: c")),
        (["--systems", "ser,forest"], "unknown system 'forest'"),
        (["--protocol", "pairs"], "'paired'"),
        (["--device", "abacus"], "no device 'abacus'"),
        (["--group", "speakr"], "'speaker'"),
        (["--option", "dat"], "dat.lam=0.3"),
        (["--training.batch-size", "1"], "batch_size"),
        (["--folds", "9", "--protocol", "loso"], "9 folds asked for"),
        (["--emotions", "angry,glad"], "glad"),
        (["--protocol", "given", "--column", "parts"], "'part'"),
        (["--protocol", "random", "--n", "1,2"], "three numbers"),
        (["--protocol", "random", "--n", "100,2,2"], "random with n"),
        (["--protocol", "kfold", "--column", "part"], "--column is for the protocol given"),
        (["--protocol", "loso", "--k", "3"], "--k is for the protocol kfold"),
        (["--n", "2,2,2"], "Add --protocol random"),
        (["--protocol", "kfold", "--test", "male"], "--test is for the protocol paired"),
        (["--protocol", "leave-corpus-out", "--train-corpora", "emodb"], "--train-corpora is for the protocol cross"),
        (["--protocol", "leave-corpus-out"], "needs at least 2 corpora"),
        (["--same-speakers", "some"], "Known: distinct, merge"),
        (["--normalise", "utterance", "--training.enrol", "0.5"], "--training.enrol needs features normalised"),
        (["--recipe", "strong", "--normalise", "sliding"], "--features.summary and --training.augment and"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_nothing_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    assert experiment(tmp_path / "run", *more) == 2
    assert says in one_line(capsys)
    assert not (tmp_path / "run" / "cells").exists()


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ManifestError):
        main(["doctor", "absent.csv", "--debug"])


def test_places_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        assert experiment(out) == 2
        assert str(tmp_path / "file") in one_line(capsys)
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    assert experiment(tmp_path / "run") == 2
    one_line(capsys)


@pytest.mark.parametrize("package", ["torch", "safetensors"])
def test_a_missing_extra_says_which_pip_install_adds_it(
    package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__
    for name in [name for name in sys.modules if name.startswith(("unheard.experiments.", "unheard.model"))]:
        if name != "unheard.experiments.config":
            monkeypatch.delitem(sys.modules, name)

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    if package == "torch":
        assert experiment(tmp_path / "run") == 2
        assert 'needs torch, which is not installed. Install it with: pip install "unheard[train]"' in one_line(capsys)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert main(["evaluate", str(tmp_path / "model.safetensors"), str(corpus() / "manifest.csv")]) == 2
    assert 'pip install "unheard[train]"' in one_line(capsys)


def test_a_reader_that_has_seen_enough() -> None:
    """`unheard corpora | head -1`."""
    process = start(["corpora"], env=environment())
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(timeout=60) in (0, 1)  # 1 is rich's answer


BAD: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(next(corpus().rglob("*.wav")).read_bytes()[:30]),
    "words": lambda path: path.write_text("no sound\n" * 100),
    "nan": lambda path: soundfile.write(path, np.full(8000, np.nan), 16000, subtype="FLOAT"),
    "short": lambda path: soundfile.write(path, np.ones(100) / 9, 16000),
    "missing": lambda path: None,
}


def test_bad_recordings_are_skipped_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And change nothing for the rest: their numbers are those of a manifest without them."""
    rows = rows_of(table(tmp_path))
    bad = []
    for name, make in BAD.items():
        make(tmp_path / f"{name}.wav")
        bad.append({**rows[0], "id": f"bad-{name}", "audio": str(tmp_path / f"{name}.wav")})
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 16000)
    silent = [{**rows[0], "id": "silent", "audio": str(tmp_path / "silent.wav")}]
    good = write_rows(tmp_path / "good.csv", rows + silent)
    both = write_rows(tmp_path / "both.csv", [*bad[:3], *rows, *bad[3:], *silent])
    given = ("--protocol", "given", "--column", "part", "--systems", "ser", "--epochs", "1")
    assert experiment(tmp_path / "a", *given, source=("--manifest", str(good))) == 0
    capsys.readouterr()
    assert experiment(tmp_path / "b", *given, source=("--manifest", str(both))) == 0
    said = capsys.readouterr()
    assert f"{len(bad)} of {len(rows) + len(bad) + 1} utterances have no features and are left out" in said.err
    assert "bad-empty" in said.err
    assert f"both.csv: {len(rows) + 1} utterances" in said.out
    ((name, one),), ((other, two),) = cells(tmp_path / "a").items(), cells(tmp_path / "b").items()
    assert name == other
    assert numbers(one) == numbers(two)


def test_nothing_but_bad_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = table(tmp_path, audio=lambda row: str(tmp_path / "absent.wav"))
    assert experiment(tmp_path / "run", source=("--manifest", str(manifest))) == 2
    assert "unheard doctor" in one_line(capsys)


def test_manifests_that_no_experiment_can_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_sad = {"train": "angry"}
    given = ("--protocol", "given", "--column", "part")
    for changes, more, says in (
        ({"id": lambda row: "same"}, (), "the id 'same'"),
        ({"emotion": lambda row: "gladd"}, (), "unknown emotion 'gladd'"),
        ({"speaker": lambda row: ""}, (), "speaker is empty"),
        ({"speaker": lambda row: "one"}, (), "needs at least"),
        ({"speaker": lambda row: "one"}, given, "is in training and in dev"),
        ({"gender": lambda row: ""}, ("--protocol", "paired"), "gender"),
        ({"emotion": lambda row: train_sad.get(row["part"], row["emotion"])}, given, "sad"),
        ({"end": lambda row: "soon"}, (), "soon"),
        ({"speaker": lambda row: {"s1": "S02"}.get(row["speaker"], row["speaker"])}, (), "--same-speakers merge"),
        ({"speaker": lambda row: "N/A"}, (), "every speaker is unknown"),
    ):
        manifest = table(tmp_path, **changes)
        assert experiment(tmp_path / "run", *more, source=("--manifest", str(manifest))) == 2
        assert says in one_line(capsys), says
    for content in ("", "a,b\n1,2\n", "id,audio,speaker,emotion\n"):
        (tmp_path / "m.csv").write_text(content)
        assert experiment(tmp_path / "run", source=("--manifest", str(tmp_path / "m.csv"))) == 2
        one_line(capsys)
    assert os.listdir(tmp_path / "run")  # noqa: PTH208 - the folder may be there, a training may not
    assert not (tmp_path / "run" / "cells").exists()


def test_an_experiment_resolves_speakers_and_counts_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"s1": "01", "s2": "1", "s3": "Unknown"}
    manifest = table(tmp_path, speaker=lambda row: names.get(row["speaker"], row["speaker"]))
    more = ("--dry-run", "--protocol", "kfold", "--k", "3")
    for same, unknown, speakers in (("merge", "drop", 4), ("distinct", "drop", 5), ("distinct", "each", 9)):
        given = (*more, "--same-speakers", same, "--unknown-speakers", unknown)
        assert experiment(tmp_path / f"{same}-{unknown}", *given, source=("--manifest", str(manifest))) == 0
        said = capsys.readouterr().err
        assert f"utterances of {speakers} speakers" in said
        assert ("merged speakers whose names look alike" in said) == (same == "merge")
        assert f"4 utterances of unknown speakers {'dropped' if unknown == 'drop' else 'counted as one'}" in said
