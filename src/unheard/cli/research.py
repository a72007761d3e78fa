"""`unheard adapt`: what a few unlabelled utterances of a speaker are worth."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from unheard.cli.common import Output, no_recording, not_over, pairs, say, words
from unheard.errors import ConfigError


def adapt(run: Path, /, *, k: str = "0,1,4,16,all", draws: int = 5) -> None:
    """Score a run's test speakers again after k of their utterances have been heard, unlabelled.

    Example: unheard adapt RUN

    Writes RUN/adaptation.csv and RUN/adaptation.md; nothing is trained. The utterances heard are drawn by seed and
    not scored; `all` hears what it scores and is transductive.

    Parameters
    ----------
    run
        Folder of the run (the --out of `unheard experiment`), with its models.
    k
        How many utterances are heard, separated by commas.
    draws
        Draws of them, averaged.
    """
    from unheard.experiments.adaptation import ALL
    from unheard.experiments.adaptation import adapt as measure

    if draws < 1 or not all(word == "all" or word.isdigit() for word in words(k)) or not words(k):
        raise ConfigError(f"k = {k} with {draws} draws cannot be", mend="Write --k 0,1,4,16,all and at least one draw.")
    sizes = [ALL if word == "all" else int(word) for word in words(k)]
    sys.stdout.write(measure(run, sizes=sizes, draws=draws, say=say))


# `unheard compare`: two runs on the same split side by side.


def compare(
    run_a: Path, run_b: Path, /, *, format: Literal["md", "csv", "json"] = "md", output: Output | None = None
) -> None:
    """Put two runs side by side: each system in both, with the difference B - A tested over the test speakers.

    Example: unheard compare runs/emodb runs/emodb-no-dropout

    Refuses runs on different splits, labels or data, saying what differs; other settings that differ are listed.

    Parameters
    ----------
    run_a
        The --out of an experiment.
    run_b
        The --out of another one.
    format
        Markdown, CSV or JSON.
    output
        File to write to instead.
    """
    from unheard.experiments.comparison import compare_runs, to_csv, to_json, to_markdown
    from unheard.experiments.records import read_run

    comparison = compare_runs(read_run(run_a), read_run(run_b))
    text = {"md": to_markdown, "csv": to_csv, "json": to_json}[format](comparison)
    if output is None:
        sys.stdout.write(text)
    else:
        from unheard.files import write_text

        write_text(output, text)


# `unheard contrast`: every system of a run, or of several, against one of them.


def contrast(run: Path, /, *more: Path, baseline: str = "ser", speakers: str = "", decision: str = "") -> None:
    """Test every system of a finished run against one of them, on all test speakers or on some.

    Of several runs, on different corpora, the mean of their differences too.

    Example: unheard contrast RUN --baseline svm

    Parameters
    ----------
    run
        Folder of the run (the --out of `unheard experiment`).
    more
        Folders of runs on other corpora.
    baseline
        The system the others are compared with.
    speakers
        FILE:PART: only the test speakers with that part in a table corpus,speaker,part.
    decision
        both (the mean of WA and UAR) or even (UAR): what networks that said the likeliest emotion, of the epochs that
        were read out, would have said with that --training.decision.
    """
    from unheard.experiments.comparison import contrast_runs

    sys.stdout.write(contrast_runs(run, *more, baseline=baseline, speakers=speakers, decision=decision))


# `unheard probe`: how much of the speaker a model keeps, and whom it serves badly.


def probe(
    model: Path,
    manifest: Path,
    /,
    *,
    seen: Annotated[bool, Parameter(negative="")] = False,
    format: Literal["md", "json"] = "md",
    output: Annotated[Path | None, Parameter(name=["--output", "-o", "--out"], validator=no_recording)] = None,
    map: str = "",
    channel: Literal["mix", "left", "right", "each"] = "mix",
    store: Path | None = None,
    device: str = "auto",
) -> None:
    """Measure how much of the speaker is left in a model's embeddings, and whom the model serves badly.

    Example: unheard probe RUN/cells/dat-fold0-seed0-1051edb3 other.csv

    A fresh probe learns the speakers from the finished embeddings of speakers the model was not trained on; beside it
    verification, the emotion recall of the worst speaker, the gap between women and men, and the same of the input.

    Parameters
    ----------
    model
        A model.safetensors, or the folder of a trained cell.
    manifest
        CSV, JSONL or a Kaldi data directory; rows with labels the model does not know are left out and counted.
    seen
        Examine the speakers the model was trained on too.
    format
        md: a table to read. json: every figure, with every speaker's.
    output
        File to write it to instead.
    map
        Labels renamed before, such as excited=happy.
    channel
        Of recordings with several: their mean, one of them, or each as a recording of its own.
    store
        Folder to keep the features in (default: they are not kept).
    device
        auto, cpu, cuda or mps.
    """
    from unheard.experiments.leakage import probe_model
    from unheard.files import write_text

    not_over(output, manifest)
    probed = probe_model(
        model, manifest, mapping=pairs(map), channel=channel, seen=seen, store=store, device=device, say=say
    )
    if format == "md":
        text = probed.as_markdown()
    else:
        text = json.dumps(probed.as_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)


# `unheard report`: a finished run as a page to read, print and cite.


def report(run: Path, /, *, output: Output | None = None) -> None:
    """Write the report of a run: tables, tests, figures, and the protocol with its proof.

    Example: unheard report RUN -o report

    Writes report.html (one file that needs no network), report.md, tables/ (LaTeX) and figures/ (SVG, PDF, PNG). Reads
    the run's folder only: neither the corpus nor a model is needed, and nothing is trained.

    Parameters
    ----------
    run
        Folder of the run (the --out of `unheard experiment`).
    output
        Folder to put the report in (default: RUN).
    """
    from unheard.report import write_report

    print(write_report(run, output, say=say))


# `unheard starter`: a model to give to people, with its card.


def starter(
    *,
    output: Output,
    corpus: str = "",
    root: str = "",
    manifest: str = "",
    runs: Path = Path("starter"),
    name: str = "starter",
    licence: str = "",
    emotions: str = "angry,happy,neutral,sad",
    system: str = "ser",
    recipe: str = "strong",
    folds: int = 5,
    epochs: int = 0,
    workers: int = 0,
) -> None:
    """Train a model on corpora or a manifest of your own, measure it, and write a folder that people can use.

    Example: unheard starter --corpus emodb,ravdess --root data/emodb,data/ravdess -o my-model

    Cross-validates the recipe by speakers, leaves each corpus out in turn, trains the model on nearly all speakers, and
    writes it as ONNX with a card of these figures. An interrupted call goes on where it stopped.

    Parameters
    ----------
    output
        Folder of the model.
    corpus
        Names of corpora with readers, separated by commas; they need `root`.
    root
        Their folders, in the same order.
    manifest
        A manifest of your own instead.
    runs
        Folder of the experiments.
    name
        What the model is called.
    licence
        Licence of the weights; those of the corpora may bind you.
    emotions
        The emotions told apart.
    system
        ser, mtl, dat or cgt.
    recipe
        paper or strong.
    folds
        Of the cross-validation.
    epochs
        Of each training (0: the recipe's).
    workers
        Trainings at once (0: one a core).
    """
    from unheard.export.starter import make_starter

    settings: dict[str, Any] = {
        "corpus": corpus, "root": root, "manifest": manifest, "emotions": words(emotions), "systems": (system,),
        "recipe": recipe, "workers": workers,
    }  # fmt: skip
    if epochs:
        settings["epochs"] = epochs
    done = make_starter(output, settings, runs=runs, name=name, licence=licence, folds=folds, say=say)
    print(done.folder)


# `unheard export`: a trained model as a folder that needs no PyTorch.


def export(
    model: Path,
    /,
    *,
    output: Output,
    run: Path | None = None,
    system: str = "",
    int8: Annotated[bool, Parameter(negative="")] = False,
    manifest: Path | None = None,
    name: str = "",
    licence: str = "",
) -> None:
    """Write a trained model as an ONNX file with its model card: a folder that `unheard predict` opens without PyTorch.

    Example: unheard export RUN/cells/dat-fold0-seed0-1051edb3 -o my-model --run RUN --int8 --manifest other.csv

    The file is compared with PyTorch before it is written.

    Parameters
    ----------
    model
        A model.safetensors, or the folder of a trained cell.
    output
        Folder to write: model.onnx, README.md (the card), config.json.
    run
        The run of the model's recipe: its validation speakers calibrate the probabilities, its test speakers give the
        card's figures.
    system
        Whose figures, where the run has several and the model is none of them.
    int8
        Also write model.int8.onnx: the weights as bytes, a quarter of the size.
    manifest
        Labelled recordings to measure on what int8 costs.
    name
        What the model is called (default: its cell's name).
    licence
        Licence of the weights, such as "CC BY-NC-SA 4.0".
    """
    from unheard.export.folder import export as write

    done = write(
        model, output, name=name, licence=licence, run=run, system=system, int8=int8, manifest=manifest, say=say
    )
    for file in sorted(done.folder.glob("*.onnx")):
        say(f"{file.name}: {file.stat().st_size / 1e6:.2f} MB")
    if done.cost:
        (wa, small), of = done.cost.wa, done.cost.utterances
        say(f"int8: WA {100 * wa:.1f} % → {100 * small:.1f} %, {done.cost.changed} of {of} labels changed")
    print(done.folder)
