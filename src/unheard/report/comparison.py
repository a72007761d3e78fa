"""Comparison of the systems of a run with one of them (`contrast`), and of two runs on the same split (`compare`)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unheard.analysis.intervals import METRICS, Counts
from unheard.analysis.statistics import Contrast, contrast, corrected
from unheard.errors import ConfigError, RunError, SplitError, counted, did_you_mean, some
from unheard.experiments.baselines import NAMES
from unheard.experiments.records import RunRecords, read_run
from unheard.experiments.summary import Line, Predictions, baseline_of
from unheard.features.normalise import TRANSDUCTIVE
from unheard.files import json_text, markdown_table
from unheard.manifest import Manifest, Utterance
from unheard.report.content import limits, markdown_of_table, spread
from unheard.report.results import contrast_table
from unheard.splits.files import of_part
from unheard.training.metrics import decision_factors
from unheard.training.recipe import DECISIONS

# `contrast`: compares the systems of one or several runs with one of them, on all or some test speakers.

FAMILIES = "Holm's families are the networks, the networks with λ and ε chosen, and the classical systems."


@dataclass(frozen=True, eq=False)
class _SelectedRun:
    """The lines of a run, with their counts on the selected test speakers by name; `base` is the baseline."""

    folder: Path
    lines: tuple[Line, ...]
    base: Line
    counts: Mapping[str, Counts]
    speakers: frozenset[tuple[str, str]]  # (corpus, speaker)
    description: str

    def base_of(self, line: Line) -> Line:
        """Return the baseline under the same evaluation as `line`."""
        return baseline_of(line, self.lines, self.base.system) or self.base

    def pair(self, line: Line) -> tuple[Counts, Counts]:
        """Return the counts of the baseline and of `line`."""
        return self.counts[self.base_of(line).name], self.counts[line.name]

    def shares_seed(self, line: Line) -> bool:
        """Return whether `line` is not the baseline and shares a complete seed with it."""
        before, after = self.pair(line)
        return line is not self.base_of(line) and bool(set(before.seeds) & set(after.seeds))


def contrast_runs(*runs: str | Path, baseline: str = "ser", speakers: str = "", decision: str = "") -> str:
    """Return WA and UAR of every system of each run, and its contrasts with `baseline`, in Markdown.

    For several runs, on different corpora, the mean of their differences follows. `speakers` is `FILE:PART` (see
    `of_part`). `decision` replaces the decision rule of networks that predicted the likeliest emotion (see
    `decision_factors`). p values are Holm-corrected over the contrasts of a metric in each of three families: fixed λ
    and ε, chosen λ and ε, classical systems.

    Raises `ConfigError` for an unknown baseline, an impossible decision or runs that test the same speaker, `RunError`
    if a run has no complete seed of the baseline, and `SplitError` if none of the speakers is tested.
    """
    selected = [_select(Path(run), baseline, speakers, decision) for run in runs]
    if len(selected) == 1:
        return _one_run(selected[0])
    parts = [f"## {run.folder}\n\n{_one_run(run)}" for run in selected]
    return "\n".join([*parts, f"## Mean over runs\n\n{_mean_over_runs(selected)}"])


def _select(folder: Path, baseline: str, speakers: str, decision: str) -> _SelectedRun:
    run = read_run(folder)
    lines = [line for line in run.lines if line.seeds]
    if not any(line.system == baseline and not line.chosen for line in lines):
        systems = [line.system for line in run.lines]
        if baseline in systems:
            raise RunError(f"'{baseline}' has no complete seed yet", where=folder, mend="Let the experiment finish.")
        raise ConfigError(f"this run has no system '{baseline}'", where=folder, mend=did_you_mean(baseline, systems))
    if decision:
        lines = [line if line.classical else _with_decision(run, line, decision) for line in lines]
    base = next(line for line in lines if line.system == baseline and not line.chosen)
    counts = {line.name: line.counts for line in lines if line.counts}
    if speakers:
        rows = [
            Utterance(name, "", row["speaker"], "other", corpus=row["corpus"]) for name, row in run.utterances.items()
        ]
        chosen = {row.speaker for row in of_part(Manifest(tuple(rows)), speakers)}
        counts = {name: count.with_speakers(chosen) for name, count in counts.items()}
    tested = counts[base.name]
    if not tested.speakers:
        what = f"none of the speakers of {speakers} is tested in this run"
        raise SplitError(what, where=folder, mend="Choose others, or run more folds.")
    description = (
        f"{counted(int(tested.totals.sum()), 'utterance')} of {counted(len(tested.speakers), 'test speaker')}"
        + (f" ({speakers})" if speakers else "")
        + (f", networks decided by '{decision}'" if decision else "")
        + (f", {TRANSDUCTIVE}" if run.settings.normalise == "speaker" else "")
    )
    people = {(row["corpus"], row["speaker"]) for row in run.utterances.values() if row["speaker"] in tested.speakers}
    return _SelectedRun(folder, tuple(lines), base, counts, frozenset(people), description)


def _with_decision(run: RunRecords, line: Line, decision: str) -> Line:
    """Apply `decision` to a line, with the frequencies of the emotions in each fold's training utterances."""
    if decision not in DECISIONS:
        raise ConfigError(f"unknown decision '{decision}'", mend=did_you_mean(decision, DECISIONS))
    training = run.settings.training
    if training.decision != DECISIONS[0] or training.class_weights != "none":
        weighted = training.decision == DECISIONS[0]
        what = "have balanced class weights" if weighted else f"decide by '{training.decision}'"
        raise ConfigError(f"the networks of this run {what} already", where=run.folder, mend="Leave out --decision.")
    counts = {fold: [0] * len(run.labels) for fold in run.folds}
    for fold, name in {(row.fold, row.id) for row in run.splits if row.part == "train"}:
        counts[fold][run.labels.index(run.utterances[name]["emotion"])] += 1

    def apply(part: Predictions) -> Predictions:
        factors = np.array([decision_factors(decision, counts[int(fold)]) for fold in part.folds])
        scaled = part.probabilities * factors
        return replace(part, predicted=scaled.argmax(axis=1), probabilities=scaled / scaled.sum(axis=1, keepdims=True))

    return replace(line, seeds=tuple(replace(s, dev=apply(s.dev), test=apply(s.test)) for s in line.seeds))


