"""The systems of a finished run against one of them, on all of its test speakers or on some.

What the report tests is each system against SER_only. Here the baseline is anybody, a classical one for instance, and
the speakers may be those of a table, such as the ones that nothing was decided on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from unheard.errors import ConfigError, RunError, SplitError, did_you_mean
from unheard.experiments.lines import Line
from unheard.experiments.records import RunRecords, read_run
from unheard.experiments.statistics import (
    METRICS,
    Counts,
    contrast,
    contrast_table,
    corrected,
    counts_of,
    explanation,
)
from unheard.features.normalise import TRANSDUCTIVE
from unheard.manifest import Manifest, Utterance
from unheard.splits.development import of_part


def against(run: str | Path, baseline: str = "ser", speakers: str = "") -> str:
    """WA and UAR of every system, and its difference to `baseline`, in Markdown.

    `speakers` is `FILE:PART` (see `of_part`). p values are corrected (Holm) over the contrasts of a metric in the
    report's families: fixed λ and ε, chosen ones, classical systems. Raises `ConfigError` for a baseline the run has
    not, `RunError` where it has no complete seed, `SplitError` where none of the speakers is tested.
    """
    records = read_run(run)
    lines = [line for line in records.lines if line.seeds]
    base = next((line for line in lines if line.system == baseline and not line.chosen), None)
    if base is None:
        known = [line.system for line in records.lines]
        if baseline in known:
            raise RunError(f"'{baseline}' has no complete seed yet", where=run, mend="Let the experiment finish.")
        raise ConfigError(f"this run has no system '{baseline}'", where=run, mend=did_you_mean(baseline, known))
    chosen = _chosen(records, speakers)
    counts = {line.name: of_speakers(counts_of(line, len(records.labels)), chosen) for line in lines}
    before = counts[base.name]
    if not before.speakers:
        raise SplitError(
            f"none of the speakers of {speakers} is tested in this run", where=run, mend="Choose others, or more folds."
        )
    n = int(before.totals.sum())
    said = [
        f"{n} utterances of {len(before.speakers)} test speakers"
        + (f" ({speakers})" if speakers else "")
        + (f", {TRANSDUCTIVE}" if records.settings.normalise == "speaker" else ""),
        "",
        "| System | WA, % | UAR, % | Seeds |",
        "|---|---:|---:|---:|",
        *(_row(line, counts[line.name]) for line in lines),
    ]
    contrasts = corrected(
        contrast(line.name, base.name, before, counts[line.name], metric, line.family)
        for metric in METRICS
        for line in lines
        if line is not base
    )
    if contrasts:
        said += ["", contrast_table(contrasts)]
        said += [
            "",
            explanation(contrasts),
            "",
            "Over the seeds both have. Holm's families are the networks, the networks with λ and ε chosen, and the "
            "classical systems.",
        ]
    return "\n".join([*said, ""])


def of_speakers(counts: Counts, chosen: Collection[str] | None) -> Counts:
    """The same of these speakers alone; None for all."""
    if chosen is None:
        return counts
    places = [place for place, name in enumerate(counts.speakers) if name in chosen]
    return replace(
        counts,
        speakers=tuple(counts.speakers[place] for place in places),
        totals=counts.totals[places],
        hits=counts.hits[:, places],
    )


def _chosen(records: RunRecords, speakers: str) -> set[str] | None:
    if not speakers:
        return None
    rows = tuple(
        Utterance(
            id=name, audio="", speaker=row["speaker"], emotion=row.get("emotion") or "other", corpus=row["corpus"]
        )
        for name, row in records.utterances.items()
    )
    return {row.speaker for row in of_part(Manifest(rows), speakers)}


def _row(line: Line, counts: Counts) -> str:
    figures = []
    for metric in METRICS:
        scores = 100 * counts.scores(metric)
        spread = f" ± {scores.std(ddof=1):.1f}" if len(scores) > 1 else ""
        figures.append(f"{scores.mean():.1f}{spread}")
    return f"| {line.name} | {figures[0]} | {figures[1]} | {len(counts.seeds)} |"
