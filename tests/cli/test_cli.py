"""The command line: every verb, every kind of mistake, exit codes, and a line instead of a traceback."""

from __future__ import annotations

import builtins
import json
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
from experimenting import cells, corpus, environment, experiment, flags, numbers, rows_of, start, table, write_rows

import unheard
from unheard.cli import VERBS, demo, main
from unheard.errors import ManifestError


@pytest.fixture
def mistake(cli: Any) -> Callable[..., str]:
    """The last line of the complaint, which has no traceback."""

    def run(*words: object) -> str:
        out, err = cli(*words, code=2)
        assert "Traceback" not in err
        assert out == ""
        last = err.splitlines()[-1]
        assert last.startswith("unheard: ")
        return last

    return run


@pytest.mark.parametrize("verb", VERBS)
def test_help_explains_every_verb_with_an_example(verb: str, cli: Any) -> None:
    out, err = cli(verb, "--help")
    assert err == ""
    assert re.search(rf"Example:\s+unheard\s+{verb}", out)


def test_help_lists_every_verb(cli: Any) -> None:
    out, _ = cli("--help")
    assert all(verb in out for verb in VERBS)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", cli("--version")[0])


LIGHT = """
import sys
from unheard.cli import main
for words in ([], ["--help"], ["experiment", "--help"], ["corpora"], ["experiment", "--bogus", "1"]):
    assert main(words) == (2 if "--bogus" in words else 0), words
    assert "torch" not in sys.modules, words
"""


def test_what_trains_nothing_loads_no_torch() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, timeout=60, check=True)


def test_prepare(tmp_path: Path, cli: Any, mistake: Any) -> None:
    base = ["prepare", "synthetic", corpus(), "--emotions", "angry,sad", "-o"]
    out, _ = cli(*base, tmp_path / "m.csv", "--subset", "train")
    assert "8 utterances of 2 speakers" in " ".join(out.split())
    rows = rows_of(tmp_path / "m.csv")
    assert len(rows) == 8
    columns = "id audio start end speaker gender session emotion text corpus language"
    assert list(rows[0])[:11] == columns.split()
    cli(*base, tmp_path / "m.jsonl")
    assert len((tmp_path / "m.jsonl").read_text().splitlines()) == 24
    cli(*base, tmp_path / "kaldi")
    assert (tmp_path / "kaldi" / "wav.scp").exists()
    (tmp_path / "file").write_text("")
    assert "m.xlsx" in mistake(*base, tmp_path / "m.xlsx")
    assert "'train'" in mistake(*base, tmp_path / "n.csv", "--subset", "trian")
    assert "'synthetic'" in mistake("prepare", "synthetc", corpus(), "-o", tmp_path / "n.csv")
    mistake(*base, tmp_path / "file" / "m.csv")


def test_corpora_and_synthetic(tmp_path: Path, cli: Any, mistake: Any) -> None:
    listed, _ = cli("corpora")
    assert all(name in listed for name in ("iemocap", "emodb", "ravdess", "crema-d", "ased"))
    assert "licence:" in cli("corpora", "--name", "ravdess")[0]
    assert "Did you mean 'ravdess'?" in mistake("corpora", "--name", "ravdes")
    assert "entanglement from 0 to 1" in mistake("synthetic", tmp_path / "c", "--entanglement", "2")
    mistake("fetch", "iemocap")


def test_features_and_extract(tmp_path: Path, cli: Any, mistake: Any) -> None:
    manifest = table(tmp_path)
    rows = rows_of(manifest)
    rows[3]["audio"] = str(tmp_path / "absent.wav")
    write_rows(manifest, rows)
    out, err = cli("features", manifest, "-o", tmp_path / "store")
    assert f"skipped {rows[3]['id']}" in err
    assert out.startswith("23 utterances")
    features = unheard.extract(rows[0]["audio"])
    assert features.shape[1] == 39
    assert features.dtype == np.float32
    assert np.array_equal(unheard.FeatureStore(tmp_path / "store")[rows[0]["id"]], features)
    assert "other settings" in mistake("features", manifest, "-o", tmp_path / "store", "--vad", "none")


