"""Notebook output of predictions, manifests and runs: HTML tables, data frames and matplotlib axes."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unheard.errors import UnheardError

COLOURS = {
    "angry": "#c0392b", "happy": "#e0a100", "neutral": "#8a8f98", "sad": "#2f6fb0", "surprised": "#c2579b",
    "fearful": "#6b4fa0", "disgusted": "#5b8c3a", "calm": "#55a7a0", "bored": "#9c7a56", "excited": "#e0702a",
    "frustrated": "#7d3c3c", "other": "#444444",
}  # fmt: skip
"""Label -> colour; other labels have the colour `OTHER`."""

OTHER = "#444444"


def frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Return rows as a pandas DataFrame; raises `UnheardError` if pandas is not installed."""
    try:
        import pandas
    except ModuleNotFoundError:
        what = "to_frame needs pandas, which is not installed"
        raise UnheardError(what, mend="Install it with: pip install pandas") from None
    return pandas.DataFrame(list(rows))


def axes_for(axes: Any, width: float = 8, height: float = 2) -> Any:
    """Return `axes`, or the axes of a new matplotlib figure; raises `UnheardError` if matplotlib is not installed."""
    if axes is not None:
        return axes
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError:
        what = "plot needs matplotlib, which is not installed"
        raise UnheardError(what, mend="Install it with: pip install matplotlib") from None
    return pyplot.subplots(figsize=(width, height), layout="constrained")[1]


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], above: str = "") -> str:
    """Return an HTML table whose texts are escaped, preceded by the HTML `above`."""
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"{above}<table><caption>{html.escape(caption)}</caption><tr>{cells}</tr>{body}</table>"


def strip(segments: Iterable[tuple[float, float, str | None, str]], duration: float, name: str = "") -> str:
    """Return a timeline as HTML: segments (start, end, label, title) in a bar of `duration` seconds."""
    parts = "".join(
        f'<div title="{html.escape(title)}" style="position:absolute;top:0;bottom:0;overflow:hidden;font-size:11px;'
        f"color:#fff;left:{100 * start / duration:.3f}%;width:{100 * (end - start) / duration:.3f}%;"
        f'background:{COLOURS.get(label, OTHER)}">{html.escape(label)}</div>'
        for start, end, label, title in segments
        if label is not None
    )
    bar = f'<div style="position:relative;height:18px;background:#e4e6ea;flex:1">{parts}</div>'
    named = f'<div style="width:8em;overflow:hidden">{html.escape(name)}</div>' if name else ""
    return f'<div style="display:flex;max-width:60em;margin:2px 0">{named}{bar}</div>'
