"""Where invariance can be measured: one fold with at least four unseen speakers, or a run of its own for it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unheard.errors import ConfigError, SplitError
from unheard.splits.order import GENDERS
from unheard.splits.protocols import default_protocol, make_split
from unheard.splits.split import Split, key_of

if TYPE_CHECKING:
    from unheard.experiments.settings import Experiment
    from unheard.manifest import Manifest

LEAST_UNSEEN = 4
"""Unseen speakers, dev and test together, whose embeddings come from one network."""
FOLDER = "invariance"
_LEAST = 2  # speakers that train, validate and test
_TRIES = 200


def unseen_speakers(split: Split) -> int:
    """How many speakers the first reading of the first fold holds out, with more than one recording.

    A single one cannot be both learnt and tested.
    """
    reading = split.folds[0].readings[0]
    speaker = {row.id: row.speaker for row in split.manifest}
    recordings = Counter(speaker[name] for name in (*reading.dev, *reading.test))
    return sum(several > 1 for several in recordings.values())


def sub_run_settings(settings: Experiment, manifest: Manifest) -> Experiment | None:
    """The run in RUN/invariance, or None where the run's own first fold has at least four unseen speakers.

    The same experiment (systems, seeds, recipe, feature store) on one seeded `random` split: as many speakers validate
    and are tested as in a part of the corpus's usual `kfold` (EmoDB 6 / 2 / 2). The split seed is the first from the
    run's own on with which the unseen speakers have the genders in the corpus's proportions. `manifest` has the rows
    that take part. Raises `ConfigError` where the corpus has fewer than six speakers.
    """
    from unheard.experiments.grid import choose_split

    if unseen_speakers(choose_split(settings, manifest)) >= LEAST_UNSEEN:
        return None
    groups = {key_of(row, settings.group) for row in manifest}
    usual, options = default_protocol(settings.corpus, manifest)
    parts = int(str(options["k"])) if usual == "kfold" else 5
    held = max(_LEAST, round(len(groups) / parts))
    if len(groups) < 2 * held + _LEAST:
        raise ConfigError(
            f"invariance needs at least {2 * held + _LEAST} values of '{settings.group}', {_LEAST} each to train, "
            f"validate and test; here are {len(groups)}",
            mend="Leave out --invariance, or take a corpus with more speakers.",
        )
    sizes = (len(groups) - 2 * held, held, held)
    return dataclasses.replace(
        settings,
        out=str(Path(settings.out) / FOLDER),
        weights_from=_weights_from(settings.weights_from),
        store=settings.store or str(Path(settings.out) / "features"),
        protocol="random",
        test="both",
        n=sizes,
        split_seed=_balanced_seed(manifest, settings.group, sizes, settings.split_seed),
        folds=0,
        k=0,
        column="",
        train_corpora=(),
        test_corpora=(),
        invariance=False,
    )


def _weights_from(run: str) -> str:
    """Where the trainings of another run for its own invariance are, if it has any."""
    folder = Path(run) / FOLDER
    return str(folder) if run and (folder / "cells").is_dir() else ""


def _balanced_seed(manifest: Manifest, group: str, sizes: tuple[int, int, int], first: int) -> int:
    """The first split seed from `first` on that holds out women and men in the corpus's proportions.

    Where none of many does, or a gender is not known, the first with which the split can be made at all.
    """
    gender = {row.speaker: GENDERS.get(row.gender.strip().lower(), "") for row in manifest}
    fallback = None
    for seed in range(first, first + _TRIES):
        try:
            split = make_split(manifest, "random", group=group, n=sizes, seed=seed)
        except SplitError as error:
            refused = error
            continue
        fallback = seed if fallback is None else fallback
        if unseen_speakers(split) >= LEAST_UNSEEN and _proportionate(split, gender):
            return seed
    if fallback is None:
        raise refused
    return fallback


def _proportionate(split: Split, gender: Mapping[str, str]) -> bool:
    if "" in gender.values():
        return True
    reading = split.folds[0].readings[0]
    speaker = {row.id: row.speaker for row in split.manifest}
    unseen = [gender[name] for name in {speaker[i] for i in (*reading.dev, *reading.test)}]
    wanted = len(unseen) * list(gender.values()).count("female") / len(gender)
    return abs(unseen.count("female") - wanted) < 1
