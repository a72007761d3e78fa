"""Adaptation by enrolment: who is enrolled, who is scored, and the figures; on a small run with real trainings."""

from __future__ import annotations

import lzma
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from experimenting import experiment, rows_of

from unheard.errors import RunError
from unheard.experiments.adaptation import (
    ALL,
    EnrolmentCount,
    adapt,
    adaptation_table,
    average,
    draw_enrolment,
    read_counts,
)
from unheard.experiments.records import read_run

UTTERANCES = [f"u{i}" for i in range(6)]


def test_enrolment_utterances_are_drawn_by_seed_and_not_scored() -> None:
    enrolled, scored = draw_enrolment(UTTERANCES, 2, "speaker", 0)
    assert len(enrolled) == 2
    assert sorted(enrolled + scored) == UTTERANCES
    assert draw_enrolment(UTTERANCES, 2, "speaker", 0) == (enrolled, scored)
    assert len({tuple(draw_enrolment(UTTERANCES, 2, "speaker", draw)[0]) for draw in range(20)}) > 5
    assert draw_enrolment(UTTERANCES, 0, "speaker", 0) == ([], UTTERANCES)
    assert draw_enrolment(UTTERANCES, ALL, 0) == (UTTERANCES, UTTERANCES)
    assert draw_enrolment(UTTERANCES, 6, 0)[1] == draw_enrolment(UTTERANCES, 16, 0)[1] == []


