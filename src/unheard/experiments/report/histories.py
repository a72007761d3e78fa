"""The learning curves as they are drawn, in a file that is published with the run.

RUN/curves.csv: digest, epoch, and the columns of `history.jsonl` that are drawn; a row an epoch of a training
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from unheard.experiments.folder import read_csv
from unheard.experiments.lines import CellRecord
from unheard.experiments.report.maps import digest_of
from unheard.files import write_text

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
