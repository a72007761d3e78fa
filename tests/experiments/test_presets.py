"""Presets: ready-made experiments under the configuration file and the flags."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from experimenting import cells, corpus, in_this_process

from unheard.cli import main
from unheard.corpora import CORPORA
from unheard.errors import ConfigError
from unheard.experiments import run as run_module
from unheard.experiments.config import about_preset as about
from unheard.experiments.config import load, read_preset
from unheard.experiments.config import preset_names as names
from unheard.experiments.records import read_run
from unheard.splits import default_protocol


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "run_cells", in_this_process)


@pytest.mark.parametrize("name", names())
def test_every_preset_is_an_experiment_that_needs_a_place(name: str) -> None:
    values = read_preset(name)
    assert not {"root", "out", "manifest", "workers", "device"} & set(values)
    where = {"root": "somewhere"} if "corpus" in values else {"manifest": "mine.csv"}
    settings = load(None, {"preset": name, "out": "run", **where})
    settings.network.resolved(settings.features)
    assert settings.preset == name
    assert settings.epochs == 100
    assert about(name).endswith(".")
    if settings.corpus:
        assert settings.corpus in CORPORA
        protocol, options = default_protocol(settings.corpus)
        assert (settings.protocol, settings.k or None) == (protocol, options.get("k"))


def test_the_papers_two() -> None:
    iemocap = load(None, {"preset": "iemocap", "root": "x", "out": "run"})
    assert (iemocap.protocol, iemocap.test, iemocap.seeds, iemocap.subset) == ("paired", "male", 5, "paper")
    assert iemocap.labels == ("angry", "happy", "neutral", "sad")
    mandarin = load(None, {"preset": "mandarin", "manifest": "m.csv", "out": "run"})
    assert (mandarin.protocol, mandarin.n, mandarin.seeds) == ("random", (200, 25, 25), 3)
    assert mandarin.labels == ("angry", "happy", "sad", "surprised")
    assert mandarin.network.resolved(mandarin.features).lstm == 128


def test_the_file_wins_over_the_preset_and_flags_over_both(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("preset: iemocap\nroot: x\nout: run\nseeds: 2\nnetwork:\n  dropout: 0.1\n")
    settings = load(path)
    assert (settings.seeds, settings.test, settings.network.dropout) == (2, "male", 0.1)
    settings = load(path, {"seeds": 7, "test": "both"})
    assert (settings.seeds, settings.test, settings.subset) == (7, "both", "paper")
    assert load(path, {"preset": "emodb"}).corpus == "emodb"


def test_a_manifest_takes_the_corpus_place() -> None:
    settings = load(None, {"preset": "iemocap", "manifest": "iemocap.csv", "out": "run"})
    assert (settings.corpus, settings.subset, settings.protocol, settings.test) == ("", "", "paired", "male")


def test_an_unknown_preset_suggests_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'mandarin'"):
        load(None, {"preset": "mandarine", "out": "run"})
    assert main(["experiment", "--preset", "ravdes", "--root", "x", "--out", "run"]) == 2
    assert "Did you mean 'ravdess'? Known: ased, crema-d, emodb" in capsys.readouterr().err


def test_what_a_preset_still_needs_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="where is the corpus 'iemocap'"):
        load(None, {"preset": "iemocap", "out": "run"})
    with pytest.raises(ConfigError, match="either a corpus or a manifest"):
        load(None, {"preset": "mandarin", "out": "run"})


def test_presets_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--preset" in said
    for name in names():
        assert f"{name}:" in said


def test_a_run_with_a_preset_goes_on_from_its_own_config(tmp_path: Path) -> None:
    out = tmp_path / "run"
    source = ["--manifest", str(corpus() / "manifest.csv"), "--emotions", "angry,sad", "--n", "2,2,2"]
    quick = ["--epochs", "1", "--seeds", "1", "--systems", "ser", "--training.batch-size", "4"]
    assert main(["experiment", "--preset", "mandarin", *source, *quick, "--out", str(out)]) == 0
    written = yaml.safe_load((out / "config.yaml").read_text())
    assert (written["preset"], written["n"], written["network"]["preset"]) == ("mandarin", [2, 2, 2], "mandarin")
    assert main(["experiment", "--config", str(out / "config.yaml")]) == 0
    assert len(cells(out)) == 1
    assert read_run(out).settings == load(out / "config.yaml")


def test_invariance_has_a_run_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Held-out couples are two unseen speakers: too few. A random split of 2, 2 and 2 has four."""
    out = tmp_path / "run"
    quick = ["--epochs", "1", "--emotions", "angry,sad", "--systems", "ser", "--training.batch-size", "4"]
    paired = ["--corpus", "synthetic", "--root", str(corpus()), "--protocol", "paired", "--folds", "1"]
    arguments = ["experiment", *paired, *quick, "--invariance", "--out", str(out)]
    assert main(arguments) == 0
    run = read_run(out)
    assert run.invariance is not None
    assert run.settings.invariance
    assert run.invariance.settings.protocol == "random"
    (seed,) = run.invariance.lines[0].seeds
    assert len({*seed.dev.speakers, *seed.test.speakers}) == 4
    assert not (out / "invariance" / "features").exists()  # the features are the run's
    capsys.readouterr()
    assert main(arguments) == 0
    assert capsys.readouterr().err.count("1 trainings (1 done before)") == 2
    assert read_run(out / "invariance").invariance is None
    random = ["--corpus", "synthetic", "--root", str(corpus()), "--protocol", "random", "--n", "2,2,2"]
    assert main(["experiment", *random, *quick, "--invariance", "--out", str(tmp_path / "enough")]) == 0
    assert read_run(tmp_path / "enough").invariance is None


def test_another_protocol_leaves_behind_what_the_presets_was_told() -> None:
    where = {"root": "somewhere", "out": "out"}
    assert load(None, {"preset": "ravdess", **where}).k == 6
    assert load(None, {"preset": "ravdess", "protocol": "loso", **where}).k == 0
    assert load(None, {"preset": "ravdess", "protocol": "kfold", **where}).k == 6
    assert load(None, {"preset": "iemocap", "protocol": "loso", **where}).test == "both"