def _one_run(run: _SelectedRun) -> str:
    """Return the scores and contrasts of one run in Markdown."""
    rows = []
    for line in run.lines:
        scores = [run.counts[line.name].scores(metric) for metric in METRICS]
        figures = [spread(x.mean(), x.std(ddof=1) if len(x) > 1 else None) for x in scores]
        rows.append([line.name, *figures, str(len(line.seeds))])
    parts = [f"{run.description}\n", markdown_table(["System", "WA, %", "UAR, %", "Seeds"], rows)]
    compared = [line for line in run.lines if run.shares_seed(line)]
    parts += [
        f"\n{line.name} is not compared: it has no complete seed in common with {run.base_of(line).name}."
        for line in run.lines
        if line is not run.base_of(line) and line not in compared
    ]
    if compared:
        parts += ["", _contrasts([run], compared), "", f"Differences: over the seeds that both have. {FAMILIES}"]
    return "\n".join([*parts, ""])


def _contrasts(runs: Sequence[_SelectedRun], lines: Sequence[Line]) -> str:
    """Return the table of contrasts with the baseline for `lines`, which must be in all runs."""
    contrasts = []
    for metric in METRICS:
        for line in lines:
            pairs = [run.pair(next(other for other in run.lines if other.name == line.name)) for run in runs]
            contrasts.append(contrast(line.name, runs[0].base_of(line).name, pairs, metric, line.family))
    base = runs[0].base
    caption = f"Differences from {NAMES.get(base.system, base.name)}"
    return markdown_of_table(contrast_table(corrected(contrasts), "differences", caption))


