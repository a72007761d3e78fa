"""Sections on the embeddings of unseen speakers: the paper's Fig. 2, and what is left of the speaker in numbers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unheard.analysis.speaker_leakage import HEADS, INPUT, LineLeakage, explained
from unheard.errors import MissingExtra
from unheard.experiments.comparison import settings_that_differ
from unheard.experiments.leakage import run_leakage
from unheard.experiments.records import CellRecord, Line, RunRecords, read_csv
from unheard.files import write_text
from unheard.report.content import Cell, Column, Figure, Key, Section, Table, Text, counted, percent, plain, spread
from unheard.report.plots import Look, dots
from unheard.report.svg import INK, SHAPES, Canvas, Panel

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
    shown = four_speakers(first.speakers)
    for space in spaces:
        panels += drawn_panels(space.line, space.points, space.emotions, space.speakers, run.labels, shown)
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
    drawn = [chosen[place] for place in picked(len(chosen))]
    say(f"t-SNE of {counted(len(drawn), 'embedding')}: {line.name}")
    return [
        Space(
            line.name,
            cell.fold,
            cell.seed,
            part,
            len(chosen),
            np.round(flat(e[drawn]), 2),
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
    keys = [_entry(label, EMOTIONS.get(label, INK), place) for place, label in enumerate(labels)]
    return (*keys, *(_entry(f"speaker {name}", SPEAKERS[k % 4], k) for k, name in enumerate(speakers)))


def _entry(words: str, colour: str, place: int) -> Key:
    canvas = Canvas(14, 14)
    canvas.marks([(7, 7)], SHAPES[place % len(SHAPES)], colour, 7)
    return Key(words, canvas.panel(words, ""))


def invariance(run: RunRecords, say: Callable[[str], None]) -> Section:
    """Speaker probes, verification and groups, and the same of the input features."""
    title = "What is left of the speaker"
    found = run_leakage(run, say)
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


def _figure(line: LineLeakage, name: str) -> Cell:
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


def _probes(found: Mapping[str, LineLeakage], chance: float) -> Figure:
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


# The maps of Fig. 2 as they were made from the embeddings, in a file that is published with the run.
#
# RUN/maps.csv: digest, part, total, x, y, emotion, speaker; a row a point

MAPS = "maps.csv"
PARTS = {
    "dev": "the validation speakers",
    "dev and test": "the validation and test speakers (fewer than four validate)",
}
_HEADER = ("digest", "part", "total", "x", "y", "emotion", "speaker")


@dataclass(frozen=True, eq=False)
class Space:
    """The map of one trained network: points (n, 2), and who said what how; `total` utterances were to choose from.

    `digest` says which training it is of.
    """

    line: str
    fold: int
    seed: int
    part: str
    total: int
    points: NDArray[np.float64]
    emotions: tuple[str, ...]
    speakers: tuple[str, ...]
    digest: str


def digest_of(cell: CellRecord) -> str:
    """A hash of a training and of what it said: another map belongs to another one."""
    words = [cell.name, str(cell.result["epochs"]), cell.digest]
    return blake2b("\t".join(words).encode(), digest_size=8).hexdigest()


class Maps:
    """The maps in a file; one that cannot be read has none, and they are made again from the embeddings."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, list[dict[str, str]]] = {}
        try:
            for row in read_csv(path):
                self._found.setdefault(row["digest"], []).append(row)
        except (OSError, UnicodeDecodeError, csv.Error, KeyError):
            self._found = {}

    def of(self, cell: CellRecord, line: str) -> Space | None:
        """The map of a training, if it is kept."""
        digest = digest_of(cell)
        rows = self._found.get(digest, ())
        try:
            points = np.array([[float(row["x"]), float(row["y"])] for row in rows])
            part, total = (rows[0]["part"], int(rows[0]["total"])) if rows else ("", 0)
            emotions, speakers = (tuple(row[name] for row in rows) for name in ("emotion", "speaker"))
        except (KeyError, TypeError, ValueError):
            return None
        if part not in PARTS or not np.isfinite(points).all():
            return None
        return Space(line, cell.fold, cell.seed, part, total, points, emotions, speakers, digest)

    def keep(self, spaces: Sequence[Space]) -> None:
        """Write these maps where they are not there already; others stay: the file may be all that is left of them."""
        new = [space for space in spaces if space.digest not in self._found]
        if not new:
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_HEADER)
        for rows in self._found.values():
            writer.writerows([row[name] for name in _HEADER] for row in rows)
        for one in new:
            for (x, y), emotion, speaker in zip(one.points, one.emotions, one.speakers, strict=True):
                writer.writerow([one.digest, one.part, one.total, f"{x:.2f}", f"{y:.2f}", emotion, speaker])
        write_text(self._path, text.getvalue())


