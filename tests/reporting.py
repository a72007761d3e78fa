"""Invented run folders of any size for the report: predictions with a skill, histories, embeddings, choices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from recording import finish, write_cell, write_splits

from unheard.experiments.config import Experiment, load
from unheard.experiments.selection import TUNED_OPTIONS
from unheard.manifest import Utterance

SKILL = {"ser": 0.4, "mtl": 0.42, "dat": 0.52, "cgt": 0.5}


def invent(
    out: Path,
    *,
    speakers: int = 8,
    each: int = 8,
    folds: int = 2,
    both: bool = False,
    seeds: int = 2,
    systems: Sequence[str] = ("ser", "mtl", "dat", "cgt"),
    tune: str = "",
    epochs: int = 12,
    names: str = "speaker {}",
    ids: str = "{}-{}",
    extras: bool = True,
    skip: Sequence[tuple[str, int, int]] = (),
    **settings: Any,
) -> Path:
    """A run folder; `both`: two directions a fold; `skip`: cells that are missing; `extras`: histories, embeddings."""
    usual: dict[str, Any] = {"recipe": "paper", "manifest": "made.csv", "protocol": "kfold"}
    usual |= {"seeds": seeds, "epochs": epochs, "tune": tune}
    chosen = load(None, {**usual, "systems": tuple(systems), "out": str(out), **settings})
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(yaml.safe_dump(chosen.as_dict(), allow_unicode=True))
    people = [names.format(k) for k in range(speakers)]
    rows = [
        {
            "id": ids.format(person, k), "speaker": person, "gender": ("female", "male")[place % 2], "session": "",
            "emotion": chosen.labels[k % len(chosen.labels)], "text": f"text {k // 4}",
            "corpus": "made", "language": "en",
        }
        for place, person in enumerate(people)
        for k in range(each)
    ]  # fmt: skip
    split = []
    for fold in range(folds):
        test = {person for place, person in enumerate(people) if place % folds == fold}
        dev = {person for place, person in enumerate(people) if place % folds == (fold + 1) % folds}
        if folds == 2:  # someone has to train
            train = {sorted(test)[-1], sorted(dev)[-1]}
            test, dev = test - train, dev - train
        else:
            train = set(people) - test - dev
        directions = [("male", dev, test), ("female", test, dev)] if both else [("test", dev, test)]
        split += [(fold, "", "train", row) for row in rows if row["speaker"] in train]
        for direction, first, second in directions:
            split += [(fold, direction, "dev", row) for row in rows if row["speaker"] in first]
            split += [(fold, direction, "test", row) for row in rows if row["speaker"] in second]
    write_splits(out, [(fold, direction, part, row["id"], row["speaker"]) for fold, direction, part, row in split])
    for fold in range(folds):
        held = [(direction, part, row) for f, direction, part, row in split if f == fold and part != "train"]
        for system, seed in product(systems, range(seeds)):
            option = TUNED_OPTIONS.get(system)
            values = (option.grid if tune else (option.fixed,)) if option else (0.0,)
            for value in values if (system, fold, seed) not in skip else ():
                _cell(out, chosen, system, fold, seed, value, held, extras)
    known = {row["id"]: row for row in rows}
    return finish(out, lambda row: Utterance(audio="", **known[row.id]))


def _cell(
    out: Path,
    settings: Experiment,
    system: str,
    fold: int,
    seed: int,
    value: float,
    held: Sequence[tuple[str, str, dict[str, str]]],
    extras: bool,
) -> None:
    labels, option = settings.labels, TUNED_OPTIONS.get(system)
    random = np.random.default_rng([fold, seed, len(system) * 7 + ord(system[0]), round(100 * value)])
    truth = np.array([labels.index(row["emotion"]) for _, _, row in held])
    scores = random.gumbel(size=(len(held), len(labels)))
    scores[np.arange(len(held)), truth] += 5 * SKILL.get(system, 0.5) - 0.5
    predicted = scores.argmax(axis=1)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    directions = {}
    for direction in dict.fromkeys(name for name, _, _ in held):
        best = int(random.integers(1, settings.epochs + 1))
        figures: dict[str, Any] = {"best_epoch": best, "under_trained": best > settings.epochs - 5}
        for part, prefix in (("dev", "val"), ("test", "test")):
            own = np.array([(name, its) == (direction, part) for name, its, _ in held])
            wa = float(np.mean(predicted[own] == truth[own]))
            figures |= {f"{prefix}_wa": wa, f"{prefix}_uar": wa}
        directions[direction] = figures
    words = [(row["id"], row["speaker"], part, row["emotion"]) for _, part, row in held]
    rows = [(*known, labels[said]) for known, said in zip(words, predicted, strict=True)]
    more: dict[str, Any] = {"updates": 9 * settings.epochs, "directions": directions}
    more["proof"] = {"data": f"{fold:016x}", "features": "b0b2ac87c4aa", "versions": {"torch": "2.0"}}
    options = {option.name: value} if option else {}
    folder = write_cell(out, settings, system, fold, seed, rows, options, shares.tolist(), **more)
    if not extras:
        return
    lines = []
    for epoch in range(1, settings.epochs + 1):
        gone = 1 - np.exp(-3 * epoch / settings.epochs)
        noise = random.normal(0, 0.02, 4)
        line = {"epoch": epoch, "steps": 9, "train_wa": 0.3 + 0.5 * gone + noise[0], "loss_emotion": 1.4 - gone}
        for direction in directions:
            suffix = f"_{direction}" if len(directions) > 1 else ""
            line |= {f"val_wa{suffix}": 0.3 + 0.25 * gone + noise[1], f"val_loss{suffix}": 1.4 - 0.4 * gone + noise[2]}
        lines.append(json.dumps(line))
    (folder / "history.jsonl").write_text("\n".join(lines) + "\n")
    people = sorted({row["speaker"] for _, _, row in held})
    centre = random.normal(0, 3, (len(labels), 16))
    voice = random.normal(0, 1.5, (len(people), 16))
    e = random.normal(0, 1, (len(held), 16))
    e += centre[truth] + voice[[people.index(row["speaker"]) for _, _, row in held]]
    ids, parts = np.array([row["id"] for _, _, row in held]), np.array([part for _, part, _ in held])
    np.savez(folder / "embeddings.npz", e=e.astype(np.float32), id=ids, part=parts)
