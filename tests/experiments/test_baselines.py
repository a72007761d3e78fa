"""The classical baseline as a system: fitted on training speakers, chosen by validation speakers, scored once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from experimenting import experiment, only, result, rows_of

from unheard.errors import TrainingError
from unheard.experiments import cell as fit_module
from unheard.experiments.baselines import CLASSICAL_SYSTEMS, ClassicalSystem, linear_svm
from unheard.experiments.cell import cross_validated, run_cell
from unheard.experiments.config import load
from unheard.experiments.plan import make_plan
from unheard.experiments.records import read_run
from unheard.experiments.summary import summarise
from unheard.export.evidence import calibrate
from unheard.features import FeatureStore
from unheard.features.functionals import FUNCTIONALS
from unheard.report import compose
from unheard.report.content import Table


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SER_only for an epoch and the SVM, two seeds, two folds of which a training speaker's voice decides nothing."""
    out = tmp_path_factory.mktemp("fitted") / "run"
    assert experiment(out, *MORE, "--epochs", "1") == 0
    return out


MORE = ("--systems", "ser,svm", "--seeds", "2", "--protocol", "kfold", "--k", "3", "--folds", "2")


def literal(run: Path, fold: int) -> tuple[float, dict[str, str]]:
    """The value of C and what is said of the test utterances, from the stored functionals by scikit-learn alone."""
    from sklearn.metrics import accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    store = FeatureStore(run / "features" / "svm")
    emotion = {name: row["emotion"] for name, row in read_run(run).utterances.items()}
    ids = {
        part: [row["id"] for row in rows_of(run / "splits.csv") if (row["fold"], row["part"]) == (str(fold), part)]
        for part in ("train", "dev", "test")
    }
    x = {part: np.stack([store[name][0] for name in names]).astype(float) for part, names in ids.items()}
    y = {part: [emotion[name] for name in names] for part, names in ids.items()}
    best = (-1.0, 0.0, None)
    for c in (0.0001, 0.001, 0.01, 0.1, 1.0):
        machine = make_pipeline(StandardScaler(), LinearSVC(C=c, class_weight="balanced", dual="auto", random_state=0))
        right = accuracy_score(y["dev"], machine.fit(x["train"], y["train"]).predict(x["dev"]))
        if right > best[0]:
            best = (right, c, machine)
    return best[1], dict(zip(ids["test"], best[2].predict(x["test"]), strict=True))


@pytest.mark.parametrize("fold", [0, 1])
def test_it_is_what_scikit_learn_says(fitted: Path, fold: int) -> None:
    c, said = literal(fitted, fold)
    folder = only(fitted, f"svm-fold{fold}-seed0")
    assert result(folder)["directions"]["test"]["C"] == c
    rows = rows_of(folder / "predictions.csv")
    assert {row["id"]: row["predicted"] for row in rows if row["part"] == "test"} == said
    for row in rows:
        assert float(row["p_angry"]) + float(row["p_sad"]) == pytest.approx(1, abs=1e-5)
        assert (float(row["p_angry"]) >= float(row["p_sad"])) == (row["predicted"] == "angry")
    with np.load(folder / "embeddings.npz") as arrays:
        assert arrays["e"].shape == (len(rows), 287)


def test_without_validation_speakers_the_others_choose_and_all_train(tmp_path: Path) -> None:
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    out = tmp_path / "run"
    one = ("--systems", "ser,svm", "--epochs", "1", "--protocol", "kfold", "--k", "3", "--folds", "1")
    assert experiment(out, *one, "--validation", "train", "--training.select", "last") == 0
    parts = {row["id"]: row["part"] for row in rows_of(out / "splits.csv")}
    assert set(parts.values()) == {"train", "test"}
    run, store = read_run(out), FeatureStore(out / "features" / "svm")
    train = [name for name, part in parts.items() if part == "train"]
    speakers = [run.utterances[name]["speaker"] for name in train]
    machine = LinearSVC(class_weight="balanced", dual="auto", random_state=0)
    x = StandardScaler().fit_transform(np.stack([store[name][0] for name in train]).astype(float))
    search = GridSearchCV(machine, {"C": CLASSICAL_SYSTEMS["svm"].grid}, cv=GroupKFold(3), refit=False)
    search.fit(x, [run.utterances[name]["emotion"] for name in train], groups=speakers)
    assert result(only(out, "svm-fold0-seed0"))["directions"]["test"]["C"] == search.best_params_["C"]
    assert result(only(out, "ser-fold0-seed0"))["proof"]["train_speakers"] == sorted(set(speakers))
    assert all(line.unvalidated and not line.over_seeds("wa", "dev").values for line in run.lines)
    assert {row["val_wa"] for row in rows_of(out / "results.csv")} == {""}
    assert calibrate(run.lines[0]).utterances == sum(part == "test" for part in parts.values())
    compose(run, summarise(run))
    with pytest.raises(TrainingError, match="a single speaker trains"):
        cross_validated(CLASSICAL_SYSTEMS["svm"], np.zeros((2, 3)), np.array([0, 1]), ["anna", "anna"], 2)


@pytest.mark.parametrize(("select", "tune"), [("best", ""), ("last", "grid"), ("last", "optuna")])
def test_validation_speakers_are_held_out_where_something_is_chosen(fitted: Path, select: str, tune: str) -> None:
    settings = load(fitted / "config.yaml", {"validation": "train", "training": {"select": select}, "tune": tune})
    split = make_plan(settings).split
    assert all(direction.dev for fold in split.folds for direction in fold.directions)
    assert "validation speakers do not train" in str(split.notes[-1])