def _mean_over_runs(runs: Sequence[_SelectedRun]) -> str:
    """Return the mean over runs of the differences available in all of them, in Markdown."""
    for a, b in combinations(runs, 2):
        if shared := sorted(a.speakers & b.speakers):
            corpus, speaker = shared[0]
            what = f"both test {corpus or 'an unnamed corpus'}'s speaker '{speaker}', and are not independent"
            mend = "Name runs on different corpora; to compare two runs on one split, use `unheard compare`."
            raise ConfigError(f"{a.folder} and {b.folder} {what}", mend=mend)
    available = [{line.name for line in run.lines if run.shares_seed(line)} for run in runs]
    lines = [line for line in runs[0].lines if all(line.name in names for names in available)]
    base = runs[0].base.name
    if not lines:
        return f"No system besides {base} is in all of these runs.\n"
    note = (
        f"Mean of the differences of {len(runs)} runs with equal weights; speakers are swapped and drawn within their "
        f"run. The result holds for these corpora: {len(runs)} corpora cannot show how corpora differ."
    )
    return "\n".join([_contrasts(runs, lines), "", note, "", FAMILIES, ""])


# `compare`: compares two runs with the same labels, split and data, or reports what differs.

SPLITTING = (
    "corpus", "manifest", "subset", "partial", "emotions", "map", "speakers", "channel", "protocol", "group", "test",
    "k", "n", "column", "train_corpora", "test_corpora", "split_seed", "folds",
)  # fmt: skip
"""Settings that determine the split; they are ignored if the splits are equal."""
IMMATERIAL = ("root", "out", "systems", "seeds", "store", "workers", "engine", "address", "gpus", "logger",
              "progress", "invariance", "network.summary")  # fmt: skip
"""Settings that do not affect trained systems, or that follow from `features`."""

VERBS = {"test": "tests", "dev": "validates on", "train": "trains on"}
SHOWN = 6  # maximum number of names listed in a message


class Difference(NamedTuple):
    """A setting that differs, with both values as text."""

    setting: str
    a: str
    b: str


def check_comparable(a: RunRecords, b: RunRecords) -> None:
    """Raise `SplitError` with the differences and how to mend them unless labels, split and data are the same."""
    reasons = _split_differences(a, b) or _label_differences(a, b) or _data_differences(a, b)
    if not reasons:
        return
    differing = _differences(*({name: run.settings.as_dict().get(name) for name in SPLITTING} for run in (a, b)))
    flags = [f"--{name.replace('_', '-')} ({in_a} in A, {in_b} in B)" for name, in_a, in_b in differing]
    more = f" (and {len(reasons) - 3} more differences)" if len(reasons) > 3 else ""
    mend = "Run both on the same corpus, in the same version, with the same settings of the split."
    if flags:
        mend = f"Run one of them again; settings that differ: {', '.join(flags)}."
    what = f"the runs cannot be compared: {'; '.join(reasons[:3])}{more}"
    raise SplitError(what, where=f"A = {a.folder}, B = {b.folder}", mend=mend)


def settings_that_differ(a: RunRecords, b: RunRecords) -> tuple[Difference, ...]:
    """Return the other differences between runs on the same split: recipe, network, features, options, versions."""
    settings_a, settings_b = (_flat(run.settings.as_dict(), skip=(*SPLITTING, *IMMATERIAL)) for run in (a, b))
    return _differences(settings_a, settings_b) + _differences(_versions(a), _versions(b))


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Difference, ...]:
    names = [name for name in dict.fromkeys((*a, *b)) if a.get(name) != b.get(name)]
    return tuple(Difference(name, _text(a.get(name)), _text(b.get(name))) for name in names)


def _flat(values: Mapping[str, Any], prefix: str = "", skip: Sequence[str] = ()) -> dict[str, Any]:
    """Flatten nested mappings: `{"training": {"lr": 1}}` becomes `{"training.lr": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if prefix + name not in skip:
            flat |= _flat(value, f"{prefix}{name}.", skip) if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def _text(value: Any) -> str:
    """Format the value of a setting, with a dash for an empty one."""
    if value is None or value in ("", [], {}, ()):
        return "–"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    if isinstance(value, Mapping):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return str(value)


def _versions(run: RunRecords) -> dict[str, Any]:
    """Map "version of torch" and the like to the versions that the run's cells were trained with."""
    collected: dict[str, set[str]] = {}
    for cell in run.cells:
        for name, version in cell.result.get("proof", {}).get("versions", {}).items():
            collected.setdefault(f"version of {name}", set()).add(str(version))
    return {name: sorted(versions) for name, versions in collected.items()}


