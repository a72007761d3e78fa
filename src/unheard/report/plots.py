"""Figures of predictions: confusion matrices, accuracies by speaker, recalls, differences with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unheard.report.content import Key, percent
from unheard.report.svg import INK, SHAPES, Canvas, Panel, Point, Scale, shortened, wide_enough

BLUE = "#0b5394"
_SYSTEMS = {"ser": (INK, "circle"), "mtl": ("#e08f00", "square"), "dat": ("#0072b2", "triangle"),
            "cgt": ("#009e73", "diamond")}  # fmt: skip
_MORE = ("#cc79a7", "#d55e00", "#56b4e9", "#8b6914")
ROWS = 40
"""Speakers in one drawing; more go into a second one beside it."""


@dataclass(frozen=True)
class Look:
    """How a system is drawn everywhere."""

    colour: str
    shape: str
    hollow: bool = False

    def key(self, name: str) -> Key:
        """Its entry in a figure's key."""
        canvas = Canvas(14, 14)
        canvas.marks([(7, 7)], self.shape, self.colour, 8, hollow=self.hollow)
        return Key(name, canvas.panel(name, ""))


def look_of(system: str, place: int, chosen: bool = False) -> Look:
    """The look of a system; one that is not the paper's gets the next free colour by its `place`."""
    colour, shape = _SYSTEMS.get(system) or (_MORE[place % len(_MORE)], SHAPES[4 + place % 2])
    return Look(colour, shape, chosen)


def confusion(title: str, counts: NDArray[np.integer], labels: Sequence[str]) -> Panel:
    """Rows the true emotion, columns what was said; the share of the row, and the count under it."""
    n = len(labels)
    size = min(58.0, 250 / n)
    left, top = 76.0, 22.0
    canvas = Canvas(left + n * size + 4, top + n * size + 26)
    totals = counts.sum(axis=1)
    small = size < 36
    for row, label in enumerate(labels):
        canvas.text(left - 6, top + (row + 0.5) * size + 4, shortened(label, 11), anchor="end", hint=label)
        place = left + (row + 0.5) * size
        if small:
            canvas.text(place, top + n * size + 12, shortened(label, 4), anchor="middle", hint=label, font_size=9)
        else:
            canvas.text(place, top + n * size + 14, shortened(label, 10), anchor="middle", hint=label)
        for column, said in enumerate(labels):
            count, total = int(counts[row, column]), int(totals[row])
            share = count / total if total else 0.0
            x, y = left + column * size, top + row * size
            hint = f"{label} taken for {said}: {count} of {total}"
            canvas.add("rect", hint=hint, x=x, y=y, width=size - 1, height=size - 1, fill=BLUE,
                       fill_opacity=f"{0.04 + 0.96 * share:.2f}")  # fmt: skip
            ink = {"fill": "#fff"} if share > 0.7 else {}
            shown = f"{100 * share:.0f}" if total else "–"
            canvas.text(x + size / 2, y + size / 2 + (4 if small else 1), shown, anchor="middle",
                        font_size=10 if small else 13, **ink)  # fmt: skip
            if not small:
                canvas.text(x + size / 2, y + size / 2 + 15, str(count), anchor="middle", font_size=9, **ink)
    canvas.text(left, 12, "said → (percent of the true emotion)", font_size=10)
    best = [f"{label} {100 * counts[i, i] / totals[i]:.0f} %" for i, label in enumerate(labels) if totals[i]]
    return canvas.panel(title, f"Confusion matrix of {title}. Recalls: {', '.join(best)}.")


def dots(
    title: str,
    rows: Sequence[str],
    values: Mapping[str, Sequence[float]],
    looks: Mapping[str, Look],
    axis: str,
    *,
    reference: float | None = None,
    limits: tuple[float, float] | None = None,
) -> list[Panel]:
    """A row for every name, in it a mark for every system: `values` (system -> a share for every row).

    A dashed line marks `reference`, usually chance. Long lists become several panels with one scale.
    """
    finite = [v for column in values.values() for v in column if math.isfinite(v)]
    reach = [*finite, reference] if reference is not None else finite
    low, high = limits or wide_enough(reach, least=0.2)
    low, high = (max(0.0, low), min(1.0, high)) if limits is None else (low, high)
    panels = []
    parts = math.ceil(len(rows) / ROWS) or 1
    size = math.ceil(len(rows) / parts)
    for part in range(parts):
        own = range(part * size, min(len(rows), (part + 1) * size))
        name = title if parts == 1 else f"{title} ({part + 1} of {parts})"
        panels.append(_dots(name, rows, own, values, looks, axis, reference, (low, high)))
    return panels


