"""Train a model for others to use, on nearly all speakers, with a card of what to expect on unseen ones.

    corpora -> cross-validation by speakers   accuracy on each corpus, temperature, adaptation, probe
            -> each corpus left out in turn   accuracy on recordings of another kind
            -> all speakers but a few         the model; those few validate and test it
            -> a model folder

Every step is an experiment in its own folder, so that an interrupted call continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unheard.errors import ConfigError
from unheard.experiments.adaptation import adapt
from unheard.experiments.config import load
from unheard.experiments.leakage import probe_model
from unheard.experiments.plan import read_rows
from unheard.experiments.records import RunRecords, read_run
from unheard.experiments.run import experiment
from unheard.experiments.summary import Line
from unheard.export.card import data_of, percent
from unheard.export.evidence import evidence_of
from unheard.export.folder import Exported, write_folder
from unheard.export.metadata import Facts
from unheard.manifest import Manifest
from unheard.model.saving import WITH_PROFILES, Model

HELD_OUT = 12
"""One of this many speakers validates the final model, and one tests it."""

Say = Callable[[str], None]


def make_starter(
    folder: str | Path,
    settings: Mapping[str, Any],
    *,
    runs: str | Path,
    name: str = "starter",
    licence: str = "",
    folds: int = 5,
    say: Say = lambda _: None,
) -> Exported:
    """Train, measure and write a model folder; `settings` are those of an experiment (corpora, recipe, one system).

    The experiments are written to `runs`. Raises `UnheardError` for settings that do not fit, before any training.
    """
    base = {"recipe": "strong", "systems": ("ser",), **settings}
    runs = Path(runs)
    first = load(None, {**base, "out": str(runs / "cross-validated")})
    if len(first.systems) != 1:
        raise ConfigError("a model has one system", mend="Name one, such as --systems ser.")
    if first.normalise not in WITH_PROFILES:
        raise ConfigError(
            f"a model with normalisation '{first.normalise}' cannot adapt, and its card reports adaptation",
            mend=f"Choose --normalise {WITH_PROFILES[0]}.",
        )
    rows = read_rows(first)
    if len(rows.speakers) < 2 * folds:
        raise ConfigError(
            f"{len(rows.speakers)} speakers are too few for {folds} folds",
            mend="Add a corpus, or lower --folds.",
        )
    crossed = _run(base, runs / "cross-validated", say, protocol="kfold", k=folds)
    corpora = [name.strip() for name in first.corpus.split(",") if name.strip()]
    left_out = [
        _run(base, runs / f"without-{corpus}", say, protocol="cross", test_corpora=(corpus,))
        for corpus in (corpora if len(corpora) > 1 else [])
    ]
    final = _run(base, runs / "final", say, protocol="random", n=shares(len(rows.speakers)))
    (system,) = first.systems
    own = line_of(final)
    model = Model.load(own.seeds[0].cells[0].folder)
    evidence = (evidence_of(model, final, system), evidence_of(model, crossed, system))
    facts = Facts(name, licence, data_of(model), evidence[1].calibration.temperature)
    sections = [
        ("Adaptation to a speaker", adapt(crossed.folder, systems=(system,), say=say)),
        *([("Recordings of another kind", _on_other_corpora(left_out))] if left_out else []),
        ("Speaker information in the embedding", _probe(crossed, rows, runs, say)),
    ]
    tested = {row["id"] for row in final.utterances.values() if row["id"] in set(own.seeds[0].test.ids)}
    unseen = rows.where(lambda row: row.id in tested)
    return write_folder(model, folder, facts, evidence, int8=True, manifest=unseen, sections=sections, say=say)


def shares(speakers: int) -> tuple[int, int, int]:
    """Return how many speakers train, validate and test the final model."""
    held = max(1, speakers // HELD_OUT)
    return speakers - 2 * held, held, held


def line_of(run: RunRecords) -> Line:
    """Return the results of the system just trained; the folder may hold others from earlier calls."""
    (system,) = run.settings.systems
    return next(line for line in run.lines if line.system == system and not line.chosen)


def _run(base: Mapping[str, Any], out: Path, say: Say, **protocol: Any) -> RunRecords:
    try:
        run = experiment(say=say, **{**base, **protocol, "out": str(out)})
    except ConfigError as error:
        mend = error.mend and error.mend.replace("--out", "--runs")
        raise ConfigError(error.what, where=error.where, mend=mend) from error
    if run.failed:
        name, reason = next(iter(run.failed.items()))
        raise ConfigError(f"{name} failed: {reason}", where=out, mend="Mend that and call again; what is done stays.")
    return read_run(out)


def _on_other_corpora(left_out: list[RunRecords]) -> str:
    lines = ["| Trained without | Utterances tested | WA, % | UAR, % |", "|---|---:|---:|---:|"]
    for run in left_out:
        test = line_of(run).seeds[0].test
        corpus = ", ".join(run.settings.test_corpora)
        lines.append(f"| {corpus} | {len(test.ids)} | {percent(test.wa)} | {percent(test.uar)} |")
    note = (
        "Trained on the other corpora only and tested on all of this one: other microphones, sentences and languages. "
        "Expect these figures, rather than those above, on recordings unlike the training data."
    )
    return "\n".join([*lines, "", note])


def _probe(crossed: RunRecords, rows: Manifest, runs: Path, say: Say) -> str:
    from unheard.corpora.table import write_table

    table = runs / "speakers.csv"
    write_table(rows, table)
    cell = line_of(crossed).seeds[0].cells[0]
    probed = probe_model(cell.folder, table, store=runs / "cross-validated" / "features", say=say)
    return f"For the first cross-validated training, on unseen speakers.\n\n{probed.as_markdown()}"