def _split_differences(a: RunRecords, b: RunRecords) -> list[str]:
    """Return the differences in emotions, else in folds and directions, else in speakers, else in single utterances."""
    if a.labels != b.labels:
        return [f"their emotions differ, {', '.join(a.labels)} in A, {', '.join(b.labels)} in B"]
    parts_a, parts_b = map(_parts, (a, b))
    if parts_a.keys() != parts_b.keys():
        return [f"the folds and directions differ: {_only_in_one(parts_a, parts_b)}"]
    reasons = []
    for part, in_a in parts_a.items():
        in_b = parts_b[part]
        fold, _, role = part.rpartition(" ")
        if set(in_a.values()) != set(in_b.values()):
            reasons.append(f"{fold} {VERBS[role]} the speakers {_only_in_one(in_a.values(), in_b.values())}")
        elif in_a.keys() != in_b.keys():
            reasons.append(f"{fold} {VERBS[role]} the utterances {_only_in_one(in_a, in_b)}")
    return reasons


def _parts(run: RunRecords) -> dict[str, dict[str, str]]:
    """Return fold, direction and part as text -> id -> speaker, with the test parts first."""
    parts: dict[str, dict[str, str]] = {}
    for row in sorted(run.splits, key=lambda row: (row.fold, list(VERBS).index(row.part))):
        direction = f" ({row.direction})" if row.direction not in ("", "test") else ""
        parts.setdefault(f"fold {row.fold}{direction} {row.part}", {})[row.id] = row.speaker
    return parts


def _label_differences(a: RunRecords, b: RunRecords) -> list[str]:
    """Return the utterances whose emotion or speaker differs."""
    return [
        f"the {column} of '{name}' is {a.utterances[name][column]} in A, {b.utterances[name][column]} in B"
        for name in sorted({row.id for row in a.splits})
        for column in ("emotion", "speaker")
        if a.utterances[name][column] != b.utterances[name][column]
    ]


def _data_differences(a: RunRecords, b: RunRecords) -> list[str]:
    """Return the folds with the same feature settings but other data digests (hashes of the decoded audio)."""
    if a.settings.group != b.settings.group:
        return []
    in_a, in_b = ({cell.fold: cell.result.get("proof", {}) for cell in run.cells} for run in (a, b))
    folds = [
        str(fold)
        for fold in sorted(in_a.keys() & in_b.keys())
        if in_a[fold].get("features") == in_b[fold].get("features") and in_a[fold].get("data") != in_b[fold].get("data")
    ]
    return [f"the recordings of fold {', '.join(folds)} are not the same (data digests)"] if folds else []


