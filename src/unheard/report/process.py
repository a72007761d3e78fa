"""Sections on how it came about: learning curves, under-training, the choice of λ and ε."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from unheard.experiments.records import NAMES, CellRecord, Line, RunRecords, read_csv
from unheard.experiments.selection import KNOBS, Choice
from unheard.files import write_text
from unheard.report.content import (
    Block,
    Column,
    Figure,
    Key,
    Section,
    Table,
    Text,
    counted,
    listed,
    percent,
    plain,
    share,
    tiled,
)
from unheard.report.embedding_plots import digest_of
from unheard.report.plots import TRAIN, VALIDATION, Look, Training, choices, learning, trainings
from unheard.report.svg import INK, Canvas

Looks = Mapping[str, Look]


def curves(run: RunRecords) -> Section:
    """Learning curves of every line, and which trainings ended too early.

    The curves are kept in RUN/curves.csv: with that file a run without its histories still has them.
    """
    panels = []
    cells = {cell.name: cell for line in run.lines for seed in line.seeds for cell in seed.cells}
    known = curves_of(cells.values(), run.folder / CURVES)
    for line in run.lines:
        given = [
            training
            for seed in line.seeds
            for cell in seed.cells
            for training in _trainings(cell, known.get(cell.name), _readings(run, line, cell))
        ]
        if given:
            panels.append(learning(line.name, given))
    blocks: list[Block] = []
    if panels:
        key = (_stroke("training", TRAIN), _stroke("validation", VALIDATION), _dot("epoch read out"))
        caption = (
            "Learning curves: every training thin, their mean thick. Training figures are those of the epoch itself"
            + (", with dropout" if run.settings.network.dropout else "")
            + "; of extreme losses the highest 2 % are cut off."
        )
        blocks.append(Figure("curves", caption, tuple(panels), tiled(len(panels)), key))
    else:
        blocks.append(Text("Learning curves need the trainings' history.jsonl, which this run does not carry."))
    blocks.append(epochs(run))
    late = [(line.name, *_late(run, line)) for line in run.lines]
    blocks += [
        Text(
            f"Under-trained: {listed([f'{n} of {m} of {name}' for name, n, m in late if n])} had the best epoch among "
            "the last five; validation was still getting better, and more epochs would "
            + ("continue them." if run.settings.training.schedule == "constant" else "serve them."),
            warning=True,
        )
    ] * any(n for _, n, _ in late)
    return Section("training", "Training", tuple(blocks))


def epochs(run: RunRecords) -> Table:
    """Updates and best epochs of every line."""
    columns = (
        Column("System", "system", False),
        Column("Trainings", "trainings"),
        Column("Epochs", "epochs"),
        Column("Updates", "updates"),
        Column("Epoch read out, median", "best_epoch_median"),
        Column("Epochs read out", "best_epochs"),
        Column("Under-trained", "under_trained"),
    )
    rows = []
    for line in run.lines:
        cells = [cell for seed in line.seeds for cell in seed.cells]
        results = [cell.result for cell in {cell.name: cell for cell in cells}.values()]
        best = sorted(e for cell in cells for e in _best(_readings(run, line, cell)).values())
        updates = sorted(int(result["updates"]) for result in results if "updates" in result)
        middle = (best[(len(best) - 1) // 2] + best[len(best) // 2]) / 2 if best else float("nan")
        rows.append(
            (
                plain(line.name),
                plain(len(results), len(results)),
                plain(_span([int(result["epochs"]) for result in results if not result.get("fitted")])),
                plain(_span(updates)),
                plain(f"{middle:g}" if best else "–", middle),
                plain(_span(best)),
                plain(_late(run, line)[0], _late(run, line)[0]),
            )
        )
    chose = "which epoch validation chose" if run.settings.training.select == "best" else "that the last was read out"
    return Table("epochs", f"How long was trained, and {chose}", columns, tuple(rows))


def _span(values: list[int]) -> str:
    if not values:
        return "–"
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _readings(run: RunRecords, line: Line, cell: CellRecord) -> dict[str, Mapping[str, Any]]:
    """The readings of a training that a line takes from it; one that names none has a single one, nameless."""
    readings = dict(cell.result.get("directions") or {"": cell.result})
    if not line.chosen:
        return readings
    chosen = {c.direction: c.value for c in run.choices if c.chosen and (c.system, c.fold) == (line.system, cell.fold)}
    return {name: said for name, said in readings.items() if chosen.get(name, cell.value) == cell.value}


def _best(readings: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    return {name: int(said["best_epoch"]) for name, said in readings.items() if "best_epoch" in said}


def _trainings(cell: CellRecord, history: Epochs | None, readings: Mapping[str, Mapping[str, Any]]) -> list[Training]:
    if not history:
        return []
    best = _best(readings)
    several = len(cell.result.get("directions") or {}) > 1
    return trainings(f"fold {cell.fold}, seed {cell.seed}", history, best, several)


def _late(run: RunRecords, line: Line) -> tuple[int, int]:
    """How many trainings of a line had a best epoch at the very end, and of how many."""
    cells = [cell for seed in line.seeds for cell in seed.cells]
    late = sum(any(said.get("under_trained") for said in _readings(run, line, cell).values()) for cell in cells)
    return late, len(cells)


def _stroke(words: str, colour: str) -> Key:
    canvas = Canvas(14, 14)
    canvas.curve([[(0, 7), (14, 7)]], colour, width="2.5")
    return Key(words, canvas.panel(words, ""))


def _dot(words: str) -> Key:
    canvas = Canvas(14, 14)
    canvas.marks([(7, 7)], "circle", INK, 6)
    return Key(words, canvas.panel(words, ""))


def knobs(run: RunRecords, looks: Looks) -> Section:
    """The choice of λ and ε by each fold's own validation speakers."""
    if not any(len({c.value for c in run.choices if c.system == system}) > 1 for system in KNOBS):
        words = "λ and ε stand at their fixed values; no other values were tried (--tune)."
        return Section("choice", "Choice of λ and ε", (Text(words),))
    panels, rows = [], []
    for system, knob in KNOBS.items():
        own = [choice for choice in run.choices if choice.system == system]
        groups: dict[str, list[tuple[float, float, bool]]] = {}
        for choice in own:
            several = len({c.direction for c in own if c.fold == choice.fold}) > 1
            name = f"fold {choice.fold}" + (f", {choice.direction}" if several else "")
            groups.setdefault(name, []).append((choice.value, choice.val_wa, choice.chosen))
            rows.append(
                (
                    plain(NAMES.get(system, system)),
                    plain(knob.symbol, choice.knob),
                    plain(choice.fold, choice.fold),
                    plain(choice.direction),
                    plain(f"{choice.value:g}", choice.value),
                    share(choice.val_wa),
                    share(choice.val_uar),
                    plain("chosen" if choice.chosen else "", choice.chosen),
                )
            )
        if own:
            look = next((look for name, look in looks.items() if name.startswith(NAMES[system])), Look(INK, "circle"))
            panels.append(choices(NAMES[system], knob.symbol, groups, look.colour))
    columns = (
        Column("System", "system", False),
        Column("Knob", "knob", False),
        Column("Fold", "fold"),
        Column("Reading", "reading", False),
        Column("Value", "value"),
        Column("Val WA, %", "val_wa"),
        Column("Val UAR, %", "val_uar"),
        Column("", "chosen", False),
    )
    seen = [choice for choice in run.choices if choice.chosen]
    picks = [
        f"{knob.symbol}: "
        + listed([f"{value:g} ({counted(n, 'time')})" for value, n in _tally([c.value for c in seen if c.system == s])])
        for s, knob in KNOBS.items()
        if any(c.system == s for c in seen)
    ]
    moves = [
        f"{percent(mean)} points for {knob.symbol} (single readings by up to {percent(most)})"
        for s, knob in KNOBS.items()
        for mean, most in _moves([choice for choice in run.choices if choice.system == s])
    ]
    return Section(
        "choice",
        "Choice of λ and ε",
        (
            Text(
                "On seed 0 each reading of a fold chose the value with the best accuracy on its own validation "
                "speakers (the smaller one on a tie), and kept it for all seeds. Test speakers had no part in it. "
                f"Chosen: {'; '.join(picks) or 'nothing yet'}. Over the candidates the mean curve moves by "
                f"{listed(moves)}: few speakers are a noisy judge, so the rows with fixed values stay beside."
            ),
            Figure(
                "choice",
                "Validation accuracy over the candidates, seed 0: each fold's reading thin, their mean thick; dots "
                "mark what was chosen.",
                tuple(panels),
            ),
            Table("choice", "Every candidate, by fold and reading", columns, tuple(rows)),
        ),
    )


