"""Drawings by matplotlib: SVG with the page's colours for the report, PDF and PNG for a paper.

Lines and text that are not data are drawn in `INK`, which becomes the colour of the surrounding text on the page. The
colours of data are safe for colour-blind readers, and shapes distinguish systems in greyscale.
"""

import io
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

INK = "#1a1a1b"
BLUE = "#0b5394"
TRAIN, VALIDATION = "#e08f00", "#0072b2"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "unheard",
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color"), INK),
    **dict.fromkeys(("ytick.color", "grid.color"), INK),
}
THIN = 30  # maximum number of trainings drawn behind their mean

_SYSTEMS = {"ser": (INK, "o"), "mtl": ("#e08f00", "s"), "dat": ("#0072b2", "^"), "cgt": ("#009e73", "D")}
_MORE = ("#cc79a7", "#d55e00", "#56b4e9", "#8b6914")
_GREY = LinearSegmentedColormap.from_list("share", ["#e9eff5", BLUE])


@dataclass(frozen=True)
class Look:
    """Colour and marker of a system in all drawings."""

    colour: str
    marker: str
    hollow: bool = False

    def style(self) -> dict[str, Any]:
        """Return keyword arguments for matplotlib's markers."""
        face = "none" if self.hollow else self.colour
        return {"marker": self.marker, "markeredgecolor": self.colour, "markerfacecolor": face, "linestyle": "none"}


def look_of(system: str, index: int, hollow: bool = False) -> Look:
    """Return the look of a system; systems that are not in the paper get a colour by their `index`."""
    colour, marker = _SYSTEMS.get(system) or (_MORE[index % len(_MORE)], "xPv*"[index % 4])
    return Look(colour, marker, hollow)


def confusions(matrices: Mapping[str, NDArray[np.integer]], labels: Sequence[str]) -> Figure:
    """Draw confusion matrices (C, C): rows true, columns predicted; percent of the row, with the count below."""
    n = len(labels)
    with rc_context(STYLE):
        drawing, axes = _panels(matrices, 3, 2.6, 2.4)
        for ax, counts in zip(axes, matrices.values(), strict=True):
            totals = counts.sum(axis=1, keepdims=True)
            share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
            ax.pcolormesh(share, cmap=_GREY, vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
            for (row, column), count in np.ndenumerate(counts):
                text = f"{100 * share[row, column]:.0f}" + (f"\n({count})" if n <= 6 else "")
                colour = "white" if share[row, column] > 0.6 else "#1a1a1a"
                ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=7)
            ax.set(xticks=np.arange(n) + 0.5, yticks=np.arange(n) + 0.5, xlabel="predicted", ylabel="true")
            ax.set_xticklabels(labels, rotation=30, ha="right")
            ax.set_yticklabels(labels)
            ax.invert_yaxis()
            ax.grid(False)
        return drawing


def dots(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    rows: Sequence[str],
    looks: Mapping[str, Look],
    axis: str,
    *,
    references: Sequence[float],
) -> Figure:
    """Draw a row for every name with a marker for every system: panel -> system -> a share for every row.

    A dashed line marks chance, the panel's number in `references`.
    """
    with rc_context(STYLE):
        drawing, axes = _panels(panels, 2, 3.4, 0.7 + 0.17 * len(rows))
        for ax, values, chance in zip(axes, panels.values(), references, strict=True):
            for name, column in values.items():
                ax.plot(100 * np.asarray(column, float), range(len(rows)), markersize=4.5, **looks[name].style())
            ax.axvline(100 * chance, color=INK, linestyle="--", linewidth=0.8)
            ax.set(yticks=range(len(rows)), xlabel=axis, ylim=(len(rows) - 0.5, -0.5))
            ax.set_yticklabels([_shortened(row) for row in rows])
        legend = {name: {**looks[name].style(), "markersize": 5} for values in panels.values() for name in values}
        return _with_legend(drawing, legend, 4)


