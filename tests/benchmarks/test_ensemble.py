"""`python -m benchmarks.ensemble`: its figures against the mean of probabilities computed here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from reporting import invent

from benchmarks import ensemble
from unheard.experiments.records import read_run


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*members: str) -> str:
        monkeypatch.setattr(sys, "argv", ["ensemble", *members])
        ensemble.main()
        return capsys.readouterr().out

    return run


def test_of_seeds_and_of_systems(tmp_path: Path, answer: Callable[..., str]) -> None:
    run = invent(tmp_path / "run", systems=("ser", "dat"), extras=False)
    ser, dat = (line.seeds for line in read_run(run).lines)

    def wa(members: list[np.ndarray]) -> float:
        return float(100 * np.mean(np.mean(members, axis=0).argmax(axis=1) == ser[0].test.truth))

    seeds = wa([seed.test.probabilities for seed in ser])
    systems = np.mean([wa([a.test.probabilities, b.test.probabilities]) for a, b in zip(ser, dat, strict=True)])
    for members, expected in (([f"{run}:ser"], seeds), ([f"{run}:ser", f"{run}:dat"], systems)):
        first, *_, last = answer(*members).splitlines()[-1].removeprefix("test").split("|")
        assert last.split("/")[0].strip() == f"{expected:.1f}"
        assert first.split("/")[0].strip() == f"{100 * np.mean([seed.test.wa for seed in ser]):.1f}"


def test_members_that_are_not_there_or_not_alike(tmp_path: Path, answer: Callable[..., str]) -> None:
    how = {"plain": {}, "fewer": {"speakers": 6}, "heard": {"normalise": "speaker"}}
    one, fewer, heard = (invent(tmp_path / name, systems=("ser",), extras=False, **more) for name, more in how.items())
    for members, says in (
        ([f"{one}:dat"], "no complete seed of 'dat', but of ser"),
        ([f"{one}:ser", f"{fewer}:ser"], "different splits"),
        ([f"{one}:ser", f"{heard}:ser"], "some are not"),
    ):
        with pytest.raises(SystemExit, match=says):
            answer(*members)
    assert "transductive" in answer(f"{heard}:ser")
