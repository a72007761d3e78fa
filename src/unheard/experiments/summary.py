"""The lines of a run's tables, each a system over its seeds, assembled from cells; their contrasts with SER_only."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import chain, compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unheard.analysis.intervals import METRICS, Counts, Interval, Metric, Spread, count, interval
from unheard.analysis.statistics import Contrast, contrast, corrected, gap_contrast, relative_error_reduction
from unheard.errors import RunError, counted
from unheard.experiments.baselines import CLASSICAL_SYSTEMS, NAMES, table_position
from unheard.experiments.selection import TUNED_OPTIONS, Candidate
from unheard.features.normalise import TRANSDUCTIVE
from unheard.files import markdown_table, write_text
from unheard.training.metrics import AccuracyMetrics

if TYPE_CHECKING:
    from unheard.experiments.config import Experiment
    from unheard.experiments.records import CellRecord, RunRecords
    from unheard.splits.split import Assigned

BASELINE = "ser"
TUNED = "tuned"
ONE_CLASS = 0.98  # share of one label among predictions at which a system counts as predicting a single class

FEW_UPDATES = 200  # number of updates below which a network counts as hardly trained


@dataclass(frozen=True, eq=False)
class Predictions(AccuracyMetrics):
    """Predictions for one part, dev or test, of one seed: all folds in the order of the split.

    `truth` and `predicted` (n,) are label indices, `probabilities` is (n, C), `folds` is (n,).
    """

    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    folds: NDArray[np.int64]
    directions: tuple[str, ...]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """Join the predictions of several folds and directions."""
        columns: dict[str, Any] = {field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)}
        for name, x in columns.items():
            columns[name] = np.concatenate(x) if isinstance(x[0], np.ndarray) else tuple(chain.from_iterable(x))
        return cls(**columns)

    def where(self, mask: NDArray[np.bool_]) -> Predictions:
        """Return the predictions selected by `mask` (n,)."""
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, x in columns.items():
            columns[name] = x[mask] if isinstance(x, np.ndarray) else tuple(compress(x, mask))
        return Predictions(**columns)

    @property
    def wa_of_folds(self) -> float:
        """Mean of the folds' weighted accuracies."""
        correct = self.truth == self.predicted
        return statistics.fmean(float(correct[self.folds == fold].mean()) for fold in np.unique(self.folds))


@dataclass(frozen=True, eq=False)
class SeedRecord:
    """A complete seed of a line; `cells` are the trainings of its predictions, in the order of the folds."""

    seed: int
    dev: Predictions
    test: Predictions
    cells: tuple[CellRecord, ...]


