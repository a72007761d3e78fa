"""Report sections on embeddings of unseen speakers: the paper's Fig. 2, and the speaker information they retain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unheard.errors import Say, counted, needs
from unheard.experiments.leakage import HEADS, INPUT, LineLeakage, explanation, run_leakage
from unheard.experiments.records import RunRecords
from unheard.experiments.summary import Line
from unheard.report.comparison import settings_that_differ
from unheard.report.content import NOTHING, Block, Figure, Section, Table, Text, listed, or_nan
from unheard.report.plots import INK, Look, dots, scatters

EMOTIONS = {"angry": "#d62728", "happy": "#e08f00", "neutral": "#7f7f7f", "sad": "#1f77b4", "surprised": "#9467bd"}
SPEAKERS = ("#4477aa", "#ee6677", "#228833", "#aa3377")
POINTS = 1500  # maximum number of utterances in a map; of more, a seeded sample is drawn
PARTS = {"dev": "validation speakers", "dev and test": "all held-out speakers (fewer than four validate)"}
_PROBES = {
    "linear": ("linear probe", Look("#0072b2", "o")),
    "mlp": ("MLP probe", Look("#d55e00", "D")),
    "eer": ("equal error rate", Look("#009e73", "s")),
}


@dataclass(frozen=True, eq=False)
class Space:
    """The map of one trained network: points (n, 2) with emotions and speakers, sampled from `total` utterances."""

    line: str
    fold: int
    seed: int
    part: str
    total: int
    points: NDArray[np.float64]
    emotions: NDArray[np.str_]
    speakers: NDArray[np.str_]


def embeddings(run: RunRecords, say: Say) -> Section:
    """Return the section with t-SNE maps of unseen speakers' embeddings, by emotion and by four random speakers."""
    blocks: tuple[Block, ...] = (Text("The map needs the trainings' embeddings.npz, which this run does not have."),)
    for source, run_name in ((run.invariance, "the run on a random split"), (run, "the run itself")):
        seeds = [{record.seed for record in line.seeds} for line in source.lines if line.seeds] if source else []
        seed = min(set.intersection(*seeds), default=None) if seeds else None
        spaces = [space for line in source.lines if (space := _tsne_map(source, line, seed, say))] if source else []
        if source and spaces:
            blocks = (_figure(source, spaces, run_name), *_other_settings(run))
            break
    return Section("embeddings", "Embeddings (Fig. 2)", blocks)


def _tsne_map(run: RunRecords, line: Line, seed: int | None, say: Say) -> Space | None:
    """Map a line's first training of `seed` (None: of its first seed), on validation speakers if at least four."""
    cell = next((record.cells[0] for record in line.seeds if seed in (None, record.seed)), None)
    stored = cell.embeddings() if cell else None
    if cell is None or stored is None or not np.isfinite(stored[0]).all():
        return None
    e, ids, parts = stored
    indices = sorted({name: i for i, name in reversed(list(enumerate(ids)))}.values())  # first direction only
    speaker = {row.id: row.speaker for row in run.splits}
    dev = [i for i in indices if parts[i] == "dev"]
    part = "dev" if len({speaker[ids[i]] for i in dev}) >= 4 else "dev and test"
    sample = unseen = dev if part == "dev" else indices
    if len(unseen) > POINTS:
        sample = [unseen[i] for i in sorted(np.random.default_rng(0).permutation(len(unseen))[:POINTS])]
    say(f"t-SNE of {counted(len(sample), 'embedding')}: {line.name}")
    emotions = np.array([run.utterances[ids[i]].get("emotion", "") for i in sample])
    speakers = np.array([speaker[ids[i]] for i in sample])
    return Space(line.name, cell.fold, cell.seed, part, len(unseen), tsne(e[sample]), emotions, speakers)


