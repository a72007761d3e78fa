"""Adaptation by enrolment: k unlabelled utterances of a test speaker are available before the others are scored.

    trained cell, test utterances -> draw k of each speaker -> speaker profile -> score the speaker's other utterances

The k enrolment utterances are not scored; `all` enrols with every scored utterance and is transductive. Draws are
seeded. A speaker with at most k utterances is not scored. For the gain, the same utterances are also scored without
enrolment. Results are separate from those on unseen speakers: adaptation.csv and adaptation.md.
"""

import csv
import lzma
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unheard.errors import RunError, Say, silent
from unheard.experiments.baselines import CLASSICAL_SYSTEMS, NAMES, table_position
from unheard.experiments.cell import NormalisedFrames, model_names
from unheard.experiments.config import Experiment
from unheard.experiments.plan import Cell, make_plan
from unheard.experiments.records import RunRecords, read_run
from unheard.features import FeatureStore
from unheard.files import csv_text, markdown_table, write_text
from unheard.model.saving import WITH_PROFILES, Model
from unheard.training.augment import profile_of
from unheard.training.batches import Dataset
from unheard.training.evaluation import score
from unheard.training.strategies.base import derive_seed

ALL = -1  # k for all utterances of the speaker
SIZES = (0, 1, 4, 16, ALL)
DRAWS = 5
FILE = "adaptation.csv"

Profiles = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class EnrolmentCount:
    """A row of adaptation.csv: `correct` of a speaker's `utterances` of an emotion, after enrolling k in draw `draw`.

    `before` is the number of the same utterances that are correct without enrolment.
    """

    system: str
    seed: int
    k: int
    draw: int
    speaker: str
    emotion: str
    utterances: int
    correct: int
    before: int


@dataclass(frozen=True)
class AdaptationResult:
    """WA and UAR of a system with k enrolment utterances, averaged over draws and `seeds` (their number).

    Gains are relative to the same network on the same utterances without enrolment.
    """

    system: str
    k: int
    wa: float
    uar: float
    wa_gain: float
    uar_gain: float
    speakers: int
    seeds: int


def adapt(
    run: str | Path,
    *,
    sizes: Sequence[int] = SIZES,
    draws: int = DRAWS,
    systems: Sequence[str] = (),
    say: Say = silent,
) -> str:
    """Measure adaptation on every complete seed of the trained systems of `run`; return the table in Markdown.

    Only `systems`, if given, are measured. Writes RUN/adaptation.csv and RUN/adaptation.md. Needs the run's models and
    features. Raises `RunError` if these are missing, if no speaker has enough utterances, and for a normalisation that
    removes speaker profiles.
    """
    out, sizes = Path(run), tuple(dict.fromkeys(sizes))

    def refusal(what: str, mend: str) -> RunError:
        return RunError(what, where=out, mend=mend)

    settings = _with_all_trained(read_run(out))
    mend = f"Train with --normalise {WITH_PROFILES[0]}."
    if settings.normalise == "speaker":
        what = "features are normalised by all recordings of each test speaker, so that k = 0 is adapted already"
        raise refusal(what, mend)
    if settings.normalise not in WITH_PROFILES:
        what = f"features are normalised by '{settings.normalise}', which removes speaker profiles"
        raise refusal(what, mend)
    if not any((out / "cells").glob("*/model*.safetensors")):
        raise refusal("no trained model", "Run the experiment here; published runs have no model.")
    plan = make_plan(replace(settings, out=str(out)))  # the run may have been moved
    seeds: dict[tuple[str, int], list[Cell]] = {}
    for cell in plan.cells:
        measured = cell.system not in CLASSICAL_SYSTEMS and (not systems or cell.system in systems)
        if measured and cell.result() and (cell.result_folder() / "model.safetensors").is_file():
            seeds.setdefault((cell.system, cell.seed), []).append(cell)
    if not seeds:
        which = f" of {', '.join(systems)}" if systems else ""
        what = f"no trained model{which} here fits the current settings and recordings"
        raise refusal(what, "Run the experiment here again.")
    complete = {key: cells for key, cells in seeds.items() if len(cells) == len(plan.split.folds)}
    if not complete:
        raise refusal("no seed of any system has the models of all folds", "Finish the run first.")
    counts: list[EnrolmentCount] = []
    for (system, seed), cells in sorted(complete.items(), key=lambda item: (table_position(item[0][0]), item[0][1])):
        say(f"{NAMES.get(system, system)}, seed {seed}: adapting")
        counts += [count for cell in cells for count in counts_of(cell, sizes, draws)]
    if not counts:
        least = min((k for k in sizes if k != ALL), default=0)
        what = f"no test speaker has more than {least} utterances, and enrolment utterances are not scored"
        raise refusal(what, "Ask for fewer with --k.")
    rows = ((asdict(count) | {"k": "all" if count.k == ALL else count.k}).values() for count in counts)
    write_text(out / FILE, csv_text([[field.name for field in fields(EnrolmentCount)], *rows]))
    table = adaptation_table(average(counts), sizes)
    write_text(out / "adaptation.md", table)
    return table


