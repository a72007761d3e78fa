"""Sections on the trainings: learning curves, under-training, the choice of λ and ε."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unheard.experiments.baselines import NAMES
from unheard.experiments.records import CellRecord, RunRecords
from unheard.experiments.selection import KNOBS
from unheard.experiments.summary import Line, hardly_trained
from unheard.report.content import NOTHING, Block, Figure, Section, Table, Text, counted, listed, percent
from unheard.report.plots import Training, choices, learning


def trainings(run: RunRecords) -> Section:
    """Learning curves of every line, and which trainings ended too early."""
    lines: dict[str, list[Training]] = {}
    for line in run.lines:
        for cell in (cell for seed in line.seeds for cell in seed.cells):
            if history := cell.history():
                several = len(cell.result.get("directions", {})) > 1
                for name, epoch in _best(_directions(run, line, cell)).items():
                    training = Training(history, f"_{name}" if several else "", epoch)
                    lines.setdefault(line.name, []).append(training)
    blocks: list[Block] = []
    if lines:
        caption = (
            "Learning curves: every training thin, their mean thick. Training figures are those of the epoch itself"
            + (", with dropout" if run.settings.network.dropout else "")
            + "; the highest 2 % of losses are cut off."
        )
        alt = f"Accuracy and loss by epoch of {listed(list(lines))}"
        blocks.append(Figure("curves", caption, alt, learning(lines)))
    else:
        blocks.append(Text("Learning curves need the trainings' history.jsonl, which this run does not have."))
    blocks.append(_epochs(run))
    late = [f"{n} of {m} of {line.name}" for line in run.lines for n, m in [_late(run, line)] if n]
    if late:
        text = f"Under-trained: {listed(late)} had the best epoch among the last five; more epochs would serve them."
        blocks.append(Text(text, warning=True))
    if few := hardly_trained(run.lines):
        blocks.append(Text(few, warning=True))
    return Section("training", "Training", tuple(blocks))


def _epochs(run: RunRecords) -> Table:
    rows = []
    for line in run.lines:
        cells = [cell for seed in line.seeds for cell in seed.cells]
        results = [cell.result for cell in {cell.name: cell for cell in cells}.values()]
        best = sorted(epoch for cell in cells for epoch in _best(_directions(run, line, cell)).values())
        middle = (best[(len(best) - 1) // 2] + best[len(best) // 2]) / 2 if best else None
        epochs = [int(result["epochs"]) for result in results if not result.get("fitted")]
        rows.append(
            (line.name, str(len(results)), _span(epochs), _span(line.updates),
             NOTHING if middle is None else f"{middle:g}", _span(best), str(_late(run, line)[0]))
        )  # fmt: skip
    chose = "epoch chosen on validation" if run.settings.training.select == "best" else "last epoch evaluated"
    heads = ("System", "Trainings", "Epochs", "Updates", "Evaluated epoch, median", "Evaluated epochs", "Under-trained")
    return Table("epochs", f"Length of training; {chose}", heads, tuple(rows))


def _span(values: Sequence[int]) -> str:
    if not values:
        return NOTHING
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _directions(run: RunRecords, line: Line, cell: CellRecord) -> dict[str, Mapping[str, Any]]:
    """The directions of a training that a line takes from it."""
    directions: dict[str, Mapping[str, Any]] = dict(cell.result.get("directions", {}))
    if not line.chosen:
        return directions
    own = [c for c in run.choices if c.chosen and (c.system, c.fold) == (line.system, cell.fold)]
    chosen = {c.direction: c.value for c in own}
    return {name: one for name, one in directions.items() if chosen.get(name, cell.value) == cell.value}


def _best(directions: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    return {name: int(one["best_epoch"]) for name, one in directions.items() if one.get("best_epoch")}


def _late(run: RunRecords, line: Line) -> tuple[int, int]:
    """How many trainings of a line had their best epoch at the very end, and of how many."""
    cells = [cell for seed in line.seeds for cell in seed.cells]
    late = sum(any(one.get("under_trained") for one in _directions(run, line, cell).values()) for cell in cells)
    return late, len(cells)


def knobs(run: RunRecords) -> Section:
    """The choice of λ and ε by each fold's own validation speakers."""
    tried = {system: [choice for choice in run.choices if choice.system == system] for system in KNOBS}
    tried = {system: own for system, own in tried.items() if len({choice.value for choice in own}) > 1}
    if not tried:
        words = "λ and ε have their fixed values; no other values were tried (--tune)."
        return Section("choice", "Choice of λ and ε", (Text(words),))
    panels: dict[str, dict[str, list[tuple[float, float, bool]]]] = {}
    rows, picks = [], []
    for system, own in tried.items():
        symbol = KNOBS[system].symbol
        panel = panels.setdefault(f"{NAMES[system]}: {symbol}", {})
        for choice in own:
            panel.setdefault(f"fold {choice.fold}, {choice.direction}", []).append(
                (choice.value, choice.val_wa, choice.chosen)
            )
            rows.append(
                (NAMES[system], symbol, str(choice.fold), choice.direction, f"{choice.value:g}", percent(choice.val_wa),
                 percent(choice.val_uar), "chosen" if choice.chosen else "")
            )  # fmt: skip
        values = [choice.value for choice in own if choice.chosen]
        tally = [f"{value:g} ({counted(values.count(value), 'time')})" for value in sorted(set(values))]
        picks.append(f"{symbol}: {listed(tally)}")
    text = (
        "On seed 0 each direction of a fold chose the value with the best accuracy on its own validation speakers (the "
        "smaller one on a tie), and kept it for all seeds. Test speakers had no part in it. "
        f"Chosen: {'; '.join(picks)}. Few speakers are a noisy judge, so the rows with fixed values stay beside."
    )
    caption = "Validation accuracy over the candidates, seed 0: each direction of a fold thin, their mean thick."
    heads = ("System", "Knob", "Fold", "Direction", "Value", "Val WA, %", "Val UAR, %", "")
    return Section(
        "choice",
        "Choice of λ and ε",
        (
            Text(text),
            Figure("choice", f"{caption} Dots: chosen.", f"Chosen: {'; '.join(picks)}", choices(panels)),
            Table("choice", "Every candidate, by fold and direction", heads, tuple(rows)),
        ),
    )
