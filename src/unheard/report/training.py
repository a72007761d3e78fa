"""Sections on the trainings: learning curves, under-training, the choice of λ and ε."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from unheard.errors import counted
from unheard.experiments.baselines import NAMES
from unheard.experiments.records import CellRecord, RunRecords
from unheard.experiments.selection import KNOBS, Choice
from unheard.experiments.summary import Line, hardly_trained
from unheard.report.content import NOTHING, Block, Figure, Section, Table, Text, listed, percent
from unheard.report.plots import Training, choices, learning

Evaluated = list[tuple[CellRecord, dict[str, Mapping[str, Any]]]]
"""The trainings of a line, each with the results of the directions that the line takes from it."""


def trainings(run: RunRecords) -> Section:
    """Learning curves of every line, and which trainings ended too early."""
    lines = {line.name: _evaluated(run, line) for line in run.lines}
    curves: dict[str, list[Training]] = {}
    for name, cells in lines.items():
        for cell, directions in cells:
            history, several = cell.history(), len(cell.result.get("directions", {})) > 1
            for direction, one in directions.items() if history else ():
                if epoch := one.get("best_epoch"):
                    training = Training(history, f"_{direction}" if several else "", int(epoch))
                    curves.setdefault(name, []).append(training)
    blocks: list[Block] = []
    if curves:
        caption = (
            "Learning curves: every training thin, their mean thick. Training figures are those of the epoch itself"
            + (", with dropout" if run.settings.network.dropout else "")
            + "; the highest 2 % of losses are cut off."
        )
        alt = f"Accuracy and loss by epoch of {listed(list(curves))}"
        blocks.append(Figure("curves", caption, alt, learning(curves)))
    else:
        blocks.append(Text("Learning curves need the trainings' history.jsonl, which this run does not have."))
    chose = "epoch chosen on validation" if run.settings.training.select == "best" else "last epoch evaluated"
    heads = ("System", "Trainings", "Epochs", "Updates", "Evaluated epoch, median", "Evaluated epochs", "Under-trained")
    rows = tuple(_lengths(line, lines[line.name]) for line in run.lines)
    blocks.append(Table("epochs", f"Length of training; {chose}", heads, rows))
    ends = zip(rows, lines.values(), strict=True)
    if late := [f"{row[-1]} of {len(cells)} of {row[0]}" for row, cells in ends if row[-1] != "0"]:
        text = f"Under-trained: {listed(late)} had the best epoch among the last five; more epochs would serve them."
        blocks.append(Text(text, warning=True))
    if few := hardly_trained(run.lines):
        blocks.append(Text(few, warning=True))
    return Section("training", "Training", tuple(blocks))


def _evaluated(run: RunRecords, line: Line) -> Evaluated:
    found = []
    for cell in (cell for seed in line.seeds for cell in seed.cells):
        own = [c for c in run.choices if c.chosen and (c.system, c.fold) == (line.system, cell.fold)]
        chosen = {c.direction: c.value for c in own if line.chosen}
        directions = cell.result.get("directions", {}).items()
        found.append((cell, {name: one for name, one in directions if chosen.get(name, cell.value) == cell.value}))
    return found


def _lengths(line: Line, cells: Evaluated) -> tuple[str, ...]:
    results = list({cell.name: cell.result for cell, _ in cells}.values())
    found = [one for _, directions in cells for one in directions.values()]
    best = sorted(int(one["best_epoch"]) for one in found if one.get("best_epoch"))
    late = sum(any(one.get("under_trained") for one in directions.values()) for _, directions in cells)
    epochs = [int(result["epochs"]) for result in results if not result.get("fitted")]
    middle = f"{statistics.median(best):g}" if best else NOTHING
    return line.name, str(len(results)), _span(epochs), _span(line.updates), middle, _span(best), str(late)


def _span(values: Sequence[int]) -> str:
    return "–".join(dict.fromkeys(f"{end:,}" for end in (min(values), max(values)))) if values else NOTHING


def chosen(run: RunRecords) -> Section:
    """The choice of λ, ε and other settings by each fold's own validation speakers."""
    grid = [choice for choice in run.choices if isinstance(choice.value, float)]
    tried = {system: [choice for choice in grid if choice.system == system] for system in KNOBS}
    tried = {system: own for system, own in tried.items() if len({choice.value for choice in own}) > 1}
    trials = [choice for choice in run.choices if isinstance(choice.value, str)]
    if trials:
        return Section("choice", "Choice of settings", (*(_of_the_grid(tried) if tried else ()), *_searched(trials)))
    if tried:
        return Section("choice", "Choice of λ and ε", _of_the_grid(tried))
    words = "λ and ε have their fixed values; no other values were tried (--tune)."
    return Section("choice", "Choice of λ and ε", (Text(words),))


def _searched(trials: Sequence[Choice]) -> tuple[Block, ...]:
    """The chosen trial of each study of a search."""
    rows = []
    for choice in (one for one in trials if one.chosen):
        own = [one.val_wa for one in trials if one.place == choice.place]
        rows.append(
            (NAMES.get(choice.system, choice.system), str(choice.fold), choice.direction, choice.evaluation,
             str(choice.value).replace(",", ", "), str(len(own)), percent(min(own)), percent(choice.val_wa))
        )  # fmt: skip
    heads = ("System", "Fold", "Direction", "Evaluation", "Chosen", "Trials", "Lowest val WA, %", "Val WA, %")
    text = (
        "The tuned systems have the settings that did best, among the trials of Optuna on seed 0, on the validation "
        "speakers of that direction of the fold; the chosen ones were kept for all seeds. Test speakers had no part in "
        "it. The chosen validation accuracy is the highest of many, and thus optimistic. All trials are in trials.csv."
    )
    return Text(text), Table("trials", "Settings chosen by search", heads, tuple(rows))


def _of_the_grid(tried: Mapping[str, Sequence[Choice]]) -> tuple[Block, ...]:
    """Every value of λ and ε that was tried, by system."""
    panels: dict[str, dict[str, list[tuple[float, float, bool]]]] = {}
    rows, picks = [], []
    for system, own in tried.items():
        symbol = KNOBS[system].symbol
        panel = panels.setdefault(f"{NAMES[system]}: {symbol}", {})
        for choice in own:
            value = float(choice.value)
            point = (value, choice.val_wa, choice.chosen)
            panel.setdefault(f"fold {choice.fold}, {choice.direction}", []).append(point)
            rows.append(
                (NAMES[system], symbol, str(choice.fold), choice.direction, f"{value:g}", percent(choice.val_wa),
                 percent(choice.val_uar), "chosen" if choice.chosen else "")
            )  # fmt: skip
        values = [float(choice.value) for choice in own if choice.chosen]
        tally = [f"{value:g} ({counted(values.count(value), 'time')})" for value in sorted(set(values))]
        picks.append(f"{symbol}: {listed(tally)}")
    text = (
        "On seed 0 each direction of a fold chose the value with the best accuracy on its own validation speakers (the "
        "smaller one on a tie), and kept it for all seeds. Test speakers had no part in it. "
        f"Chosen: {'; '.join(picks)}. Few speakers are a noisy judge, so the rows with fixed values stay beside."
    )
    caption = "Validation accuracy over the candidates, seed 0: each direction of a fold thin, their mean thick."
    heads = ("System", "Knob", "Fold", "Direction", "Value", "Val WA, %", "Val UAR, %", "")
    figure = Figure("choice", f"{caption} Dots: chosen.", f"Chosen: {'; '.join(picks)}", choices(panels))
    table = Table("choice", "Every candidate, by fold and direction", heads, tuple(rows))
    return Text(text), figure, table
