"""A published run's systems against one of them, on all test speakers and on some."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from recording import write_run
from reporting import invent

from unheard.cli import main
from unheard.experiments.comparison import contrast_runs
from unheard.experiments.records import read_run
from unheard.experiments.summary import summarise

RUN = Path(__file__).parents[2] / "results" / "ravdess-strong"
PARTS = RUN.parent / "development-speakers.csv"


def rows(text: str, start: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith(start)
    ]


def test_the_figures_are_the_tables_and_the_difference_is_theirs() -> None:
    text = contrast_runs(RUN, baseline="dat")
    table = {row[0]: row for row in rows((RUN / "table.md").read_text(), "| SER")}
    for name, wa, *_ in rows(text.partition("Contrast")[0], "| SER"):
        assert table[name][2].startswith(wa)
    (mtl,) = [row for row in rows(text, "| SER_SR_MTL − SER_SR_DAT") if row[1] == "WA"]
    of = {name: float(row[2].split()[0]) for name, row in table.items() if row[2][0].isdigit() and "/" not in row[2]}
    assert float(mtl[2]) == pytest.approx(of["SER_SR_MTL"] - of["SER_SR_DAT"], abs=0.11)
    assert text.startswith("671 utterances of 24 test speakers")


def test_some_of_the_speakers(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for part in ("development", "untouched"):
        assert main(["contrast", str(RUN), "--speakers", f"{PARTS}:{part}"]) == 0
        out = capsys.readouterr().out
        n, speakers = map(int, re.findall(r"\d+", out)[:2])
        assert speakers == 12
        said.append((n, float(rows(out, "| SER_only")[0][1])))
    assert sum(n for n, _ in said) == 671
    whole = float(rows(contrast_runs(RUN), "| SER_only")[0][1])
    assert sum(n * wa for n, wa in said) / 671 == pytest.approx(whole, abs=0.1)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--baseline", "svn"], "no system 'svn'"),
        (["--speakers", "people.csv"], "is not FILE:PART"),
        (["--speakers", f"{PARTS}:half"], "no speaker is 'half'"),
    ],
)
def test_mistakes(more: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contrast", str(RUN), *more]) == 2
    assert says in capsys.readouterr().err


def test_speakers_that_the_run_does_not_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", {("ser", 0, 0): "aa", ("mtl", 0, 0): "as"}, systems="ser,mtl")
    parts = tmp_path / "parts.csv"
    parts.write_text("corpus,speaker,part\n,dev-speaker0,b\n")
    assert main(["contrast", str(run), "--speakers", f"{parts}:b"]) == 2
    assert "is tested in this run" in capsys.readouterr().err


def test_lines_with_a_chosen_knob_are_there_and_corrected_as_in_the_report(tmp_path: Path) -> None:
    run = invent(tmp_path / "run", speakers=8, folds=4, seeds=2, tune=True)
    text = contrast_runs(run)
    summary = summarise(read_run(run))
    assert {one.name for one in summary.contrasts} >= {"SER_SR_DAT, λ chosen", "SER_SR_CGT"}
    for one in summary.contrasts:
        (row,) = [row for row in rows(text, f"| {one.name} − SER_only") if row[1] == one.metric.upper()]
        assert row[2].split()[0] == f"{100 * one.difference:+.1f}"
        assert any(f"{one.p_holm:.{digits}f}" in cell for cell in row for digits in (2, 3)), (one.p_holm, row)


def test_without_a_seed_in_common_nothing_is_compared(tmp_path: Path) -> None:
    skip = [("dat", fold, 0) for fold in range(2)] + [("ser", fold, 1) for fold in range(2)]
    text = contrast_runs(
        invent(tmp_path / "run", speakers=8, folds=2, seeds=2, systems=("ser", "mtl", "dat"), skip=skip)
    )
    assert "SER_SR_DAT is not compared: it has no complete seed in common with SER_only." in text
    assert len(rows(text, "| SER_SR_MTL − SER_only")) == 2
    assert not rows(text, "| SER_SR_DAT −")
    alone = contrast_runs(invent(tmp_path / "two", speakers=8, folds=2, seeds=2, systems=("ser", "dat"), skip=skip))
    assert "is not compared" in alone
    assert "Contrast" not in alone


PUBLISHED = [RUN.parent / f"{corpus}-strong" for corpus in ("emodb", "ravdess")]


def test_of_several_runs_the_mean_of_their_differences(capsys: pytest.CaptureFixture[str]) -> None:
    alone = [{tuple(row[:2]): row for row in rows(contrast_runs(run), "| SER_SR")} for run in PUBLISHED]
    assert main(["contrast", *map(str, PUBLISHED)]) == 0
    text = capsys.readouterr().out
    first, second, both = [part for part in text.split("## ") if part]
    for part, run in zip((first, second), PUBLISHED, strict=True):
        assert part == f"{run}\n\n{contrast_runs(run)}\n"
    found = {tuple(row[:2]): row for row in rows(both, "| SER_SR")}
    assert both.startswith("Mean over runs")
    assert len(found) == 6
    for key, row in found.items():
        assert float(row[2]) == pytest.approx(sum(float(one[key][2]) for one in alone) / 2, abs=0.11)
        low, high = map(float, row[3].strip("[]").split(","))
        assert low < float(row[2]) < high
    assert "on 34 test speakers" in both
    assert "The mean of 2 runs' differences" in both


def test_runs_that_test_the_same_people_are_no_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contrast", str(PUBLISHED[0]), str(PUBLISHED[0].with_name("emodb-paper"))]) == 2
    err = capsys.readouterr().err
    assert "both test emodb's speaker '03'" in err
    assert "unheard compare" in err


def test_runs_without_a_system_in_common(tmp_path: Path) -> None:
    one = invent(tmp_path / "one", speakers=8, folds=2, seeds=1, systems=("ser", "mtl"))
    other = invent(tmp_path / "other", speakers=8, folds=2, seeds=1, systems=("ser", "dat"), names="other {}")
    assert "No system besides SER_only is in all of these runs." in contrast_runs(one, other)
