"""What a run's folder holds before anything is trained: settings, split, utterances; and what it refuses to mix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unheard.errors import ConfigError, RunError
from unheard.experiments.folder import DATA, read_assignment, read_data, result_in, utterances_csv
from unheard.experiments.grid import Grid
from unheard.experiments.places import same_place, written_in
from unheard.experiments.settings import Experiment, load
from unheard.files import write_json, write_text, write_whole
from unheard.splits import Split, write_splits

OF_THE_CORPUS = (
    "corpus", "manifest", "subset", "labels", "map", "speakers", "channel", "group", "split_seed", "features",
)  # fmt: skip
OF_THE_SPLIT = ("protocol", "test", "k", "n", "column", "train_corpora", "test_corpora")


def check_same_run(out: Path, settings: Experiment) -> None:
    """Refuse a folder that holds a run on another corpus: its table would mix them."""
    before = _before(out)
    for name in OF_THE_CORPUS if before else ():
        theirs, ours = getattr(before, name), getattr(settings, name)
        same = same_place(theirs, ours) if name in ("manifest", "speakers") else theirs == ours
        if not same:
            raise _other(out, name, theirs, ours)


def prepare(grid: Grid) -> None:
    """Write what the cells stand on; a split of earlier calls that has more folds stays as it is.

    Raises `ConfigError` where the folder holds a run under another protocol.
    """
    out = Path(grid.settings.out)
    was, now = _folds_before(out), _folds_of(grid.split)
    same = all(was[fold] == now[fold] for fold in was.keys() & now.keys())
    before = _before(out)
    if was and not same and before:
        # the same protocol splits otherwise where the corpus has changed: that may be
        for name in OF_THE_SPLIT:
            theirs, ours = getattr(before, name), getattr(grid.settings, name)
            if theirs != ours and not (name == "protocol" and not ours):
                raise _other(out, name, theirs, ours)
    if not was or not same or len(was) < len(now):
        write_whole(out / "splits.csv", lambda path: write_splits(grid.split, path))
    write_text(out / "utterances.csv", utterances_csv(grid.manifest))
    keep_data(grid)
    # options of systems of earlier calls stay: their trainings still count
    options: dict[str, Mapping[str, Any]] = dict(before.options) if before else {}
    options.update({cell.system: dict(cell.options) for cell in grid.cells})
    write_text(out / "config.yaml", _yaml(replace(grid.settings, protocol=grid.split.protocol, options=options), out))


def keep_data(grid: Grid) -> None:
    """Write the data of every fold: this call's, and an earlier call's of folds that this one leaves out.

    Where labels or recordings have changed since, what earlier calls trained is of other data, in every fold. The
    trainings tell what a run was of that is older than such files.
    """
    out = Path(grid.settings.out)
    before: dict[int, str | None] = read_data(out) or _data_of_trainings(out)
    now: dict[int, str | None] = {cell.fold.index: cell.data for cell in grid.cells}
    if any(before[fold] not in (None, now[fold]) for fold in before.keys() & now.keys()):
        before = dict.fromkeys(_folds_before(out), None)
    write_json(out / DATA, {str(fold): digest for fold, digest in sorted((before | now).items())})


def _data_of_trainings(out: Path) -> dict[int, str | None]:
    """Fold -> the data that its finished trainings are of, where they are all of the same."""
    found: dict[int, set[str]] = {}
    for folder in (out / "cells").glob("*"):
        result = result_in(folder)
        if (
            isinstance(result.get("fold"), int)
            and isinstance(result.get("proof"), dict)
            and result["proof"].get("data")
        ):
            found.setdefault(result["fold"], set()).add(str(result["proof"]["data"]))
    return {fold: next(iter(several)) for fold, several in found.items() if len(several) == 1}


def _before(out: Path) -> Experiment | None:
    path = out / "config.yaml"
    try:
        return load(path) if path.exists() else None
    except ConfigError as error:
        raise ConfigError(
            f"the settings of this run cannot be read ({error.what})",
            where=path,
            mend="Delete this file: trainings that fit the settings of this call are found again.",
        ) from error


def _folds_before(out: Path) -> dict[int, set[tuple[str, str, str]]]:
    folds: dict[int, set[tuple[str, str, str]]] = {}
    try:
        for row in read_assignment(out):
            folds.setdefault(row.fold, set()).add((row.reading, row.part, row.id))
    except RunError:  # it is written anew
        return {}
    return folds


def _folds_of(split: Split) -> dict[int, set[tuple[str, str, str]]]:
    folds: dict[int, set[tuple[str, str, str]]] = {}
    for fold, reading, part, name in split.assignment():
        folds.setdefault(fold, set()).add((reading, part, name))
    return folds


def _other(out: Path, name: str, theirs: object, ours: object) -> ConfigError:
    what = f"this folder holds a run with {name} = {theirs!r}, not {ours!r}"
    return ConfigError(what, where=out, mend="Choose another --out.")


def _yaml(settings: Experiment, out: Path) -> str:
    import yaml

    every = {"resolved": True, **written_in(out, settings.as_dict())}
    text: str = yaml.safe_dump(every, sort_keys=False, allow_unicode=True)
    return (
        "# The settings of this run; paths are relative to this file. Again: unheard experiment --config THIS\n" + text
    )
