"""Run folders written by hand, whose figures can be seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from unheard.experiments.config import Experiment, load
from unheard.experiments.records import read_run, write_records
from unheard.files import csv_text
from unheard.manifest import Utterance
from unheard.splits.files import read_assignment
from unheard.splits.split import Assigned

WORDS = {"a": "angry", "s": "sad"}

Said = Mapping[tuple[str, int, int], str | Mapping[str, str]]
"""(system, fold, seed) -> (emotion, predicted) an utterance, as letters: "aa as ss"; dev has "aa sa" unless given."""


def write_run(out: Path, said: Said, **changes: Any) -> Path:
    """A run on two emotions with one direction, "test", a fold; `changes` are settings of its config.yaml."""
    usual = {"recipe": "paper", "manifest": "made.csv", "out": str(out), "emotions": "angry,sad", "protocol": "kfold"}
    settings = load(None, {**usual, **changes})
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(yaml.safe_dump(settings.as_dict()))
    split: dict[int, list[tuple[str, str, str, str]]] = {}
    for (system, fold, seed), words in said.items():
        parts = words if isinstance(words, Mapping) else {"test": words}
        rows = rows_of_cell(fold, {"dev": "aa sa", **parts})
        split.setdefault(fold, [(part, name, speaker, emotion) for name, speaker, part, emotion, _ in rows])
        write_cell(out, settings, system, fold, seed, rows)
    rows = []
    for fold, held in sorted(split.items()):
        rows.append((fold, "", "train", f"train{fold}", "teacher"))
        rows += [(fold, "test", part, name, speaker) for part, name, speaker, _ in held]
    write_splits(out, rows)
    emotions = {name: emotion for held in split.values() for _, name, _, emotion in held}
    return finish(out, lambda row: Utterance(row.id, "", row.speaker, emotions.get(row.id, "angry")))


def write_splits(out: Path, rows: Iterable[tuple[int, str, str, str, str]]) -> None:
    """Rows (fold, direction, part, id, speaker)."""
    head = ("fold", "direction", "part", "id", "speaker")
    (out / "splits.csv").write_text(csv_text([head, *rows]), encoding="utf-8")


def finish(out: Path, utterance: Callable[[Assigned], Utterance] | None = None) -> Path:
    """Write the tables of predictions and results from the cells; with the utterances of before, or made ones."""
    splits = read_assignment(out / "splits.csv")
    if utterance is None:
        known = read_run(out).utterances

        def utterance(row: Assigned) -> Utterance:
            return Utterance(audio="", **known[row.id])

    write_records(out, load(out / "config.yaml"), splits, {row.id: utterance(row) for row in splits}, lambda *_: True)
    return out


def rows_of_cell(fold: int, parts: Mapping[str, str]) -> list[tuple[str, str, str, str, str]]:
    """(id, speaker, part, emotion, predicted): one speaker a fold and part."""
    return [
        (f"{part}{fold}-{place}", f"{part}-speaker{fold}", part, WORDS[pair[0]], WORDS[pair[1]])
        for part in ("dev", "test")
        for place, pair in enumerate(parts[part].split())
    ]


def write_cell(
    out: Path,
    settings: Experiment,
    system: str,
    fold: int,
    seed: int,
    rows: Sequence[tuple[str, str, str, str, str]],
    options: Mapping[str, Any] | None = None,
    shares: Sequence[Sequence[float]] = (),
    **result: Any,
) -> Path:
    """A finished cell; its name's hash is of its options; `shares` are the probabilities of the labels a row."""
    usual: dict[str, Any] = {"dat": {"lam": 0.1, "cap": None}, "cgt": {"epsilon": 0.3}}.get(system, {})
    options = {**usual, **(options or {})}
    mark = "-".join(f"{value:g}" for value in options.values() if value) or "0"
    folder = out / "cells" / f"{system}-fold{fold}-seed{seed}-{mark}"
    folder.mkdir(parents=True, exist_ok=True)
    head = ["id", "speaker", "part", "emotion", "predicted", *(f"p_{label}" for label in settings.labels)]
    shares = shares or [(0.75, 0.25) if row[4] == "angry" else (0.25, 0.75) for row in rows]
    lines = [[*row, *(f"{x:.6g}" for x in p)] for row, p in zip(rows, shares, strict=True)]
    (folder / "predictions.csv").write_text(csv_text([head, *lines]), encoding="utf-8")
    figures = {}
    for part, prefix in (("dev", "val"), ("test", "test")):
        own = [row for row in rows if row[2] == part]
        figures |= {f"{prefix}_wa": sum(row[3] == row[4] for row in own) / len(own), f"{prefix}_uar": 0.5}
    said = {
        "system": system, "fold": fold, "seed": seed, "epochs": settings.epochs, "evaluation": "as written",
        "options": options, "directions": {"test": {**figures, "best_epoch": 1}}, "settings": {"digest": "same"},
        "proof": {"data": "same"}, **result,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(said))
    return folder
