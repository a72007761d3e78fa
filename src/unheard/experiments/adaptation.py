"""Adaptation to a voice, measured: k unlabelled utterances of a test speaker are heard before the others are scored.

    a trained cell, its test utterances -> k of a speaker's drawn -> voice -> the speaker's others scored

A condition of its own, never mixed with the tables of unseen speakers: this speaker has been heard, if unlabelled. The
k utterances are not scored; `all` hears every utterance it scores and is transductive. Each draw is seeded.
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
from unheard.experiments.cells import Cell
from unheard.experiments.grid import lay_out
from unheard.experiments.lines import NAMES
from unheard.experiments.records import RunRecords, read_run
from unheard.experiments.settings import Experiment, load
from unheard.experiments.work import NormalisedFrames
from unheard.features import FeatureStore
from unheard.files import write_text
from unheard.training.batches import Task
from unheard.training.enrol import voice_of
from unheard.training.evaluation import score
from unheard.training.model import Model
from unheard.training.seeds import derive
from unheard.training.strategies import STRATEGIES

Floats = NDArray[np.float32]

ALL = -1
"""k of all utterances of the speaker."""

SIZES = (0, 1, 4, 16, ALL)
DRAWS = 5
FILE = "adaptation.csv"
_HEADER = ("system", "seed", "k", "draw", "speaker", "emotion", "utterances", "correct")


@dataclass(frozen=True)
class Count:
    """How many utterances of one emotion a speaker said, and how many were told, after `k` heard in draw `draw`."""

    system: str
    seed: int
    k: int
    draw: int
    speaker: str
    emotion: str
    utterances: int
    correct: int


@dataclass(frozen=True)
class Adapted:
    """WA and UAR of a system after k utterances: each the mean over draws and seeds; `seeds` of them."""

    system: str
    k: int
    wa: float
    uar: float
    seeds: int


def adapt(
    run: str | Path,
    *,
    sizes: Sequence[int] = SIZES,
    draws: int = DRAWS,
    say: Callable[[str], None] = lambda _: None,
) -> str:
    """Measure adaptation on every complete seed of the trained systems of `run`; returns the table in Markdown.

    Writes RUN/adaptation.csv and RUN/adaptation.md. Needs the run's models and features, which an experiment leaves
    there. Raises `RunError` where there are none.
    """
    out = Path(run)
    grid = lay_out(_of_all_calls(load(out / "config.yaml"), read_run(out)))
    cells = list(_with_models(grid.cells))
    if not cells:
        raise RunError(
            "no trained model is here", where=out, mend="Run the experiment here first; published runs have none."
        )
    counts: list[Count] = []
    for (system, seed), own in _complete(cells, len(grid.split.folds)).items():
        say(f"{NAMES.get(system, system)}, seed {seed}: voices heard before")
        for cell in own:
            counts += list(counts_of(cell, sizes, draws))
    write_text(out / FILE, counts_csv(counts))
    table = table_markdown(summarise(counts))
    write_text(out / "adaptation.md", table)
    return table


def counts_of(cell: Cell, sizes: Sequence[int], draws: int) -> Iterator[Count]:
    """The counts of one trained cell, over all its readings' test speakers."""
    store = FeatureStore.open(cell.store)
    for place, reading in enumerate(cell.fold.readings):
        name = "model.safetensors" if place == 0 else f"model-{reading.name}.safetensors"
        model = Model.load(cell.readout_folder() / name)
        frames = NormalisedFrames(store, model.normaliser, cell.rows)
        task = Task(frames, {i: cell.labels.index(cell.rows[i].emotion) for i in reading.test}, {})
        speakers: dict[str, list[str]] = {}
        for utterance in reading.test:
            speakers.setdefault(cell.rows[utterance].speaker, []).append(utterance)
        described = describe(model, task, reading.test)
        for k in sizes:
            for draw in range(draws if k > 0 else 1):
                yield from _counted(cell, model, task, speakers, described, k, draw)