# The paper's Fig. 2: embeddings of unseen speakers laid flat, coloured by emotion and by speaker.

EMOTIONS = {
    "angry": "#d55e00", "happy": "#e0a100", "neutral": "#8c8c8c", "sad": "#0072b2", "surprised": "#009e73",
    "fearful": "#cc79a7", "disgusted": "#8b6914", "calm": "#56b4e9", "bored": "#6a51a3", "excited": "#c2a5cf",
    "frustrated": "#a6761d", "other": "#b0b0b0",
}  # fmt: skip
SPEAKERS = ("#4477aa", "#ee6677", "#228833", "#aa3377")
POINTS = 1500
"""Utterances drawn at most; of more, so many are picked with a seed."""


def picked(utterances: int, seed: int = 0) -> list[int]:
    """The places of at most POINTS of so many utterances, the same for every system that scored the same ones."""
    if utterances <= POINTS:
        return list(range(utterances))
    return sorted(np.random.default_rng(seed).permutation(utterances)[:POINTS].tolist())


def four_speakers(speakers: Sequence[str], seed: int = 0, n: int = 4) -> list[str]:
    """Four of the speakers, picked at random with a seed, in order."""
    known = sorted(set(speakers))
    chosen = np.random.default_rng(seed).permutation(len(known))[:n]
    return [known[i] for i in sorted(chosen)]


def flat(e: NDArray[np.floating], seed: int = 0) -> NDArray[np.float64]:
    """t-SNE of e (n, E) as (n, 2), on one thread, so that the same points come out every time.

    van der Maaten & Hinton (2008) as in scikit-learn; perplexity 30, less for fewer than 91 points. Raises
    `MissingExtra` without scikit-learn.
    """
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError as error:
        raise MissingExtra("scikit-learn", "train") from error

    perplexity = min(30.0, max(1.0, (len(e) - 1) / 3))
    with threadpool_limits(1):
        map_ = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
        points: NDArray[np.float64] = map_.fit_transform(np.asarray(e, np.float64)).astype(np.float64)
    return points


def drawn_panels(
    title: str,
    points: NDArray[np.float64],
    emotions: Sequence[str],
    speakers: Sequence[str],
    labels: Sequence[str],
    shown: Sequence[str],
) -> tuple[Panel, Panel]:
    """Emotions, and beside them the speakers `shown` among all others in grey."""
    side, air = 300.0, 8.0
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (side - 2 * air) / max(float((high - low).max()), 1e-9)
    centred = (points - (low + high) / 2) * scale + side / 2
    by_emotion = _scatter(
        f"{title}: emotions",
        side,
        centred,
        [(label, EMOTIONS.get(label, INK), [e == label for e in emotions]) for label in labels],
        None,
    )
    rest = [speaker not in shown for speaker in speakers]
    groups = [(s, SPEAKERS[k % 4], [speaker == s for speaker in speakers]) for k, s in enumerate(shown)]
    by_speaker = _scatter(f"{title}: {len(shown)} speakers", side, centred, groups, rest)
    return by_emotion, by_speaker


def _scatter(
    title: str,
    side: float,
    points: NDArray[np.float64],
    groups: Sequence[tuple[str, str, Sequence[bool]]],
    rest: Sequence[bool] | None,
) -> Panel:
    canvas = Canvas(side, side)
    canvas.add("rect", x=0.5, y=0.5, width=side - 1, height=side - 1, fill="none", stroke=INK, stroke_opacity=".25")
    size = 5.0 if len(points) < 600 else 3.5
    if rest is not None:
        others = [(float(x), float(y)) for (x, y), out in zip(points, rest, strict=True) if out]
        canvas.marks(others, "circle", INK, 2.5, opacity=".15")
    counts = []
    for place, (name, colour, members) in enumerate(groups):
        own = [(float(x), float(y)) for (x, y), inside in zip(points, members, strict=True) if inside]
        canvas.marks(own, SHAPES[place % len(SHAPES)], colour, size, hint=name, opacity=".85")
        counts.append(f"{name} {len(own)}")
    return canvas.panel(title, f"t-SNE map, {title}; utterances: {', '.join(counts)}.")
