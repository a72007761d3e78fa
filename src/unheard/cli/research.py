"""Verbs that evaluate, compare, report and export what has been trained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from unheard.cli.common import (
    Channel,
    Device,
    LabelledTable,
    Map,
    Run,
    Store,
    TrainedModel,
    emit,
    option,
    output_option,
    refuse_overwriting,
    say,
    split_list,
    split_pairs,
    switch,
)
from unheard.errors import ConfigError

OutputFile = Annotated[Path | None, output_option("File to write instead of standard output.")]


def evaluate(
    model: TrainedModel,
    manifest: LabelledTable,
    /,
    *,
    output: Annotated[Path | None, output_option("Folder for predictions.csv and result.json.")] = None,
    map: Map = "",
    channel: Channel = "mix",
    store: Store = None,
    device: Device = "auto",
) -> None:
    """Score a trained model on a labelled manifest: WA, UAR, macro-F1, recall per emotion, confusion matrix.

    Example: unheard evaluate RUN/cells/dat-fold0-seed0-1051edb3 other.csv
    """
    from unheard.experiments.evaluate import evaluate as run

    mapping = split_pairs(map)
    done = run(model, manifest, mapping=mapping, channel=channel, folder=output, store=store, device=device, say=say)
    print(done.text)


def report(
    run: Run, /, *, output: Annotated[Path | None, output_option("Folder to write (default: RUN).")] = None
) -> None:
    """Write the report of a run: tables, tests, figures, and the protocol with its checks.

    Example: unheard report RUN -o report

    Writes report.html (one file, works offline), report.md, tables/ (LaTeX) and figures/ (SVG, PDF, PNG). Reads only
    the folder of the run: neither the corpus nor a model is needed, and nothing is trained.
    """
    from unheard.report import write_report

    print(write_report(run, output, say=say))


def compare(
    run_a: Run,
    run_b: Run,
    /,
    *,
    format: Annotated[
        Literal["md", "json"], option("md (tables), or json (also with each speaker's part in the differences).")
    ] = "md",
    output: OutputFile = None,
) -> None:
    """Compare two runs: each system in both, and a test of the difference B - A over the test speakers.

    Example: unheard compare runs/emodb runs/emodb-no-dropout

    Both runs need the same split, labels and data; other settings that differ are listed.
    """
    from unheard.experiments.records import read_run
    from unheard.report.comparison import compare_runs, to_json, to_markdown

    comparison = compare_runs(read_run(run_a), read_run(run_b))
    emit({"md": to_markdown, "json": to_json}[format](comparison), output)


def contrast(
    run: Run,
    /,
    *more: Annotated[Path, option("Folders of runs on other corpora; the mean difference is tested as well.")],
    baseline: Annotated[str, option("System to compare the others with.")] = "ser",
    speakers: Annotated[
        str,
        option("FILE:PART: only test speakers that have this part in a table with the columns corpus,speaker,part."),
    ] = "",
    decision: Annotated[
        str,
        option(
            "Apply another decision rule (--training.decision) to networks trained without one: both (maximise mean "
            "of WA and UAR) or even (maximise UAR)."
        ),
    ] = "",
) -> None:
    """Test every system of a finished run against a baseline, on all or some test speakers.

    Example: unheard contrast RUN --baseline svm
    """
    from unheard.report.comparison import contrast_runs

    sys.stdout.write(contrast_runs(run, *more, baseline=baseline, speakers=speakers, decision=decision))


def probe(
    model: TrainedModel,
    manifest: LabelledTable,
    /,
    *,
    seen: Annotated[bool, switch("Include the speakers that the model was trained on.")] = False,
    format: Annotated[Literal["md", "json"], option("md (tables), or json (all figures, per speaker).")] = "md",
    output: Annotated[Path | None, output_option("File to write instead of standard output.", "--out")] = None,
    map: Map = "",
    channel: Channel = "mix",
    store: Store = None,
    device: Device = "auto",
) -> None:
    """Measure how much speaker information a model's embeddings keep, and which speakers the model serves badly.

    Example: unheard probe RUN/cells/dat-fold0-seed0-1051edb3 other.csv

    A new classifier learns to recognise speakers, which the model was not trained on, from their embeddings. Also
    reported: speaker verification, emotion recall of the worst speaker, the gap between women and men, and the same
    figures for the input features.
    """
    from unheard.experiments.leakage import probe_model

    refuse_overwriting(output, manifest)
    probed = probe_model(
        model, manifest, mapping=split_pairs(map), channel=channel, seen=seen, store=store, device=device, say=say
    )
    emit(probed.as_markdown() if format == "md" else probed.as_json(), output)


def adapt(
    run: Run,
    /,
    *,
    k: Annotated[
        str, option("Numbers of adaptation utterances; all adapts to the scored utterances (transductive).")
    ] = "0,1,4,16,all",
    draws: Annotated[int, option("Random draws of the utterances to average over.")] = 5,
) -> None:
    """Score the test speakers of a run after adapting to k of their utterances, without labels.

    Example: unheard adapt RUN

    Writes RUN/adaptation.csv and RUN/adaptation.md; trains nothing. The utterances used for adaptation are drawn at
    random (seeded) and not scored.
    """
    from unheard.experiments.adaptation import ALL
    from unheard.experiments.adaptation import adapt as measure

    sizes = split_list(k)
    if draws < 1 or not sizes or not all(word == "all" or word.isdigit() for word in sizes):
        raise ConfigError(f"k = {k} or draws = {draws} is invalid", mend="Write --k 0,1,4,16,all --draws 5.")
    numbers = [ALL if word == "all" else int(word) for word in sizes]
    sys.stdout.write(measure(run, sizes=numbers, draws=draws, say=say))


def export(
    model: TrainedModel,
    /,
    *,
    output: Annotated[Path, output_option("Folder to write: model.onnx, README.md (the model card), config.json.")],
    run: Annotated[
        Path | None,
        option("Run with the same settings: its validation speakers calibrate the model, its test speakers score it."),
    ] = None,
    system: Annotated[str, option("System of the run, if the model is not one of its trainings.")] = "",
    int8: Annotated[bool, switch("Also write model.int8.onnx with 8-bit weights, a quarter of the size.")] = False,
    manifest: Annotated[Path | None, option("Labelled recordings to test model.int8.onnx on.")] = None,
    name: Annotated[str, option("Name of the model (default: that of its training).")] = "",
    licence: Annotated[str, option('Licence of the weights, such as "CC BY-NC-SA 4.0".')] = "",
    push: Annotated[str, option("Also upload it to OWNER/NAME on the Hugging Face hub, created private.")] = "",
) -> None:
    """Write a trained model as an ONNX file with its model card, which `unheard predict` opens without PyTorch.

    Example: unheard export RUN/cells/dat-fold0-seed0-1051edb3 -o my-model --run RUN --int8 --manifest other.csv

    The exported model is checked against PyTorch before it is written.
    """
    from unheard.export.folder import export as write
    from unheard.recogniser import hub

    if push:
        hub.check(push)
    write(model, output, name=name, licence=licence, run=run, system=system, int8=int8, manifest=manifest, say=say)
    for file in sorted(output.glob("*.onnx")):
        say(f"{file.name}: {file.stat().st_size / 1e6:.2f} MB")
    print(output)
    if push:
        print(hub.push(output, push))