def describe(model: Model, task: Task, ids: Sequence[str]) -> dict[str, Floats]:
    """What each utterance says of its voice (V,)."""
    found: dict[str, Floats] = {}
    with torch.no_grad():
        for positions, batch in task.in_order(ids, 64):
            rows = model.strategy.embed.describe(batch.x, batch.lengths).numpy()
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
    k: int,
    draw: int,
) -> Iterator[Count]:
    voices: dict[str, Floats] = {}
    scored: dict[str, str] = {}
    for speaker, utterances in speakers.items():
        heard, others = drawn(utterances, k, speaker, draw)
        width = len(described[utterances[0]])
        voice = voice_of(np.array([described[name] for name in heard], np.float32).reshape(len(heard), width))
        for name in others:
            voices[name], scored[name] = voice, speaker
    if not scored:
        return
    said = score(model.strategy, task, list(scored), device=torch.device("cpu"), voices=voices)
    told: dict[tuple[str, str], list[bool]] = {}
    for name, truth, predicted in zip(said.ids, said.truth, said.predicted, strict=True):
        told.setdefault((scored[name], cell.labels[truth]), []).append(bool(truth == predicted))
    for (speaker, emotion), right in told.items():
        yield Count(cell.system, cell.seed, k, draw, speaker, emotion, len(right), sum(right))


def summarise(counts: Sequence[Count]) -> list[Adapted]:
    """WA and UAR of each system and k, pooled over speakers in each draw and seed, then averaged."""
    pooled: dict[tuple[str, int], dict[tuple[int, int], dict[str, list[int]]]] = {}
    for count in counts:
        by_emotion = pooled.setdefault((count.system, count.k), {}).setdefault((count.seed, count.draw), {})
        sums = by_emotion.setdefault(count.emotion, [0, 0])
        sums[0] += count.utterances
        sums[1] += count.correct
    found = []
    for (system, k), draws in pooled.items():
        was = [sum(c for _, c in one.values()) / sum(n for n, _ in one.values()) for one in draws.values()]
        uars = [statistics.fmean(c / n for n, c in one.values()) for one in draws.values()]
        seeds = len({seed for seed, _ in draws})
        found.append(Adapted(system, k, statistics.fmean(was), statistics.fmean(uars), seeds))
    return found


def table_markdown(results: Sequence[Adapted]) -> str:
    """A row a system, a column each k: WA / UAR in percent."""
    sizes = list(dict.fromkeys(one.k for one in results))
    heads = ["System", *("all (transductive)" if k == ALL else f"k = {k}" for k in sizes), "Seeds"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for system in dict.fromkeys(one.system for one in results):
        own = {one.k: one for one in results if one.system == system}
        cells = [f"{100 * own[k].wa:.1f} / {100 * own[k].uar:.1f}" if k in own else "–" for k in sizes]
        lines.append(
            f"| {NAMES.get(system, system)} | " + " | ".join([*cells, str(next(iter(own.values())).seeds)]) + " |"
        )
    note = (
        "WA / UAR in percent on test speakers of whom k unlabelled utterances were heard first; those are not scored "
        "(`all`: every utterance is heard and scored). Mean over the draws of the k utterances and over seeds."
    )
    return "\n".join([*lines, "", note, ""])


def counts_csv(counts: Sequence[Count]) -> str:
    """The text of adaptation.csv; k of all is written `all`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    for count in counts:
        values = vars(count) | {"k": "all" if count.k == ALL else count.k}
        writer.writerow([values[name] for name in _HEADER])
    return text.getvalue()


def _of_all_calls(settings: Experiment, records: RunRecords) -> Experiment:
    """The settings of the run with every system and seed it holds: its configuration tells of the last call alone."""
    trained = {cell.system: None for cell in records.cells if cell.system in STRATEGIES}
    seeds = [cell.seed for cell in records.cells if cell.system in STRATEGIES]
    return replace(settings, systems=tuple(trained) or settings.systems, seeds=max(seeds, default=0) + 1)


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
