"""What a run's figures are worth: differences between systems, tested with the test speaker as the unit.

    predictions -> counts (speakers x classes) -> permutation test, Holm, bootstrap intervals, detectable difference

numpy alone, but for the detectable difference (scipy, when it is asked for). docs/statistics.md has the formulas.
"""

from unheard.experiments.statistics.bootstrap import Interval, interval
from unheard.experiments.statistics.contrasts import Contrast, contrast, corrected
from unheard.experiments.statistics.counts import METRICS, Counts, Metric, count, shares
from unheard.experiments.statistics.effect import detectable_difference, relative_error_reduction
from unheard.experiments.statistics.gaps import gap_contrast
from unheard.experiments.statistics.permutation import Permutation, holm, permutation_test
from unheard.experiments.statistics.render import (
    contrast_table,
    contrasts_markdown,
    explanation,
    gap_table,
    interval_text,
    p_text,
    signed,
)
from unheard.experiments.statistics.summary import LineSummary, Spread, Summary, counts_of, summarize, summarize_line
from unheard.experiments.statistics.together import together

__all__ = [
    "METRICS",
    "Contrast",
    "Counts",
    "Interval",
    "LineSummary",
    "Metric",
    "Permutation",
    "Spread",
    "Summary",
    "contrast",
    "contrast_table",
    "contrasts_markdown",
    "corrected",
    "count",
    "counts_of",
    "detectable_difference",
    "explanation",
    "gap_contrast",
    "gap_table",
    "holm",
    "interval",
    "interval_text",
    "p_text",
    "permutation_test",
    "relative_error_reduction",
    "shares",
    "signed",
    "summarize",
    "summarize_line",
    "together",
]
