"""Sections on the embeddings of unseen speakers: the paper's Fig. 2, and what is left of the speaker in numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from unheard.experiments.comparable import settings_that_differ
from unheard.experiments.invariance import INPUT, LineInvariance, of_run
from unheard.experiments.invariance.lines import HEADS, explained
from unheard.experiments.lines import Line
from unheard.experiments.records import RunRecords
from unheard.experiments.report import tsne
from unheard.experiments.report.content import (
    Cell,
    Column,
    Figure,
    Key,
    Section,
    Table,
    Text,
    counted,
    percent,
    plain,
    spread,
)
from unheard.experiments.report.figures import Look, dots
from unheard.experiments.report.maps import MAPS, PARTS, Maps, Space, digest_of
from unheard.experiments.report.svg import INK, SHAPES, Canvas, Panel

_PROBES = {"linear": Look("#0072b2", "circle"), "mlp": Look("#d55e00", "diamond"), "eer": Look("#009e73", "square")}


def embeddings(run: RunRecords, say: Callable[[str], None]) -> Section:
    """t-SNE of unseen speakers' embeddings for every system, emotions beside four random speakers.

    The maps are kept in RUN/maps.csv: with that file a run without its embeddings still has them.
    """
    anchor, title = "embeddings", "Embeddings (Fig. 2)"
    kept = Maps(run.folder / MAPS)
    for of, where in ((run.invariance, "of the run on a random split"), (run, "of the run itself")):
        seed = _seed_of_all(of.lines) if of else None
        spaces = [space for line in of.lines for space in _spaces(of, line, seed, kept, say)] if of else []
        if of and spaces:
            kept.keep(spaces)
            return Section(anchor, title, (_map(of, spaces, where), *_otherwise(run)))
    words = "The map of the embeddings needs the trainings' embeddings.npz, which this run does not carry."
    return Section(anchor, title, (Text(words),))


def _map(run: RunRecords, spaces: Sequence[Space], where: str) -> Figure:
    panels: list[Panel] = []
    first = spaces[0]
    shown = tsne.four_speakers(first.speakers)
    for space in spaces:
        panels += tsne.panels(space.line, space.points, space.emotions, space.speakers, run.labels, shown)
    total, drawn = first.total, len(first.points)
    amount = counted(total, "utterance") if drawn == total else f"{drawn:,} of {total:,} utterances, picked with a seed"
    caption = (
        f"t-SNE of the embeddings of {PARTS[first.part]}: {amount} of "
        f"{counted(len(set(first.speakers)), 'speaker')} never heard in training; fold {first.fold} {where}, "
        f"{_seeds(spaces)}. Of each system left the emotions, right the same points with {len(shown)} random "
        "speakers, any others in grey. Maps of different systems have axes of their own; distances between far groups "
        "mean nothing."
    )
    return Figure("tsne", caption, tuple(panels), "pairs", _key(run.labels, shown))


def _seed_of_all(lines: Sequence[Line]) -> int | None:
    """The first seed that every line with one has; None where there is none."""
    seeds = [{one.seed for one in line.seeds} for line in lines if line.seeds]
    return min(set.intersection(*seeds), default=None) if seeds else None


def _spaces(run: RunRecords, line: Line, seed: int | None, kept: Maps, say: Callable[[str], None]) -> list[Space]:
    """Validation speakers, or all unseen ones where those are fewer than four; the first reading's network only.

    Of `seed`, or (None) of the line's own first one.
    """
    cell = next((one.cells[0] for one in line.seeds if seed in (None, one.seed)), None)
    if cell is None:
        return []
    found, known = cell.embeddings(), kept.of(cell, line.name)
    if found is not None and not np.isfinite(found[0]).all():  # a training that diverged has no map
        return []
    if known is not None:
        return [known]
    if found is None:
        return []
    e, ids, parts = found
    first = {name: place for place, name in reversed(list(enumerate(ids)))}  # a second reading is another network
    places = sorted(first.values())
    speaker = {row.id: row.speaker for row in run.splits}
    dev = [place for place in places if parts[place] == "dev"]
    part = "dev" if len({speaker[ids[place]] for place in dev}) >= 4 else "dev and test"
    chosen = dev if part == "dev" else places
    drawn = [chosen[place] for place in tsne.picked(len(chosen))]
    say(f"t-SNE of {counted(len(drawn), 'embedding')}: {line.name}")
    return [
        Space(
            line.name,
            cell.fold,
            cell.seed,
            part,
            len(chosen),
            np.round(tsne.flat(e[drawn]), 2),
            tuple(run.utterances[ids[place]].get("emotion", "") for place in drawn),
            tuple(speaker[ids[place]] for place in drawn),
            digest_of(cell),
        )
    ]


def _seeds(spaces: Sequence[Space]) -> str:
    """`seed 0`, or each system's own."""
    seeds = {space.seed for space in spaces}
    if len(seeds) == 1:
        return f"seed {seeds.pop()}"
    return ", ".join(f"{space.line} seed {space.seed}" for space in spaces)


