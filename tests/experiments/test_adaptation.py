"""Adaptation to a voice: who is heard, who is scored, and what it comes to; on a small run with real trainings."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from unheard.cli import main
from unheard.errors import RunError
from unheard.experiments.adaptation import ALL, Count, adapt, draw_enrolment, summarise, table_markdown

UTTERANCES = [f"u{i}" for i in range(6)]


def test_the_heard_are_not_scored_and_a_seed_draws_them() -> None:
    heard, scored = draw_enrolment(UTTERANCES, 2, "speaker", 0)
    assert len(heard) == 2
    assert sorted(heard + scored) == UTTERANCES
    assert draw_enrolment(UTTERANCES, 2, "speaker", 0) == (heard, scored)
    assert len({tuple(draw_enrolment(UTTERANCES, 2, "speaker", draw)[0]) for draw in range(20)}) > 5
    assert draw_enrolment(UTTERANCES, 0, "speaker", 0) == ([], UTTERANCES)


def test_all_hears_what_it_scores_and_too_many_leave_nothing() -> None:
    assert draw_enrolment(UTTERANCES, ALL, 0) == (UTTERANCES, UTTERANCES)
    assert draw_enrolment(UTTERANCES, 6, 0)[1] == []
    assert draw_enrolment(UTTERANCES, 16, 0)[1] == []


def test_figures_are_pooled_in_a_draw_and_averaged_over_draws_and_seeds() -> None:
    def count(seed: int, draw: int, speaker: str, emotion: str, n: int, right: int, before: int = 0) -> Count:
        return Count("ser", seed, 1, draw, speaker, emotion, n, right, before)

    counts = [
        count(0, 0, "a", "angry", 3, 3, 3), count(0, 0, "b", "angry", 1, 0),  # with the next 5/8; 3/4, 2/4
        count(0, 0, "b", "sad", 4, 2),
        count(0, 1, "a", "angry", 2, 1), count(0, 1, "a", "sad", 2, 2),  # 3/4; 1/2, 1
        count(1, 0, "a", "angry", 1, 1), count(1, 0, "a", "sad", 1, 0, 1),  # 1/2; 1, 0
    ]  # fmt: skip
    (found,) = summarise(counts)
    assert (found.system, found.k, found.seeds) == ("ser", 1, 2)
    assert found.wa == pytest.approx((5 / 8 + 3 / 4 + 1 / 2) / 3)
    assert found.uar == pytest.approx((5 / 8 + 3 / 4 + 1 / 2) / 3)
    table = table_markdown([found], [1])
    assert "| System | k = 1 | Seeds |" in table
    assert found.wa_gain == pytest.approx(found.wa - (3 / 8 + 0 + 1 / 2) / 3)
    assert found.uar_gain == pytest.approx(found.uar - (3 / 8 + 0 + 1 / 2) / 3)
    assert "| SER_only | 62.5 / 62.5 (+33.3 / +33.3) | 2 |" in table


def test_those_who_said_too_little_are_counted() -> None:
    def count(k: int, speaker: str) -> Count:
        return Count("ser", 0, k, 0, speaker, "angry", 2, 1, 1)

    table = table_markdown(summarise([count(0, "a"), count(0, "b"), count(4, "a")]), [0, 4, 16])
    assert "| SER_only | 50.0 / 50.0 | 50.0 / 50.0 (+0.0 / +0.0) | – | 1 |" in table
    assert "have none left to score: 1 of 2 at k = 4, 0 of 2 at k = 16." in table


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from unheard.corpora.synthetic import SyntheticSettings, write

    folder = tmp_path_factory.mktemp("adaptation")
    write(
        folder / "corpus",
        SyntheticSettings(speakers=8, dev_speakers=2, test_speakers=2, mean_duration=1.0, std_duration=0.1),
    )
    arguments = ["--corpus", "synthetic", "--root", str(folder / "corpus"), "--protocol", "kfold", "--k", "4"]
    few = ["--systems", "ser,svm", "--epochs", "1", "--folds", "4", "--workers", "1", "--no-progress"]
    assert main(["experiment", *arguments, *few, "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_more_than_anybody_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_text() for path in run.glob("adaptation.*")}
    assert main(["adapt", str(run), "--k", "16", "--draws", "1"]) == 2
    assert "no test speaker has more than 16 utterances" in capsys.readouterr().err
    assert {path: path.read_text() for path in run.glob("adaptation.*")} == before


def test_a_run_that_was_moved(run: Path, tmp_path: Path) -> None:
    """It is read and written where it is, not where its configuration says that it was."""
    moved = shutil.copytree(run, tmp_path / "moved")
    settings = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(settings.replace(f"out: {run}", f"out: {tmp_path / 'gone'}"))
    assert "SER_only" in adapt(moved, sizes=(1,), draws=1)
    assert (moved / "adaptation.csv").is_file()
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("kind", ["none", "utterance", "sliding"])
def test_normalisations_that_leave_no_voice(run: Path, tmp_path: Path, kind: str) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    settings = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(settings.replace("normalise: train", f"normalise: {kind}"))
    with pytest.raises(RunError, match=f"normalised by '{kind}'"):
        adapt(other)


def test_a_run_is_scored_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapt", str(run), "--draws", "2"]) == 0
    out = capsys.readouterr().out
    assert "k = 4" in out
    assert "0 of 8 at k = 16" in out  # nobody said more than that
    assert (run / "adaptation.md").read_text() == out
    with (run / "adaptation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["k"] for row in rows} <= {"0", "1", "4", "16", "all"}

    assert all(row["correct"] == row["before"] for row in rows if row["k"] == "0")

    def right(k: str, draw: str = "0") -> tuple[int, int]:
        own = [row for row in rows if row["k"] == k and row["draw"] == draw]
        return sum(int(row["correct"]) for row in own), sum(int(row["utterances"]) for row in own)

    with (run / "results.csv").open() as file:
        cells = [row for row in csv.DictReader(file) if row["system"] == "ser"]
    told = sum(round(float(row["test_wa"]) * int(row["n_test"])) for row in cells)
    total = sum(int(row["n_test"]) for row in cells)
    assert right("0") == (told, total)  # nothing heard is the run's own table
    assert right("1")[1] == total - 8  # one of each speaker is heard and not scored
    assert right("all")[1] == total
    assert adapt(run, draws=2) == out  # repeatable


def test_every_call_of_the_run_counts(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last call named another system alone; the first one's trainings are measured too."""
    where = ["--corpus", "synthetic", "--root", str(run.parent / "corpus"), "--protocol", "kfold", "--k", "4"]
    few = ["--systems", "mtl", "--epochs", "1", "--workers", "1", "--no-progress", "--out", str(run)]
    assert main(["experiment", *where, *few]) == 0
    capsys.readouterr()
    table = adapt(run, sizes=(0, 1), draws=1)
    assert "| SER_only |" in table
    assert "| SER_SR_MTL |" in table