def test_it_stands_in_every_table_and_its_seeds_are_equal(fitted: Path) -> None:
    run = read_run(fitted)
    assert [line.name for line in run.lines] == ["SER_only", "SVM (functionals)"]
    svm = run.lines[1]
    assert (svm.finished, svm.planned) == (4, 4)
    first, second = svm.seeds
    np.testing.assert_array_equal(first.test.probabilities, second.test.probabilities)
    (wa, _uar) = summarise(run).contrasts
    assert wa.family == "classical", "it does not count among the three of the paper"
    assert (wa.name, wa.baseline, wa.seeds) == ("SVM (functionals)", "SER_only", (0, 1))
    assert "| SVM (functionals) |" in (fitted / "table.md").read_text()
    written = {row["system"]: row for row in rows_of(fitted / "results.csv")}
    assert (written["svm"]["options"][:2], written["svm"]["best_epoch"]) == ("C=", "")
    assert not [note for note in run.absent if "history" in note], "nobody expects curves of a fit"
    tables = {block.name: block for block in compose(run, summarise(run)).blocks() if isinstance(block, Table)}
    assert {tables[name].rows[-1][0] for name in ("accuracy", "differences-classical")} == {"SVM (functionals)"}


def test_test_speakers_decide_nothing(fitted: Path, tmp_path: Path) -> None:
    """C and the predictions of validation utterances stay the same whatever the test speakers' recordings are."""
    settings = load(fitted / "config.yaml")
    cell = next(cell for cell in make_plan(settings).cells if cell.system == "svm")
    vectors = fit_module.standardised_vectors(cell)
    noise = np.random.default_rng(0).normal(size=(len(vectors), 287)).astype(np.float32)
    tested = set(cell.fold.directions[0].test)
    other = {name: noise[k] if name in tested else x for k, (name, x) in enumerate(vectors.items())}
    said = []
    for k, given in enumerate((vectors, other)):
        there = replace(cell, settings=replace(cell.settings, out=str(tmp_path / str(k))))
        found = fit_module.fit_cell(there, given)
        rows = [row for row in rows_of(there.folder / "predictions.csv") if row["part"] == "dev"]
        said.append((found["chosen"], found["directions"]["test"]["val_wa"], rows))
    assert said[0] == said[1]


def test_more_epochs_are_nothing_to_a_fit(fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Path(shutil.copytree(fitted, tmp_path / "run"))
    monkeypatch.setattr("unheard.experiments.cell.fit_cell", None)
    assert experiment(run, *MORE, "--epochs", "2") == 0
    assert [(line.name, line.finished) for line in read_run(run).lines] == [("SER_only", 4), ("SVM (functionals)", 4)]


def test_what_decides_its_numbers_and_what_does_not(fitted: Path) -> None:
    def digests(**changes: object) -> set[str]:
        grid = make_plan(load(fitted / "config.yaml", changes))
        return {cell.digest for cell in grid.cells if cell.system == "svm"}

    base = digests()
    assert digests(epochs=7, training={"lr": 0.5}, network={"padding": "same"}, normalise="utterance") == base
    assert not digests(normalise="speaker") & base
    assert not digests(split_seed=1) & base
    assert CLASSICAL_SYSTEMS["svm"].digest != replace(CLASSICAL_SYSTEMS["svm"], grid=(1.0,)).digest
    assert (
        CLASSICAL_SYSTEMS["svm"].digest
        != replace(CLASSICAL_SYSTEMS["svm"], features=replace(FUNCTIONALS, mel_bins=30)).digest
    )


def test_an_emotion_without_training_utterances_is_never_said() -> None:
    x = np.array([[0.0, 1.0], [1.0, 0.0], [0.1, 1.0], [1.0, 0.2]])
    decide = linear_svm(x, np.array([0, 2, 0, 2]), 4, 1.0)
    assert decide(x).argmax(axis=1).tolist() == [0, 2, 0, 2]
    assert np.isinf(decide(x)[:, [1, 3]]).all()
    with pytest.raises(TrainingError, match="same emotion"):
        linear_svm(x, np.zeros(4, np.int64), 4, 1.0)


def test_the_smallest_value_wins_a_tie(fitted: Path, tmp_path: Path) -> None:
    settings = load(fitted / "config.yaml")
    cell = next(cell for cell in make_plan(settings).cells if cell.system == "svm")

    def constant(x: np.ndarray, y: np.ndarray, classes: int, value: float):
        return lambda vectors: np.tile([1.0, 0.0], (len(vectors), 1))

    system = ClassicalSystem("constant", FUNCTIONALS, "k", (3.0, 0.5, 2.0), constant)
    cell = replace(cell, settings=replace(cell.settings, out=str(tmp_path)), classical=system)
    found = fit_module.fit_cell(cell)
    assert found["directions"]["test"]["k"] == 0.5
    assert found["chosen"] == "k=0.5"


def test_pooled_frames_are_standardised_means_and_deviations(fitted: Path, tmp_path: Path) -> None:
    from sklearn.preprocessing import StandardScaler

    run = tmp_path / "run"
    grid = make_plan(load(fitted / "config.yaml", {"systems": ("pooled",), "out": str(run), "store": ""}))
    cell = grid.cells[0]
    pooled = {
        name: np.concatenate([grid.store[name].astype(float).mean(0), grid.store[name].astype(float).std(0)])
        for name in cell.rows
    }
    scaler = StandardScaler().fit(np.stack([pooled[name] for name in cell.fold.train]))
    vectors = fit_module.standardised_vectors(cell)
    for name, values in pooled.items():
        np.testing.assert_allclose(vectors[name], scaler.transform(values[None])[0], atol=2e-3)
    found = run_cell(cell)
    assert run_cell(cell) == found
    assert found["proof"]["features"] == grid.store.settings.digest
    assert found["settings"]["features"] == "pooled frames"
    assert found["proof"]["dimensions"] == 2 * grid.store.dim
