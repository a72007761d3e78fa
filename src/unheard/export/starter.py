"""Train a model for others to use, on nearly all speakers, with a card of what to expect on unseen ones.

    corpora -> cross-validation by speakers   accuracy on each corpus, adaptation, noise, telephone, probe
            -> each corpus left out in turn   accuracy on recordings of another kind, temperature
            -> all speakers but a few         the model; those few validate it and test its int8 weights
            -> a model folder

Every step is an experiment in its own folder, so that an interrupted call continues where it stopped.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from unheard.audio import SAMPLE_RATE, read_audio
from unheard.corpora.table import write_table
from unheard.errors import ConfigError, Say, silent
from unheard.experiments.adaptation import adapt
from unheard.experiments.baselines import CLASSICAL_SYSTEMS
from unheard.experiments.config import Experiment
from unheard.experiments.evaluate import score_model
from unheard.experiments.leakage import probe_model
from unheard.experiments.plan import read_rows
from unheard.experiments.records import RunRecords, read_run
from unheard.experiments.run import run_experiment
from unheard.experiments.summary import Line
from unheard.export.card import data_of
from unheard.export.evidence import calibrate, evidence_of
from unheard.export.folder import write_folder
from unheard.export.onnx import Facts
from unheard.features.changes import Doubles, in_noise, telephone
from unheard.features.encoder import write_encoder
from unheard.files import markdown_table
from unheard.manifest import Manifest, Utterance
from unheard.model.saving import WITH_PROFILES, Model
from unheard.report.content import percent
from unheard.training.metrics import unweighted_average_recall, weighted_accuracy

HELD_OUT = 24  # one of this many speakers validates the final model, and one tests it


def make_starter(
    folder: str | Path,
    settings: Experiment,
    *,
    name: str = "starter",
    licence: str = "",
    folds: int = 5,
    int8: bool = True,
    say: Say = silent,
) -> None:
    """Train, measure and write a model folder; `settings` are those of an experiment (corpora, recipe, one system).

    The experiments are written to folders in `settings.out` and share a feature store. `int8` is that of
    `write_folder`. Raises `UnheardError` for settings that do not fit, before any training.
    """
    runs = Path(settings.out)
    base = replace(settings, store=settings.store or str(runs / "features"))
    if len(base.systems) != 1 or base.systems[0] in CLASSICAL_SYSTEMS:
        raise ConfigError("a model has one system, a network", mend="Name one, such as --systems ser.")
    if base.normalise not in WITH_PROFILES:
        what = f"a model with normalisation '{base.normalise}' cannot adapt, and its card reports adaptation"
        raise ConfigError(what, mend=f"Choose --normalise {WITH_PROFILES[0]}.")
    if base.features.kind == "encoder":
        with tempfile.TemporaryDirectory(prefix="unheard-") as temporary:  # now rather than after the trainings
            write_encoder(base.features.encoder, base.features.layer, Path(temporary), int8=int8)
    rows = read_rows(base)
    if len(rows.speakers) < 2 * folds:
        what = f"{len(rows.speakers)} speakers are too few for {folds} folds"
        raise ConfigError(what, mend="Add a corpus, or lower --folds.")
    homes = {(row.speaker, row.corpus) for row in rows}
    several = len({corpus for _, corpus in homes}) > 1
    apart = len(homes) == len(rows.speakers)
    if several and not apart:
        say("No corpus can be left out: some speakers are in several of them")
    left_out = _run(base, runs / "corpora-left-out", say, protocol="leave-corpus-out") if several and apart else None
    crossed = _run(base, runs / "cross-validated", say, protocol="kfold", k=folds)
    final = _run(base, runs / "final", say, protocol="random", n=shares(len(rows.speakers)))
    (system,) = base.systems
    results = line_of(final)
    model = Model.load(results.seeds[0].cells[0].folder)
    if left_out:
        chosen = calibrate(line_of(left_out), on="test")
        measured = calibrate(line_of(crossed), temperature=chosen.temperature)
        evidence = [
            evidence_of(model, crossed, system, calibration=measured),
            evidence_of(model, left_out, system, calibration=chosen),
        ]
    else:
        evidence = [evidence_of(model, crossed, system)]
    facts = Facts(name, licence, data_of(model), evidence[-1].calibration.temperature)
    sections = [
        ("Adaptation to a speaker", adapt(crossed.folder, systems=(system,), say=say)),
        ("Noise and telephone", _degraded(crossed, rows, say)),
        ("Speaker information in the embedding", _probe(crossed, rows, base, say)),
    ]
    tested = set(results.seeds[0].test.ids)
    unseen = rows.where(lambda row: row.id in tested)
    write_folder(model, folder, facts, evidence, int8=int8, manifest=unseen, sections=sections, say=say)


def shares(speakers: int) -> tuple[int, int, int]:
    """Return how many speakers train, validate and test the final model."""
    n = max(1, speakers // HELD_OUT)
    return speakers - 2 * n, n, n


def line_of(run: RunRecords) -> Line:
    """Return the results of the system just trained; the folder may hold others from earlier calls."""
    (system,) = run.settings.systems
    return next(line for line in run.lines if line.system == system and not line.chosen)


def _run(base: Experiment, out: Path, say: Say, **protocol: Any) -> RunRecords:
    try:
        run = run_experiment(replace(base, **protocol, out=str(out)), say)
    except ConfigError as error:
        mend = error.mend and error.mend.replace("--out", "--runs")
        raise ConfigError(error.what, where=error.where, mend=mend) from error
    if run.failed:
        name, reason = next(iter(run.failed.items()))
        raise ConfigError(f"{name} failed: {reason}", where=out, mend="Mend that and call again; what is done stays.")
    return read_run(out)


def _degraded(crossed: RunRecords, rows: Manifest, say: Say) -> str:
    """Score the cross-validated models again on degraded recordings of their test speakers."""
    by_id, random = rows.by_id(), np.random.default_rng(0)
    tests = line_of(crossed).seeds[0]
    table = [("as recorded", str(len(tests.test.ids)), percent(tests.test.wa), percent(tests.test.uar))]
    changes: dict[str, Callable[[Doubles], Doubles]] = {
        "noise at 10 dB": partial(in_noise, random=random),
        "telephone line (8 kHz, G.711)": telephone,
    }
    for name, change in changes.items():
        say(f"{name}: scoring {len(tests.test.ids)} recordings")
        truth, predicted = [], []
        for cell in tests.cells:
            with tempfile.TemporaryDirectory(prefix="unheard-") as temporary:
                degraded: list[Utterance] = []
                for row in (by_id[assigned.id] for assigned in cell.rows if assigned.part == "test"):
                    x = change(read_audio(row.audio, start=row.start, end=row.end, channel=row.channel).astype(float))
                    path = Path(temporary, f"{len(degraded)}.wav")
                    soundfile.write(path, x / max(1.0, np.abs(x).max()), SAMPLE_RATE, subtype="FLOAT")
                    degraded.append(replace(row, audio=str(path), start=0.0, end=None, channel="mix"))
                with score_model(Model.load(cell.folder), Manifest(tuple(degraded))) as scored:
                    truth.append(scored.scores.truth)
                    predicted.append(scored.scores.predicted)
        y, p = np.concatenate(truth), np.concatenate(predicted)
        uar = unweighted_average_recall(y, p, len(crossed.labels))
        table.append((name, str(len(y)), percent(weighted_accuracy(y, p)), percent(uar)))
    return markdown_table(("Recordings of unseen speakers", "Utterances", "WA, %", "UAR, %"), table)


def _probe(crossed: RunRecords, rows: Manifest, base: Experiment, say: Say) -> str:
    table = Path(base.out) / "speakers.csv"
    write_table(rows, table)
    cell = line_of(crossed).seeds[0].cells[0]
    probed = probe_model(cell.folder, table, store=base.store, say=say)
    return f"For the first cross-validated training, on unseen speakers.\n\n{probed.as_markdown()}"
