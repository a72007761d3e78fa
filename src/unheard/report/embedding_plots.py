"""Sections on embeddings of unseen speakers: the paper's Fig. 2, and how much of the speaker they keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unheard.errors import Say, counted, needs
from unheard.experiments.leakage import HEADS, INPUT, LineLeakage, explained, run_leakage
from unheard.experiments.records import RunRecords
from unheard.experiments.summary import Line
from unheard.report.comparison import settings_that_differ
from unheard.report.content import NOTHING, Block, Figure, Section, Table, Text, known, listed
from unheard.report.plots import INK, Look, dots, scatters

EMOTIONS = {"angry": "#d62728", "happy": "#e08f00", "neutral": "#7f7f7f", "sad": "#1f77b4", "surprised": "#9467bd"}
SPEAKERS = ("#4477aa", "#ee6677", "#228833", "#aa3377")
POINTS = 1500  # utterances drawn at most; of more, so many are drawn with a seed
PARTS = {"dev": "validation speakers", "dev and test": "all held-out speakers (fewer than four validate)"}
_PROBES = {
    "linear": ("linear probe", Look("#0072b2", "o")),
    "mlp": ("MLP probe", Look("#d55e00", "D")),
    "eer": ("equal error rate", Look("#009e73", "s")),
}


@dataclass(frozen=True, eq=False)
class Space:
    """The map of one trained network: points (n, 2) with emotions and speakers; `total` utterances to choose from."""

    line: str
    fold: int
    seed: int
    part: str
    total: int
    points: NDArray[np.float64]
    emotions: NDArray[np.str_]
    speakers: NDArray[np.str_]


def embeddings(run: RunRecords, say: Say) -> Section:
    """t-SNE of unseen speakers' embeddings for every system: emotions, beside them four random speakers."""
    blocks: tuple[Block, ...] = (Text("The map needs the trainings' embeddings.npz, which this run does not have."),)
    for of, where in ((run.invariance, "the run on a random split"), (run, "the run itself")):
        seeds = [{one.seed for one in line.seeds} for line in of.lines if line.seeds] if of else []
        seed = min(set.intersection(*seeds), default=None) if seeds else None
        spaces = [space for line in of.lines if (space := _space(of, line, seed, say))] if of else []
        if of and spaces:
            blocks = (_map(of, spaces, where), *_otherwise(run))
            break
    return Section("embeddings", "Embeddings (Fig. 2)", blocks)


def _space(run: RunRecords, line: Line, seed: int | None, say: Say) -> Space | None:
    """The map of a line's first training of `seed` (None: its own first); validation speakers, if at least four."""
    cell = next((one.cells[0] for one in line.seeds if seed in (None, one.seed)), None)
    found = cell.embeddings() if cell else None
    if cell is None or found is None or not np.isfinite(found[0]).all():
        return None
    e, ids, parts = found
    places = sorted({name: place for place, name in reversed(list(enumerate(ids)))}.values())  # first direction only
    speaker = {row.id: row.speaker for row in run.splits}
    dev = [place for place in places if parts[place] == "dev"]
    part = "dev" if len({speaker[ids[place]] for place in dev}) >= 4 else "dev and test"
    drawn = chosen = dev if part == "dev" else places
    if len(chosen) > POINTS:
        drawn = [chosen[i] for i in sorted(np.random.default_rng(0).permutation(len(chosen))[:POINTS])]
    say(f"t-SNE of {counted(len(drawn), 'embedding')}: {line.name}")
    emotions = np.array([run.utterances[ids[place]].get("emotion", "") for place in drawn])
    speakers = np.array([speaker[ids[place]] for place in drawn])
    return Space(line.name, cell.fold, cell.seed, part, len(chosen), tsne(e[drawn]), emotions, speakers)


