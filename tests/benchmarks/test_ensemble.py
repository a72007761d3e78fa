"""`python -m benchmarks.ensemble`: its figures against the mean of probabilities computed here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from reporting import invent

from benchmarks import ensemble
from unheard.experiments.records import read_run


def test_of_seeds_and_of_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = invent(tmp_path / "run", systems=("ser", "dat"), extras=False)
    ser, dat = (line.seeds for line in read_run(run).lines)

    def wa(members: list[np.ndarray]) -> float:
        return float(100 * np.mean(np.mean(members, axis=0).argmax(axis=1) == ser[0].test.truth))

    seeds = wa([seed.test.probabilities for seed in ser])
    systems = np.mean([wa([a.test.probabilities, b.test.probabilities]) for a, b in zip(ser, dat, strict=True)])
    for members, expected in (([f"{run}:ser"], seeds), ([f"{run}:ser", f"{run}:dat"], systems)):
        monkeypatch.setattr(sys, "argv", ["ensemble", *members])
        ensemble.main()
        first, *_, last = capsys.readouterr().out.splitlines()[-1].removeprefix("test").split("|")
        assert last.split("/")[0].strip() == f"{expected:.1f}"
        assert first.split("/")[0].strip() == f"{100 * np.mean([seed.test.wa for seed in ser]):.1f}"


def test_other_splits_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (invent(tmp_path / str(n), systems=("ser",), speakers=n, extras=False) for n in (8, 6))
    monkeypatch.setattr(sys, "argv", ["ensemble", f"{one}:ser", f"{other}:ser"])
    with pytest.raises(SystemExit, match="different splits"):
        ensemble.main()


def test_members_that_are_not_there_or_not_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = invent(tmp_path / "one", systems=("ser",), extras=False)
    heard = invent(tmp_path / "heard", systems=("ser",), extras=False, normalise="speaker")
    for members, says in (
        ([f"{one}:dat"], "no complete seed of 'dat', but of ser"),
        ([f"{one}:ser", f"{heard}:ser"], "some are not"),
    ):
        monkeypatch.setattr(sys, "argv", ["ensemble", *members])
        with pytest.raises(SystemExit, match=says):
            ensemble.main()
    monkeypatch.setattr(sys, "argv", ["ensemble", f"{heard}:ser"])
    ensemble.main()
    assert "transductive" in capsys.readouterr().out
