"""Plug-ins: a script uses the documented package by name, and what it registers itself reaches its workers."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from experimenting import (
    cells,
    corpus,
    environment,
    experiment,
    history,
    only,
    result,
    rows_of,
    table,
)

import unheard
from unheard import plugins
from unheard.errors import ConfigError, MissingExtra
from unheard.experiments.config import load
from unheard.features import FeatureSettings, extract
from unheard.features.encoder import resolve
from unheard.model.network import NetworkSettings
from unheard.training.logging import LOGGERS, check_loggers
from unheard.training.strategies import Batch, StrategyConfig
from unheard.training.strategies.base import SER

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "research" / "plugins.md").read_text("utf-8")
FILES = ("pyproject.toml", "unheard_example.py")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registrations that end with the test."""
    monkeypatch.setattr(plugins, "_registered", {})


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the documented package as pip installs it: its module, and the metadata with its entry points."""
    toml, module = (re.search(rf"`{name}`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL)[1] for name in FILES)
    points = re.findall(r'"(unheard\.\w+)" = \{ (\w+) = "(.+)" \}', toml)
    assert {group for group, _, _ in points} == set(plugins.GROUPS.values())
    info = tmp_path / "site" / "unheard_example-1.0.dist-info"
    info.mkdir(parents=True)
    (info.parent / "unheard_example.py").write_text(module, "utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unheard-example\nVersion: 1.0\n")
    lines = "".join(f"[{group}]\n{name} = {value}\n" for group, name, value in points)
    (info / "entry_points.txt").write_text(lines)
    return info.parent


SCRIPT = """
import sys
from importlib.util import find_spec
import numpy as np
import unheard
from torch.nn.functional import cross_entropy
from unheard.training.strategies import Strategy

@unheard.register("strategy", "twice")
class Twice(Strategy):
    def forward(self, batch):
        logits, _ = self.logits(batch.x, batch.lengths)
        return {"emotion": 2 * cross_entropy(logits, batch.y)}

