"""What a run's folder says, as records: for statistics, figures and tables. Needs neither torch nor the corpus.

    config.yaml + splits.csv + cells/* -> read_run -> lines (a system each) -> seeds -> predictions

A cell counts where its settings are those of the run and its utterances are its fold's in splits.csv, whichever call
made it. A seed counts only when all folds are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from unheard.errors import ConfigError, RunError
from unheard.experiments.choice import Choice
from unheard.experiments.folder import UTTERANCES, Assigned, digest_of, read_assignment, read_utterances
from unheard.experiments.gather import gather
from unheard.experiments.lines import NAMES, CellRecord, Line, Predictions, SeedRecord
from unheard.experiments.settings import Experiment, load

__all__ = ["NAMES", "CellRecord", "Choice", "Line", "Predictions", "RunRecords", "SeedRecord", "read_run"]


@dataclass(frozen=True, eq=False)
class RunRecords:
    """Everything a run's folder says.

    `lines` in the order of the tables; `cells` are all finished ones, those tried for a choice too; `utterances` are
    rows of utterances.csv by id; `absent` says in words what the folder does not hold.
    """

    folder: Path
    settings: Experiment
    labels: tuple[str, ...]
    utterances: Mapping[str, Mapping[str, str]]
    splits: tuple[Assigned, ...]
    split_digest: str
    lines: tuple[Line, ...]
    choices: tuple[Choice, ...]
    cells: tuple[CellRecord, ...]
    absent: tuple[str, ...] = ()

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds of the split, ascending."""
        return tuple(sorted({row.fold for row in self.splits}))

    @cached_property
    def invariance(self) -> RunRecords | None:
        """The run in RUN/invariance, or None where there is none."""
        folder = self.folder / "invariance"
        return read_run(folder) if (folder / "config.yaml").exists() else None


def read_run(folder: str | Path) -> RunRecords:
    """The records of the run in `folder`; raises `RunError` where it holds none or one that cannot be read."""
    folder = Path(folder)
    path = folder / "config.yaml"
    if not path.is_file():
        raise RunError(
            "this folder holds no run",
            where=folder,
            mend="Name the --out of an `unheard experiment`: it has config.yaml, splits.csv and cells/.",
        )
    try:
        settings = load(path)
    except ConfigError as error:
        raise RunError(
            f"the settings of this run cannot be read ({error.what})", where=path, mend=error.mend
        ) from error
    splits = read_assignment(folder)
    found = gather(folder, settings, splits)
    utterances, absent = read_utterances(folder), list(found.absent)
    bare = {row.id: row.speaker for row in splits if row.id not in utterances}
    if bare:
        of_how_many = f" of {len(bare)} utterances" if utterances else ""
        absent.append(f"utterances.csv: genders, sessions, texts and languages{of_how_many} are not known")
        for name, speaker in bare.items():
            known = {"id": name, "speaker": speaker, "emotion": found.emotions.get(name, "")}
            utterances[name] = dict.fromkeys(UTTERANCES, "") | known
    return RunRecords(
        folder=folder,
        settings=settings,
        labels=settings.labels,
        utterances=utterances,
        splits=splits,
        split_digest=digest_of(splits),
        lines=found.lines,
        choices=found.choices,
        cells=found.cells,
        absent=tuple(absent),
    )