def _with_all_trained(records: RunRecords) -> Experiment:
    """Return the settings with all systems, seeds and folds of the run; its configuration covers only the last call."""
    settings, cells = records.settings, [cell for cell in records.cells if not cell.classical]
    systems = tuple(dict.fromkeys(cell.system for cell in cells)) or settings.systems
    seeds = max((cell.seed for cell in cells), default=0) + 1
    return replace(settings, systems=systems, seeds=seeds, folds=len(records.folds) if settings.folds else 0)


# Counts of one trained cell.


def counts_of(cell: Cell, sizes: Sequence[int], draws: int) -> Iterator[EnrolmentCount]:
    """Yield the counts of one trained cell, over the test speakers of all its directions."""
    store, rows = FeatureStore(cell.store), cell.rows
    for name, direction in zip(model_names(cell), cell.fold.directions, strict=True):
        model = Model.load(cell.result_folder() / name)
        y = {i: cell.settings.labels.index(rows[i].emotion) for i in direction.test}
        dataset = Dataset(NormalisedFrames(store, model.normaliser, rows), y, {})
        descriptions = _describe(model, dataset, direction.test)
        before = _correct(model, dataset, {i: np.zeros_like(row) for i, row in descriptions.items()})
        speakers: dict[str, list[str]] = {}
        for i in direction.test:
            speakers.setdefault(rows[i].speaker, []).append(i)
        for k, draw in [(size, draw) for size in sizes for draw in range(draws if size > 0 else 1)]:
            profiles: dict[str, NDArray[np.float32]] = {}
            for speaker, utterances in speakers.items():
                enrolled, scored = draw_enrolment(utterances, k, speaker, draw)
                empty = np.empty((0, len(descriptions[utterances[0]])), np.float32)
                means = np.stack([descriptions[i] for i in enrolled]) if enrolled else empty
                profiles |= dict.fromkeys(scored, profile_of(means))
            after = _correct(model, dataset, profiles) if profiles else {}
            groups: dict[tuple[str, str], list[str]] = {}
            for i in after:
                groups.setdefault((rows[i].speaker, rows[i].emotion), []).append(i)
            for group, names in groups.items():
                correct = [sum(hits[i] for i in names) for hits in (after, before)]
                yield EnrolmentCount(cell.system, cell.seed, k, draw, *group, len(names), *correct)


def _describe(model: Model, dataset: Dataset, ids: Sequence[str]) -> Profiles:
    """Return the speaker description (V,) of each utterance."""
    descriptions: dict[str, NDArray[np.float32]] = {}
    with torch.no_grad():
        for positions, batch in dataset.in_order(ids, 64):
            rows = model.network.embed.describe(batch.x, batch.lengths).numpy()
            descriptions.update({ids[i]: row for i, row in zip(positions, rows, strict=True)})
    return descriptions


def draw_enrolment(utterances: Sequence[str], k: int, *seed: object) -> tuple[list[str], list[str]]:
    """Return k of a speaker's `utterances` for enrolment, and the others for scoring; for `ALL`, both are all."""
    if k == ALL:
        return list(utterances), list(utterances)
    order = np.random.default_rng(derive_seed("enrol", k, *seed)).permutation(len(utterances))
    enrolled = {utterances[i] for i in order[:k]}
    return sorted(enrolled), [name for name in utterances if name not in enrolled]


