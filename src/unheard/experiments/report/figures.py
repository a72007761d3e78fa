"""Figures of predictions: confusion matrices, accuracies by speaker, recalls, differences with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unheard.experiments.report.content import Key, percent
from unheard.experiments.report.svg import INK, SHAPES, Canvas, Panel, Scale, shortened, wide_enough

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
