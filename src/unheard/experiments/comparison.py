"""The systems of finished runs against one of them, on all of their test speakers or on some.

What the report tests is each system against SER_only. Here the baseline is anybody, a classical one for instance, and
the speakers may be those of a table, such as the ones that nothing was decided on. Of several runs, on corpora of
their own, the mean of their differences is tested too.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from unheard.analysis.statistics import METRICS, Contrast, Counts, contrast, corrected, together
from unheard.errors import ConfigError, RunError, SplitError, did_you_mean
from unheard.experiments.records import Line, Predictions, RunRecords, read_run
from unheard.experiments.summary import (
    LineSummary,
    contrast_table,
    counts_of,
    explanation,
    interval_text,
    summarize_line,
)
from unheard.features.normalise import TRANSDUCTIVE
from unheard.manifest import Manifest, Utterance
from unheard.splits.files import of_part
from unheard.training.metrics import decision_factors
from unheard.training.recipe import DECISIONS

if TYPE_CHECKING:
    from unheard.experiments.records import RunRecords


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
    say by another one (see `unheard.training.metrics`); classical systems stay as they are. p values are corrected
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
        factors = np.array([decision_factors(decision, counts[int(fold)]) for fold in part.folds])
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


# Whether two runs can be compared: the same labels, the same split, the same data. Else: what exactly differs.

SPLITTING = (
    "corpus", "manifest", "subset", "partial", "emotions", "map", "speakers", "channel", "protocol", "group", "test",
    "k", "n", "column", "train_corpora", "test_corpora", "split_seed", "folds",
)  # fmt: skip
"""Settings that decide who trains, validates and is tested; equal splits make their differences immaterial."""
IMMATERIAL = ("root", "out", "systems", "seeds", "store", "workers", "engine", "address", "gpus", "tensorboard",
              "progress", "invariance")  # fmt: skip
"""Settings that are no property of a trained system."""

VERBS = {"train": "trains on", "dev": "validates on", "test": "tests"}
SHOWN = 6
"""Names written out; of more, how many there are."""


class Difference(NamedTuple):
    """A setting that differs, as words."""

    setting: str
    a: str
    b: str


def check_comparable(a: RunRecords, b: RunRecords) -> None:
    """Raises `SplitError`, saying what differs and how to mend it, unless labels, split and data are the same."""
    for reasons in (_labels(a, b), _split(a, b), _truth(a, b), _data(a, b)):
        if reasons:
            more = f" (and {len(reasons) - 3} more differences)" if len(reasons) > 3 else ""
            raise SplitError(
                f"the runs cannot be compared: {'; '.join(reasons[:3])}{more}",
                where=f"A = {a.folder}, B = {b.folder}",
                mend=_mend(a, b),
            )


def settings_that_differ(a: RunRecords, b: RunRecords) -> tuple[Difference, ...]:
    """What else differs between runs on the same split: recipe, network, features, options, versions."""
    own, other = (_flat(run.settings.as_dict(), skip=(*SPLITTING, *IMMATERIAL)) for run in (a, b))
    return _differences(own, other) + _differences(_versions(a), _versions(b))


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Difference, ...]:
    names = dict.fromkeys((*a, *b))
    return tuple(
        Difference(name, _word(a.get(name)), _word(b.get(name))) for name in names if a.get(name) != b.get(name)
    )


def _labels(a: RunRecords, b: RunRecords) -> list[str]:
    if a.labels == b.labels:
        return []
    return [f"they tell different emotions apart, {', '.join(a.labels)} in A, {', '.join(b.labels)} in B"]


def _split(a: RunRecords, b: RunRecords) -> list[str]:
    """Differences in folds and readings, then in speakers, then in single utterances."""
    if set(a.splits) == set(b.splits):
        return []
    held = [_parts(run) for run in (a, b)]
    if set(held[0]) != set(held[1]):
        return _layouts(*held)
    reasons = []
    for (fold, reading, part), own in held[0].items():
        other = held[1][fold, reading, part]
        place = f"fold {fold}" + (f" ({reading})" if reading not in ("", "test") else "")
        speakers = [set(ids.values()) for ids in (own, other)]
        if speakers[0] != speakers[1]:
            only = [sorted(speakers[0] - speakers[1]), sorted(speakers[1] - speakers[0])]
            if len(speakers[0]) <= SHOWN >= len(speakers[1]):
                both = [f"speaker{'s' if len(s) != 1 else ''} {_names(sorted(s))}" for s in speakers]
                reasons.append(f"{place} {VERBS[part]} {both[0]} in A, {_names(sorted(speakers[1]))} in B")
            else:
                said = [f"{_names(names)} in {run} only" for names, run in zip(only, "AB", strict=True) if names]
                reasons.append(f"{place} {VERBS[part]} speakers {' and '.join(said)}")
        elif own != other:
            utterances = [sorted(set(own) - set(other)), sorted(set(other) - set(own))]
            said = [f"{_names(names)} in {run} only" for names, run in zip(utterances, "AB", strict=True) if names]
            reasons.append(
                f"{place} {VERBS[part]} the utterances {' and '.join(said)}" if said else _respoken(own, other)
            )
    return reasons


def _respoken(own: Mapping[str, str], other: Mapping[str, str]) -> str:
    name = next(name for name in own if own[name] != other[name])
    return f"'{name}' is spoken by {own[name]} in A, by {other[name]} in B"


def _parts(run: RunRecords) -> dict[tuple[int, str, str], dict[str, str]]:
    """(fold, reading, part) -> id -> speaker; test first, as that is what a reader asks for first."""
    parts: dict[tuple[int, str, str], dict[str, str]] = {}
    order = ("test", "dev", "train")
    for row in sorted(run.splits, key=lambda row: (row.fold, order.index(row.part))):
        parts.setdefault((row.fold, row.reading, row.part), {})[row.id] = row.speaker
    return parts


def _layouts(a: Iterable[tuple[int, str, str]], b: Iterable[tuple[int, str, str]]) -> list[str]:
    """How the folds, or else their readings, differ."""
    folds: list[dict[int, list[str]]] = []
    for parts in (a, b):
        layout: dict[int, list[str]] = {}
        for fold, reading, part in sorted(parts):
            layout.setdefault(fold, []).append(f"{part} {reading}" if reading not in ("", "test") else part)
        folds.append(layout)
    own, other = folds
    if set(own) != set(other):
        words = [f"{_names(list(map(str, layout)))} ({len(layout)} in all)" for layout in folds]
        return [f"A has the folds {words[0]}, B has {words[1]}"]
    return [
        f"fold {fold} has the parts {', '.join(own[fold])} in A, {', '.join(other[fold])} in B"
        for fold in own
        if own[fold] != other[fold]
    ]


def _truth(a: RunRecords, b: RunRecords) -> list[str]:
    """Utterances of the split whose emotion or speaker the runs state differently."""
    reasons = []
    for name in sorted({row.id for row in a.splits}):
        own, other = a.utterances.get(name, {}), b.utterances.get(name, {})
        for column in ("emotion", "speaker"):
            if own.get(column, "") and other.get(column, "") and own[column] != other[column]:
                reasons.append(f"the {column} of '{name}' is {own[column]} in A, {other[column]} in B")
    return reasons


def _data(a: RunRecords, b: RunRecords) -> list[str]:
    """Folds whose data differ in what the digests of their cells cover: the decoded audio, above all.

    They also cover the features' settings; where those differ nothing can be said.
    """
    if a.settings.group != b.settings.group:
        return []
    own, other = ({cell.fold: cell.result.get("proof", {}) for cell in run.cells} for run in (a, b))
    folds = [
        fold
        for fold, proof in own.items()
        if fold in other
        and proof.get("features") == other[fold].get("features")
        and proof.get("data") != other[fold].get("data")
    ]
    return (
        [f"the recordings of fold {', '.join(map(str, sorted(folds)))} are not the same (data digests)"]
        if folds
        else []
    )


def unknown_data(a: RunRecords, b: RunRecords) -> list[str]:
    """A note where no digest says whether the runs heard the same recordings, since their features differ."""
    features = [{cell.result.get("proof", {}).get("features") for cell in run.cells} for run in (a, b)]
    if features[0] & features[1]:
        return []
    return ["The features differ: whether both heard the same recordings cannot be told, only that they are named so."]


def _mend(a: RunRecords, b: RunRecords) -> str:
    flat = [{name: run.settings.as_dict().get(name) for name in SPLITTING} for run in (a, b)]
    differing = _differences(*flat)
    if not differing:
        return "Run both on the same corpus, in the same version, with the same settings of the split."
    said = [f"--{name.replace('_', '-')} ({own} in A, {other} in B)" for name, own, other in differing]
    return f"Run one of them again; settings that differ: {', '.join(said)}."


def _versions(run: RunRecords) -> dict[str, Any]:
    """The versions that the run's cells were trained with, `version of torch` -> numbers."""
    found: dict[str, set[str]] = {}
    for cell in run.cells:
        for name, version in cell.result.get("proof", {}).get("versions", {}).items():
            found.setdefault(f"version of {name}", set()).add(str(version))
    return {name: sorted(versions) for name, versions in found.items()}


def _flat(values: Mapping[str, Any], prefix: str = "", skip: Sequence[str] = ()) -> dict[str, Any]:
    """`{"training": {"lr": 1}}` as `{"training.lr": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if prefix + name in skip:
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _word(value: Any) -> str:
    """A setting's value as words; a dash for the default."""
    if value is None or value in ("", [], {}, ()):
        return "–"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    if isinstance(value, Mapping):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return str(value)


def _names(names: Sequence[str]) -> str:
    """`03, 08`, or `03, 04, 05, 06, 07, 08 and 12 more`."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


# Two runs on the same split side by side: each system in both, and the difference B - A with its statistics.


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