def test_figures_are_pooled_in_a_draw_and_averaged_over_draws_and_seeds() -> None:
    def count(
        seed: int, draw: int, speaker: str, emotion: str, n: int, correct: int, before: int = 0
    ) -> EnrolmentCount:
        return EnrolmentCount("ser", seed, 1, draw, speaker, emotion, n, correct, before)

    counts = [
        count(0, 0, "a", "angry", 3, 3, 3), count(0, 0, "b", "angry", 1, 0),  # with the next 5/8; 3/4, 2/4
        count(0, 0, "b", "sad", 4, 2),
        count(0, 1, "a", "angry", 2, 1), count(0, 1, "a", "sad", 2, 2),  # 3/4; 1/2, 1
        count(1, 0, "a", "angry", 1, 1), count(1, 0, "a", "sad", 1, 0, 1),  # 1/2; 1, 0
    ]  # fmt: skip
    (found,) = average(counts)
    assert (found.system, found.k, found.seeds) == ("ser", 1, 2)
    assert found.wa == found.uar == pytest.approx((5 / 8 + 3 / 4 + 1 / 2) / 3)
    assert found.wa_gain == found.uar_gain == pytest.approx(found.wa - (3 / 8 + 0 + 1 / 2) / 3)
    table = adaptation_table([found], [1])
    assert "| System | k = 1 | Seeds |" in table
    assert "| SER_only | 62.5 / 62.5 (+33.3 / +33.3) | 2 |" in table
    few = [EnrolmentCount("ser", 0, k, 0, speaker, "angry", 2, 1, 1) for k, speaker in ((0, "a"), (0, "b"), (4, "a"))]
    table = adaptation_table(average(few), [0, 4, 16])
    assert "| SER_only | 50.0 / 50.0 | 50.0 / 50.0 (+0.0 / +0.0) | – | 1 |" in table
    assert "are not scored; the others are 1 of 2 at k = 4, 0 of 2 at k = 16." in table


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six speakers with four utterances each, in two calls: SER_only with an SVM, then SER_SR_MTL alone."""
    out = tmp_path_factory.mktemp("adaptation") / "run"
    for systems in ("ser,svm", "mtl"):
        assert experiment(out, "--systems", systems, "--epochs", "1", "--protocol", "kfold", "--k", "3") == 0
    return out


def test_a_run_is_scored_again(run: Path, cli: Any) -> None:
    table, _ = cli("adapt", run, "--draws", "2")
    assert "| SER_only |" in table  # of the first call
    assert "| SER_SR_MTL |" in table
    assert "0 of 6 at k = 4, 0 of 6 at k = 16" in table  # nobody has more than four
    assert (run / "adaptation.md").read_text() == table
    rows = [row for row in rows_of(run / "adaptation.csv") if row["system"] == "ser"]
    assert {row["k"] for row in rows} == {"0", "1", "all"}
    assert all(row["correct"] == row["before"] for row in rows if row["k"] == "0")

    def counted(k: str) -> tuple[int, int]:
        own = [row for row in rows if (row["k"], row["draw"]) == (k, "0")]
        return sum(int(row["correct"]) for row in own), sum(int(row["utterances"]) for row in own)

    cells = [row for row in rows_of(run / "results.csv") if row["system"] == "ser"]
    correct = sum(round(float(row["test_wa"]) * int(row["n_test"])) for row in cells)
    assert counted("0") == (correct, 24)  # without enrolment it is the run's own table
    assert counted("1")[1] == 24 - 6  # one of each speaker is not scored
    assert counted("all")[1] == 24
    assert adapt(run, draws=2) == table  # repeatable
    before = (run / "adaptation.csv").read_text()
    _, err = cli("adapt", run, "--k", "16", "--draws", "1", code=2)
    assert "no test speaker has more than 16 utterances" in err
    assert (run / "adaptation.csv").read_text() == before


def test_a_run_that_was_moved(run: Path, tmp_path: Path) -> None:
    """It is read and written where it is, not where its configuration says; ComParE has joined it."""
    moved = shutil.copytree(run, tmp_path / "moved")
    settings = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(settings.replace(f"out: {run}", f"out: {tmp_path / 'gone'}"))
    results, predictions = moved / "results.csv", moved / "predictions.csv.xz"
    results.write_text(results.read_text().replace("\nsvm,", "\nopensmile,"))
    predictions.write_bytes(
        lzma.compress(lzma.decompress(predictions.read_bytes()).replace(b"\nsvm,", b"\nopensmile,"))
    )
    assert any(cell.system == "opensmile" for cell in read_run(moved).cells)
    assert "SER_only" in adapt(moved, sizes=(1,), draws=1)
    assert (moved / "adaptation.csv").is_file()
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("kind", ["none", "utterance", "sliding"])
def test_normalisations_without_a_speaker_profile(run: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "other").mkdir()
    for name in ("splits.csv", "predictions.csv.xz", "results.csv"):
        shutil.copy(run / name, tmp_path / "other")
    settings = (run / "config.yaml").read_text()
    (tmp_path / "other" / "config.yaml").write_text(settings.replace("normalise: train", f"normalise: {kind}"))
    with pytest.raises(RunError, match=f"normalised by '{kind}'"):
        adapt(tmp_path / "other")
    (tmp_path / "other" / "config.yaml").write_text(settings)
    with pytest.raises(RunError, match="published runs have no model"):
        adapt(tmp_path / "other")


def test_mistakes_are_explained(tmp_path: Path, cli: Any) -> None:
    assert "Write --k 0,1,4,16,all" in cli("adapt", tmp_path, "--k", "some", code=2)[1]
    assert "this folder holds no run. Name the --out of a finished `unheard" in cli("adapt", tmp_path, code=2)[1]


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".xz", lzma.compress)])
def test_counts_are_read_again(ending: str, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = tmp_path / f"adaptation.csv{ending}"
    file.write_bytes(pack(b"system,seed,k,draw,speaker,emotion,utterances,correct,before\nser,0,all,2,a,sad,4,3,1\n"))
    assert read_counts(tmp_path) == [EnrolmentCount("ser", 0, ALL, 2, "a", "sad", 4, 3, 1)]
    for broken in (pack(b"system,seed\nser,x\n"), pack(b"system,seed\n" + bytes(100))[:40]):
        file.write_bytes(broken)
        with pytest.raises(RunError, match=r"adaptation\.csv.*not a table of counts"):
            read_counts(tmp_path)
