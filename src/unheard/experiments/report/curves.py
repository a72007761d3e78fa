"""Figures of trainings: learning curves, and the choice of λ and ε."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unheard.experiments.report.svg import INK, Canvas, Panel, Point, Scale, wide_enough

TRAIN, VALIDATION = "#e08f00", "#0072b2"
POINTS = 120
"""Epochs drawn of a long curve, the first and the last among them."""
THIN = 30
"""Single trainings drawn behind their mean, the first so many."""


@dataclass(frozen=True)
class Training:
    """One reading of one training: figures by epoch, and the epoch that its validation speakers chose."""

    name: str
    epochs: tuple[int, ...]
    train_wa: tuple[float, ...]
    val_wa: tuple[float, ...]
    train_loss: tuple[float, ...]
    val_loss: tuple[float, ...]
    best_epoch: int


def trainings(
    name: str, history: Sequence[Mapping[str, float]], best: Mapping[str, int], several: bool
) -> list[Training]:
    """A `history.jsonl` as one `Training` for every reading in `best` (reading -> its best epoch).

    Of `several` readings each has columns of its own.
    """
    made = []
    for reading, epoch in best.items():
        suffix = f"_{reading}" if several else ""

        def column(key: str) -> tuple[float, ...]:
            values = (record.get(key) for record in history)
            return tuple(math.nan if value is None else float(value) for value in values)

        made.append(
            Training(
                f"{name}, {reading}" if several else name,
                tuple(int(record["epoch"]) for record in history),
                column("train_wa"),
                column(f"val_wa{suffix}"),
                column("loss_emotion"),
                column(f"val_loss{suffix}"),
                epoch,
            )
        )
    return made


def learning(title: str, given: Sequence[Training]) -> Panel:
    """Accuracy above, loss below: every training thin, their mean thick, the best epochs as dots."""
    canvas = Canvas(350, 352)
    epochs = sorted({e for training in given for e in training.epochs})
    x = Scale(epochs[0], max(epochs[-1], epochs[0] + 1), 44, 336)
    drawn = _thinned(epochs)
    accuracy = [("train_wa", TRAIN), ("val_wa", VALIDATION)]
    _curves(canvas, given, x, drawn, accuracy, (8, 158), "accuracy, %", 100.0)
    _curves(canvas, given, x, drawn, [("train_loss", TRAIN), ("val_loss", VALIDATION)], (176, 306), "loss", 1.0)
    for tick in x.ticks(5):
        if tick == int(tick):
            canvas.text(x(tick), 322, f"{tick:g}", anchor="middle", font_size=10)
    canvas.text(190, 342, "epoch", anchor="middle")
    ends = [training.val_wa[-1] for training in given if training.val_wa and math.isfinite(training.val_wa[-1])]
    last = f" Validation accuracy ends at {100 * sum(ends) / len(ends):.1f} %." if ends else ""
    return canvas.panel(title, f"Learning curves of {title}, {len(given)} readings of its trainings.{last}")


def _curves(
    canvas: Canvas,
    given: Sequence[Training],
    x: Scale,
    drawn: Sequence[int],
    columns: Sequence[tuple[str, str]],
    span: tuple[float, float],
    axis: str,
    factor: float,
) -> None:
    top, bottom = span
    by_epoch = {name: [dict(zip(t.epochs, getattr(t, name), strict=True)) for t in given] for name, _ in columns}
    seen = sorted(v for tables in by_epoch.values() for table in tables for v in table.values() if math.isfinite(v))
    if axis == "loss" and seen:  # a few exploding validation losses must not flatten everything else
        seen = seen[: max(1, math.ceil(0.98 * len(seen)))]
    low, high = wide_enough([v * factor for v in seen])
    y = Scale(max(0.0, low), high, bottom, top)
    for tick in y.ticks(4):
        canvas.line(x.start, y(tick), x.end, y(tick), opacity=".15")
        canvas.text(x.start - 6, y(tick) + 4, f"{tick:g}", anchor="end", font_size=10)
    canvas.text(12, (top + bottom) / 2, axis, anchor="middle", transform=f"rotate(-90 12 {(top + bottom) / 2:g})")

    def place(epoch: int, value: float) -> Point:
        return x(epoch), min(max(y(value * factor), top), bottom) if math.isfinite(value) else math.nan

    for name, colour in columns:
        tables = by_epoch[name]
        thin = [[place(e, table[e]) for e in drawn if e in table] for table in tables[:THIN]]
        canvas.curve(thin, colour, width=".7", opacity=".35")
        canvas.curve(
            [[place(e, _mean([table.get(e, math.nan) for table in tables])) for e in drawn]], colour, width="2"
        )
    if columns[1][0] == "val_wa":
        best = [
            place(t.best_epoch, table[t.best_epoch])
            for t, table in zip(given, by_epoch["val_wa"], strict=True)
            if math.isfinite(table.get(t.best_epoch, math.nan))
        ]
        canvas.marks(best, "circle", INK, 4.5, opacity=".7", hint="best epochs on validation")


def _mean(values: Sequence[float]) -> float:
    """The mean of what is there; it says something only while at least half of the trainings go on."""
    there = [v for v in values if math.isfinite(v)]
    return sum(there) / len(there) if 2 * len(there) >= len(values) and there else math.nan


def _thinned(epochs: Sequence[int]) -> list[int]:
    if len(epochs) <= POINTS:
        return list(epochs)
    return sorted({epochs[round(k * (len(epochs) - 1) / (POINTS - 1))] for k in range(POINTS)})


def choices(title: str, axis: str, curves: Mapping[str, Sequence[tuple[float, float, bool]]], colour: str) -> Panel:
    """Validation accuracy over the candidates: `curves` maps a fold's reading to (value, accuracy, chosen)."""
    canvas = Canvas(350, 240)
    values = sorted({value for curve in curves.values() for value, _, _ in curve})
    low, high = wide_enough([100 * wa for curve in curves.values() for _, wa, _ in curve])
    logarithmic = values[0] > 0
    x = Scale(values[0], values[-1], 58, 324, logarithmic)
    y = Scale(max(0.0, low), min(100.0, high), 190, 10)
    for tick in y.ticks(5):
        canvas.line(44, y(tick), 336, y(tick), opacity=".15")
        canvas.text(38, y(tick) + 4, f"{tick:g}", anchor="end", font_size=10)
    for value in values:
        canvas.text(x(value), 206, f"{value:g}", anchor="middle", font_size=10)
    canvas.text(190, 226, axis, anchor="middle")
    canvas.text(12, 100, "validation accuracy, %", anchor="middle", transform="rotate(-90 12 100)")
    ordered = {name: sorted(curve) for name, curve in curves.items()}
    canvas.curve([[(x(v), y(100 * wa)) for v, wa, _ in c] for c in ordered.values()], colour, width="1", opacity=".45")
    means = [(v, _mean([wa for c in ordered.values() for w, wa, _ in c if w == v])) for v in values]
    canvas.curve([[(x(v), y(100 * wa)) for v, wa in means]], colour, width="2.5")
    said = []
    for name, curve in ordered.items():
        for value, wa, chosen in curve:
            if chosen:
                hint = f"{name}: {value:g} chosen, {100 * wa:.1f} % on validation"
                canvas.marks([(x(value), y(100 * wa))], "circle", INK, 7, hint=hint)
                said.append(f"{name}: {value:g}")
    return canvas.panel(title, f"Choice of {axis} for {title}. Chosen: {'; '.join(said)}.")
