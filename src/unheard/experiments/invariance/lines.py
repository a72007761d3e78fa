"""The figures of a line of the tables: one examination a seed, and their mean."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unheard.experiments.invariance.examine import Invariance
from unheard.experiments.invariance.resample import Estimate

INPUT = "input features"
"""The name of the row that is no system: mean ‖ std of the normalised features."""


@dataclass(frozen=True)
class LineInvariance:
    """A line of the tables: `each` examination belongs to one of `seeds`; the input features have no seed."""

    name: str
    seeds: tuple[int, ...]
    each: tuple[Invariance, ...]

    def over_seeds(self, figure: str) -> tuple[float, float]:
        """Mean and sample standard deviation over the seeds of a figure of `FIGURES`; NaN where there are too few."""
        values = [inv.figure(figure) for inv in self.each]
        mean = statistics.fmean(values) if values else math.nan
        # `stdev` refuses what is not finite, such as the gap of genders that nobody knows
        return mean, statistics.stdev(values) if len(values) > 1 and math.isfinite(mean) else math.nan


HEADS = {
    "linear": "Speaker probe, linear",
    "mlp": "Speaker probe, MLP",
    "eer": "EER",
    "worst_uar": "Worst speaker's UAR",
    "mean_uar": "Mean of speakers' UAR",
    "spread_uar": "Best − worst",
    "gender_gap": "Women − men",
}
"""Figure -> head of its column."""


UNSEEN = "unseen speakers"


def markdown(lines: Mapping[str, LineInvariance], whose: str = UNSEEN) -> str:
    """The lines as a Markdown table, percent and points, with what they are to be read against below it."""
    rows = ["| | " + " | ".join(HEADS.values()) + " |", "|---|" + "---:|" * len(HEADS)]
    for line in lines.values():
        rows.append(f"| {line.name} | " + " | ".join(shown(line, figure) for figure in HEADS) + " |")
    first = next(iter(lines.values())).each[0]
    return "\n".join([*rows, "", *explained(first, whose)]) + "\n"


def shown(line: LineInvariance, figure: str) -> str:
    """A figure in percent: mean ± standard deviation over seeds, or with one seed its interval where it has one."""
    mean, deviation = line.over_seeds(figure)
    if math.isnan(mean):
        return "–"
    if len(line.each) > 1:
        return f"{100 * mean:.1f} ± {100 * deviation:.1f}"
    interval = _interval(line.each[0], figure)
    if interval is None or math.isnan(interval.low):
        return f"{100 * mean:.1f}"
    return f"{100 * mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _interval(inv: Invariance, figure: str) -> Estimate | None:
    if figure in ("linear", "mlp", "eer"):
        estimate: Estimate = getattr(inv, figure)
        return estimate
    if inv.groups is None:
        return None
    return {"worst_uar": inv.groups.worst.uar, "gender_gap": inv.groups.gender_gap}.get(figure)


def explained(inv: Invariance, whose: str = UNSEEN) -> Sequence[str]:
    """Sentences that say what the figures are of, `whose` recordings, and what chance is."""
    drawn = "" if inv.examined == inv.recordings else f" (probe and EER: a seeded draw of {inv.examined})"
    one, two = inv.pairs
    of_texts = "with different texts" if inv.pair_texts == "different" else "whatever their texts"
    if inv.disjoint == "texts":
        parts = f"the probe is trained and tested on different recordings and different texts ({inv.texts} texts)"
    else:
        parts = "the probe is trained and tested on different recordings; their texts may be the same"
    return [
        f"{inv.recordings} recordings of {inv.speakers} {whose}{drawn}; {parts}.",
        f"Chance {100 * inv.chance:.1f} %, always the most frequent speaker {100 * inv.majority:.1f} %; an EER of 50 % "
        f"is chance ({one:,} pairs of one speaker and {two:,} of two, {of_texts}).",
        "Percent and points; [95 % interval] from resampling recordings, ± standard deviation over seeds.",
    ]
