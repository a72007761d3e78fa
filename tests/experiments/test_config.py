"""Settings: a file, flags that win over it, and an answer to every mistake in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from unheard.errors import ConfigError
from unheard.experiments.config import Experiment, load
from unheard.features.settings import FeatureSettings
from unheard.training.strategies import resolve_options

LEAST = {"corpus": "emodb", "root": "data", "out": "run"}


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_are_the_papers() -> None:
    settings = load(None, LEAST)
    assert settings.labels == ("angry", "happy", "neutral", "sad")
    assert settings.systems == ("ser", "mtl", "dat", "cgt")
    assert (settings.epochs, settings.training.lr, settings.training.momentum) == (100, 1e-3, 0.9)
    assert settings.network.preset == "iemocap"


def test_what_is_given_wins_over_the_file_one_by_one(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "corpus: emodb\nroot: data\nout: run\nepochs: 7\n"
        "training: {lr: 0.5, momentum: 0.1}\noptions: {dat: {lam: 0.3}}\n",
    )
    settings = load(file, {"epochs": 9, "training": {"lr": 0.25}, "options": {"cgt": {"epsilon": 0.1}}})
    assert (settings.epochs, settings.training.lr, settings.training.momentum) == (9, 0.25, 0.1)
    assert settings.options == {"dat": {"lam": 0.3}, "cgt": {"epsilon": 0.1}}


def test_there_and_back(tmp_path: Path) -> None:
    more = {"map": {"excited": "happy"}, "n": [3, 1, 1], "training": {"readouts": [1, 2]}, "features": {"deltas": 0}}
    settings = load(None, {**LEAST, **more, "options": {"dat": {"lam": 0.3, "schedule": "ganin"}}, "k": 3})
    file = written(tmp_path, yaml.safe_dump(settings.as_dict()))
    assert load(file) == replace(settings, root=str(tmp_path / "data"), out=str(tmp_path / "run"))
    assert settings.features == FeatureSettings(deltas=0)
    assert settings.n == (3, 1, 1)


@pytest.mark.parametrize(
    ("key", "closest"),
    [
        ({"epoch": 3}, "'epochs'"),
        ({"training": {"learning_rate": 3}}, "label_smoothing, lr"),
        ({"training": {"momentun": 3}}, "'momentum'"),
        ({"features": {"mel_bin": 3}}, "'mel_bins'"),
        ({"network": {"drop_out": 3}}, "'dropout'"),
        ({"normalize": "train"}, "'normalise'"),
    ],
)
def test_an_unknown_key_suggests_the_right_one(tmp_path: Path, key: dict[str, Any], closest: str) -> None:
    with pytest.raises(ConfigError, match="unknown setting") as caught:
        load(None, {**LEAST, **key})
    assert closest in str(caught.value)
    file = written(tmp_path, yaml.safe_dump({**LEAST, **key}))
    with pytest.raises(ConfigError, match="unknown setting") as caught:
        load(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": "many"}, {"epochs": 1.5}, {"epochs": True}, {"epochs": 0}, {"epochs": None}, {"seeds": -1},
        {"folds": -1}, {"k": -2}, {"training": 3}, {"training": None}, {"training": {"lr": "fast"}},
        {"training": {"nesterov": "perhaps"}}, {"training": {"readouts": "1,x"}}, {"systems": []},
        {"systems": "ser,ser"}, {"emotions": "sad,sad"}, {"map": "excited"}, {"map": "excited="}, {"map": ["a"]},
        {"map": {"excited": ["happy"]}}, {"options": {"dat": 3}}, {"options": "dat"}, {"options": {"x": 2}},
        {"n": "1,two,3"}, {"channel": "up"}, {"channel": "3"}, {"normalise": "batch"}, {"test": "child"},
        {"partial": "sometimes"}, {"features": {"deltas": 9}}, {"features": {"vad": "loud"}}, {"corpus": ["a"]},
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {**LEAST, **wrong})
    (name,) = wrong
    assert name.removeprefix("features") in str(caught.value)


@pytest.mark.parametrize("missing", ["corpus", "root", "out"])
def test_what_is_needed_is_asked_for(missing: str) -> None:
    with pytest.raises(ConfigError, match=f"--{missing}"):
        load(None, {name: value for name, value in LEAST.items() if name != missing})


def test_a_corpus_or_a_manifest() -> None:
    with pytest.raises(ConfigError, match="either a corpus or a manifest"):
        load(None, {**LEAST, "manifest": "a.csv"})
    assert load(None, {"manifest": Path("a.csv"), "out": "run"}).manifest == "a.csv"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"root": "folder"}, "root = folder is of a corpus.*Leave out --root"),
        ({"subset": "paper"}, "subset = paper is of a corpus.*Leave out --subset"),
        ({"address": "auto"}, "are of the engine ray.*--engine ray"),
        ({"gpus": 0.5}, "are of the engine ray.*--engine ray"),
    ],
)
def test_what_would_not_be_heard_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(None, {"manifest": "a.csv", "out": "run", **given})


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2", "just words", "\x00", "corpus: &a [*a]"])
def test_a_file_that_holds_no_settings(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"settings\.yaml"):
        load(written(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"corpus: \xe9modb")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match="needs either"):
        load(written(tmp_path, ""))


def test_a_resolved_file_is_not_changed_by_what_its_recipe_says_now(tmp_path: Path) -> None:
    """A run from before there was such a setting."""
    settings = load(None, {**LEAST, "recipe": "strong"}).as_dict()
    del settings["training"]["decision"], settings["training"]["enrol"]
    now = load(written(tmp_path, yaml.safe_dump(settings))).training
    assert (now.decision, now.enrol) == ("both", 0.5)
    file = written(tmp_path, yaml.safe_dump({"resolved": True, **settings}))
    then = load(file).training
    assert (then.decision, then.enrol, then.optimizer) == ("likeliest", 0.0, "adamw")
    assert load(file, {"training": {"enrol": 0.25}, "recipe": "strong"}).training.enrol == 0.25
    for other in ({"recipe": "paper"}, {"preset": "emodb"}):
        with pytest.raises(ConfigError, match="another would change none"):
            load(file, other)
    with pytest.raises(ConfigError, match="true or false"):
        load(written(tmp_path, yaml.safe_dump({**settings, "resolved": "perhaps"})))


def test_words_become_what_they_mean() -> None:
    settings = load(None, {**LEAST, "epochs": "3", "emotions": "sad, angry", "map": "excited=happy, calm=neutral",
                           "training": {"lr": "1e-2", "nesterov": "no", "readouts": "1,2"}, "n": "4,1,1"})  # fmt: skip
    assert (settings.epochs, settings.emotions, settings.labels) == (3, ("sad", "angry"), ("angry", "sad"))
    assert settings.map == {"excited": "happy", "calm": "neutral"}
    assert (settings.training.lr, settings.training.nesterov, settings.training.readouts) == (0.01, False, (1, 2))
    assert settings.n == (4, 1, 1)


def test_options_of_systems_have_kinds_too() -> None:
    assert resolve_options("dat", {"lam": 1}) == resolve_options("dat", {"lam": "1.0"}) != resolve_options("dat")
    assert type(resolve_options("dat", {"lam": 1})["lam"]) is float
    for system, options in (
        ("dat", {"lam": "much"}),
        ("dat", {"lam": None}),
        ("dat", {"lam": float("nan")}),
        ("dat", {"schedule": 3}),
        ("cgt", {"clean_statistics": "yes"}),
        ("mtl", {"weight": True}),
        ("ser", {"lam": 1}),
        ("dat", {"lambda": 1}),
        ("svm", {}),
    ):
        with pytest.raises(ConfigError):
            resolve_options(system, options)


def test_every_setting_is_explained() -> None:
    import dataclasses

    for field in dataclasses.fields(Experiment):
        assert field.metadata.get("help", "").endswith("."), field.name
