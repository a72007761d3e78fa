"""The peer on the same folds: openSMILE's ComParE 2016 functionals and a linear SVM.

    python -m benchmarks.opensmile_svm --out RUN --cache compare.npz
    python -m benchmarks.opensmile_svm --corpus ravdess --root data/ravdess --protocol kfold --k 6 --out RUN --cache F

The first joins an experiment that is there: its split, its seeds. The second begins a run of its own, with our
functionals and SVM beside. The cells go where those of our systems are, so that `unheard experiment` (its table),
`unheard report` and the paired tests know them; `--records FILE` writes every prediction into one CSV.

Like our own baseline: standardised on the training speakers, one emotion against the rest, balanced weights, C chosen
by the fold's validation speakers (the smallest on a tie), test scored once.

openSMILE is free for non-commercial use only. No part of this package needs it: pip install opensmile.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.audio import read_recording
from unheard.errors import ConfigError, UnheardError
from unheard.experiments.baselines import ClassicalSystem, linear_svm
from unheard.experiments.cell import fit_cell, run_cell
from unheard.experiments.config import Experiment, load
from unheard.experiments.plan import Cell, ExperimentPlan, make_plan
from unheard.experiments.records import RunRecords
from unheard.experiments.run import check_same_run, collect, write_settings_and_split
from unheard.experiments.summary import caption, table_markdown, write_table
from unheard.files import locked, write_whole

Vectors = NDArray[np.float32]

KEY = "opensmile"
RATE = 16_000
SOURCE = f"openSMILE ComParE_2016 functionals at {RATE} Hz"
PEER = ClassicalSystem("ComParE 2016 + SVM", None, "C", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1), linear_svm, SOURCE)
EVERY = 200
"""Utterances after which the cache is written."""


class Extractor:
    """openSMILE: samples (N,) at 16 kHz to functionals (6373,)."""

    def __init__(self) -> None:
        try:
            import opensmile
        except ImportError:
            raise ConfigError(
                "this benchmark needs openSMILE", mend="pip install opensmile (free for non-commercial use only)."
            ) from None
        self.smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)

    def __call__(self, samples: Vectors) -> Vectors:
        found: Vectors = self.smile.process_signal(samples, RATE).to_numpy(np.float32)[0]
        return found


def vectors_of(grid: ExperimentPlan, cache: Path) -> dict[str, Vectors]:
    """The functionals of every utterance by its id; known ones from `cache`, by the digest of the recording."""
    known = read_cache(cache)
    digest = grid.store.audio_digest
    missing = {digest[row.id]: row for row in grid.manifest if digest[row.id] not in known}
    extract = Extractor() if missing else None
    for count, (name, row) in enumerate(missing.items(), 1):
        assert extract is not None
        recording = read_recording(row.audio, start=row.start, end=row.end, sample_rate=RATE, channel=row.channel)
        known[name] = extract(recording.samples)
        if count % EVERY == 0 or count == len(missing):
            write_whole(cache, partial(_save, known))
            print(f"openSMILE: {count} of {len(missing)} utterances", file=sys.stderr)
    return {row.id: known[digest[row.id]] for row in grid.manifest}


def read_cache(path: Path) -> dict[str, Vectors]:
    """Digest of a recording -> its functionals; nothing where there is no such file."""
    if not path.exists():
        return {}
    try:
        with np.load(path) as arrays:
            if str(arrays["source"]) != SOURCE:
                raise ValueError(f"it holds {arrays['source']}")
            return dict(zip(map(str, arrays["audio"]), arrays["x"], strict=True))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"is no cache of this ({error})", where=path, mend="Name another --cache.") from error


def _save(known: Mapping[str, Vectors], path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, audio=np.array(list(known)), x=np.stack(list(known.values())), source=np.array(SOURCE))


def standardised(cell: Cell, vectors: Mapping[str, Vectors]) -> dict[str, Vectors]:
    """Mean 0 and deviation 1 over the training utterances; what is constant there, to rounding, is left out as 0."""
    train = np.stack([vectors[name] for name in cell.fold.train]).astype(np.float64)
    mean, std = train.mean(axis=0), train.std(axis=0)
    varies = std > 1e-6 * np.abs(mean)
    scale = np.where(varies, std, np.inf)
    return {name: ((vectors[name] - mean) / scale).astype(np.float32) for name in cell.rows}


def fit(settings: Experiment, cache: Path) -> RunRecords:
    """Fit ours and the peer on every fold and seed; what is there already stays. Returns the run's records."""
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    if settings.normalise == "speaker":
        raise ConfigError(
            "the peer is standardised on the training speakers; beside systems that hear all recordings of the test "
            "speakers it would be no fair one",
            where=out,
            mend="Give an --out of another normalisation.",
        )
    with locked(out, "running an experiment here"):
        check_same_run(out, settings)
        grid = make_plan(replace(settings, systems=("svm",)), lambda line: print(line, file=sys.stderr))
        if not (out / "config.yaml").exists():
            write_settings_and_split(grid)
        vectors = vectors_of(grid, cache)
        for cell in grid.cells:
            run_cell(cell)
            peer = replace(cell, system=KEY, classical=PEER)
            if peer.result() is None:
                fit_cell(peer, standardised(peer, vectors))
        records = collect(grid)
        write_table(records, grid.split.total_folds)
    return records


