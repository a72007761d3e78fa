"""`unheard contrast`: the systems of a run with one of them, on all test speakers and on some; and of several runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from reporting import invent

from unheard.experiments.records import read_run
from unheard.experiments.summary import summarise
from unheard.report.comparison import contrast_runs

SKIP_CGT = [("cgt", fold, 0) for fold in range(1, 4)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight speakers, four folds, two seeds; SER_SR_CGT has no complete seed."""
    folder = tmp_path_factory.mktemp("contrast") / "run"
    return invent(folder, speakers=8, folds=4, seeds=2, extras=False, skip=[*SKIP_CGT, ("cgt", 0, 1)])


@pytest.fixture(scope="module")
def parts(run: Path) -> Path:
    path = run.parent / "parts.csv"
    names = [f"made,speaker {k},{'development' if k < 3 else 'untouched'}" for k in range(8)]
    path.write_text("\n".join(["corpus,speaker,part", *names]) + "\n")
    return path


def rows(text: str, start: str) -> list[list[str]]:
    lines = text.replace("−", "-").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith(start)]


def test_figures_and_differences_are_those_of_the_summary(run: Path) -> None:
    text = contrast_runs(run, baseline="dat")
    lines = {line.name: line for line in summarise(read_run(run)).lines}
    figures = rows(text.partition("Differences")[0], "| SER")
    assert [row[0] for row in figures] == ["SER_only", "SER_SR_MTL", "SER_SR_DAT"]
    for name, wa, uar, seeds in figures:
        assert [wa, uar, seeds] == [*(str(lines[name].over_seeds(metric)) for metric in ("wa", "uar")), "2"]
    assert "Differences from SER_SR_DAT" in text
    (mtl,) = [row for row in rows(text, "| SER_SR_MTL") if row[1] == "WA"]
    ours, theirs = (lines[name].over_seeds("wa").mean for name in ("SER_SR_MTL", "SER_SR_DAT"))
    assert mtl[2] == f"{100 * (ours - theirs):+.1f}"
    assert re.match(r"\d+ utterances of 8 test speakers\n", text)


def test_some_of_the_speakers(run: Path, parts: Path, cli: Any) -> None:
    found = []
    for part, speakers in (("development", 3), ("untouched", 5)):
        out, _ = cli("contrast", run, "--speakers", f"{parts}:{part}")
        n, units = map(int, re.findall(r"\d+", out)[:2])
        assert units == speakers
        found.append((n, float(rows(out, "| SER_only")[0][1].split()[0])))
    text = contrast_runs(run)
    total = sum(n for n, _ in found)
    assert text.startswith(f"{total} utterances")
    whole = float(rows(text, "| SER_only")[0][1].split()[0])
    assert sum(n * wa for n, wa in found) / total == pytest.approx(whole, abs=0.1)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--baseline", "mtk"], "no system 'mtk'"),
        (["--baseline", "cgt"], "no complete seed"),
        (["--speakers", "people.csv"], "is not FILE:PART"),
        (["--speakers", "PARTS:half"], "no speaker is 'half'"),
    ],
)
def test_mistakes(run: Path, parts: Path, more: list[str], says: str, cli: Any) -> None:
    assert says in cli("contrast", run, *(word.replace("PARTS", str(parts)) for word in more), code=2)[1]


def test_speakers_that_the_run_does_not_test(tmp_path: Path, cli: Any) -> None:
    run = invent(tmp_path / "run", speakers=8, folds=2, seeds=1, systems=("ser", "mtl"), extras=False)
    never = {f"speaker {k}" for k in range(8)} - {row.speaker for row in read_run(run).splits if row.part == "test"}
    path = tmp_path / "parts.csv"
    path.write_text("corpus,speaker,part\n" + "".join(f"made,{name},b\n" for name in never))
    assert "is tested in this run" in cli("contrast", run, "--speakers", f"{path}:b", code=2)[1]


def test_lines_with_chosen_options_are_corrected_as_in_the_report(tmp_path: Path) -> None:
    run = invent(tmp_path / "run", speakers=8, folds=4, seeds=2, tune="grid", extras=False)
    text = contrast_runs(run)
    summary = summarise(read_run(run))
    assert {one.name for one in summary.contrasts} >= {"SER_SR_DAT, λ chosen", "SER_SR_CGT"}
    for one in summary.contrasts:
        (row,) = [row for row in rows(text, f"| {one.name} |") if row[1] == one.metric.upper()]
        assert row[2] == f"{100 * one.difference:+.1f}"
        assert any(f"{one.p_holm:.{digits}f}" in cell for cell in row for digits in (2, 3)), (one.p_holm, row)


def test_without_a_seed_in_common_nothing_is_compared(tmp_path: Path) -> None:
    skip = [("dat", fold, 0) for fold in range(2)] + [("ser", fold, 1) for fold in range(2)]
    how = {"speakers": 8, "folds": 2, "seeds": 2, "skip": skip, "extras": False}
    text = contrast_runs(invent(tmp_path / "run", systems=("ser", "mtl", "dat"), **how))
    assert "SER_SR_DAT is not compared: it has no complete seed in common with SER_only." in text
    assert len(rows(text, "| SER_SR_MTL")) == 1 + 2
    assert len(rows(text, "| SER_SR_DAT")) == 1
    alone = contrast_runs(invent(tmp_path / "two", systems=("ser", "dat"), **how))
    assert "is not compared" in alone
    assert "Differences" not in alone


def test_of_several_runs_the_mean_of_their_differences(run: Path, tmp_path: Path, cli: Any) -> None:
    how = {"speakers": 12, "folds": 4, "seeds": 2, "extras": False}
    runs = [run, invent(tmp_path / "other", names="other {}", systems=("ser", "mtl", "dat"), **how)]
    alone = [{tuple(row[:2]): row for row in rows(contrast_runs(one), "| SER_SR")} for one in runs]
    *apart, both = [part for part in cli("contrast", *runs)[0].split("## ") if part]
    assert apart == [f"{one}\n\n{contrast_runs(one)}\n" for one in runs]
    assert both.startswith("Mean over runs")
    found = {tuple(row[:2]): row for row in rows(both, "| SER_SR")}
    assert len(found) == 4
    for key, row in found.items():
        assert float(row[2]) == pytest.approx(sum(float(one[key][2]) for one in alone) / 2, abs=0.11)
        low, high = map(float, row[3].split(" to "))
        assert low < float(row[2]) < high
    assert "on 20 test speakers" in both
    assert "Mean of the differences of 2 runs" in both
    same = invent(tmp_path / "same", speakers=8, folds=4, seeds=1, extras=False)
    _, err = cli("contrast", run, same, code=2)
    assert "both test made's speaker 'speaker 0'" in err
    assert "unheard compare" in err
    other = invent(tmp_path / "apart", names="apart {}", systems=("ser", "cgt"), **how)
    assert "No system besides SER_only is in all of these runs." in contrast_runs(run, other)
