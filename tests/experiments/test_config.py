"""Settings: recipes, presets, a file and flags; paths; an answer to every mistake; help and the reference page."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from experimenting import cells, corpus, table

from unheard.corpora import CORPORA
from unheard.errors import ConfigError
from unheard.experiments.config import (
    PRESETS,
    RECIPES,
    Experiment,
    description_of,
    keys,
    load,
    names_in,
    read_named,
    reference,
    relative_paths,
    resolve_paths,
)
from unheard.experiments.records import read_run
from unheard.features.settings import FeatureSettings
from unheard.splits import default_protocol
from unheard.training.strategies import resolve_options

LEAST = {"corpus": "emodb", "root": "data", "out": "run"}
PLACE = {"root": "somewhere", "out": "run"}
QUICK = ["--emotions", "angry,sad", "--systems", "ser", "--epochs", "1", "--training.batch-size", "4"]


def written(folder: Path, values: str | dict[str, Any]) -> Path:
    path = folder / "settings.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
    return path


def test_the_defaults_are_the_papers() -> None:
    settings = load(None, {**LEAST, "recipe": "paper"})
    assert settings.labels == ("angry", "happy", "neutral", "sad")
    assert settings.systems == ("ser", "mtl", "dat", "cgt")
    assert (settings.epochs, settings.training.lr, settings.training.momentum) == (100, 1e-3, 0.9)
    assert settings.sizes == "iemocap"


def test_each_source_overrides_the_one_before(tmp_path: Path) -> None:
    """Recipe, preset, file, flags; key by key."""
    options = {"dat": {"lam": 0.3}}
    file = written(
        tmp_path,
        {"preset": "iemocap", "recipe": "strong", **PLACE, "seeds": 2, "epochs": 7, "network": {"dropout": 0.1},
         "training": {"batch-size": 8, "momentum": 0.9}, "options": options},
    )  # fmt: skip
    flags = {"epochs": 9, "training": {"batch_size": 4}, "options": {"cgt": {"epsilon": 0.1}}}
    for settings, expected in ((load(file), (2, 7, 8)), (load(file, flags), (2, 9, 4))):
        assert (settings.seeds, settings.epochs, settings.training.batch_size) == expected
        assert (settings.test, settings.training.optimizer, settings.network.dropout) == ("male", "adamw", 0.1)
        assert settings.network.hidden == ()
    assert load(file, flags).options == {"dat": {"lam": 0.3}, "cgt": {"epsilon": 0.1}}
    assert load(file, {"preset": "emodb"}).corpus == "emodb"
    assert load(None, {"preset": "emodb", "recipe": "strong", **PLACE}).epochs == 50


def test_there_and_back(tmp_path: Path) -> None:
    more = {"map": {"excited": "happy"}, "n": [3, 1, 1], "training": {"report_epochs": [1, 2]},
            "features": {"deltas": 0}, "options": {"dat": {"lam": 0.3, "schedule": "ganin"}}}  # fmt: skip
    settings = load(None, {**LEAST, **more, "k": 3, "sizes": "mandarin", "recipe": "paper"})
    for marked in ({}, {"resolved": True}):
        file = written(tmp_path, {**settings.as_dict(), **marked})
        assert load(file) == replace(settings, root=str(tmp_path / "data"), out=str(tmp_path / "run"))
    one = written(tmp_path, {**LEAST, "root": "a, b"})  # of several corpora only, a comma is between folders
    assert load(one).root == str(tmp_path / "a, b")
    several = written(tmp_path, {**LEAST, "corpus": "emodb,nemo", "root": "a, b"})
    assert load(several).root == f"{tmp_path / 'a'},{tmp_path / 'b'}"
    assert settings.features == FeatureSettings(deltas=0)
    assert (settings.n, settings.network.lstm, settings.training.report_epochs) == ((3, 1, 1), 128, (1, 2))


WRONG = (
    {"epochs": "many"}, {"epochs": 1.5}, {"epochs": True}, {"epochs": 0}, {"epochs": None}, {"seeds": -1},
    {"folds": -1}, {"k": -2}, {"training": 3}, {"training": None}, {"training": {"lr": "fast"}},
    {"training": {"updates": 0}}, {"training": {"updates": True}},
    {"training": {"nesterov": "perhaps"}}, {"training": {"report_epochs": "1,x"}}, {"systems": []},
    {"systems": "ser,ser"}, {"emotions": "sad,sad"}, {"map": "excited"}, {"map": "excited="}, {"map": ["a"]},
    {"map": "a=happy,a=sad"},
    {"map": {"excited": ["happy"]}}, {"options": {"dat": 3}}, {"options": "dat"}, {"options": {"x": 2}},
    {"n": "1,two,3"}, {"channel": "up"}, {"channel": "3"}, {"normalise": "batch"}, {"test": "child"},
    {"partial": "sometimes"}, {"features": {"deltas": 9}}, {"features": {"vad": "loud"}}, {"corpus": ["a"]},
    {"sizes": "huge"}, {"network": {"hidden": "3,-1"}}, {"recipe": "papers"}, {"preset": "mandarine"},
)  # fmt: skip
"""Settings with a value that is named."""

UNKNOWN = (
    ({"epoch": 3}, "'training.epochs'"),
    ({"lr": 3}, "'training.lr'"),
    ({"training": {"learning_rate": 3}}, "label_smoothing, lr"),
    ({"training": {"momentun": 3}}, "'momentum'"),
    ({"training": {"augment": {"tracts": 3}}}, "'tract'"),
    ({"features": {"mel_bin": 3}}, "'mel_bins'"),
    ({"network": {"drop_out": 3}}, "'dropout'"),
    ({"normalize": "train"}, "'normalise'"),
    ({"training": {"mel-bins": 3}}, "'features.mel_bins'"),
)
"""Keys that do not exist, and what is suggested."""


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *((LEAST | wrong, next(iter(wrong))) for wrong in WRONG),
        *((LEAST | key, f"unknown setting.*{closest}") for key, closest in UNKNOWN),
        ({"root": "data", "out": "run"}, "either a corpus or a manifest.*--corpus"),
        ({"corpus": "emodb", "out": "run"}, "where is the corpus 'emodb'.*--root"),
        ({"corpus": "emodb", "root": "data"}, "--out"),
        ({**LEAST, "manifest": "a.csv"}, "either a corpus or a manifest"),
        ({**LEAST, "emotions": "sad"}, "only one emotion, sad"),
        ({"preset": "mandarin", "out": "run"}, "either a corpus or a manifest"),
        ({"preset": "mandarine", "out": "run"}, "Did you mean 'mandarin'"),
        ({"manifest": "a.csv", "out": "run", "subset": "x"}, "subset = x applies to a corpus.*Leave out --subset"),
        ({"manifest": "a.csv", "out": "run", "subset": "paper"}, "subset = paper applies.*Leave out --subset"),
        ({**LEAST, "address": "auto"}, "apply to the engine ray.*--engine ray"),
        ({**LEAST, "gpus": 0.5}, "apply to the engine ray.*--engine ray"),
    ],
)
def test_a_mistake_is_refused_by_name_and_file(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load(None, values)
    file = written(tmp_path, values)
    with pytest.raises(ConfigError, match=message.replace("--", "")) as caught:  # a file has keys, not flags
        load(file)
    assert caught.value.where == str(file)
    assert "--" not in str(caught.value)


def test_a_wrong_flag_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, LEAST)
    for flags, message in (({"epochs": 0}, "training.epochs"), ({"address": "auto"}, "Add --engine ray")):
        with pytest.raises(ConfigError, match=message) as caught:
            load(file, flags)
        assert caught.value.where is None


@pytest.mark.parametrize(
    "text", [b"a: [", b"- 1\n- 2", b"just words", b"\x00", b"resolved: perhaps", b"corpus: \xe9modb", None]
)
def test_a_file_without_settings(tmp_path: Path, text: bytes | None) -> None:
    file = tmp_path / "settings.yaml"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.where == str(file)


def test_preset_and_recipe_are_not_applied_to_a_resolved_file_again(tmp_path: Path) -> None:
    settings = load(None, {**LEAST, "recipe": "strong"}).as_dict()
    settings["training"]["decision"] = "even"
    settings["network"]["lstm"] = 8
    file = written(tmp_path, {"resolved": True, **settings})
    again = load(file, {"training": {"enrol": 0.25}, "recipe": "strong"})
    assert (again.training.decision, again.training.enrol, again.network.lstm) == ("even", 0.25, 8)
    for other in ({"recipe": "paper"}, {"preset": "emodb"}, {"sizes": "mandarin"}):
        with pytest.raises(ConfigError, match="another would change nothing"):
            load(file, other)


def test_words_are_converted() -> None:
    settings = load(None, {"manifest": Path("m.csv"), "out": "run", "epochs": "3", "emotions": "sad, angry",
                           "map": "excited=happy, calm=neutral", "n": "4,1,1", "network": {"hidden": 0},
                           "recipe": "paper",
                           "training": {"lr": "1e-2", "nesterov": "no", "report-epochs": "1,2"}})  # fmt: skip
    assert (settings.manifest, settings.epochs, settings.labels) == ("m.csv", 3, ("angry", "sad"))
    assert settings.map == {"excited": "happy", "calm": "neutral"}
    training = settings.training
    assert (training.lr, training.nesterov, training.report_epochs) == (0.01, False, (1, 2))
    assert (settings.n, settings.network.hidden) == ((4, 1, 1), ())
    for names in (np.array(["sad", "angry"]), {"sad", "angry"}):
        assert load(None, {**LEAST, "emotions": names}).labels == settings.labels


def test_options_of_systems_are_typed() -> None:
    assert resolve_options("dat", {"lam": 1}) == resolve_options("dat", {"lam": "1.0"}) != resolve_options("dat")
    assert type(resolve_options("dat", {"lam": 1})["lam"]) is float
    for system, options in (
        ("dat", {"lam": "much"}),
        ("dat", {"lam": None}),
        ("dat", {"lam": float("nan")}),
        ("dat", {"lam": float("inf")}),
        ("dat", {"schedule": 3}),
        ("cgt", {"clean_statistics": "yes"}),
        ("cgt", {"alpha": 1.5}),
        ("mtl", {"weight": True}),
        ("ser", {"lam": 1}),
        ("dat", {"lambda": 1}),
        ("svm", {}),
    ):
        with pytest.raises(ConfigError):
            resolve_options(system, options)


def test_every_key_is_described_and_declared_once() -> None:
    for key, field, _ in keys():
        assert field.metadata["description"].endswith("."), key
    groups = [hint for _, _, hint in keys() if dataclasses.is_dataclass(hint)]
    assert len(groups) == len(set(groups))


# Presets and recipes.


@pytest.mark.parametrize("name", names_in(PRESETS))
def test_every_preset_is_an_experiment_that_needs_a_place(name: str) -> None:
    values = read_named(PRESETS, name)
    assert not {"root", "out", "manifest", "workers", "device"} & set(values)
    where = {"root": "somewhere"} if "corpus" in values else {"manifest": "mine.csv"}
    settings = load(None, {"preset": name, "out": "run", **where})
    of_the_paper = name in ("iemocap", "mandarin")
    assert (settings.preset, settings.recipe, settings.epochs) == (
        (name, "paper", 100) if of_the_paper else (name, "encoder", 40)
    )
    description = (PRESETS / f"{name}.yaml").read_text().splitlines()[0].lstrip("# ")
    assert description.endswith(".")
    assert f"{name}: {description}" in description_of(PRESETS)
    if settings.corpus:
        assert settings.corpus in CORPORA
        protocol, options = default_protocol(settings.corpus)
        assert (settings.protocol, settings.k or None) == (protocol, options.get("k"))


def test_the_papers_two_presets() -> None:
    iemocap = load(None, {"preset": "iemocap", **PLACE})
    assert (iemocap.protocol, iemocap.test, iemocap.seeds, iemocap.subset) == ("paired", "male", 5, "paper")
    assert iemocap.labels == ("angry", "happy", "neutral", "sad")
    mandarin = load(None, {"preset": "mandarin", "manifest": "m.csv", "out": "run"})
    assert (mandarin.protocol, mandarin.n, mandarin.seeds) == ("random", (200, 25, 25), 3)
    assert mandarin.labels == ("angry", "happy", "sad", "surprised")
    assert (mandarin.network.lstm, mandarin.network.hidden) == (128, (128, 128))


def test_a_preset_gives_way_to_a_manifest_and_to_another_protocol() -> None:
    mine = load(None, {"preset": "iemocap", "manifest": "iemocap.csv", "out": "run"})
    assert (mine.corpus, mine.subset, mine.protocol, mine.test) == ("", "", "paired", "male")
    for protocol, k in (("", 6), ("loso", 0), ("kfold", 6)):
        more = {"protocol": protocol} if protocol else {}
        assert load(None, {"preset": "ravdess", **more, **PLACE}).k == k
    assert load(None, {"preset": "iemocap", "protocol": "loso", **PLACE}).test == "both"


def test_a_run_with_a_preset_continues_from_its_own_config(tmp_path: Path, cli: Any) -> None:
    out = tmp_path / "run"
    source = ["--manifest", corpus() / "manifest.csv", "--n", "2,2,2", "--seeds", "1"]
    cli("experiment", "--preset", "mandarin", *source, *QUICK, "--out", out)
    saved = yaml.safe_load((out / "config.yaml").read_text())
    assert (saved["preset"], saved["n"], saved["network"]["lstm"]) == ("mandarin", [2, 2, 2], 128)
    cli("experiment", "--config", out / "config.yaml")
    assert len(cells(out)) == 1
    assert read_run(out).settings == load(out / "config.yaml")


# Help and the reference page.


def test_help_shows_common_settings_and_help_all_the_others(cli: Any) -> None:
    short = " ".join(cli("experiment", "--help")[0].replace("│", " ").split())
    for words in ("--preset", "--training.lr", "--help-all", *(f"{name}:" for name in names_in(PRESETS))):
        assert words in short
    assert "--training.warmup" not in short
    for verb in ("experiment", "train"):
        long, _ = cli(verb, "--help-all")
        assert long == reference()
        for key, _, hint in keys():
            assert dataclasses.is_dataclass(hint) or f"- `{key}`: " in long
        assert "- `options.dat.lam`: " in long


def test_the_reference_page_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
    assert page.read_text(encoding="utf-8") == reference(), "python -m unheard.experiments.config > " + str(page)


# Paths in a file are relative to its folder.


def test_paths_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = {
        "manifest": "voices/m.csv", "root": "data/a, /elsewhere/b", "store": "", "out": "runs/one",
        "corpus": "emodb,nemo", "epochs": 3,
        "speakers": "people.csv:development", "features": {"encoder": "wavlm", "deltas": 1},
    }  # fmt: skip
    (tmp_path / "runs" / "one").mkdir(parents=True)
    written = relative_paths(Path("runs/one"), values)
    assert written == {
        "manifest": "../../voices/m.csv", "root": "../../data/a,/elsewhere/b", "store": "", "out": ".",
        "corpus": "emodb,nemo", "epochs": 3,
        "speakers": "../../people.csv:development", "features": {"encoder": "../../wavlm", "deltas": 1},
    }  # fmt: skip
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    found = resolve_paths(Path("../runs/one"), written)
    assert Path(found["manifest"]).resolve() == tmp_path / "voices" / "m.csv"
    assert Path(found["speakers"]).resolve() == tmp_path / "people.csv:development"
    assert [Path(root).resolve() for root in found["root"].split(",")] == [tmp_path / "data/a", Path("/elsewhere/b")]
    assert (found["store"], found["epochs"]) == ("", 3)


def test_a_run_behind_a_link_finds_its_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large" / "disk").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "runs").symlink_to(tmp_path / "large" / "disk")
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "m.csv").touch()
    found = resolve_paths(Path("runs"), relative_paths(Path("runs"), {"manifest": "m.csv"}))
    assert Path(found["manifest"]).samefile("m.csv")


def test_a_run_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Any) -> None:
    """Another corpus under the same relative path is another one, and the same one under another path the same."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        table(folder)
    monkeypatch.chdir(one)
    cli("experiment", "--manifest", "manifest.csv", *QUICK, "--out", "run")
    first = read_run(one / "run")
    monkeypatch.chdir(two)
    _, err = cli("experiment", "--manifest", "manifest.csv", *QUICK, "--out", "../one/run", code=2)
    assert "holds a run with manifest" in err
    cli("experiment", "--manifest", "../one/manifest.csv", *QUICK, "--out", "../one/run")
    cli("experiment", "--config", "../one/run/config.yaml")
    assert set(cells(one / "run")) == {cell.name for cell in first.cells}
    assert yaml.safe_load((one / "run" / "config.yaml").read_text())["manifest"] == "../manifest.csv"
    cli("adapt", "../one/run", "--k", "1", "--draws", "1")