@dataclass(frozen=True, eq=False)
class Line:
    """A row of the tables: a system under one evaluation, λ or ε fixed at `value` or chosen on validation speakers.

    `choice` is "λ chosen" or "ε chosen" (by the grid), "tuned" (by a search of any settings), or "" (fixed settings).
    `seeds` are the complete seeds, `finished` and `planned` numbers of trainings. `evaluation` is "" if there is one.
    """

    system: str
    choice: str = ""
    value: float | None = None
    seeds: tuple[SeedRecord, ...] = ()
    finished: int = 0
    planned: int = 0
    evaluation: str = ""

    @property
    def chosen(self) -> bool:
        """Whether its settings were chosen on validation speakers."""
        return bool(self.choice)

    @property
    def cells(self) -> list[CellRecord]:
        """The trainings of the complete seeds."""
        return [cell for seed in self.seeds for cell in seed.cells]

    @property
    def name(self) -> str:
        """The paper's name with the choice and the evaluation: `SER_SR_DAT, λ chosen, as written`."""
        stored = next((cell.result.get("name") for cell in self.cells), None)
        name = NAMES.get(self.system) or stored or self.system.upper()
        return ", ".join(filter(None, (name, self.choice, self.evaluation)))

    @property
    def classical(self) -> bool:
        """Whether the system is a classical one."""
        return any(cell.classical for cell in self.cells)

    @property
    def unvalidated(self) -> bool:
        """Whether there are no validation speakers, or validation repeats the test (equal directions)."""
        return bool(self.seeds) and all(cell.unvalidated for cell in self.cells)

    @property
    def family(self) -> str:
        """The family of Holm's correction: classical, chosen, tuned or fixed, separate for each evaluation."""
        kind = "classical" if self.classical else self.choice.rpartition(" ")[2] or "fixed"
        return f"{kind}, {self.evaluation}" if self.evaluation else kind

    def over_seeds(self, figure: str, part: str = "test") -> Spread:
        """Return a metric of `Predictions` for each complete seed; no dev values for `unvalidated` lines."""
        seeds = () if part == "dev" and self.unvalidated else self.seeds
        return Spread(tuple(float(getattr(getattr(seed, part), figure)) for seed in seeds))

    @property
    def gap(self) -> Spread:
        """Validation minus test WA."""
        dev, test = (self.over_seeds("wa", part).values for part in ("dev", "test"))
        return Spread(tuple(dev_wa - test_wa for dev_wa, test_wa in zip(dev, test, strict=False)))

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts (C, C) of the test utterances, summed over the seeds (at least one)."""
        total: NDArray[np.int64] = np.sum([seed.test.confusion for seed in self.seeds], axis=0)
        return total

    @property
    def recalls(self) -> tuple[Spread, ...]:
        """Recall of each label; a label that does not occur has no values."""
        matrices = [seed.test.confusion for seed in self.seeds]
        labels = range(len(matrices[0]))
        return tuple(Spread(tuple(float(m[i, i] / m[i].sum()) for m in matrices if m[i].any())) for i in labels)

    @property
    def one_class(self) -> tuple[int, int]:
        """Number of test results with a single label predicted for (nearly) all utterances, and of all test results.

        A result is one direction of one fold and seed; results of utterances with one emotion do not count.
        """
        single = []
        for test in (seed.test for seed in self.seeds):
            keys = np.array([f"{fold} {name}" for fold, name in zip(test.folds, test.directions, strict=True)])
            for mask in (keys == key for key in np.unique(keys)):
                if len(np.unique(test.truth[mask])) > 1:
                    single.append(bool(np.bincount(test.predicted[mask]).max() >= ONE_CLASS * np.count_nonzero(mask)))
        return sum(single), len(single)

    @property
    def updates(self) -> tuple[int, ...]:
        """Numbers of updates of the trainings, ascending; empty for a classical system."""
        results = {cell.name: cell.result for cell in self.cells}.values()
        return tuple(sorted(int(result["updates"]) for result in results if result.get("updates")))

    @cached_property
    def counts(self) -> Counts | None:
        """Utterances and hits of the test speakers; None without a complete seed."""
        return self._counts("test") if self.seeds else None

    @cached_property
    def val_counts(self) -> Counts | None:
        """Utterances and hits of the validation speakers; None without a complete seed or if `unvalidated`."""
        return self._counts("dev") if self.seeds and not self.unvalidated else None

    def _counts(self, part: Literal["dev", "test"]) -> Counts:
        """Count utterances and hits; raises `RunError` if two seeds were scored on different utterances."""
        parts: dict[int, Predictions] = {seed.seed: getattr(seed, part) for seed in self.seeds}
        first, *others = parts
        p = parts[first]
        for seed in others:
            if parts[seed].ids != p.ids or not np.array_equal(parts[seed].truth, p.truth):
                what = f"{self.name}: seeds {first} and {seed} were scored on different utterances"
                raise RunError(what, mend="Run the experiment in a new folder.")
        predicted = {seed: part.predicted for seed, part in parts.items()}
        return count(p.speakers, p.truth, predicted, p.probabilities.shape[1])

    def interval(self, metric: Metric) -> Interval | None:
        """Return the interval of the metric's mean over seeds; None without seeds or with a single speaker."""
        return interval(self.counts, metric) if self.counts else None