def tsne(e: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map e (n, E) to (n, 2) by t-SNE, on one thread, so that the result is reproducible.

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


def _figure(run: RunRecords, spaces: Sequence[Space], run_name: str) -> Figure:
    first = spaces[0]
    people = sorted(set(first.speakers))
    shown = [people[i] for i in sorted(np.random.default_rng(0).permutation(len(people))[:4])]
    panels = {}
    for space in spaces:
        by_emotion = [(label, EMOTIONS.get(label, INK), space.emotions == label) for label in run.labels]
        by_speaker = [(f"speaker {name}", SPEAKERS[k % 4], space.speakers == name) for k, name in enumerate(shown)]
        panels[f"{space.line}: emotions"] = (space.points, by_emotion)
        panels[f"{space.line}: {counted(len(shown), 'speaker')}"] = (space.points, by_speaker)
    seeds = {space.seed for space in spaces}
    seed_text = f"seed {seeds.pop()}" if len(seeds) == 1 else ", ".join(f"{s.line} seed {s.seed}" for s in spaces)
    n = len(first.points)
    amount = counted(first.total, "utterance") if n == first.total else f"{n:,} of {first.total:,} utterances"
    caption = (
        f"t-SNE of the embeddings of {PARTS[first.part]}: {amount} of {counted(len(people), 'unseen speaker')}; fold "
        f"{first.fold} of {run_name}, {seed_text}. Left: emotions; right: the same points with {len(shown)} random "
        "speakers, others in grey. Axes differ between systems; distances between distant groups have no meaning."
    )
    alt = f"t-SNE maps of {listed([space.line for space in spaces])} by emotion and by speaker"
    return Figure("tsne", caption, alt, scatters(panels))


def leakage(run: RunRecords, say: Say) -> Section:
    """Return the section on speaker probes, verification and groups, for embeddings and input features."""
    title = "Speaker information in the embeddings"
    by_line = run_leakage(run, say)
    if not by_line:
        text = (
            "A speaker probe needs the embeddings of at least four unseen speakers in one fold, which this run does "
            "not have; unheard experiment --invariance trains such a fold."
        )
        return Section("invariance", title, (Text(text),))
    first = next(iter(by_line.values())).measurements[0]
    notes = [
        *explanation(first),
        "The lower the probes and the nearer the EER to 50 %, the less speaker information is left. A probe that finds "
        "little does not prove that there is none.",
    ]
    if INPUT not in by_line:
        notes.append("The row of the input features needs the feature store, which this run does not have.")
    leakages = by_line.values()
    rows = tuple((line.name, str(len(line.seeds) or NOTHING), *map(line.shown, HEADS)) for line in leakages)
    caption = "Speaker identity in the embeddings of unseen speakers (%, points in the last two columns)"
    table = Table("invariance", caption, ("", "Seeds", *HEADS.values()), rows, tuple(notes))
    return Section("invariance", title, (table, _probe_figure(by_line, first.chance), *_other_settings(run)))


def _probe_figure(by_line: Mapping[str, LineLeakage], chance: float) -> Figure:
    def means(*figures: str) -> dict[str, list[float]]:
        return {_PROBES[name][0]: [or_nan(line.over_seeds(name).mean) for line in by_line.values()] for name in figures}

    panels = {"Speakers recognised": means("linear", "mlp"), "Verification": means("eer")}
    drawing = dots(panels, list(by_line), dict(_PROBES.values()), "%", references=(chance, 0.5))
    alt = "; ".join(f"{name}: {', '.join(line.shown(figure) for figure in _PROBES)}" for name, line in by_line.items())
    caption = "Speaker probes and verification (EER), mean over seeds. Dashed: chance."
    return Figure("invariance", caption, alt, drawing)


def _other_settings(run: RunRecords) -> list[Text]:
    """Return a warning if the networks on the random split were trained with other settings than the run's."""
    differences = "; ".join(
        f"{d.setting} {d.b} instead of {d.a}"
        for d in (settings_that_differ(run, run.invariance) if run.invariance else ())
        # options of a system that only one of the runs has do not count
        if d.setting not in ("preset", "tune") and not (d.setting.startswith("options.") and NOTHING in d[1:])
    )
    warning = f"The run on a random split was trained with other settings: {differences}."
    return [Text(warning, warning=True)] if differences else []
