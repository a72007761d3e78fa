"""From settings to cells: sources, splits, how many trainings there are and how long they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from experimenting import corpus, experiment, flags, in_this_process, only, rows_of, table, write_rows
from trees import plant

from unheard.errors import ConfigError
from unheard.experiments import run as run_module
from unheard.experiments.cell import Outcome, epoch_file
from unheard.experiments.config import Experiment
from unheard.experiments.plan import Cell, duration, read_rows
from unheard.experiments.records import read_run


def test_each_channel_of_a_call_is_a_person(tmp_path: Path) -> None:
    rows = rows_of(table(tmp_path))
    names = sorted({row["speaker"] for row in rows})
    calls = []
    for left, right in zip(*([row for row in rows if row["speaker"] in names[i::2]] for i in (0, 1)), strict=True):
        sides = [soundfile.read(row["audio"])[0] for row in (left, right)]
        length = min(map(len, sides))
        calls.append({**left, "id": f"call{len(calls)}", "audio": str(tmp_path / f"{len(calls)}.wav")})
        soundfile.write(calls[-1]["audio"], np.stack([side[:length] for side in sides], axis=1), 16_000)
    source = ("--manifest", str(write_rows(tmp_path / "calls.csv", calls)), "--channel", "each")
    short = ("--systems", "ser", "--epochs", "1", "--protocol", "kfold", "--k", "3", "--folds", "1")
    assert experiment(tmp_path / "run", *short, source=source) == 0
    ids = {row["id"] for row in rows_of(tmp_path / "run" / "splits.csv")}
    assert ids == {f"call{i}-{side}" for i in range(len(calls)) for side in ("left", "right")}
    assert "24 utterances, 6 speakers" in (tmp_path / "run" / "table.md").read_text()


def test_a_subset_of_one_of_two_corpora(tmp_path: Path) -> None:
    plant(tmp_path / "emodb" / "wav", "03a01Wa", "03a02Na")
    plant(tmp_path / "ased", "01Neutral/n1-01-01-01-01", "01Neutral/n1-03-01-01-01", "05Angry/a5-02-01-01-01")
    both = Experiment(
        corpus="emodb,ased", root=f"{tmp_path / 'emodb'},{tmp_path / 'ased'}", partial=True, out="run",
        emotions=("angry", "neutral"), subset="ased=balanced",
    )  # fmt: skip
    assert {row.text for row in read_rows(both) if row.corpus == "ased"} == {"01", "02"}
    assert len(read_rows(both)) == 4
    assert len(read_rows(replace(both, subset=""))) == 5
    with pytest.raises(ConfigError, match=r"names 'esd', which is not one of the corpora emodb, ased"):
        read_rows(replace(both, subset="esd=english"))


def test_recordings_of_a_manifest_may_be_elsewhere(tmp_path: Path) -> None:
    plant(tmp_path / "audio" / "deep", "a", "b")
    (tmp_path / "m.csv").write_text("file,speaker,emotion\na.wav,x,angry\ndeep/b.wav,y,sad\n")
    own = Experiment(
        manifest=str(tmp_path / "m.csv"), root=str(tmp_path / "audio"), out="run", emotions=("angry", "sad")
    )
    assert [row.audio for row in read_rows(own)] == [str(tmp_path / "audio/deep" / name) for name in ("a.wav", "b.wav")]


def test_across_two_corpora(tmp_path: Path, cli: Any) -> None:
    """Trained on one, tested on the other: no id collides, and `evaluate` knows who was heard in training."""
    emodb = tmp_path / "emodb" / "wav"
    emodb.mkdir(parents=True)
    letters, speakers = {"angry": "W", "sad": "T"}, {"s5": "08", "s6": "03"}
    for row in rows_of(corpus() / "manifest.csv"):
        if row["speaker"] in speakers:
            samples, rate = soundfile.read(corpus() / row["audio"])
            name = f"{speakers[row['speaker']]}a0{row['text'].split()[1]}{letters[row['emotion']]}a.wav"
            soundfile.write(emodb / name, samples / 2, rate)  # as they are they would be recordings of two speakers
    source = ("--corpus", "synthetic,emodb", "--root", f"{corpus()},{tmp_path / 'emodb'}", "--partial")
    more = ("--protocol", "cross", "--test-corpora", "emodb", "--systems", "ser", "--epochs", "1")
    assert experiment(tmp_path / "run", *more, source=source) == 0
    parts = {row["id"]: row["part"] for row in rows_of(tmp_path / "run" / "splits.csv")}
    assert {name.split("/")[0] for name, part in parts.items() if part == "test"} == {"emodb"}
    assert {name.split("/")[0] for name, part in parts.items() if part != "test"} == {"synthetic"}
    _, err = cli("evaluate", only(tmp_path / "run"), corpus() / "manifest.csv")
    assert "the model was trained on 2 of these speakers" in err


def test_invariance_has_a_run_of_its_own(tmp_path: Path, cli: Any) -> None:
    """Held-out couples are two unseen speakers: too few. A random split of 2, 2 and 2 has four."""
    quick = ("--epochs", "1", "--systems", "ser", "--invariance", "--protocol")
    words = ["experiment", *flags(tmp_path / "run", *quick, "paired", "--folds", "1")]
    cli(*words)
    run = read_run(tmp_path / "run")
    assert run.settings.invariance
    assert run.invariance.settings.protocol == "random"
    (seed,) = run.invariance.lines[0].seeds
    assert len({*seed.dev.speakers, *seed.test.speakers}) == 4
    assert not (tmp_path / "run" / "invariance" / "features").exists()  # the features are the run's
    assert cli(*words)[1].count("1 training (1 already done)") == 2
    assert read_run(tmp_path / "run" / "invariance").invariance is None
    assert experiment(tmp_path / "enough", *quick, "random", "--n", "2,2,2") == 0
    assert read_run(tmp_path / "enough").invariance is None


def test_a_dry_run_counts_and_stops(tmp_path: Path, cli: Any) -> None:
    out = tmp_path / "run"
    same = ("--epochs", "2", "--seeds", "2", "--protocol", "paired", "--folds", "1", "--systems")
    assert cli("experiment", *flags(out, *same, "ser,dat", "--dry-run"))[0] == "4 trainings (0 already done)\n"
    assert {path.name for path in out.iterdir()} == {"features", ".lock"}
    assert "2 trainings (0 already done)\n" in cli("experiment", *flags(out, *same, "ser"))[1]
    # three other λ on seed 0; on seed 1 one for each direction; a random split for every system and seed
    wanted = "7 trainings (2 already done), up to 2 more with the chosen λ and ε, 4 for invariance\n"
    more = ("--dry-run", "--tune", "grid", "--invariance")
    assert cli("experiment", *flags(out, *same, "ser,dat", *more))[0] == wanted


@pytest.mark.parametrize("step", [120, 0.01])
def test_the_time_left_follows_from_the_first_epochs(
    step: float, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = (step * number for number in range(100))
    monkeypatch.setattr(run_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    def slow(cells: Sequence[Cell], tick: Callable[[], None]) -> Iterator[Outcome]:
        for epoch in ("1", "2"):
            for cell in cells[:2]:
                cell.folder.mkdir(parents=True, exist_ok=True)
                epoch_file(cell).write_text(epoch)
            tick()  # two minutes later; the start is not part of the rate
        yield from in_this_process(cells)

    monkeypatch.setattr(run_module, "run_cells", slow)
    more = ("--protocol", "kfold", "--k", "3", "--systems", "ser", "--epochs", "3", "--workers", "2")
    assert experiment(tmp_path, *more) == 0
    err = capsys.readouterr().err
    assert ("epochs a minute" in err) == (step == 120)  # within a second there is no rate to speak of
    assert step < 120 or "1 epochs a minute with 2 workers: about 5 min left" in err  # 4 of 9 epochs are done
    assert [duration(seconds) for seconds in (3.14, 100, 7800, 300_000)] == ["3.1 s", "2 min", "2 h 10 min", "83 h"]
