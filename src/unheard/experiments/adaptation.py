"""Adaptation to a voice, measured: k unlabelled utterances of a test speaker are heard before the others are scored.

    a trained cell, its test utterances -> k of a speaker's drawn -> voice -> the speaker's others scored

A condition of its own, never mixed with the tables of unseen speakers: this speaker has been heard, if unlabelled. The
k utterances are not scored; `all` hears every utterance it scores and is transductive. Each draw is seeded. A speaker
with no more than k utterances has none left to score, so that what hearing is worth is said on the same utterances:
each is scored without having heard anybody too.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unheard.errors import RunError
from unheard.experiments.cell import Cell, NormalisedFrames
from unheard.experiments.config import Experiment, load
from unheard.experiments.plan import lay_out
from unheard.experiments.records import NAMES, RunRecords, read_run
from unheard.features import FeatureStore
from unheard.files import write_text
from unheard.model.saving import WITH_PROFILES, Model
from unheard.training.augment import profile_of
from unheard.training.batches import Task
from unheard.training.evaluation import score
from unheard.training.strategies import STRATEGIES, derive

# What adaptation.csv holds: how many utterances were told after so many of their speaker had been heard.
#
# counts of a measurement <-> adaptation.csv; those of trainings whose models are gone stay in it

ALL = -1
"""k of all utterances of the speaker."""

FILE = "adaptation.csv"
_HEADER = ("system", "seed", "k", "draw", "speaker", "emotion", "utterances", "correct", "before")


@dataclass(frozen=True)
class Count:
    """How many utterances of one emotion a speaker said, and how many were told, after `k` heard in draw `draw`.

    `before`: how many of the same were told with nobody heard.
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