def differences(panels: Mapping[str, Sequence[tuple[str, Look, float, float, float]]]) -> Figure:
    """Draw rows (name, look, difference, low, high) of shares in points, with their intervals around zero."""
    with rc_context(STYLE):
        drawing, axes = _panels(panels, 2, 3.4, 0.8 + 0.26 * max(map(len, panels.values())))
        for ax, rows in zip(axes, panels.values(), strict=True):
            ax.axvline(0, color=INK, linewidth=0.8)
            for y, (_, look, value, low, high) in enumerate(rows):
                ax.plot([100 * low, 100 * high], [y, y], color=look.colour, linewidth=1.5)
                ax.plot([100 * value], [y], markersize=5.5, **look.style())
            ax.set(yticks=range(len(rows)), xlabel="points", ylim=(len(rows) - 0.5, -0.5))
            ax.set_yticklabels([_shortened(row[0], 34) for row in rows])
        return drawing


@dataclass(frozen=True)
class Training:
    """One direction of one training: metrics by epoch, and the evaluated epoch."""

    history: Sequence[Mapping[str, float]]
    suffix: str
    best_epoch: int


def learning(lines: Mapping[str, Sequence[Training]]) -> Figure:
    """Draw accuracy above and loss below: trainings thin, their mean thick, evaluated epochs as dots."""
    with rc_context(STYLE):
        columns = min(3, len(lines))
        rows = -(-len(lines) // columns)
        drawing = Figure(figsize=(2.6 * columns, 3.4 * rows), layout="constrained")
        grid = drawing.subplots(2 * rows, columns, squeeze=False)
        for ax in grid.flat:
            ax.set_visible(False)
        for i, (name, trainings) in enumerate(lines.items()):
            row, column = divmod(i, columns)
            upper, lower = grid[2 * row : 2 * row + 2, column]
            _curves(upper, trainings, (("train_wa", TRAIN, False), ("val_wa", VALIDATION, True)), 100.0)
            _curves(lower, trainings, (("loss_emotion", TRAIN, False), ("val_loss", VALIDATION, True)), 1.0)
            upper.set(title=name, ylabel="accuracy, %", visible=True)
            lower.set(xlabel="epoch", ylabel="loss", visible=True)
            for training in trainings:
                wa = {int(record["epoch"]): record.get(f"val_wa{training.suffix}") for record in training.history}
                if (value := wa.get(training.best_epoch)) is not None:
                    upper.plot([training.best_epoch], [100 * value], "o", color=INK, markersize=2.5, alpha=0.7)
            losses = [value for curve in lower.lines for value in curve.get_ydata() if math.isfinite(value)]
            if losses:  # a few exploding losses must not determine the scale
                lower.set_ylim(0, 1.05 * float(np.quantile(losses, 0.98)))
        dot = {"color": INK, "marker": "o", "markersize": 3, "linestyle": "none"}
        legend = {"training": {"color": TRAIN}, "validation": {"color": VALIDATION}, "evaluated epoch": dot}
        return _with_legend(drawing, legend, 3)


def _curves(ax: Axes, trainings: Sequence[Training], columns: Sequence[tuple[str, str, bool]], factor: float) -> None:
    for key, colour, by_direction in columns:
        by_epoch: dict[int, list[float]] = {}
        for number, training in enumerate(trainings):
            name = f"{key}{training.suffix}" if by_direction else key
            points = [(int(r["epoch"]), factor * r[name]) for r in training.history if r.get(name) is not None]
            for epoch, value in points:
                by_epoch.setdefault(epoch, []).append(value)
            if number < THIN and points:
                ax.plot(*zip(*points, strict=True), color=colour, linewidth=0.5, alpha=0.3)
        mean = [(e, sum(v) / len(v)) for e, v in sorted(by_epoch.items()) if 2 * len(v) >= len(trainings)]
        if mean:
            ax.plot(*zip(*mean, strict=True), color=colour, linewidth=1.6)


def choices(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float, bool]]]]) -> Figure:
    """Draw validation accuracy over candidates: panel -> fold and direction -> (value, accuracy, chosen)."""
    with rc_context(STYLE):
        drawing, axes = _panels(panels, 2, 3.2, 2.4)
        for ax, curves in zip(axes, panels.values(), strict=True):
            values: dict[float, list[float]] = {}
            for curve in map(sorted, curves.values()):
                ax.plot([v for v, _, _ in curve], [100 * wa for _, wa, _ in curve], color=VALIDATION, alpha=0.4, lw=1)
                ax.plot([v for v, _, c in curve if c], [100 * wa for _, wa, c in curve if c], "o", color=INK, ms=4)
                for value, wa, _ in curve:
                    values.setdefault(value, []).append(100 * wa)
            ax.plot(sorted(values), [sum(values[v]) / len(values[v]) for v in sorted(values)], color=VALIDATION, lw=2)
            if min(values) > 0:
                ax.set_xscale("log")
            ax.set(ylabel="validation accuracy, %", xticks=sorted(values))
            ax.set_xticklabels([f"{value:g}" for value in sorted(values)])
            ax.minorticks_off()
        return drawing