def test_doctor(tmp_path: Path, cli: Any, mistake: Any) -> None:
    manifest, splits = table(tmp_path), tmp_path / "splits.csv"
    cli("doctor", manifest)
    assert isinstance(json.loads(cli("doctor", manifest, "--format", "json")[0]), dict)
    cli("doctor", manifest, "--format", "json", "-o", tmp_path / "f.json")
    assert isinstance(json.loads((tmp_path / "f.json").read_text()), dict)
    write_rows(
        splits, [{"id": row["id"], "part": ("train", "dev", "test")[i % 3]} for i, row in enumerate(rows_of(manifest))]
    )
    cli("doctor", manifest, "--splits", splits, "--no-listen", code=1)
    mistake("doctor", tmp_path / "absent.csv")


def test_train_says_where_its_model_is(tmp_path: Path, cli: Any, mistake: Any) -> None:
    base = ["--corpus", "synthetic", "--root", corpus(), "--emotions", "angry,sad", "--training.batch-size", "4"]
    base += ["--out", tmp_path / "run"]

    def models(*more: str) -> list[Path]:
        out, _ = cli("train", "mtl", *base, *more)
        return [Path(line) for line in out.splitlines() if line.endswith(".safetensors")]

    both = models("--epochs", "2", "--protocol", "paired")
    assert [model.name for model in both] == ["model.safetensors", "model-female.safetensors"]
    # another learning rate in the same folder: its model alone
    (model,) = models("--epochs", "1", "--training.lr", "0.1")
    assert model.parent != both[0].parent
    cli("evaluate", model, corpus() / "manifest.csv")
    assert "leaves no model" in mistake("train", "svm", *base)
    assert "--tune" in mistake("train", "mtl", *base, "--tune", "grid")