def tsne(e: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map e (n, E) to (n, 2) by t-SNE, on one thread, so that the same points come out every time.

    van der Maaten and Hinton 2008 as in scikit-learn; perplexity 30, less for fewer than 91 points. Raises
    `MissingExtra` without scikit-learn.
    """
    with needs("scikit-learn", "train"):
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    perplexity = min(30.0, max(1.0, (len(e) - 1) / 3))
    with threadpool_limits(1):
        model = TSNE(perplexity=perplexity, init="pca", random_state=0, n_jobs=1)
        points: NDArray[np.float64] = model.fit_transform(np.asarray(e, np.float64)).astype(np.float64)
    return points


def _map(run: RunRecords, spaces: Sequence[Space], where: str) -> Figure:
    first = spaces[0]
    people = sorted(set(first.speakers))
    shown = [people[i] for i in sorted(np.random.default_rng(0).permutation(len(people))[:4])]
    panels = {}
    for space in spaces:
        by_emotion = [(label, EMOTIONS.get(label, INK), space.emotions == label) for label in run.labels]
        by_speaker = [(f"speaker {name}", SPEAKERS[k % 4], space.speakers == name) for k, name in enumerate(shown)]
        panels[f"{space.line}: emotions"] = (space.points, by_emotion)
        panels[f"{space.line}: {len(shown)} speakers"] = (space.points, by_speaker)
    seeds = {space.seed for space in spaces}
    of_seed = f"seed {seeds.pop()}" if len(seeds) == 1 else ", ".join(f"{s.line} seed {s.seed}" for s in spaces)
    drawn = len(first.points)
    amount = counted(first.total, "utterance") if drawn == first.total else f"{drawn:,} of {first.total:,} utterances"
    caption = (
        f"t-SNE of the embeddings of {PARTS[first.part]}: {amount} of {counted(len(people), 'unseen speaker')}; fold "
        f"{first.fold} of {where}, {of_seed}. Left the emotions, right the same points with {len(shown)} random "
        "speakers, others in grey. Every system has axes of its own; distances between far groups mean nothing."
    )
    alt = f"t-SNE maps of {listed([space.line for space in spaces])} by emotion and by speaker"
    return Figure("tsne", caption, alt, scatters(panels))


def leakage(run: RunRecords, say: Say) -> Section:
    """Speaker probes, verification and groups, and the same for the input features."""
    title = "Speaker information in the embeddings"
    found = run_leakage(run, say)
    if not found:
        words = (
            "A speaker probe needs the embeddings of at least four unseen speakers in one fold, which this run does "
            "not have; `unheard experiment --invariance` trains such a fold."
        )
        return Section("invariance", title, (Text(words),))
    first = next(iter(found.values())).each[0]
    notes = [
        *explained(first),
        "The lower the probes and the nearer the EER to 50 %, the less speaker information is left. A probe that finds "
        "little does not prove that there is none.",
    ]
    if INPUT not in found:
        notes.append("The row of the input features needs the feature store, which this run does not have.")
    rows = tuple(
        (line.name, str(len(line.seeds)) if line.seeds else NOTHING, *map(line.shown, HEADS)) for line in found.values()
    )
    caption = "Speaker identity in the embeddings of unseen speakers (%, points in the last two columns)"
    table = Table("invariance", caption, ("", "Seeds", *HEADS.values()), rows, tuple(notes))
    return Section("invariance", title, (table, _probes(found, first.chance), *_otherwise(run)))


def _probes(found: Mapping[str, LineLeakage], chance: float) -> Figure:
    def means(*figures: str) -> dict[str, list[float]]:
        return {_PROBES[name][0]: [known(line.over_seeds(name).mean) for line in found.values()] for name in figures}

    panels = {"Speakers recognised": means("linear", "mlp"), "Verification": means("eer")}
    drawing = dots(panels, list(found), dict(_PROBES.values()), "%", references=(chance, 0.5))
    alt = "; ".join(f"{name}: {', '.join(line.shown(figure) for figure in _PROBES)}" for name, line in found.items())
    caption = "Speaker probes and verification (EER), mean over seeds. Dashed: chance."
    return Figure("invariance", caption, alt, drawing)


def _otherwise(run: RunRecords) -> list[Text]:
    """A warning where the networks on the random split were trained with other settings than those of the tables."""
    words = "; ".join(
        f"{one.setting} {one.b} instead of {one.a}"
        for one in (settings_that_differ(run, run.invariance) if run.invariance else ())
        # options of a system that one of the two does not have are no difference
        if one.setting not in ("preset", "tune") and not (one.setting.startswith("options.") and NOTHING in one[1:])
    )
    warning = f"The run on a random split was trained with other settings: {words}."
    return [Text(warning, warning=True)] if words else []
