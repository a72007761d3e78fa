"""Sections on the embeddings of unseen speakers: the paper's Fig. 2, and what is left of the speaker in numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unheard.experiments.lines import CellRecord
from unheard.experiments.records import RunRecords
from unheard.experiments.report import tsne
from unheard.experiments.report.content import Figure, Key, Section, Text, counted
from unheard.experiments.report.svg import INK, SHAPES, Canvas, Panel

ANCHOR, TITLE = "embeddings", "Embeddings (Fig. 2)"


@dataclass(frozen=True)
class Space:
    """The embeddings of one trained network, and which unseen speakers they are of."""

    line: str
    cell: CellRecord
    cloud: tsne.Cloud
    part: str


def embeddings(run: RunRecords, say: Callable[[str], None]) -> Section:
    """t-SNE of unseen speakers' embeddings for every system, emotions beside four random speakers."""
    of = run.invariance or run
    spaces = [
        space
        for line in of.lines
        for space in [_space(of, line.seeds[0].cells[0] if line.seeds else None, line.name)]
        if space
    ]
    if not spaces:
        words = "The map of the embeddings needs the trainings' embeddings.npz, which this run does not carry."
        return Section(ANCHOR, TITLE, (Text(words),))
    panels: list[Panel] = []
    shown = tsne.four_speakers(spaces[0].cloud.speakers)
    for space in spaces:
        cloud = tsne.picked(space.cloud)
        say(f"t-SNE of {counted(len(cloud.e), 'embedding')}: {space.line}")
        panels += tsne.panels(space.line, tsne.flat(cloud.e), cloud, of.labels, shown)
    first = spaces[0]
    total, drawn = len(first.cloud.e), min(len(first.cloud.e), tsne.POINTS)
    amount = counted(total, "utterance") if drawn == total else f"{drawn:,} of {total:,} utterances, picked with a seed"
    where = "of the run on a random split" if run.invariance else "of the run itself"
    caption = (
        f"t-SNE of the embeddings of {first.part}: {amount} of "
        f"{counted(len(set(first.cloud.speakers)), 'speaker')} never heard in training; fold {first.cell.fold} "
        f"{where}, seed {first.cell.seed}. Left the emotions, right the same points with {len(shown)} random speakers, "
        "the others in grey. Maps of different systems have axes of their own; distances between far groups mean nothing."
    )
    return Section(ANCHOR, TITLE, (Figure("tsne", caption, tuple(panels), 2, _key(of.labels, shown)),))


def _space(run: RunRecords, cell: CellRecord | None, line: str) -> Space | None:
    """Validation speakers, or all unseen ones where those are fewer than four; the first reading's network only."""
    found = cell.embeddings() if cell is not None else None
    if cell is None or found is None:
        return None
    e, ids, parts = found
    first = {name: place for place, name in reversed(list(enumerate(ids)))}  # a second reading is another network
    places = sorted(first.values())
    speaker = {row.id: row.speaker for row in run.splits}
    dev = [place for place in places if parts[place] == "dev"]
    enough = len({speaker[ids[place]] for place in dev}) >= 4
    chosen = dev if enough else places
    cloud = tsne.Cloud(
        e[chosen],
        tuple(run.utterances[ids[place]].get("emotion", "") for place in chosen),
        tuple(speaker[ids[place]] for place in chosen),
    )
    part = "the validation speakers" if enough else "the validation and test speakers (fewer than four validate)"
    return Space(line, cell, cloud, part)


def _key(labels: Sequence[str], speakers: Sequence[str]) -> tuple[Key, ...]:
    entries = [(label, tsne.EMOTIONS.get(label, INK)) for label in labels]
    keys = [_entry(name, colour, place) for place, (name, colour) in enumerate(entries)]
    return (*keys, *(_entry(f"speaker {name}", tsne.SPEAKERS[k % 4], k) for k, name in enumerate(speakers)))


def _entry(words: str, colour: str, place: int) -> Key:
    canvas = Canvas(14, 14)
    canvas.marks([(7, 7)], SHAPES[place % len(SHAPES)], colour, 7)
    return Key(words, canvas.panel(words, ""))