def _correct(model: Model, dataset: Dataset, profiles: Profiles) -> dict[str, bool]:
    """Return whether the emotion of each utterance is predicted correctly, given its speaker's profile (V,)."""
    scores = score(model.network, dataset, list(profiles), device=torch.device("cpu"), profiles=profiles)
    return {name: bool(hit) for name, hit in zip(scores.ids, scores.truth == scores.predicted, strict=True)}


def read_counts(folder: Path) -> list[EnrolmentCount]:
    """Return the counts in the folder's adaptation.csv (or .csv.xz); [] if it is missing.

    Raises `RunError` for an invalid file.
    """
    plain, packed = folder / FILE, folder / f"{FILE}.xz"
    path = packed if packed.is_file() and not plain.is_file() else plain
    if not path.is_file():
        return []
    try:
        with (lzma.open if path == packed else open)(path, "rt", encoding="utf-8", newline="") as file:
            rows = [row | {"k": str(ALL) if row["k"] == "all" else row["k"]} for row in csv.DictReader(file)]
        kinds: dict[str, Any] = {field.name: str if field.type is str else int for field in fields(EnrolmentCount)}
        return [EnrolmentCount(**{name: kinds[name](value) for name, value in row.items()}) for row in rows]
    except (OSError, EOFError, lzma.LZMAError, ValueError, KeyError, TypeError, csv.Error) as error:
        what = f"is not a table of counts ({type(error).__name__}: {error})"
        raise RunError(what, where=path, mend="Delete it.") from error


# The table.


def average(counts: Sequence[EnrolmentCount]) -> list[AdaptationResult]:
    """Return WA and UAR of each system and k, pooled over speakers in each draw and seed, then averaged."""
    groups: dict[tuple[str, int], dict[tuple[int, int], list[EnrolmentCount]]] = {}
    for count in counts:
        groups.setdefault((count.system, count.k), {}).setdefault((count.seed, count.draw), []).append(count)
    adapted = []
    for (system, k), draws in groups.items():
        figures = [(*_accuracies(counts, "correct"), *_accuracies(counts, "before")) for counts in draws.values()]
        wa, uar, wa_before, uar_before = map(statistics.fmean, zip(*figures, strict=True))
        speakers = len({count.speaker for counts in draws.values() for count in counts})
        seeds = len({seed for seed, _ in draws})
        adapted.append(AdaptationResult(system, k, wa, uar, wa - wa_before, uar - uar_before, speakers, seeds))
    return adapted


def _accuracies(counts: Sequence[EnrolmentCount], column: str) -> tuple[float, float]:
    """Compute WA and UAR, pooled over speakers, from the hits in `column`."""
    hits: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for count in counts:
        hits[count.emotion] += getattr(count, column)
        totals[count.emotion] += count.utterances
    return hits.total() / totals.total(), statistics.fmean(hits[emotion] / n for emotion, n in totals.items())


def adaptation_table(results: Sequence[AdaptationResult], sizes: Sequence[int]) -> str:
    """Return a row for each system, a column for each k: WA / UAR in percent, `–` if no utterance is left to score."""
    rows = []
    for system in dict.fromkeys(result.system for result in results):
        by_size = {result.k: result for result in results if result.system == system}
        seeds = str(next(iter(by_size.values())).seeds)
        rows.append([NAMES.get(system, system), *(_table_cell(by_size.get(k)) for k in sizes), seeds])
    speakers = {k: max((result.speakers for result in results if result.k == k), default=0) for k in sizes}
    most = max(speakers.values())
    few = [f"{n} of {most} at k = {k}" for k, n in speakers.items() if n < most]
    note = (
        "WA / UAR in percent on test speakers, after adaptation to k of their utterances without labels, which are not "
        "scored (`all`: every utterance is used and scored). In brackets: gain in points over the same networks "
        "without adaptation, on the same utterances. Mean over the draws of the k utterances and over seeds."
    )
    if few:
        note += f" Speakers with at most k utterances are not scored; the others are {', '.join(few)}."
    heads = ["System", *("all (transductive)" if k == ALL else f"k = {k}" for k in sizes), "Seeds"]
    return f"{markdown_table(heads, rows)}\n\n{note}\n"


def _table_cell(result: AdaptationResult | None) -> str:
    if result is None:
        return "–"
    gains = f" ({100 * result.wa_gain:+.1f} / {100 * result.uar_gain:+.1f})" if result.k != 0 else ""
    return f"{100 * result.wa:.1f} / {100 * result.uar:.1f}{gains}"