def single_class(lines: Sequence[Line]) -> str:
    """Return a sentence on the systems that predict a single class; "" if there are none."""
    names = [f"{line.name} ({n} of {total} test results)" for line in lines for n, total in [line.one_class] if n]
    return f"Only one class is predicted by {', '.join(names)}: not a working recogniser." if names else ""


def hardly_trained(lines: Sequence[Line]) -> str:
    """Return a sentence on the systems with fewer than `FEW_UPDATES` updates; "" if there are none."""
    names = [f"{line.name} ({line.updates[0]})" for line in lines if line.updates and line.updates[0] < FEW_UPDATES]
    return f"Fewer than {FEW_UPDATES} updates: {', '.join(names)}. Raise the number of epochs." if names else ""


def baseline_of(line: Line, lines: Sequence[Line], system: str = BASELINE) -> Line | None:
    """Return the line of `system` to compare `line` with, of the same evaluation if possible, else the last one.

    A tuned line is compared with a tuned line, which has the same number of trials.
    """
    bases = [other for other in lines if other.system == system and other.choice == line.choice == TUNED]
    bases = bases or [other for other in lines if other.system == system and not other.chosen]
    return next((other for other in bases if other.evaluation == line.evaluation), bases[-1] if bases else None)


# From cells to lines.

Values = Mapping[tuple[int, str], float | str | None]  # fold and direction -> value of a system's option

NOT_CHOSEN = -1.0  # a value that no cell has, for directions for which nothing is chosen yet


def lines_of(
    cells: Sequence[CellRecord], candidates: Sequence[Candidate], splits: Sequence[Assigned], settings: Experiment
) -> tuple[Line, ...]:
    """Assemble the lines of a run: fixed and chosen ones for each system that was requested or has cells."""
    directions = dict.fromkeys((row.fold, row.direction) for row in splits if row.part != "train")
    evaluations = sorted({cell.evaluation for cell in cells if not cell.classical}) or [""]
    classical = {cell.system for cell in cells if cell.classical} | set(CLASSICAL_SYSTEMS)
    lines = []
    for system in sorted(dict.fromkeys([*settings.systems, *(cell.system for cell in cells)]), key=table_position):
        option, requested = TUNED_OPTIONS.get(system), system in settings.systems
        value = float(settings.options.get(system, {}).get(option.name, option.fixed)) if option else None
        names = {"grid": f"{option.symbol} chosen" if option else "", "optuna": "" if system in classical else TUNED}
        for evaluation in [""] if system in classical else evaluations:
            system_cells = {
                (cell.fold, cell.value, cell.seed): cell
                for cell in cells
                if (cell.system, cell.evaluation) == (system, evaluation)
            }
            fixed = Line(system, "", value, evaluation=evaluation if len(evaluations) > 1 else "")
            lines.append(_with_seeds(fixed, dict.fromkeys(directions, value), system_cells, settings.seeds * requested))
            chosen: dict[str, dict[tuple[int, str], Any]] = {"grid": {}, "optuna": {}}
            for c in candidates:
                if c.chosen and (c.system, c.evaluation) == (system, evaluation):
                    chosen["optuna" if c.searched else "grid"][c.fold, c.direction] = c.value
            for tuner, values in chosen.items():
                tuned = settings.tune == tuner and requested
                if names[tuner] and (tuned or values.keys() == directions.keys()):
                    blank = replace(fixed, choice=names[tuner], value=None)
                    complete = dict.fromkeys(directions, NOT_CHOSEN) | values
                    lines.append(_with_seeds(blank, complete, system_cells, settings.seeds * tuned))
    return tuple(lines)