def counts_csv(counts: Sequence[Count]) -> str:
    """The text of adaptation.csv; k of all is written `all`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    for count in counts:
        values = vars(count) | {"k": "all" if count.k == ALL else count.k}
        writer.writerow([values[name] for name in _HEADER])
    return text.getvalue()


def read_counts(folder: Path) -> list[Count]:
    """The counts in the folder's adaptation.csv, [] where there is none; raises `RunError` for another file."""
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        return [
            Count(
                row["system"],
                int(row["seed"]),
                ALL if row["k"] == "all" else int(row["k"]),
                int(row["draw"]),
                row["speaker"],
                row["emotion"],
                *(int(row[name]) for name in _HEADER[-3:]),
            )
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RunError(
            f"is no table of counts ({type(error).__name__}: {error})", where=path, mend="Delete it."
        ) from error


def still_true(before: Sequence[Count], now: Sequence[Count], records: RunRecords) -> list[Count]:
    """Of the counts of `before` those of systems and seeds that `now` has none of and that still say what is so.

    They were measured at the same k in as many draws, and with nobody heard their networks tell as many utterances of
    each speaker as the run's predictions do.
    """
    measured = {(one.system, one.seed) for one in now}
    groups: dict[tuple[str, int], list[Count]] = {}
    for one in before:
        if (one.system, one.seed) not in measured:
            groups.setdefault((one.system, one.seed), []).append(one)
    asked = {(one.k, one.draw) for one in now}
    return [
        one
        for (system, seed), own in groups.items()
        if {(count.k, count.draw) for count in own} == asked and _told_by(own) == _told_in(records, system, seed) != {}
        for one in own
    ]


def _told_by(counts: Sequence[Count]) -> dict[str, tuple[int, int]]:
    """Speaker -> utterances, and how many of them are told with nobody heard; {} where not all were scored so."""
    whole = [one for one in counts if one.k in (0, ALL)]
    found: dict[str, tuple[int, int]] = {}
    for one in whole:
        if one.k == whole[0].k:
            said, told = found.get(one.speaker, (0, 0))
            found[one.speaker] = said + one.utterances, told + one.before
    return found


def _told_in(records: RunRecords, system: str, seed: int) -> dict[str, tuple[int, int]]:
    """The same of the run's test predictions."""
    found: dict[str, tuple[int, int]] = {}
    for line in records.lines:
        if line.system != system or line.chosen:
            continue
        for of_seed in line.seeds:
            if of_seed.seed == seed:
                test = of_seed.test
                for speaker, right in zip(test.speakers, test.truth == test.predicted, strict=True):
                    said, told = found.get(speaker, (0, 0))
                    found[speaker] = said + 1, told + int(right)
    return found


Floats = NDArray[np.float32]

SIZES = (0, 1, 4, 16, ALL)
DRAWS = 5


@dataclass(frozen=True)
class Adapted:
    """WA and UAR of a system after k utterances: each the mean over draws and seeds; `seeds` of them.

    The gains are over the same network on the same utterances with nobody heard.
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
    say: Callable[[str], None] = lambda _: None,
) -> str:
    """Measure adaptation on every complete seed of the trained systems of `run`; returns the table in Markdown.

    Where `systems` are named, those alone are measured and in the table returned. Writes RUN/adaptation.csv and
    RUN/adaptation.md; what they said before of trainings that are not measured now stays, if it is of the same k and
    draws and of the run's predictions. Needs the run's models and features, which an experiment leaves there. Raises
    `RunError` where there are none, where nobody has so many utterances, and for a run whose normalisation leaves no
    voice to hear.
    """
    out, sizes = Path(run), tuple(dict.fromkeys(sizes))
    records = read_run(out)
    settings = _of_all_calls(load(out / "config.yaml"), records)
    settings = replace(settings, out=str(out))  # it may have been moved
    if settings.normalise == "speaker":
        raise RunError(
            "its features are normalised by all recordings of each test speaker: at k = 0 they have been heard already",
            where=out,
            mend=f"Train with --normalise {WITH_PROFILES[0]}.",
        )
    if settings.normalise not in WITH_PROFILES:
        raise RunError(
            f"its features are normalised by '{settings.normalise}', and what an utterance says of a voice is how it "
            "differs from the training speakers' mean",
            where=out,
            mend=f"Train with --normalise {WITH_PROFILES[0]}.",
        )
    grid = lay_out(settings)
    cells = [cell for cell in _with_models(grid.cells) if not systems or cell.system in systems]
    if not cells and any((out / "cells").glob("*/model*.safetensors")):
        raise RunError(
            "no training here is of what its corpus holds now: the settings or the recordings have changed since"
            if not systems
            else f"no training here is of {', '.join(systems)} and of what its corpus holds now",
            where=out,
            mend="Run the experiment here again.",
        )
    if not cells:
        raise RunError(
            "no trained model is here", where=out, mend="Run the experiment here first; published runs have none."
        )
    classical = [NAMES.get(key, key) for key in settings.systems if key not in STRATEGIES]
    if classical and not systems:
        say(f"{', '.join(classical)}: a classical system hears no voice, and is left out")
    complete = _complete(cells, len(grid.split.folds))
    if not complete:
        raise RunError("no seed of any system has the models of all folds", where=out, mend="Finish the run first.")
    before = read_counts(out)
    counts: list[Count] = []
    for (system, seed), own in complete.items():
        say(f"{NAMES.get(system, system)}, seed {seed}: voices heard before")
        for cell in own:
            counts += list(counts_of(cell, sizes, draws))
    if not counts:
        least = min((k for k in sizes if k != ALL), default=0)
        raise RunError(
            f"no test speaker has more than {least} utterances, and those that are heard are not scored",
            where=out,
            mend="Ask for fewer with --k.",
        )
    kept = still_true(before, counts, records)
    left_out = _measured(before) - _measured(counts) - _measured(kept)
    fates = {
        "kept as measured before": _measured(kept),
        "measured before, otherwise than now, and left out": left_out,
    }
    for fate, found in fates.items():
        if found:
            said = ", ".join(f"{NAMES.get(system, system)} (seed {seed})" for system, seed in sorted(found))
            say(f"{said}: {fate}")
    order = {system: place for place, system in enumerate(NAMES)}
    counts = sorted([*counts, *kept], key=lambda one: (order.get(one.system, len(order)), one.seed))
    write_text(out / FILE, counts_csv(counts))
    write_text(out / "adaptation.md", table_markdown(summarise(counts), sizes))
    return table_markdown(summarise([one for one in counts if not systems or one.system in systems]), sizes)


def _measured(counts: Sequence[Count]) -> set[tuple[str, int]]:
    """The systems and seeds that were measured."""
    return {(one.system, one.seed) for one in counts}


def counts_of(cell: Cell, sizes: Sequence[int], draws: int) -> Iterator[Count]:
    """The counts of one trained cell, over all its readings' test speakers."""
    store = FeatureStore(cell.store)
    for place, reading in enumerate(cell.fold.readings):
        name = "model.safetensors" if place == 0 else f"model-{reading.name}.safetensors"
        model = Model.load(cell.readout_folder() / name)
        frames = NormalisedFrames(store, model.normaliser, cell.rows)
        task = Task(frames, {i: cell.labels.index(cell.rows[i].emotion) for i in reading.test}, {})
        speakers: dict[str, list[str]] = {}
        for utterance in reading.test:
            speakers.setdefault(cell.rows[utterance].speaker, []).append(utterance)
        described = describe(model, task, reading.test)
        nobody = {name: np.zeros_like(row) for name, row in described.items()}
        told = _told(model, task, nobody)
        for k in sizes:
            for draw in range(draws if k > 0 else 1):
                yield from _counted(cell, model, task, speakers, described, told, k, draw)


def describe(model: Model, task: Task, ids: Sequence[str]) -> dict[str, Floats]:
    """What each utterance says of its voice (V,)."""
    found: dict[str, Floats] = {}
    with torch.no_grad():
        for positions, batch in task.in_order(ids, 64):
            rows = model.network.embed.describe(batch.x, batch.lengths).numpy()
            found.update({ids[i]: row for i, row in zip(positions, rows, strict=True)})
    return found


def drawn(utterances: Sequence[str], k: int, *seed: object) -> tuple[list[str], list[str]]:
    """The k of `utterances` that are heard, and those that are scored then; of `ALL` both are all.

    A speaker with no more than k utterances has nothing left to score.
    """
    if k == ALL:
        return list(utterances), list(utterances)
    order = np.random.default_rng(derive("enrol", k, *seed)).permutation(len(utterances))
    heard = {utterances[i] for i in order[:k]}
    return sorted(heard), [name for name in utterances if name not in heard]


def _counted(
    cell: Cell,
    model: Model,
    task: Task,
    speakers: Mapping[str, Sequence[str]],
    described: Mapping[str, Floats],
    before: Mapping[str, bool],
    k: int,
    draw: int,
) -> Iterator[Count]:
    voices: dict[str, Floats] = {}
    scored: dict[str, str] = {}
    for speaker, utterances in speakers.items():
        heard, others = drawn(utterances, k, speaker, draw)
        width = len(described[utterances[0]])
        voice = profile_of(np.array([described[name] for name in heard], np.float32).reshape(len(heard), width))
        for name in others:
            voices[name], scored[name] = voice, speaker
    if not scored:
        return
    after = _told(model, task, voices)
    groups: dict[tuple[str, str], list[str]] = {}
    for name in after:
        groups.setdefault((scored[name], cell.rows[name].emotion), []).append(name)
    for (speaker, emotion), names in groups.items():
        right, unheard = sum(after[name] for name in names), sum(before[name] for name in names)
        yield Count(cell.system, cell.seed, k, draw, speaker, emotion, len(names), right, unheard)


def _told(model: Model, task: Task, voices: Mapping[str, Floats]) -> dict[str, bool]:
    """Whether the emotion of each utterance of `voices` is told, given what is known of its speaker's voice."""
    said = score(model.network, task, list(voices), device=torch.device("cpu"), profiles=voices)
    return {name: bool(right) for name, right in zip(said.ids, said.truth == said.predicted, strict=True)}


def summarise(counts: Sequence[Count]) -> list[Adapted]:
    """WA and UAR of each system and k, pooled over speakers in each draw and seed, then averaged."""
    groups: dict[tuple[str, int], dict[tuple[int, int], list[Count]]] = {}
    for count in counts:
        groups.setdefault((count.system, count.k), {}).setdefault((count.seed, count.draw), []).append(count)
    found = []
    for (system, k), draws in groups.items():
        after = [_accuracies(own, [one.correct for one in own]) for own in draws.values()]
        before = [_accuracies(own, [one.before for one in own]) for own in draws.values()]
        wa, uar = (statistics.fmean(column) for column in zip(*after, strict=True))
        wa_before, uar_before = (statistics.fmean(column) for column in zip(*before, strict=True))
        speakers = len({one.speaker for own in draws.values() for one in own})
        seeds = len({seed for seed, _ in draws})
        found.append(Adapted(system, k, wa, uar, wa - wa_before, uar - uar_before, speakers, seeds))
    return found


def _accuracies(counts: Sequence[Count], correct: Sequence[int]) -> tuple[float, float]:
    """WA and UAR, pooled over speakers, where `correct` of each of `counts` were told."""
    by_emotion: dict[str, list[int]] = {}
    for one, right in zip(counts, correct, strict=True):
        sums = by_emotion.setdefault(one.emotion, [0, 0])
        sums[0] += one.utterances
        sums[1] += right
    said, told = (sum(column) for column in zip(*by_emotion.values(), strict=True))
    return told / said, statistics.fmean(right / n for n, right in by_emotion.values())


def table_markdown(results: Sequence[Adapted], sizes: Sequence[int]) -> str:
    """A row a system, a column each k: WA / UAR in percent; `–` where no speaker has utterances left."""
    heads = ["System", *("all (transductive)" if k == ALL else f"k = {k}" for k in sizes), "Seeds"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for system in dict.fromkeys(one.system for one in results):
        own = {one.k: one for one in results if one.system == system}
        cells = [_cell(own.get(k)) for k in sizes]
        lines.append(
            f"| {NAMES.get(system, system)} | " + " | ".join([*cells, str(next(iter(own.values())).seeds)]) + " |"
        )
    speakers = {k: max((one.speakers for one in results if one.k == k), default=0) for k in sizes}
    most = max(speakers.values())
    few = [f"{n} of {most} at k = {k}" for k, n in speakers.items() if n < most]
    note = (
        "WA / UAR in percent on test speakers of whom k unlabelled utterances were heard first; those are not scored "
        "(`all`: every utterance is heard and scored). In brackets what hearing them is worth, in points: on the same "
        "utterances, over the same networks that heard nobody. Mean over the draws of the k utterances and over seeds."
    )
    if few:
        note += f" Speakers with no more than k utterances have none left to score: {', '.join(few)}."
    return "\n".join([*lines, "", note, ""])


def _cell(one: Adapted | None) -> str:
    if one is None:
        return "–"
    gains = f" ({100 * one.wa_gain:+.1f} / {100 * one.uar_gain:+.1f})" if one.k != 0 else ""
    return f"{100 * one.wa:.1f} / {100 * one.uar:.1f}{gains}"


def _of_all_calls(settings: Experiment, records: RunRecords) -> Experiment:
    """The settings of the run with every system, seed and fold it holds; its configuration is the last call's."""
    trained = {cell.system: None for cell in records.cells if cell.system in STRATEGIES}
    seeds = [cell.seed for cell in records.cells if cell.system in STRATEGIES]
    folds = len(records.folds) if settings.folds else 0
    return replace(settings, systems=tuple(trained) or settings.systems, seeds=max(seeds, default=0) + 1, folds=folds)


def _with_models(cells: Sequence[Cell]) -> Iterator[Cell]:
    for cell in cells:
        if cell.system in STRATEGIES and cell.result() and (cell.readout_folder() / "model.safetensors").is_file():
            yield cell


def _complete(cells: Sequence[Cell], folds: int) -> dict[tuple[str, int], list[Cell]]:
    """System and seed -> its cells, where every fold is there."""
    found: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.system, cell.seed), []).append(cell)
    return {key: own for key, own in found.items() if len(own) == folds}
