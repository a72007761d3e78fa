"""Plug-ins: the documented package is installed and used by name, and what a script registers reaches its workers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from experimenting import cells, corpus, environment, experiment, flags, history, only, result, rows_of, start, table

import unheard
from unheard import plugins
from unheard.errors import ConfigError, MissingExtra
from unheard.experiments.config import load
from unheard.features import FeatureSettings, extract
from unheard.features.encoder import resolve
from unheard.training.logging import LOGGERS, check_loggers

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "research" / "plugins.md").read_text("utf-8")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registrations that end with the test."""
    monkeypatch.setattr(plugins, "_registered", {})


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documented package, installed by pip into a folder of its own."""
    source, target = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("site")
    for name, kind in (("pyproject.toml", "toml"), ("unheard_example.py", "python")):
        (block,) = re.findall(rf"`{re.escape(name)}`:\n\n```{kind}\n(.*?)```", PAGE, re.DOTALL)
        (source / name).write_text(block, "utf-8")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-index"]
    done = subprocess.run([*pip, "--no-build-isolation", "--target", target, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def test_the_documented_package(package: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    source = ["--corpus", "voices", "--root", str(corpus())]
    more = ["--systems", "ser,focal", "--option", "focal.gamma=1", "--features.kind", "loudness"]
    more += ["--network.pooling", "mean", "--logger", "text", "--epochs", "2", "--protocol", "random", "--n", "2,2,2"]
    more += ["--recipe", "paper", "--workers", "2", "--folds", "1"]
    env = environment(package, "", COLUMNS="200")
    process = start(["experiment", *flags(run, *more, source=source)], env=env)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "Focal" in out
    focal = result(only(run, "focal"))
    assert (focal["options"], focal["settings"]["network"]["pooling"]) == ({"gamma": 1.0}, "mean")
    assert focal["proof"]["code"]
    assert not result(only(run, "ser"))["proof"]["code"]
    assert np.load(only(run, "focal") / "embeddings.npz")["e"].shape[1] == 256
    assert [line.split()[0] for line in (only(run, "focal") / "log.txt").read_text().splitlines()] == ["1", "2"]


SCRIPT = """
import sys
import numpy as np
import unheard
from torch.nn.functional import cross_entropy
from unheard.training.strategies import Strategy

@unheard.register("strategy", "twice")
class Twice(Strategy):
    def forward(self, batch):
        logits, _ = self.logits(batch.x, batch.lengths)
        return {"emotion": FACTOR * cross_entropy(logits, batch.y)}

@unheard.register("feature", "ramp")
def ramp(samples):
    return np.cumsum(samples[: len(samples) // 160 * 160].reshape(-1, 160), axis=1)[:, ::40]

unheard.experiment(
    corpus="synthetic", root=sys.argv[1], out=sys.argv[2], systems=["twice"], features={"kind": "ramp"}, epochs=1,
    emotions=["angry", "sad"], protocol="random", n=[2, 2, 2], workers=2, seeds=2, recipe="paper", say=print,
)
"""


def test_a_script_and_its_workers(tmp_path: Path) -> None:
    """The class of a script reaches its workers; a change of its source is another cell."""
    run = tmp_path / "run"
    for factor, count in ((2, 2), (2, 2), (3, 4)):
        (tmp_path / "script.py").write_text(SCRIPT.replace("FACTOR", str(factor)))
        command = [sys.executable, tmp_path / "script.py", corpus(), run]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)
        assert done.returncode == 0, done.stderr
        assert "failed" not in done.stdout
        assert len(cells(run)) == count
        counted = [(row["evaluation"], row["seed"]) for row in rows_of(run / "results.csv")]
        assert len(counted) == len(set(counted)) == 4


@pytest.mark.usefixtures("registry")
def test_names() -> None:
    for kind, name in (("strategy", "dat"), ("corpus", "emodb"), ("feature", "mfcc"), ("logger", "wandb")):
        with pytest.raises(ConfigError, match="of the package itself"):
            unheard.register(kind, name, print)
    with pytest.raises(ConfigError, match=r"unknown kind of plug-in 'pooler'.*Did you mean 'pooling'\?"):
        unheard.register("pooler", "mine", print)
    with pytest.raises(ConfigError, match="cannot be the name"):
        unheard.register("pooling", "My Pooling", print)
    with pytest.raises(ConfigError, match="is no corpus"):
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
    np.save(arrays / f"{last}.npy", np.zeros((4, 38)))
    assert experiment(theirs, *arguments, source=source) == 0
    index = next((theirs / "features").glob("index-*.csv"))
    (skipped,) = [row for row in rows_of(index) if row["reason"]]
    assert "frames (T, 39) of numbers are needed, not (4, 38)" in skipped["reason"]


class TestLoggers:
    """MLflow and W&B are stood in for by modules that note their calls."""

    def test_adapters(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[object] = []

        @contextmanager
        def started(**how: object):  # type: ignore[no-untyped-def]
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

    def test_settings_of_a_cell_are_plain(self, tmp_path: Path) -> None:
        """What is handed to a logger can be written as JSON, as MLflow and W&B do."""
        run = tmp_path / "run"
        more = ["--epochs", "1", "--systems", "ser", "--folds", "1", "--recipe", "paper", "--logger", "tensorboard"]
        pytest.importorskip("torch.utils.tensorboard")
        assert experiment(run, *more) == 0
        assert list(only(run).glob("tensorboard/events*"))
        assert json.dumps(result(only(run))["settings"])