def test_what_cannot_be_asked_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapt", str(run), "--k", "some"]) == 2
    assert "Write --k 0,1,4,16,all" in capsys.readouterr().err
    assert main(["adapt", str(tmp_path)]) == 2
    assert "config.yaml" in capsys.readouterr().err


def test_what_was_measured_before_stays_where_the_models_are_gone(run: Path, tmp_path: Path) -> None:
    """As in a folder that came without models; `before` has them all."""
    where = ["--corpus", "synthetic", "--root", str(run.parent / "corpus"), "--protocol", "kfold", "--k", "4"]
    few = ["--systems", "ser,mtl", "--epochs", "1", "--workers", "1", "--no-progress", "--out", str(run)]
    assert main(["experiment", *where, *few]) == 0
    before = adapt(run, sizes=(0, 1), draws=1)
    bare = shutil.copytree(run, tmp_path / "bare")
    for model in (bare / "cells").glob("ser-*/model.safetensors"):
        model.unlink()
    said: list[str] = []
    assert adapt(bare, sizes=(0, 1, 0), draws=1, say=said.append) == before
    assert "SER_only (seed 0): kept as measured before" in said
    assert (bare / "adaptation.csv").read_text() == (run / "adaptation.csv").read_text()
    whole = (bare / "adaptation.csv").read_text()
    rows = whole.splitlines()
    another = rows[1].split(",")
    another[-2:] = [str(int(value) ^ 1) for value in another[-2:]]  # not what the run's predictions say
    for changed, sizes in (("\n".join([rows[0], ",".join(another), *rows[2:]]), (0, 1)), (whole, (1,))):
        (bare / "adaptation.csv").write_text(changed)
        said.clear()
        assert "SER_only" not in adapt(bare, sizes=sizes, draws=1, say=said.append)
        assert "SER_only (seed 0): left out, measured before with other settings or predictions" in said
    (bare / "adaptation.csv").write_text("system,seed\nser,x\n")
    with pytest.raises(RunError, match=r"adaptation\.csv.*not a table of counts"):
        adapt(bare, sizes=(1,), draws=1)