def _with_seeds(blank: Line, values: Values, cells: Mapping[tuple[int, Any, int], CellRecord], requested: int) -> Line:
    """Return the line with the seeds whose cells have `values`; the keys of `cells` are fold, value and seed."""
    used = {(fold, value) for (fold, _), value in values.items()}
    trained = {seed for fold, value, seed in cells if (fold, value) in used}
    if blank.chosen:  # seeds with only the fixed value do not require the chosen values
        trained = {seed for seed in trained if all((*pair, seed) in cells for pair in used if pair[1] != NOT_CHOSEN)}
    seeds = range(max([requested, *(seed + 1 for seed in trained)]))
    folds = len({fold for fold, _ in values})
    records, finished = [], 0
    for seed in seeds:
        by_direction = {key: cells.get((key[0], value, seed)) for key, value in values.items()}
        missing = {fold for (fold, _), cell in by_direction.items() if cell is None}
        finished += folds - len(missing)
        if not missing:
            pairs = [(direction, cell) for (_, direction), cell in by_direction.items() if cell]
            dev, test = (
                Predictions.joined([cell.predictions(direction, part) for direction, cell in pairs])
                for part in ("dev", "test")
            )
            records.append(SeedRecord(seed, dev, test, tuple(dict.fromkeys(cell for _, cell in pairs))))
    return replace(blank, seeds=tuple(records), finished=finished, planned=len(seeds) * folds)


# The table of a run.

TABLE_FIGURES = (("wa", "dev"), ("wa", "test"), ("uar", "dev"), ("uar", "test"), ("macro_f1", "test"))
"""Figure and part of the table's columns."""

REPEATED = (
    "No validation figure (–) where all speakers that are not tested train, or where both directions of each fold use "
    "the same network, as they do when the last epoch is evaluated: predictions would count as validation and as test."
)


def write_table(run: RunRecords, total_folds: int = 0) -> str:
    """Write the run's table.md and return its text."""
    table = table_markdown(run.lines, caption(run, total_folds))
    write_text(run.folder / "table.md", table)
    return table


def caption(run: RunRecords, total_folds: int = 0) -> str:
    """Describe a run in one line; `total_folds` is the number of folds of its protocol."""
    settings = run.settings
    corpus = settings.corpus or Path(settings.manifest).name
    folds, speakers = len(run.folds), {utterance["speaker"] for utterance in run.utterances.values()}
    of_total = f" of {total_folds}" if total_folds > folds else ""
    seeds = max(line.planned for line in run.lines) // folds
    transductive = f", {TRANSDUCTIVE}" if settings.normalise == "speaker" else ""
    return (
        f"{corpus}: {counted(len(run.utterances), 'utterance')}, {counted(len(speakers), 'speaker')}, "
        f"{', '.join(run.labels)}; protocol {settings.protocol}, {folds}{of_total} "
        f"fold{'s' * (max(folds, total_folds) > 1)}, {counted(seeds, 'seed')}, {run.epochs}{transductive}"
    )


def table_markdown(lines: Sequence[Line], caption: str) -> str:
    """Return the table of the systems in Markdown."""
    heads = ["System", "Val WA", "Test WA", "Val UAR", "Test UAR", "Macro-F1", "Δ WA", "RERR", "Cells"]
    rows = [
        [
            line.name,
            *(_table_cell(line, figure, part) for figure, part in TABLE_FIGURES),
            *against_baseline(line, lines),
            f"{line.finished}/{line.planned}",
        ]
        for line in lines
    ]
    paragraphs = [
        caption,
        "",
        markdown_table(heads, rows),
        "",
        "WA: plain accuracy, UAR: mean recall over emotions, in percent; each pooled over the folds' single test "
        "predictions, then mean ± sample standard deviation over seeds (– for one seed). Δ WA: points over SER_only, "
        "over the seeds both have; RERR: relative error-rate reduction. Cells n/N where a system is incomplete: "
        "incomplete seeds are not averaged.",
    ]
    if any(line.evaluation for line in lines):
        paragraphs.append(
            "Each network is evaluated twice with the same weights: as written, and with the statistics of batch norm "
            "re-estimated on the training utterances without dropout. Δ WA is over SER_only under the same evaluation."
        )
    if any(line.unvalidated for line in lines):
        paragraphs.append(REPEATED)
    choices = {line.choice for line in lines} - {""}
    if choices - {TUNED}:
        paragraphs.append(
            "λ and ε: fixed beforehand, and chosen on each fold's own validation speakers, seed 0 (see the report)."
        )
    if TUNED in choices:
        paragraphs.append(
            "Tuned: settings searched on each fold's own validation speakers, seed 0, with as many trials for every "
            "system (trials.csv); Δ WA of a tuned system is over tuned SER_only."
        )
    warnings = filter(None, (single_class(lines), hardly_trained(lines)))
    return "\n".join([*paragraphs, *(f"\n**Note.** {warning}" for warning in warnings), ""])


