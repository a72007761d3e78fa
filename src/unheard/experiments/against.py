"""The systems of finished runs against one of them, on all of their test speakers or on some.

What the report tests is each system against SER_only. Here the baseline is anybody, a classical one for instance, and
the speakers may be those of a table, such as the ones that nothing was decided on. Of several runs, on corpora of
their own, the mean of their differences is tested too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from unheard.errors import ConfigError, RunError, SplitError, did_you_mean
from unheard.experiments.lines import Line, Predictions
from unheard.experiments.records import RunRecords, read_run
from unheard.experiments.statistics import (
    METRICS,
    Counts,
    contrast,
    contrast_table,
    corrected,
    counts_of,
    explanation,
    together,
)
from unheard.features.normalise import TRANSDUCTIVE
from unheard.manifest import Manifest, Utterance
from unheard.splits.development import of_part
from unheard.training.decision import worth
from unheard.training.recipe import DECISIONS


@dataclass(frozen=True, eq=False)
class Compared:
    """A run's lines with what their test speakers came to, the one the others are compared with, and who they are."""

    run: Path
    lines: tuple[Line, ...]
    base: Line
    counts: Mapping[str, Counts]
    people: frozenset[tuple[str, str]]
    about: str

    def with_base(self, line: Line) -> bool:
        """Whether `line` can be compared with the baseline: it is another one, and has a seed in common with it."""
        shared = set(self.counts[line.name].seeds) & set(self.counts[self.base.name].seeds)
        return line is not self.base and bool(shared)


FAMILIES = "Holm's families are the networks, the networks with λ and ε chosen, and the classical systems."


def against(*runs: str | Path, baseline: str = "ser", speakers: str = "", decision: str = "") -> str:
    """WA and UAR of every system of each run, and its difference to `baseline`, in Markdown; of several their mean too.

    `speakers` is `FILE:PART` (see `of_part`). `decision`: of networks that said the likeliest emotion, what they would
    say by another one (see `unheard.training.decision`); classical systems stay as they are. p values are corrected
    (Holm) over the contrasts of a metric in the report's families: fixed λ and ε, chosen ones, classical systems.
    Raises `ConfigError` for a baseline the run has not, for a decision that cannot be and for runs that test the same
    person, `RunError` where a run has no complete seed, `SplitError` where none of the speakers is tested.
    """
    compared = [_compared(Path(run), baseline, speakers, decision) for run in runs]
    if len(compared) == 1:
        return _alone(compared[0])
    parts = [f"## {one.run}\n\n{_alone(one)}" for one in compared]
    return "\n".join([*parts, f"## Together\n\n{_together(compared)}"])


def _compared(run: Path, baseline: str, speakers: str, decision: str) -> Compared:
    records = read_run(run)
    lines = [line for line in records.lines if line.seeds]
    base = next((line for line in lines if line.system == baseline and not line.chosen), None)
    if base is None:
        known = [line.system for line in records.lines]
        if baseline in known:
            raise RunError(f"'{baseline}' has no complete seed yet", where=run, mend="Let the experiment finish.")
        raise ConfigError(f"this run has no system '{baseline}'", where=run, mend=did_you_mean(baseline, known))
    if decision:
        lines = [_redecided(records, line, decision) if not line.seeds[0].cells[0].fitted else line for line in lines]
        base = next(line for line in lines if line.name == base.name)
    chosen = _chosen(records, speakers)
    counts = {line.name: of_speakers(counts_of(line, len(records.labels)), chosen) for line in lines}
    tested = counts[base.name]
    if not tested.speakers:
        raise SplitError(
            f"none of the speakers of {speakers} is tested in this run", where=run, mend="Choose others, or more folds."
        )
    about = (
        f"{int(tested.totals.sum())} utterances of {len(tested.speakers)} test speakers"
        + (f" ({speakers})" if speakers else "")
        + (f", networks decided by '{decision}'" if decision else "")
        + (f", {TRANSDUCTIVE}" if records.settings.normalise == "speaker" else "")
    )
    people = {(row["corpus"], row["speaker"]) for row in records.utterances.values()}
    heard = frozenset((corpus, speaker) for corpus, speaker in people if speaker in tested.speakers)
    return Compared(run, tuple(lines), base, counts, heard, about)


