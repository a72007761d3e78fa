"""Drawings as SVG text: small, the same bytes every time, words as words, colours that survive a dark page.

Lines and words that are not data take the colour of the text around them (`currentColor`); data have colours that
colour-blind readers tell apart, and shapes beside, for readers in grey.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, sans-serif"
INK = "currentColor"
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "plus")

Point = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """One drawing, `width` x `height` pixels of its own; `alt` says in words what it shows."""

    title: str
    width: float
    height: float
    body: str
    alt: str

    def svg(self) -> str:
        """The drawing for an HTML page: as wide as its place allows."""
        return (
            f'<svg viewBox="0 0 {number(self.width)} {number(self.height)}" role="img" '
            f'aria-label="{escape(self.alt)}" font-family="{FONT}" font-size="11">{self.body}</svg>'
        )


def number(value: float) -> str:
    """A coordinate with one decimal, without a useless zero."""
    text = f"{value:.1f}"
    text = text[:-2] if text.endswith(".0") else text
    return "0" if text == "-0" else text


class Canvas:
    """Collects the elements of one drawing."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.parts: list[str] = []

    def panel(self, title: str, alt: str) -> Panel:
        """What was drawn so far."""
        return Panel(title, self.width, self.height, "".join(self.parts), alt)

    def add(self, tag: str, *, hint: str = "", inside: str = "", **attributes: Any) -> None:
        """One element; `hint` is shown when a pointer rests on it; `inside` is SVG already."""
        said = "".join(
            f' {name.replace("_", "-")}="{number(value) if isinstance(value, (int, float)) else escape(str(value))}"'
            for name, value in attributes.items()
            if value is not None
        )
        content = (f"<title>{escape(hint)}</title>" if hint else "") + inside
        self.parts.append(f"<{tag}{said}>{content}</{tag}>" if content else f"<{tag}{said}/>")

    def text(self, x: float, y: float, words: str, *, anchor: str | None = None, hint: str = "", **more: Any) -> None:
        """Words whose baseline begins (`anchor` middle, end: is centred, ends) at (x, y)."""
        more = {"fill": INK, "text_anchor": anchor, **more}
        content = (f"<title>{escape(hint)}</title>" if hint else "") + escape(words)
        self.add("text", x=x, y=y, inside=content, **more)

    def line(self, x1: float, y1: float, x2: float, y2: float, *, opacity: str | None = None, **more: Any) -> None:
        """A straight line."""
        more = {"stroke": INK, "stroke_opacity": opacity, **more}
        self.add("path", d=f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}", **more)

    def curve(self, curves: Sequence[Sequence[Point]], colour: str, *, width: str = "1.5", **more: Any) -> None:
        """Lines through points; a point that is no number interrupts its line."""
        path = "".join(_through(points) for points in curves)
        if path:
            self.add("path", d=path, fill="none", stroke=colour, stroke_width=width, stroke_linejoin="round", **more)

    def marks(
        self, points: Sequence[Point], shape: str, colour: str, size: float = 6.0, *, hollow: bool = False,
        hint: str = "", opacity: str | None = None,
    ) -> None:  # fmt: skip
        """The same mark of about `size` pixels at every point, as one element."""
        if not points:
            return
        if shape == "circle" and not hollow:  # a dot is a line of no length with round ends: a few bytes a point
            path = "".join(f"M{number(x)} {number(y)}h0" for x, y in points)
            style: dict[str, Any] = {"fill": "none", "stroke": colour, "stroke_width": size, "stroke_linecap": "round"}
        else:
            path = "".join(f"M{number(x)} {number(y)}{_outline(shape, size)}" for x, y in points)
            stroked = hollow or shape in ("cross", "plus")
            style = {"fill": "none" if stroked else colour, "stroke": colour if stroked else None, "stroke_width": 1.5}
        self.add("path", hint=hint, d=path, opacity=opacity, **style)


def _through(points: Sequence[Point]) -> str:
    path, pen = "", "M"
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            path += f"{pen}{number(x)} {number(y)}"
            pen = "L"
        else:
            pen = "M"
    return path


def _outline(shape: str, size: float) -> str:
    """Relative path of a mark around the current point."""
    half = size / 2
    h, s = number(half), number(size)
    back = "-" + h
    if shape == "square":
        return f"m{back} {back}h{s}v{s}h-{s}z"
    if shape == "triangle":
        return f"m0 -{number(1.15 * half)}l{number(1.1 * half)} {s}h-{number(1.1 * size)}z"
    if shape == "diamond":
        wide = number(1.3 * half)
        return f"m0 -{wide}l{wide} {wide}l-{wide} {wide}l-{wide} -{wide}z"
    if shape == "cross":
        return f"m{back} {back}l{s} {s}m0 -{s}l-{s} {s}"
    if shape == "plus":
        return f"m{back} 0h{s}m{back} {back}v{s}"
    return f"m{back} 0a{h} {h} 0 1 0 {s} 0a{h} {h} 0 1 0 -{s} 0"  # circle


@dataclass(frozen=True)
class Scale:
    """Values `low` to `high` onto pixels `start` to `end`, straight or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Where `value` is drawn."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values within the range, about so many."""
        width = (self.high - self.low) / about
        if not width > 0:
            return [self.low]
        power = 10.0 ** math.floor(math.log10(width))
        step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= width * 0.999), 10 * power)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(step * k, 10) for k in range(first, last + 1)]


def wide_enough(values: Sequence[float], *, least: float = 0.0, pad: float = 0.06) -> tuple[float, float]:
    """A range that holds all finite `values` with some air; (0, 1) for none."""
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    air = max(pad * (high - low), (least - (high - low)) / 2, 1e-9)
    return low - air, high + air


def shortened(words: str, longest: int) -> str:
    """`words`, cut in the middle where they are too long for their place."""
    if len(words) <= longest:
        return words
    head = (longest - 1) // 2
    return f"{words[:head]}…{words[len(words) - (longest - 1 - head) :]}"


def together(panels: Sequence[Panel], columns: int, title: str) -> str:
    """Several drawings as one SVG file of its own, `columns` side by side, on white."""
    gap, head = 16.0, 20.0
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    parts, top, widest = [], gap, 0.0
    for row in rows:
        left = gap
        for panel in row:
            parts.append(
                f'<g transform="translate({number(left)} {number(top)})">'
                f'<text y="12" font-weight="bold" fill="currentColor">{escape(panel.title)}</text>'
                f'<g transform="translate(0 {number(head)})">{panel.body}</g></g>'
            )
            left += panel.width + gap
        widest = max(widest, left)
        top += head + max(panel.height for panel in row) + gap
    size = f'width="{number(widest)}" height="{number(top)}" viewBox="0 0 {number(widest)} {number(top)}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} color="#1a1a1a" font-family="{FONT}" font-size="11">'
        f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )
