"""One short function a verb; each calls the library and prints what a person wants to know."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unheard.cli.common import Output, not_over, pairs, say, words
from unheard.errors import printable
from unheard.manifest import Manifest


def corpora(*, name: str = "") -> None:
    """List the corpora with readers, or tell all about one.

    Example: unheard corpora --name ravdess

    Parameters
    ----------
    name
        Only this corpus, with its layout, licence, citation and known traps.
    """
    from rich.console import Console
    from rich.table import Table

    from unheard.corpora import get_corpus, list_corpora

    console = Console(soft_wrap=bool(name), highlight=False, markup=False)
    if name:
        facts = get_corpus(name)
        console.print(f"{facts.title} ({facts.name}), {facts.language}")
        console.print(f"{facts.utterances} utterances of {facts.speakers} speakers: {facts.counts}")
        for label in ("layout", "licence", "citation", "homepage", "obtain"):
            if getattr(facts, label):
                console.print(f"{label}: {getattr(facts, label)}")
        for trap in facts.traps:
            console.print(f"beware: {trap}")
        for fact, source in facts.sources.items():
            console.print(f"source of {fact}: {source}")
        return
    table = Table("name", "corpus", "language", "speakers", "utterances", "fetch", "licence", box=None)
    for facts in list_corpora():
        fetchable = "yes" if facts.fetchable else "ask"
        table.add_row(
            facts.name,
            facts.title,
            facts.language,
            str(facts.speakers),
            str(facts.utterances),
            fetchable,
            facts.licence,
        )
    console.print(table)


def fetch(name: str, *, output: Output | None = None, url: str = "") -> None:
    """Download a corpus whose licence lets anyone download it; resumes, checks, unpacks.

    Example: unheard fetch ravdess -o data/ravdess

    Parameters
    ----------
    name
        Name of the corpus; for one that has to be asked for, this says where.
    output
        Folder to put it in (default: data/NAME).
    url
        Another address of the same archive, a mirror for instance.
    """
    from unheard.corpora import get_corpus
    from unheard.corpora.fetch import fetch as download

    folder = download(name, output or Path("data") / name, url=url or None)
    say(f"Licence: {get_corpus(name).licence}")
    print(folder)


def synthetic(
    folder: Path,
    /,
    *,
    entanglement: float = 0.0,
    seed: int = 0,
) -> None:
    """Make a corpus of 16 invented voices, 512 utterances; its figures never support a claim about speech.

    Example: unheard synthetic data/synthetic --entanglement 1

    Parameters
    ----------
    folder
        Where to put it; an interrupted call is resumed.
    entanglement
        From 0 (speaker and emotion are independent) to 1 (in training the speaker betrays the emotion).
    seed
        Another seed, other voices.
    """
    from unheard.corpora.synthetic import demo as demo_settings
    from unheard.corpora.synthetic import write

    manifest = write(folder, demo_settings(entanglement, seed))
    print(f"{len(manifest)} utterances of {len(manifest.speakers)} speakers in {folder}")


def prepare(
    name: str,
    root: Path,
    *,
    output: Output,
    subset: str = "",
    emotions: str = "",
    partial: bool = False,
) -> None:
    """Read a corpus in its official layout and write its manifest.

    Example: unheard prepare iemocap data/IEMOCAP_full_release --subset paper -o manifest.csv

    Parameters
    ----------
    name
        Name of the corpus (see `unheard corpora`).
    root
        Its folder; WAV, FLAC, Ogg or MP3.
    output
        The manifest: .csv or .jsonl, or a new folder for a Kaldi data directory.
    subset
        For a corpus that has subsets (IEMOCAP: paper, four, all).
    emotions
        Labels that have to be complete, separated by commas; every usable row is written whatever they are.
    partial
        Take a tree that is incomplete.
    """
    from unheard.corpora import read_corpus

    manifest = read_corpus(name, root, labels=words(emotions) or None, partial=partial, subset=subset or None)
    for note in manifest.notes:
        say(str(note))
    write_manifest(manifest, output)
    counts = ", ".join(f"{label} {count}" for label, count in manifest.counts().items())
    print(f"{len(manifest)} utterances of {len(manifest.speakers)} speakers ({counts}) in {output}")


def write_manifest(manifest: Manifest, path: Path) -> None:
    """CSV or JSONL by the ending of `path`; without an ending a Kaldi data directory."""
    if path.suffix:
        from unheard.corpora.table import write_table

        write_table(manifest, path)
    else:
        from unheard.corpora.kaldi import write_kaldi

        write_kaldi(manifest, path)


def doctor(
    manifest: Path,
    /,
    *,
    splits: Path | None = None,
    map: str = "",
    audio_root: Path | None = None,
    listen: bool = True,
    format: Literal["text", "markdown", "json"] = "text",
    output: Output | None = None,
    workers: int = 0,
) -> int:
    """Examine a manifest: broken, silent and repeated recordings, leaks of a split, what the labels are tied to.

    Example: unheard doctor manifest.csv --splits RUN/splits.csv

    Exits with 1 where it finds an error.

    Parameters
    ----------
    manifest
        CSV, JSONL, a Kaldi data directory or an audformat database.
    splits
        A split to check: columns fold,reading,part,id,speaker, or just id,part or speaker,part.
    map
        Labels of the table's own words, such as rabbia=angry,gioia=happy.
    audio_root
        Folder of relative audio paths (default: the table's own); its sub-folders are searched.
    listen
        Also decode every recording.
    format
        How to write the findings.
    output
        File to write them to instead.
    workers
        Processes (0: one a core).
    """
    from unheard.corpora import read_manifest
    from unheard.doctor import examine, to_json, to_markdown, to_text

    not_over(output, manifest, *([splits] if splits else []))
    rows = read_manifest(manifest, mapping=pairs(map), audio_root=audio_root)
    findings = examine(rows, splits=splits, listen=listen, workers=workers or None)
    text = {"text": to_text, "markdown": to_markdown, "json": to_json}[format](findings)
    if output is None:
        print("\n".join(printable(line) for line in text.split("\n")))
    else:
        from unheard.files import write_text

        write_text(output, text + "\n")
    return int(findings.worst == "error")


def features(
    manifest: Path,
    /,
    *,
    output: Output,
    kind: Literal["mfcc", "fbank", "functionals", "encoder"] = "mfcc",
    encoder: str = "",
    layer: str = "mean",
    vad: Literal["xvector", "ivector", "kaldi_default", "none"] = "xvector",
    dither: float = 0.0,
    channel: Literal["mix", "left", "right", "each"] = "mix",
    map: str = "",
    audio_root: Path | None = None,
    workers: int = 0,
) -> None:
    """Extract Kaldi MFCC, deltas and voiced frames into a memory-mapped store; resumes, skips and counts bad files.

    Example: unheard features manifest.csv -o stores/emodb

    Or other features: log-mel bands, one vector of functionals, or the frames of a pretrained encoder.

    Parameters
    ----------
    manifest
        CSV, JSONL or a Kaldi data directory.
    output
        Folder of the store.
    kind
        mfcc, fbank (log-mel bands), functionals (one vector, for classical systems) or encoder (a pretrained one).
    encoder
        encoder: its folder (Whisper, WavLM, HuBERT, wav2vec 2.0, data2vec-audio) or its id on the Hugging Face hub.
    layer
        encoder: a number (0: the transformer's input), mean of all, or several (2,3,4) or all (learned), side by side.
    vad
        xvector, ivector, kaldi_default or none.
    dither
        Kaldi's dither; 0 makes features repeatable.
    channel
        Of recordings with several: their mean, one of them, or each as a recording of its own.
    map
        Labels of the table's own words, such as rabbia=angry,gioia=happy.
    audio_root
        Folder of relative audio paths (default: the table's own); its sub-folders are searched.
    workers
        Processes (0: one a core).
    """
    from dataclasses import replace

    from unheard.corpora import read_manifest
    from unheard.corpora.channels import choose_channel
    from unheard.features import FeatureSettings, build_store
    from unheard.features.functionals import FUNCTIONALS

    base = FUNCTIONALS if kind == "functionals" else FeatureSettings()
    settings = replace(base, kind=kind, encoder=encoder, layer=layer, vad=vad, dither=dither)
    rows = choose_channel(read_manifest(manifest, mapping=pairs(map), audio_root=audio_root), channel)
    store = build_store(rows, output, settings, workers=workers or None)
    asked = {row.id for row in rows}
    for name, reason in [item for item in store.skipped.items() if item[0] in asked][:20]:
        say(f"skipped {name}: {reason}")
    print(store.summary())


def encoder(
    source: str,
    /,
    *,
    layer: str,
    output: Output,
    int8: Annotated[bool, Parameter(negative="")] = False,
    seconds: float = 30.0,
) -> None:
    """Write the first layers of a Whisper encoder as one ONNX file, which needs no PyTorch.

    Example: unheard encoder openai/whisper-base --layer 3 -o whisper-base-3 --int8

    The folder holds the graph, its origin and its licence; use it with --features.kind encoder.

    Parameters
    ----------
    source
        Folder in Hugging Face's or faster-whisper's layout, or an id on the Hugging Face hub (OWNER/NAME@REVISION).
    layer
        Number of the layer (0: after the convolutions), several (2,3,4), mean or learned (all, side by side).
    output
        Folder to write.
    int8
        Store the weights of matrix products in 8 bits: half the size, twice the speed.
    seconds
        Longest piece that is encoded at once.
    """
    from unheard.features.encoder import write_encoder

    written = write_encoder(source, layer, output, int8=int8, seconds=seconds)
    megabytes = (output / "model.onnx").stat().st_size / 1e6
    print(f"{output}: layer {layer} of {written.description['origin']}, {megabytes:.1f} MB, digest {written.digest}")


def evaluate(
    model: Path,
    manifest: Path,
    /,
    *,
    output: Output | None = None,
    map: str = "",
    channel: Literal["mix", "left", "right", "each"] = "mix",
    store: Path | None = None,
    device: str = "auto",
) -> None:
    """Score a trained model on any labelled manifest: WA, UAR, macro-F1, recall per emotion, confusion.

    Example: unheard evaluate RUN/cells/dat-fold0-seed0-1051edb3 other.csv

    Parameters
    ----------
    model
        A model.safetensors, or the folder of a trained cell.
    manifest
        CSV, JSONL or a Kaldi data directory; rows with labels the model does not know are left out and counted.
    output
        Folder for predictions.csv and result.json.
    map
        Labels renamed before, such as excited=happy.
    channel
        Of recordings with several: their mean, one of them, or each as a recording of its own.
    store
        Folder to keep the features in (default: they are not kept).
    device
        auto, cpu, cuda or mps.
    """
    from unheard.experiments.evaluate import evaluate as run

    evaluation = run(
        model, manifest, mapping=pairs(map), channel=channel, folder=output, store=store, device=device, say=say
    )
    print(evaluation.text)


def demo(
    *, out: Path = Path("demo"), entanglement: float = 1.0, epochs: int = 15, seeds: int = 1, workers: int = 0
) -> int:
    """Compare the four systems on invented voices in minutes: a corpus is made, features, trainings, the table.

    Example: unheard demo --out demo

    The learning rate is twenty times the paper's and there is no dropout: with the paper's own recipe a corpus this
    small needs thousands of steps more. Figures from invented voices support no claim about speech.

    Parameters
    ----------
    out
        Folder for the corpus and the run; calling again does only what is missing.
    entanglement
        How much the speaker betrays the emotion in training, 0 to 1.
    epochs
        Epochs of each training.
    seeds
        Training seeds.
    workers
        Trainings at once (0: one a core).
    """
    from unheard.corpora.synthetic import demo as demo_settings
    from unheard.corpora.synthetic import write
    from unheard.experiments.run import experiment

    corpus = out / f"corpus-{entanglement:g}"
    say("Making invented voices")
    write(corpus, demo_settings(entanglement))
    run = experiment(
        corpus="synthetic",
        root=str(corpus),
        out=str(out / f"run-{entanglement:g}"),
        epochs=epochs,
        seeds=seeds,
        workers=workers,
        training={"lr": 0.02},
        network={"dropout": 0.0},
        say=say,
    )
    sys.stdout.write(run.table)
    return int(bool(run.failed))