def _dots(
    title: str,
    rows: Sequence[str],
    own: range,
    values: Mapping[str, Sequence[float]],
    looks: Mapping[str, Look],
    axis: str,
    reference: float | None,
    limits: tuple[float, float],
) -> Panel:
    step = 18.0 if len(own) <= 30 else 15.0
    longest = max((len(shortened(rows[i], 16)) for i in own), default=1)
    left, right, top = 14 + 7.0 * longest, 336.0, 6.0
    bottom = top + step * max(1, len(own))
    canvas = Canvas(350, bottom + 36)
    x = Scale(*limits, left, right)
    for tick in x.ticks(5):
        canvas.line(x(tick), top, x(tick), bottom, opacity=".15")
        canvas.text(x(tick), bottom + 14, f"{100 * tick:g}", anchor="middle", font_size=10)
    canvas.text((left + right) / 2, bottom + 30, axis, anchor="middle")
    if reference is not None and limits[0] <= reference <= limits[1]:
        canvas.line(x(reference), top, x(reference), bottom, opacity=".6", stroke_dasharray="3 3")
    said = []
    for place, row in enumerate(own):
        y = top + (place + 0.5) * step
        canvas.line(left, y, right, y, opacity=".1")
        canvas.text(left - 6, y + 4, shortened(rows[row], 16), anchor="end", hint=rows[row])
        given = [(name, column[row]) for name, column in values.items() if math.isfinite(column[row])]
        for name, value in given:
            look = looks[name]
            hint = f"{rows[row]}, {name}: {percent(value)} %"
            canvas.marks([(x(value), y)], look.shape, look.colour, 7, hollow=look.hollow, hint=hint)
        said.append(f"{rows[row]}: " + ", ".join(f"{name} {percent(value)}" for name, value in given))
    shown = "; ".join(said) if len(said) <= 12 else f"{len(said)} rows, the figures are in the table's file"
    return canvas.panel(title, f"{title}, {axis}. {shown}.")


def differences(title: str, rows: Sequence[tuple[str, Look, float, float, float]], axis: str) -> Panel:
    """Rows (name, look, difference, low, high) of shares, shown in points with their intervals around zero."""
    longest = max((len(row[0]) for row in rows), default=1)
    left, right, top, step = 14 + 7.0 * min(longest, 24), 336.0, 6.0, 24.0
    bottom = top + step * len(rows)
    canvas = Canvas(350, bottom + 36)
    low, high = wide_enough([0.0, *(v for row in rows for v in row[2:])], least=0.02)
    x = Scale(100 * low, 100 * high, left, right)
    for tick in x.ticks(5):
        canvas.line(x(tick), top, x(tick), bottom, opacity=".15")
        canvas.text(x(tick), bottom + 14, f"{tick:+g}".replace("-", "−") if tick else "0", anchor="middle",
                    font_size=10)  # fmt: skip
    canvas.line(x(0), top, x(0), bottom, opacity=".8")
    canvas.text((left + right) / 2, bottom + 30, axis, anchor="middle")
    said = []
    for place, (name, look, value, start, end) in enumerate(rows):
        y = top + (place + 0.5) * step
        canvas.text(left - 6, y + 4, shortened(name, 24), anchor="end", hint=name)
        words = f"{name}: {percent(value, sign=True)} points"
        if math.isfinite(start) and math.isfinite(end):
            words += f", interval {percent(start, sign=True)} to {percent(end, sign=True)}"
            canvas.line(x(100 * start), y, x(100 * end), y, stroke=look.colour, stroke_width=2)
        if math.isfinite(value):
            canvas.marks([(x(100 * value), y)], look.shape, look.colour, 9, hollow=look.hollow, hint=words)
        said.append(words)
    return canvas.panel(title, f"{title}. {'; '.join(said)}.")


# Figures of trainings: learning curves, and the choice of λ and ε.

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
