"""Two runs on the same split side by side: each system in both, and the difference B - A with its statistics."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unheard.errors import RunError, SplitError
from unheard.experiments.comparable import Difference, check_comparable, settings_that_differ, unknown_data
from unheard.experiments.statistics.contrasts import Contrast, contrast, corrected
from unheard.experiments.statistics.counts import METRICS
from unheard.experiments.statistics.render import contrast_table, explanation, interval_text
from unheard.experiments.statistics.summary import LineSummary, summarize_line
from unheard.features.normalise import TRANSDUCTIVE

if TYPE_CHECKING:
    from unheard.experiments.records import RunRecords


@dataclass(frozen=True, eq=False)
class Comparison:
    """The lines that both runs have a complete seed of, A's and B's, and for each and each metric B - A.

    `settings` are those that differ though the split is the same; `notes` say what could not be compared.
    """

    a: str
    b: str
    labels: tuple[str, ...]
    split: str
    speakers: tuple[str, ...]
    lines: tuple[tuple[LineSummary, LineSummary], ...]
    contrasts: tuple[Contrast, ...]
    settings: tuple[Difference, ...]
    notes: tuple[str, ...]


def compare_runs(a: RunRecords, b: RunRecords) -> Comparison:
    """Compare two runs line by line; Holm's correction is over the lines compared, for each metric.

    Raises `SplitError` where labels, split or data differ, `RunError` where no line is complete in both.
    """
    check_comparable(a, b)
    own, other = ({(one.system, one.chosen): summarize_line(one, run.labels) for one in run.lines} for run in (a, b))
    lines, notes = [], []
    for key in dict.fromkeys((*own, *other)):
        first, second = own.get(key), other.get(key)
        if first and second and first.counts and second.counts:
            lines.append((first, second))
            notes += [
                f"{one.name} is incomplete in {run}: {one.done}/{one.wanted} trainings."
                for one, run in ((first, "A"), (second, "B"))
                if one.done < one.wanted
            ]
            if not set(first.seeds) & set(second.seeds):
                notes.append(f"{first.name} has no seed in common: the means over each run's own seeds are compared.")
        else:
            without = [run for one, run in ((first, "A"), (second, "B")) if not (one and one.counts)]
            name = (first or second).name  # type: ignore[union-attr]  # one of them has the key
            notes.append(f"{name} is left out: no complete seed in {' and '.join(without)}.")
    notes += unknown_data(a, b)
    notes += [f"{name} is {TRANSDUCTIVE}." for name, run in (("A", a), ("B", b)) if run.settings.normalise == "speaker"]
    if not lines:
        raise RunError(
            "no system has a complete seed in both runs",
            where=f"A = {a.folder}, B = {b.folder}",
            mend="Finish them first: the same `unheard experiment` again trains what is missing.",
        )
    contrasts = []
    for first, second in lines:
        before, after = first.counts, second.counts
        assert before is not None
        assert after is not None
        if not np.array_equal(before.totals, after.totals):  # runs without utterances.csv
            raise SplitError(
                f"{first.name} was scored against different labels in the two runs",
                where=f"A = {a.folder}, B = {b.folder}",
                mend="Run both on the same version of the corpus.",
            )
        contrasts += [contrast(first.name, first.name, before, after, metric, "compared") for metric in METRICS]
    return Comparison(
        a=str(a.folder),
        b=str(b.folder),
        labels=a.labels,
        split=a.split_digest,
        speakers=contrasts[0].speakers,
        lines=tuple(lines),
        contrasts=corrected(contrasts),
        settings=settings_that_differ(a, b),
        notes=tuple(notes),
    )


def to_markdown(comparison: Comparison) -> str:
    """The runs side by side, the differences, what else differs, and how to read it."""
    heads = ["System"] + [f"{metric}, {run}" for metric in ("WA", "UAR") for run in "AB"] + ["Seeds, A", "Seeds, B"]
    rows = [
        [first.name]
        + [f"{one.wa} {interval_text(one.wa_interval)}" for one in (first, second)]
        + [f"{one.uar} {interval_text(one.uar_interval)}" for one in (first, second)]
        + [str(len(one.seeds)) for one in (first, second)]
        for first, second in comparison.lines
    ]
    parts = [
        f"A = {comparison.a}\n\nB = {comparison.b}",
        f"The same split ({comparison.split}): {len(comparison.speakers)} test speakers, "
        f"{', '.join(comparison.labels)}. In percent: mean ± sample standard deviation over seeds, and in brackets "
        "the 95 % interval over speakers.",
        _table(heads, rows),
        "B − A:",
        contrast_table(comparison.contrasts),
        explanation(comparison.contrasts),
        "What else differs:\n\n" + _table(["Setting", "A", "B"], comparison.settings)
        if comparison.settings
        else "No other setting differs.",
    ]
    parts += ["\n".join(f"- {note}" for note in comparison.notes)] if comparison.notes else []
    return "\n\n".join(parts) + "\n"


def _table(heads: list[str], rows: Any) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def to_csv(comparison: Comparison) -> str:
    """A row a system and metric; accuracies and differences are portions, what is not known is empty."""
    rows = _rows(comparison)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.6f}" if isinstance(value, float) else value for name, value in row.items()})
    return text.getvalue()


def to_json(comparison: Comparison) -> str:
    """Everything, with each speaker's share of each difference; what is not known is null."""
    shares = [dict(zip(one.speakers, one.shares, strict=True)) for one in comparison.contrasts]
    value = {
        "a": comparison.a,
        "b": comparison.b,
        "labels": comparison.labels,
        "split": comparison.split,
        "speakers": comparison.speakers,
        "systems": [row | {"shares": share} for row, share in zip(_rows(comparison), shares, strict=True)],
        "settings": [difference._asdict() for difference in comparison.settings],
        "notes": comparison.notes,
    }
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The figures of each contrast, with the means and deviations of its two sides over all their seeds."""
    sides = {first.name: (first, second) for first, second in comparison.lines}
    rows = []
    for one in comparison.contrasts:
        row: dict[str, Any] = {"system": one.name, "metric": one.metric}
        for run, side in zip("ab", sides[one.name], strict=True):
            spread = side.wa if one.metric == "wa" else side.uar
            row |= {f"{run}_mean": spread.mean, f"{run}_std": spread.std, f"{run}_seeds": len(side.seeds)}
        row["shared_seeds"] = len(one.seeds)
        row["speakers"] = len(one.speakers)
        for name in ("difference", "rerr", "p", "p_holm", "smallest_p", "detectable"):
            row[name] = getattr(one, name)
        found = dataclasses.asdict(one.interval) if one.interval else {}
        row |= {name: found.get(name) for name in ("low", "high")}
        rows.append(row)
    return rows