def _alone(one: Compared) -> str:
    """A run's figures and contrasts."""
    said = [one.about, "", "| System | WA, % | UAR, % | Seeds |", "|---|---:|---:|---:|"]
    said += [_row(line, one.counts[line.name]) for line in one.lines]
    base = one.base.name
    contrasts = corrected(
        contrast(line.name, base, one.counts[base], one.counts[line.name], metric, line.family)
        for metric in METRICS
        for line in one.lines
        if one.with_base(line)
    )
    apart = [line.name for line in one.lines if line is not one.base and not one.with_base(line)]
    said += [f"\n{name} is not compared: it has no complete seed in common with {base}." for name in apart]
    if contrasts:
        said += ["", contrast_table(contrasts), "", explanation(contrasts), "", f"Over the seeds both have. {FAMILIES}"]
    return "\n".join([*said, ""])


def _together(runs: Sequence[Compared]) -> str:
    """The mean over runs of each difference that all of them have."""
    for one, other in combinations(runs, 2):
        if shared := sorted(one.people & other.people):
            corpus, speaker = shared[0]
            raise ConfigError(
                f"{one.run} and {other.run} both test {corpus or 'a corpus without a name'}'s speaker '{speaker}', so "
                "that they say the same twice",
                mend="Name runs on different corpora; two runs on one split are for `unheard compare`.",
            )
    first, *others = runs
    names = [
        line.name
        for line in first.lines
        if first.with_base(line) and all(any(o.name == line.name and r.with_base(o) for o in r.lines) for r in others)
    ]
    if not names:
        return f"No system besides {first.base.name} is in all of these runs.\n"
    family = {line.name: line.family for line in first.lines}
    base = first.base.name
    contrasts = corrected(
        together(name, base, [(run.counts[base], run.counts[name]) for run in runs], metric, family[name])
        for metric in METRICS
        for name in names
    )
    how = (
        f"The mean of {len(runs)} runs' differences, each run counting the same; speakers are swapped and drawn within "
        f"their run. It is about these corpora: how corpora differ, {len(runs)} cannot say."
    )
    return "\n".join([contrast_table(contrasts), "", how, "", explanation(contrasts), "", FAMILIES, ""])


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


def _redecided(records: RunRecords, line: Line, decision: str) -> Line:
    """A line whose networks say what `decision` has them say, by the emotions of each reading's training utterances."""
    if decision not in DECISIONS:
        raise ConfigError(f"unknown decision '{decision}'", mend=did_you_mean(decision, DECISIONS))
    if records.settings.training.decision != DECISIONS[0]:
        raise ConfigError(
            f"the networks of this run have decided by '{records.settings.training.decision}' already",
            where=records.folder,
            mend="Leave --decision out.",
        )
    if records.settings.training.class_weights == "balanced":
        raise ConfigError(
            "the networks of this run were trained with balanced class weights, which make up for rarity already",
            where=records.folder,
            mend="Leave --decision out.",
        )
    counts: dict[int, list[int]] = {fold: [0] * len(records.labels) for fold in records.folds}
    for fold, name in {(row.fold, row.id) for row in records.splits if row.part == "train"}:
        emotion = records.utterances[name]["emotion"]
        if emotion not in records.labels:
            raise RunError(
                f"how '{name}' was said, which is trained on, is not known",
                where=records.folder / "utterances.csv",
                mend="Run the experiment again: it writes that file anew.",
            )
        counts[fold][records.labels.index(emotion)] += 1

    def said(part: Predictions) -> Predictions:
        factors = np.array([worth(decision, counts[int(fold)]) for fold in part.folds])
        scaled = part.probabilities * factors
        return replace(part, predicted=scaled.argmax(axis=1), probabilities=scaled / scaled.sum(axis=1, keepdims=True))

    return replace(line, seeds=tuple(replace(one, dev=said(one.dev), test=said(one.test)) for one in line.seeds))


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