def _key(labels: Sequence[str], speakers: Sequence[str]) -> tuple[Key, ...]:
    keys = [_entry(label, tsne.EMOTIONS.get(label, INK), place) for place, label in enumerate(labels)]
    return (*keys, *(_entry(f"speaker {name}", tsne.SPEAKERS[k % 4], k) for k, name in enumerate(speakers)))


def _entry(words: str, colour: str, place: int) -> Key:
    canvas = Canvas(14, 14)
    canvas.marks([(7, 7)], SHAPES[place % len(SHAPES)], colour, 7)
    return Key(words, canvas.panel(words, ""))


def invariance(run: RunRecords, say: Callable[[str], None]) -> Section:
    """Speaker probes, verification and groups, and the same of the input features."""
    title = "What is left of the speaker"
    found = of_run(run, say)
    if not found:
        words = (
            "A speaker probe needs the embeddings of at least four unseen speakers in one fold, which this run does "
            "not carry; `unheard experiment --invariance` trains where they can be had."
        )
        return Section("invariance", title, (Text(words),))
    first = next(iter(found.values())).each[0]
    notes = list(explained(first)[:-1])
    notes.append(
        "Percent, and points in the last two columns: mean ± std over seeds; with a single seed the 95 % interval from "
        "resampling recordings. The lower the probes and the nearer the EER to 50 %, the less of the speaker is left. "
        "A probe that finds little is no proof that nothing is there: it is one probe, on so few speakers."
    )
    if INPUT not in found:
        notes.append("The row of the input features needs the feature store, which this run does not carry.")
    columns = (Column("", "system", False), Column("Seeds", "seeds"))
    columns += tuple(Column(head, figure) for figure, head in HEADS.items())  # type: ignore[assignment]
    rows = tuple(
        (plain(line.name), plain(len(line.seeds) or "–", len(line.seeds)), *(_figure(line, name) for name in HEADS))
        for line in found.values()
    )
    table = Table("invariance", "Speaker identity in the embeddings of unseen speakers", columns, rows, tuple(notes))
    return Section("invariance", title, (table, _probes(found, first.chance), *_otherwise(run)))


def _otherwise(run: RunRecords) -> list[Text]:
    """Says so where the networks on the random split were trained otherwise than those of the tables."""
    other = run.invariance
    found = [
        one
        for one in (settings_that_differ(run, other) if other else ())
        # options of a system that one of the two does not have are no difference
        if one.setting not in ("preset", "tune") and not (one.setting.startswith("options.") and "–" in one[1:])
    ]
    if not found:
        return []
    said = "; ".join(f"{one.setting} {one.b} instead of {one.a}" for one in found)
    return [
        Text(
            f"The run on a random split was trained otherwise than the systems of the tables: {said}. The same "
            "`unheard experiment` with --invariance trains it again.",
            warning=True,
        )
    ]


def _figure(line: LineInvariance, name: str) -> Cell:
    mean, std = line.over_seeds(name)
    cell = spread(mean, std, sign=name == "gender_gap")
    if len(line.each) > 1 or not math.isfinite(mean):
        return cell
    inv = line.each[0]
    ranges = {"linear": inv.linear, "mlp": inv.mlp, "eer": inv.eer}
    if inv.groups is not None:
        ranges |= {"worst_uar": inv.groups.worst.uar, "gender_gap": inv.groups.gender_gap}
    value = percent(mean, sign=name == "gender_gap")
    if name not in ranges or not math.isfinite(ranges[name].low):
        return Cell(value, cell.data)
    low, high = ranges[name].low, ranges[name].high
    return Cell(f"{value} ({percent(low)} to {percent(high)})", {**cell.data, "low": low, "high": high})


def _probes(found: Mapping[str, LineInvariance], chance: float) -> Figure:
    words = {"linear": "linear probe", "mlp": "MLP probe", "eer": "equal error rate"}
    values = {words[name]: [line.over_seeds(name)[0] for line in found.values()] for name in words}
    looks = {words[name]: look for name, look in _PROBES.items()}
    accuracy = {name: column for name, column in values.items() if name != words["eer"]}
    rows = list(found)
    panels = [
        *dots("Speaker probe", rows, accuracy, looks, "speakers recognised, %", reference=chance, limits=(0.0, 1.0)),
        *dots("Verification", rows, {words["eer"]: values[words["eer"]]}, looks, "equal error rate, %",
              reference=0.5, limits=(0.0, 0.6)),
    ]  # fmt: skip
    key = tuple(looks[name].key(name) for name in values)
    return Figure(
        "invariance", "Speaker probes and verification, mean over seeds. Dashed: chance.", tuple(panels), "two", key
    )