def _tally(values: list[float]) -> list[tuple[float, int]]:
    return [(value, values.count(value)) for value in sorted(set(values))]


def _moves(own: Sequence[Choice]) -> list[tuple[float, float]]:
    """How far the mean curve of a system's candidates moves, and the most that a single reading's does."""
    curves: dict[tuple[int, str], list[float]] = {}
    columns: dict[float, list[float]] = {}
    for choice in own:
        curves.setdefault((choice.fold, choice.direction), []).append(choice.val_wa)
        columns.setdefault(choice.value, []).append(choice.val_wa)
    if not own:
        return []
    means = [sum(column) / len(column) for column in columns.values()]
    return [(max(means) - min(means), max(max(curve) - min(curve) for curve in curves.values()))]


# The learning curves as they are drawn, in a file that is published with the run.
#
# RUN/curves.csv: digest, epoch, and the columns of `history.jsonl` that are drawn; a row an epoch of a training

CURVES = "curves.csv"
_DRAWN = re.compile("train_wa|loss_emotion|val_(wa|loss)(_.*)?")
"""Columns that are drawn; of several readings each has its own, `val_wa_<reading>`."""

Epochs: TypeAlias = list[dict[str, float]]
"""What is drawn of a training: a record an epoch, rounded."""


def curves_of(cells: Iterable[CellRecord], path: Path) -> dict[str, Epochs]:
    """The curves of trainings by name, from `history.jsonl` or, where that is not here, from the file at `path`.

    The file then has these curves too; those of trainings that are not given stay, for it may be all that is left of
    them. A training that neither knows is left out.
    """
    kept = _read(path)
    curves, by_digest = {}, {}
    for cell in cells:
        digest = digest_of(cell)
        epochs = [_drawn(record) for record in cell.history()] or kept.get(digest)
        if epochs:
            curves[cell.name] = by_digest[digest] = epochs
    if by_digest and not by_digest.items() <= kept.items():
        write_text(path, _table({**by_digest, **{digest: kept[digest] for digest in kept.keys() - by_digest.keys()}}))
    return curves


def _drawn(record: Mapping[str, Any]) -> dict[str, float]:
    figures = {name: value for name, value in record.items() if _DRAWN.fullmatch(name) and value is not None}
    there = {name: float(f"{value:.4g}") for name, value in figures.items() if math.isfinite(value)}
    return {"epoch": int(record["epoch"]), **there}


def _read(path: Path) -> dict[str, Epochs]:
    """Digest -> epochs; nothing from a file that cannot be read."""
    found: dict[str, Epochs] = {}
    try:
        for row in read_csv(path):
            figures = {name: float(value) for name, value in row.items() if _DRAWN.fullmatch(name) and value}
            found.setdefault(row["digest"], []).append({"epoch": int(row["epoch"]), **figures})
    except (OSError, ValueError, AttributeError, TypeError, csv.Error, KeyError):
        return {}
    return found


def _table(curves: Mapping[str, Epochs]) -> str:
    names = dict.fromkeys(name for epochs in curves.values() for record in epochs for name in record)
    text = io.StringIO()
    writer = csv.DictWriter(text, ["digest", *names], lineterminator="\n")
    writer.writeheader()
    for digest, epochs in curves.items():
        writer.writerows({"digest": digest, **record} for record in epochs)
    return text.getvalue()