def test_demo(tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real clips with truth and confidence, a picture, and what the systems do to a shortcut."""
    few = replace(demo.VOICES, speakers=24, sentences=1, dev_speakers=8, mean_duration=0.4, shortest=0.3)
    monkeypatch.setattr(demo, "VOICES", few)
    monkeypatch.setattr(demo.channel_emotions, "__defaults__", (few,))
    first, again = (cli("demo", "--out", tmp_path / "demo", "--epochs", "1", "--seeds", "2")[0] for _ in range(2))
    assert first == again
    assert re.search(r"^angry-en.ogg +angry +\w+ +\d+%$", first, re.MULTILINE)
    assert re.search(r"^\| SER_SR_DAT \|( \d+ \(\d+ to \d+\) \|){3} ([+−]\d+|0) ", first, re.MULTILINE)
    assert (tmp_path / "demo" / "timeline.png").stat().st_size > 5000


def test_demo_of_a_corpus(tmp_path: Path, cli: Any) -> None:
    more = ("--corpus", "synthetic", "--data", corpus())  # which has two of the four emotions
    assert "'happy'" in cli("demo", "--out", tmp_path / "demo", *more, code=2)[1]


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
        (["--features.kind", "functionals"], "one vector per utterance"),
        (["--training.augment.tract", "0.1"], "needs features with mel bands without deltas"),
        *((["--option", f"{name}={value}"], f"option '{name}' = {value} is out of range")
          for name, value in (("dat.lam", -1.0), ("mtl.weight", -0.5), ("cgt.epsilon", -0.3))),
        *((["--option", option, "--training.report-epochs", "1"], "does not contain a shorter one")
          for option in ("dat.warmup=0.1", "dat.schedule=ganin")),
        (["--systems", "svm", "--option", "svm.C=1"], "system 'svm' has no option 'C'"),
        (["--systems", "ser,mtl", "--tune", "grid"], "nothing to choose for ser, mtl"),
        (["--tune", "grid", "--option", "cgt.eps_mode=raw"], "RMS"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_nothing_is_made(tmp_path: Path, mistake: Any, more: list[str], says: str) -> None:
    assert says in mistake("experiment", *flags(tmp_path / "run", *more))
    assert not {"cells", "features"} & {path.name for path in (tmp_path / "run").glob("*")}


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ManifestError):
        main(["doctor", "absent.csv", "--debug"])


def test_places_that_cannot_be_written(tmp_path: Path, mistake: Any) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        assert str(tmp_path / "file") in mistake("experiment", *flags(out))
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    mistake("experiment", *flags(tmp_path / "run"))


@pytest.mark.parametrize("package", ["torch", "safetensors"])
def test_a_missing_extra_says_which_pip_install_adds_it(
    package: str, tmp_path: Path, mistake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__
    mistake("experiment", "--manifest", tmp_path / "none.csv", "--out", tmp_path / "run")  # checks the settings
    for name in [name for name in sys.modules if name.startswith(("unheard.experiments.", "unheard.model"))]:
        if name != "unheard.experiments.config":
            monkeypatch.delitem(sys.modules, name)

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    if package == "torch":
        said = mistake("experiment", *flags(tmp_path / "run"))
        assert 'needs torch, which is not installed. Install it with: pip install "unheard[train]"' in said
    (tmp_path / "model.safetensors").write_bytes(b"")
    said = mistake("evaluate", tmp_path / "model.safetensors", corpus() / "manifest.csv")
    assert 'pip install "unheard[train]"' in said


@pytest.mark.parametrize("package", ["h11", "fastapi", "prometheus_client"])
def test_serve_without_its_extra(package: str, mistake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("unheard.server.")]:
        if name != "unheard.server.settings":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    said = mistake("serve", "starter")
    assert f'needs {package}, which is not installed. Install it with: pip install "unheard[server]"' in said


def test_a_reader_that_has_seen_enough() -> None:
    """`unheard corpora | head -1`."""
    process = start(["corpora"], env=environment())
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


def test_bad_recordings_are_skipped_counted_and_named(tmp_path: Path, cli: Any) -> None:
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
    out, err = cli("experiment", *flags(tmp_path / "b", *given, source=("--manifest", str(both))))
    assert f"{len(bad)} of {len(rows) + len(bad) + 1} utterances left out, as they have no features " in err
    assert "bad-empty" in err
    assert f"both.csv: {len(rows) + 1} utterances" in out
    ((name, one),), ((other, two),) = cells(tmp_path / "a").items(), cells(tmp_path / "b").items()
    assert name == other
    assert numbers(one) == numbers(two)


def test_manifests_that_no_experiment_can_use(tmp_path: Path, mistake: Any) -> None:
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
        ({"audio": lambda row: "absent.wav"}, (), "unheard doctor"),
    ):
        source = ("--manifest", str(table(tmp_path, **changes)))
        assert says in mistake("experiment", *flags(tmp_path / "run", *more, source=source)), says
    for content in ("", "a,b\n1,2\n", "id,audio,speaker,emotion\n"):
        (tmp_path / "m.csv").write_text(content)
        mistake("experiment", *flags(tmp_path / "run", source=("--manifest", str(tmp_path / "m.csv"))))
    assert not (tmp_path / "run" / "cells").exists()


def test_an_experiment_resolves_speakers_and_counts_them(tmp_path: Path, cli: Any) -> None:
    names = {"s1": "01", "s2": "1", "s3": "Unknown"}
    manifest = table(tmp_path, speaker=lambda row: names.get(row["speaker"], row["speaker"]))
    more = ("--dry-run", "--protocol", "kfold", "--k", "3")
    for same, unknown, speakers in (("merge", "drop", 4), ("distinct", "drop", 5), ("distinct", "each", 9)):
        given = (*more, "--same-speakers", same, "--unknown-speakers", unknown)
        source = ("--manifest", str(manifest))
        _, err = cli("experiment", *flags(tmp_path / f"{same}-{unknown}", *given, source=source))
        assert f"utterances of {speakers} speakers" in err
        assert ("1 speaker merged from names that look alike" in err) == (same == "merge")
        assert f"4 utterances of unknown speakers {'dropped' if unknown == 'drop' else 'counted as one'}" in err