def _only_in_one(a: Iterable[str], b: Iterable[str]) -> str:
    """Format names that only one run has: `03 in A only and 08 in B only`, at most `SHOWN` for each run."""
    only = (sorted(set(a) - set(b)), sorted(set(b) - set(a)))
    return " and ".join(f"{some(names, SHOWN)} in {run} only" for names, run in zip(only, "AB", strict=True) if names)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Lines with a complete seed in both runs A and B, and the contrast B - A of each line and metric.

    `settings` are the settings that differ; `notes` say what is not compared.
    """

    a: RunRecords
    b: RunRecords
    lines: tuple[tuple[Line, Line], ...]
    contrasts: tuple[Contrast, ...]
    settings: tuple[Difference, ...]
    notes: tuple[str, ...]


def compare_runs(a: RunRecords, b: RunRecords) -> Comparison:
    """Compare two runs line by line, with Holm's correction over the lines of an evaluation for each metric.

    Raises `SplitError` if labels, split or data differ, and `RunError` if no line is complete in both.
    """
    check_comparable(a, b)
    in_a, in_b = ({(line.system, line.choice, line.evaluation): line for line in run.lines} for run in (a, b))
    for ours, theirs in ((in_a, in_b), (in_b, in_a)):  # one evaluation is compared with every one of the other run
        for key in [key for key in ours if key not in theirs and not key[2]]:
            if matching := [other for other in theirs if other[:2] == key[:2]]:
                line = ours.pop(key)
                ours |= {other: replace(line, evaluation=other[2]) for other in matching}
    lines, notes, contrasts = [], list[str](), list[Contrast]()
    for key in dict.fromkeys((*in_a, *in_b)):
        both = {"A": in_a.get(key), "B": in_b.get(key)}
        complete = {run: (line, line.counts) for run, line in both.items() if line and line.counts}
        if len(complete) < 2:
            name = next(line.name for line in both.values() if line)
            without = " and ".join(run for run in both if run not in complete)
            notes.append(f"{name} is left out: no complete seed in {without}.")
            continue
        (first, before), (second, after) = complete.values()
        lines.append((first, second))
        notes += [
            f"{line.name} is incomplete in {run}: {line.finished}/{line.planned} trainings."
            for run, (line, _) in complete.items()
            if line.finished < line.planned
        ]
        if not set(before.seeds) & set(after.seeds):
            notes.append(f"The runs share no seed of {first.name}: the means over each run's seeds are compared.")
        family = f"compared {first.evaluation}"
        contrasts += [contrast(first.name, first.name, [(before, after)], metric, family) for metric in METRICS]
    if not lines:
        mend = "Finish them first: run the same `unheard experiment` again to train the missing cells."
        where = f"A = {a.folder}, B = {b.folder}"
        raise RunError("no system has a complete seed in both runs", where=where, mend=mend)
    features = [{cell.result.get("proof", {}).get("features") for cell in run.cells} for run in (a, b)]
    if not features[0] & features[1]:
        notes.append("The features differ, so that only the names of the recordings could be compared.")
    notes += [f"{name} is {TRANSDUCTIVE}." for name, run in (("A", a), ("B", b)) if run.settings.normalise == "speaker"]
    return Comparison(a, b, tuple(lines), corrected(contrasts), settings_that_differ(a, b), tuple(notes))


def to_markdown(comparison: Comparison) -> str:
    """Return the scores of both runs, their differences, other differing settings and notes in Markdown."""
    heads = ["System"] + [f"{metric}, {run}" for metric in ("WA", "UAR") for run in "AB"] + ["Seeds, A", "Seeds, B"]
    rows = []
    for pair in comparison.lines:
        figures = [f"{line.over_seeds(m)} ({limits(line.interval(m))})" for m in METRICS for line in pair]
        rows.append([pair[0].name, *figures, *(str(len(line.seeds)) for line in pair)])
    parts = [
        f"A = {comparison.a.folder}\n\nB = {comparison.b.folder}",
        f"The same split ({comparison.a.split_digest}): {len(comparison.contrasts[0].speakers)} test speakers, "
        f"{', '.join(comparison.a.labels)}. In percent: mean ± sample standard deviation over seeds, and in brackets "
        "the 95 % interval over speakers.",
        markdown_table(heads, rows),
        markdown_of_table(contrast_table(comparison.contrasts, "differences", "B − A")),
        "Other differences:\n\n" + markdown_table(["Setting", "A", "B"], comparison.settings)
        if comparison.settings
        else "No other setting differs.",
    ]
    parts += ["\n".join(f"- {note}" for note in comparison.notes)] if comparison.notes else []
    return "\n\n".join(parts) + "\n"


def to_json(comparison: Comparison) -> str:
    """Return the comparison as JSON, with each speaker's share of each difference; unknown values are null."""
    pairs = {first.name: (first, second) for first, second in comparison.lines}
    rows = []
    for c in comparison.contrasts:
        row: dict[str, Any] = {"system": c.name, "metric": c.metric}
        for run, line in zip("ab", pairs[c.name], strict=True):
            figures = line.over_seeds(c.metric)
            row |= {f"{run}_mean": figures.mean, f"{run}_std": figures.std, f"{run}_seeds": len(line.seeds)}
        row |= {"shared_seeds": len(c.seeds), "speakers": len(c.speakers)}
        row |= {name: getattr(c, name) for name in ("difference", "rerr", "p", "p_holm", "smallest_p", "detectable")}
        row |= {name: getattr(c.interval, name, None) for name in ("low", "high")}
        rows.append(row | {"shares": dict(zip(c.speakers, c.shares, strict=True))})
    value: dict[str, Any] = {name: str(run.folder) for name, run in (("a", comparison.a), ("b", comparison.b))}
    value |= {"labels": comparison.a.labels, "split": comparison.a.split_digest}
    value |= {"speakers": comparison.contrasts[0].speakers, "systems": rows}
    value |= {"settings": [difference._asdict() for difference in comparison.settings], "notes": comparison.notes}
    return json_text(value)