Cloud = tuple[NDArray[np.float64], Sequence[tuple[str, str, NDArray[np.bool_]]]]
"""Points (n, 2), and groups of points: name, colour, mask."""


def scatters(panels: Mapping[str, Cloud]) -> Figure:
    """Draw maps by title; points outside all groups are grey."""
    legend: dict[str, dict[str, Any]] = {}
    with rc_context(STYLE):
        drawing, axes = _panels(panels, 4, 2.1, 2.1)
        for ax, (points, groups) in zip(axes, panels.values(), strict=True):
            rest = ~np.any([mask for _, _, mask in groups], axis=0)
            x, y = points.T
            ax.scatter(x[rest], y[rest], s=3, color="#9a9a9a", alpha=0.4, linewidths=0, rasterized=True)
            for (name, colour, mask), marker in zip(groups, cycle("os^DXP")):
                ax.scatter(x[mask], y[mask], s=8, color=colour, marker=marker, linewidths=0, rasterized=True)
                legend.setdefault(name, {"color": colour, "marker": marker, "linestyle": "none", "markersize": 4})
            ax.set(xticks=[], yticks=[])
            ax.set_aspect("equal", adjustable="datalim")
            ax.grid(False)
        return _with_legend(drawing, legend, 6)


def svg(drawing: Figure, alt: str) -> str:
    """Return a drawing as SVG for an HTML page; it adapts to the available width and the colour of the page's text."""
    text = io.StringIO()
    _save(drawing, text, "svg", {"Date": None, "Creator": None}, transparent=True)
    body = re.sub(r"<metadata>.*?</metadata>", "", text.getvalue(), flags=re.DOTALL)
    body = body[body.index("<svg") :]
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", body)
    body = re.sub(r' (width|height)="[\d.]+pt"', "", body, count=2)
    head = f'<svg role="img" aria-label="{escape(alt)}" style="max-width:{96 * drawing.get_figwidth():.0f}px" '
    return body.replace("<svg ", head, 1).replace(INK, "currentColor")


def write_figure(drawing: Figure, path: Any, kind: str) -> None:
    """Write a drawing as `svg`, `pdf` or `png` on white; the same drawing gives the same bytes."""
    metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}[kind]
    _save(drawing, path, kind, metadata, dpi=200, facecolor="white")


def _save(drawing: Figure, to: Any, kind: str, metadata: dict[str, Any], **options: Any) -> None:
    with rc_context(STYLE):
        if drawing.get_layout_engine() is not None:  # laid out once, for all formats
            drawing.draw_without_rendering()
            drawing.set_layout_engine("none")
        drawing.savefig(to, format=kind, metadata=metadata, **options)


def _panels(titles: Collection[str], columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    drawing = Figure(figsize=(width * (columns if columns > 1 else 1.5), height * rows + 0.3), layout="constrained")
    axes = list(drawing.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[len(titles) :]:
        ax.set_visible(False)
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title)
        ax.xaxis.set_major_locator(MaxNLocator(6))
    return drawing, axes[: len(titles)]


def _with_legend(drawing: Figure, legend: Mapping[str, Any], columns: int) -> Figure:
    handles = [Line2D([], [], label=name, **style) for name, style in legend.items()]
    # in points: 40 for a marker with its gaps, 5 for a letter
    fit = int(72 * drawing.get_figwidth() / (40 + 5 * max(map(len, legend))))
    columns = max(1, min(columns, len(handles), fit))
    drawing.set_figheight(drawing.get_figheight() + 0.17 * ((len(handles) - 1) // columns))
    drawing.legend(handles=handles, loc="outside upper left", ncols=columns)
    return drawing


def _shortened(text: str, longest: int = 20) -> str:
    if len(text) <= longest:
        return text
    head = (longest - 1) // 2
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"