@unheard.register("feature", "ramp")
def ramp(samples):
    return np.cumsum(samples[: len(samples) // 160 * 160].reshape(-1, 160), axis=1)[:, ::40]

assert unheard.extract(np.ones(1600, np.float32), unheard.FeatureSettings(kind="loudness")).shape == (10, 2)
for _ in range(2):  # the second time everything is there
    unheard.experiment(
        corpus="voices", root=sys.argv[1], out=sys.argv[2], systems=["ser", "twice", "focal"], workers=1, seeds=2,
        options={"focal": {"gamma": 1}}, features={"kind": "ramp"}, network={"pooling": "mean"}, epochs=1,
        logger=["text"] + ["tensorboard"] * bool(find_spec("tensorboard")),
        emotions=["angry", "sad"], protocol="random", n=[2, 2, 2], recipe="paper", say=print,
    )
"""


def test_a_script_with_an_installed_package_and_its_workers(site: Path, tmp_path: Path) -> None:
    """The class of a script reaches its workers, which find the package's."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "script.py", corpus(), tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(site, ""), timeout=300)
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout
    trained = cells(tmp_path / "run")
    counted = [(row["system"], row["evaluation"], row["seed"]) for row in rows_of(tmp_path / "run" / "results.csv")]
    assert len(counted) == len(set(counted)) == 2 * len(trained) == 12
    assert "Focal" in (tmp_path / "run" / "table.md").read_text()
    focal, ser = (next(folder for name, folder in trained.items() if name.startswith(key)) for key in ("focal", "ser"))
    said = result(focal)
    assert json.dumps(said["settings"])  # as MLflow and W&B do with what a logger is handed
    assert (said["options"], said["settings"]["network"]["pooling"]) == ({"gamma": 1.0}, "mean")
    assert (bool(said["proof"]["code"]), bool(result(ser)["proof"]["code"])) == (True, False)
    assert np.load(focal / "embeddings.npz")["e"].shape[1] == 256
    assert (focal / "log.txt").read_text().startswith("1 ")
    assert bool(list(focal.glob("tensorboard/events*"))) is bool(find_spec("tensorboard"))


def test_the_documented_strategy_trains_an_ensemble(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heads of the recipe encoder have members; without focusing, the focal loss is the cross-entropy."""
    monkeypatch.syspath_prepend(str(site))
    example = importlib.import_module("unheard_example")
    network = NetworkSettings(tdnn=((8, 3, 1),), lstm=0, dense=8, hidden=(), members=2)
    config = StrategyConfig(features=5, emotions=3, speakers=2, network=network, seed=0)
    batch = Batch(torch.randn(4, 20, 5), torch.full((4,), 20), torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 1, 1]))
    loss = example.Focal(config, example.FocalOptions(gamma=0.0))(batch)["emotion"]
    torch.testing.assert_close(loss, SER(config)(batch)["emotion"])


@pytest.mark.usefixtures("registry")
def test_a_change_of_its_source_is_another_cell(tmp_path: Path) -> None:
    source = "from unheard.training.strategies.base import SER\nclass Mine(SER):\n    factor = {}\n"
    for place, (factor, count) in enumerate(((2, 1), (2, 1), (3, 2))):
        path = tmp_path / f"mine{place}.py"
        path.write_text(source.format(factor))
        spec = spec_from_file_location(path.stem, path)
        module = sys.modules[path.stem] = module_from_spec(spec)
        spec.loader.exec_module(module)
        unheard.register("strategy", "mine", module.Mine)
        assert experiment(tmp_path / "run", "--systems", "mine", "--epochs", "1") == 0
        assert len(cells(tmp_path / "run")) == count


@pytest.mark.usefixtures("registry")
def test_names() -> None:
    for kind, name in (("strategy", "dat"), ("corpus", "emodb"), ("feature", "mfcc"), ("logger", "wandb")):
        with pytest.raises(ConfigError, match="is a built-in"):
            unheard.register(kind, name, print)
    with pytest.raises(ConfigError, match=r"unknown kind of plug-in 'pooler'.*Did you mean 'pooling'\?"):
        unheard.register("pooler", "mine", print)
    with pytest.raises(ConfigError, match="cannot be the name"):
        unheard.register("pooling", "My Pooling", print)
    with pytest.raises(ConfigError, match="is not a corpus"):
        unheard.register("corpus", "mine", print)
    assert plugins.names("corpus") == ()


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("kind", "flag"),
    [("strategy", "systems"), ("feature", "features.kind"), ("pooling", "network.pooling"), ("logger", "logger")],
)
def test_misspelt(kind: str, flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unheard.register(kind, "blueprint", print)
    assert experiment(tmp_path / "run", f"--{flag}", "bluprint") == 2
    assert re.search(r"unknown .*'bluprint'.*Did you mean 'blueprint'\?", capsys.readouterr().err)


@pytest.mark.usefixtures("registry")
def test_functions_that_return_no_frames() -> None:
    unheard.register("feature", "flat", lambda samples: samples)
    with pytest.raises(ConfigError, match=r"'flat' fails on a second of noise .*frames \(T, F\)"):
        resolve(FeatureSettings(kind="flat"))
    unheard.register("feature", "two", lambda samples: np.ones((len(samples) // 100, 2)))
    assert extract(np.zeros(1000, np.float32), FeatureSettings(kind="two", thin=2)).shape == (5, 2)
    with pytest.raises(ConfigError, match="used as they are"):
        FeatureSettings(kind="two", pitch=True)


def test_arrays_of_ones_own(tmp_path: Path) -> None:
    """A folder of arrays gives the numbers that the same frames give when the package computes them."""
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    path = table(tmp_path)
    settings = FeatureSettings(vad="none")
    for row in rows_of(path):
        np.save(arrays / f"{row['id']}.npy", extract(row["audio"], settings).astype(np.float64))
    more = ["--epochs", "2", "--systems", "ser", "--folds", "1", "--recipe", "paper", "--protocol", "random"]
    more += ["--n", "2,2,2"]
    source = ["--manifest", str(path)]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    assert experiment(ours, *more, "--features.vad", "none", source=source) == 0
    arguments = [*more, "--features.kind", "npy", "--features.folder", str(arrays)]
    assert experiment(theirs, *arguments, source=source) == 0
    assert history(only(ours)) == history(only(theirs))
    assert load(theirs / "config.yaml").features.folder == str(arrays)
    before = only(theirs)
    last = rows_of(path)[-1]["id"]
    np.save(arrays / f"{last}.npy", np.zeros((4, 39)))  # other frames are other cells
    assert experiment(theirs, *arguments, source=source) == 0
    assert len(cells(theirs)) == 2
    assert before in cells(theirs).values()
    spoilt = {last: np.zeros((4, 38)), rows_of(path)[-2]["id"]: np.full((4, 39), 1e300)}
    for name, frames in spoilt.items():
        np.save(arrays / f"{name}.npy", frames)
    assert experiment(theirs, *arguments, source=source) == 0
    index = next((theirs / "features").glob("index-*.csv"))
    reasons = {row["id"]: row["reason"] for row in rows_of(index) if row["reason"]}
    assert reasons.keys() == spoilt.keys()
    assert "frames (T, 39) of numbers are needed, not (4, 38)" in reasons[last]


class TestLoggers:
    """MLflow and W&B are stood in for by modules that note their calls."""

    def test_adapters(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[object] = []

        @contextmanager
        def started(**how: object):
            calls.append(how)
            yield SimpleNamespace(log=lambda figures, step: calls.append((step, figures)))
            calls.append("end")

        mlflow = SimpleNamespace(
            start_run=started, log_params=calls.append, log_metrics=lambda figures, step: calls.append((step, figures))
        )
        monkeypatch.setitem(sys.modules, "mlflow", mlflow)
        monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=started))
        check_loggers(("mlflow", "wandb"))
        settings, figures = {"system": "ser"}, {"epoch": 3, "train_wa": 0.5, "note": "x"}
        for name in ("mlflow", "wandb"):
            with LOGGERS[name](tmp_path / "cell", settings) as log:
                log(figures)
        wandb = {"name": "cell", "dir": str(tmp_path / "cell"), "config": settings}
        epoch = (3, {"train_wa": 0.5})
        assert calls == [{"run_name": "cell"}, settings, epoch, "end", wandb, epoch, "end"]

    def test_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "wandb", None)
        with pytest.raises(MissingExtra, match=r"unheard\[wandb\]"):
            check_loggers(["wandb"])
        with pytest.raises(ConfigError, match=r"unknown logger 'tensorbord'.*Did you mean 'tensorboard'\?"):
            check_loggers(["tensorbord"])