def test_a_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "manifest: voices/m.csv\nout: runs\nstore: features\n")
    monkeypatch.chdir(tmp_path)
    assert load("settings.yaml").manifest == "voices/m.csv"
    (tmp_path / "below").mkdir()
    monkeypatch.chdir("below")
    settings = load("../settings.yaml", {"out": "mine"})
    assert (settings.manifest, settings.out, settings.store) == ("../voices/m.csv", "mine", "../features")


@pytest.mark.parametrize("name", names_in(RECIPES))
def test_every_recipe_is_described(name: str) -> None:
    description = (RECIPES / f"{name}.yaml").read_text().splitlines()[0].lstrip("# ")
    assert description.endswith(".")
    assert f"{name}: {description}" in description_of(RECIPES)
    features = {"encoder": "some"} if name == "encoder" else {}
    assert load(None, {**LEAST, "recipe": name, "features": features}).recipe == name


class TestBestRecipe:
    """Without a recipe the best one at hand is used, and said with the reason."""

    @pytest.fixture(autouse=True)
    def packaged(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr("unheard.experiments.config.PACKAGED", tmp_path)
        return tmp_path / "starter" / "encoder"

    def chosen(self, **settings: Any) -> tuple[Experiment, str]:
        said: list[str] = []
        settings = {key: value for key, value in {**LEAST, **settings}.items() if value is not None}
        return load(None, settings, say=said.append), " ".join(said)

    def test_without_an_encoder(self) -> None:
        settings, said = self.chosen()
        assert (settings.recipe, settings.features.kind, settings.training.optimizer) == ("strong", "fbank", "adamw")
        assert said == "Recipe strong: the best without a pretrained encoder (--features.encoder)"
        assert self.chosen(recipe="paper")[1] == ""
        settings, said = self.chosen(preset="iemocap", corpus=None)
        assert (settings.recipe, said) == ("paper", "Recipe paper: that of the preset iemocap")

    def test_other_features_keep_network_and_training(self) -> None:
        """Features and augmentation of a recipe are made for each other."""
        settings, said = self.chosen(features={"kind": "mfcc"})
        assert said == "Recipe strong: its network and training, on features of kind mfcc"
        assert settings.features == FeatureSettings()
        assert (settings.training.optimizer, settings.training.augment.on) == ("adamw", False)
        assert self.chosen(features={"encoder": "some"})[0].features.kind == "encoder"

    def test_with_an_encoder(self, packaged: Path) -> None:
        assert self.chosen()[0].recipe == "strong"
        with pytest.raises(ConfigError, match=r"need an encoder.*--features.encoder"):
            self.chosen(recipe="encoder")
        settings, said = self.chosen(features={"encoder": "other"})
        assert (settings.recipe, settings.features.encoder, settings.features.layer) == ("encoder", "other", "2,3")
        packaged.mkdir(parents=True)
        (packaged / "model.onnx").touch()
        settings, said = self.chosen()
        assert (settings.recipe, settings.features.encoder) == ("encoder", str(packaged))
        assert said == f"Recipe encoder: the best with a pretrained encoder, {packaged}"
        assert self.chosen(recipe="encoder")[0].features.encoder == str(packaged)
        assert self.chosen(features={"kind": "mfcc"})[0].recipe == "strong"