def _table_cell(line: Line, figure: str, part: str) -> str:
    spread = line.over_seeds(figure, part)
    return str(spread) if spread.values or line.seeds else f"{line.finished}/{line.planned}"


def against_baseline(line: Line, lines: Sequence[Line]) -> tuple[str, str]:
    """Return the difference from SER_only in points of test WA and as relative error-rate reduction."""
    baseline = baseline_of(line, lines)
    if baseline is None or baseline is line:
        return "", ""
    wa, baseline_wa = ({seed.seed: seed.test.wa for seed in system.seeds} for system in (line, baseline))
    shared = wa.keys() & baseline_wa.keys()
    if not shared:
        return "–", "–"
    after, before = (statistics.fmean(values[seed] for seed in shared) for values in (wa, baseline_wa))
    few = f" ({len(shared)} seed{'s' * (len(shared) > 1)})" if len(shared) < max(len(wa), len(baseline_wa)) else ""
    reduction = relative_error_reduction(before, after)
    return f"{100 * (after - before):+.1f}{few}", "–" if reduction is None else f"{100 * reduction:+.1f} %"


# Contrasts.


@dataclass(frozen=True, eq=False)
class Summary:
    """The lines of a run in their order, contrasts with SER_only, and notes on what is not compared.

    `contrasts` are of test accuracy; `gaps` are of the gap, validation minus test (negative: smaller than SER_only's).
    """

    labels: tuple[str, ...]
    lines: tuple[Line, ...]
    contrasts: tuple[Contrast, ...]
    gaps: tuple[Contrast, ...]
    notes: tuple[str, ...] = ()


def summarise(run: RunRecords) -> Summary:
    """Contrast the systems of a run with SER_only, each over the seeds that both have complete.

    The families of Holm's correction are systems with fixed options, systems with λ or ε chosen on validation speakers,
    and classical systems. Raises `RunError` if seeds or systems were scored on different utterances.
    """
    contrasts, gaps, notes = [], [], []
    for line in run.lines:
        base, counts = baseline_of(line, run.lines), line.counts  # also checks the baseline's seeds
        if line is base:
            continue
        if base is None:
            notes.append(f"{line.name} is not compared: the run has no SER_only.")
        elif counts is None or base.counts is None:
            missing = line if counts is None else base
            notes.append(f"{line.name} is not compared: {missing.name} has no complete seed.")
        elif not set(counts.seeds) & set(base.counts.seeds):
            notes.append(f"{line.name} is not compared: it has no complete seed in common with {base.name}.")
        else:
            pairs = [(base.counts, counts)]
            if base.val_counts and line.val_counts:
                pairs.append((base.val_counts, line.val_counts))
            if not all(before.same_utterances(after) for before, after in pairs):
                what = "two systems of this run were scored on different utterances"
                raise RunError(what, where=run.folder, mend="Run the experiment in a new folder.")
            for metric in METRICS:
                contrasts.append(contrast(line.name, base.name, pairs[:1], metric, line.family))
                if len(pairs) == 2:  # validation speakers add information
                    before, after = ((validation, test) for test, validation in zip(*pairs, strict=True))
                    gaps.append(gap_contrast(line.name, base.name, before, after, metric, line.family))
    return Summary(run.labels, run.lines, corrected(contrasts), corrected(gaps), tuple(notes))