def write_records(run: RunRecords, path: Path) -> None:
    """Every prediction of the classical systems, to be paired by fold, direction, part and id."""
    columns = ["system", "seed", "fold", "direction", "part", "id", "speaker", "emotion", "predicted"]

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow([*columns, *(f"p_{label}" for label in run.labels)])
            for line in run.lines:
                for seed in line.seeds if line.system in (KEY, "svm") else ():
                    for part, said in (("dev", seed.dev), ("test", seed.test)):
                        for k, name in enumerate(said.ids):
                            place = (line.system, seed.seed, said.folds[k], said.directions[k], part, name)
                            words = (run.labels[said.truth[k]], run.labels[said.predicted[k]])
                            probabilities = (f"{p:.6g}" for p in said.probabilities[k])
                            rows.writerow([*place, said.speakers[k], *words, *probabilities])

    write_whole(path, write)


def settings_of(given: argparse.Namespace) -> Experiment:
    """Those of the run in --out where there is one, changed by what is given."""
    names = ("corpus", "root", "manifest", "protocol", "k", "split_seed", "speakers", "emotions", "partial")
    chosen: dict[str, Any] = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    config = given.out / "config.yaml"
    return load(config if config.exists() else None, {**chosen, "out": str(given.out)})


def main(arguments: Sequence[str] | None = None) -> int:
    about, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        "python -m benchmarks.opensmile_svm",
        description=about,
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of a run, there already or not")
    parser.add_argument("--cache", type=Path, required=True, help=".npz for openSMILE's features")
    parser.add_argument("--records", type=Path, help="CSV for every prediction")
    for name in ("corpus", "root", "manifest", "protocol"):
        parser.add_argument(f"--{name}", help=f"as in `unheard experiment`: {name}")
    parser.add_argument("--speakers", help="FILE:PART: only the speakers with that part")
    parser.add_argument("--emotions", help="the emotions told apart")
    parser.add_argument("--k", type=int, help="kfold: how many folds")
    parser.add_argument("--split-seed", type=int, help="seed of the split")
    parser.add_argument("--partial", action="store_true", default=None, help="take an incomplete corpus tree")
    given = parser.parse_args(arguments)
    try:
        run = fit(settings_of(given), given.cache)
        if given.records:
            write_records(run, given.records)
    except UnheardError as error:
        print(error, file=sys.stderr)
        return 2
    print(table_markdown(run.lines, caption(run)), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
