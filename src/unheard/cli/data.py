"""Verbs that get and check data: corpora, manifests, features."""

from pathlib import Path
from typing import Annotated, Literal

from unheard.cli import common as cli
from unheard.errors import counted, printable


def corpora(
    *, name: Annotated[str, cli.option("Show one corpus: its layout, licence, citation and known problems.")] = ""
) -> None:
    """List the supported corpora, or describe one.

    Example: unheard corpora --name ravdess
    """
    from rich.console import Console
    from rich.table import Table as Listing

    from unheard.corpora import get_corpus, list_corpora

    console = Console(soft_wrap=bool(name), highlight=False, markup=False)
    if name:
        facts = get_corpus(name)
        console.print(f"{facts.title} ({facts.name}), {facts.language}")
        counts = ", ".join(f"{label} {count}" for label, count in facts.counts.items())
        console.print(f"{counted(facts.utterances, 'utterance')} of {counted(facts.speakers, 'speaker')}: {counts}")
        for label in ("layout", "licence", "citation", "homepage", "obtain"):
            if getattr(facts, label):
                console.print(f"{label}: {getattr(facts, label)}")
        for trap in facts.traps:
            console.print(f"known problem: {trap}")
        for fact, source in facts.sources.items():
            console.print(f"source of {fact}: {source}")
        return
    listing = Listing("name", "corpus", "language", "speakers", "utterances", "fetch", "licence", box=None)
    for facts in list_corpora():
        sizes = (str(facts.speakers), str(facts.utterances))
        fetchable = "yes" if facts.download else "no"
        listing.add_row(facts.name, facts.title, facts.language, *sizes, fetchable, facts.licence)
    console.print(listing)


def fetch(
    name: cli.CorpusName,
    *,
    output: Annotated[Path | None, cli.output_option("Folder to put it in (default: data/NAME).")] = None,
    url: Annotated[str, cli.option("Another address of the same archive, such as a mirror.")] = "",
) -> None:
    """Download a corpus that is free to download, check it and unpack it.

    Example: unheard fetch ravdess -o data/ravdess

    An interrupted download is resumed. For a corpus that must be requested, this prints where.
    """
    from unheard.corpora import get_corpus
    from unheard.corpora.fetch import fetch as download

    folder = download(name, output or Path("data") / name, url=url or None)
    cli.say(f"Licence: {get_corpus(name).licence}")
    print(folder)


def synthetic(
    folder: Annotated[Path, cli.option("Folder to write; an interrupted call is resumed.")],
    /,
    *,
    entanglement: Annotated[
        float, cli.option("How much the speaker reveals the emotion in training: 0 (not at all) to 1 (fully).")
    ] = 0.0,
    seed: Annotated[int, cli.option("Seed of the voices.")] = 0,
) -> None:
    """Make a corpus of 16 synthetic voices and 512 utterances, for tests and demonstrations.

    Example: unheard synthetic data/synthetic --entanglement 1

    Results on synthetic voices support no claim about speech.
    """
    from unheard.corpora.synthetic import demo as demo_settings
    from unheard.corpora.synthetic import write

    manifest = write(folder, demo_settings(entanglement, seed))
    print(f"{manifest.size} in {folder}")


def prepare(
    name: cli.CorpusName,
    root: Annotated[Path, cli.option("Folder of the corpus; WAV, FLAC, Ogg or MP3.")],
    *,
    output: Annotated[
        Path, cli.output_option("Manifest to write: a .csv or .jsonl file, or a new folder for a Kaldi data directory.")
    ],
    subset: Annotated[str, cli.option("Subset of a corpus that has some (IEMOCAP: paper; ASED: balanced).")] = "",
    emotions: Annotated[
        str, cli.option("Labels that must be complete, separated by commas; rows with other labels are written too.")
    ] = "",
    partial: Annotated[bool, cli.switch("Accept an incomplete corpus.")] = False,
) -> None:
    """Read a corpus in its official layout and write its manifest.

    Example: unheard prepare iemocap data/IEMOCAP_full_release --subset paper -o manifest.csv
    """
    from unheard.corpora import read_corpus

    manifest = read_corpus(name, root, labels=cli.split_list(emotions) or None, partial=partial, subset=subset or None)
    for note in manifest.notes:
        cli.say(str(note))
    if output.suffix:
        from unheard.corpora.table import write_table

        write_table(manifest, output)
    else:
        from unheard.corpora.kaldi import write_kaldi

        write_kaldi(manifest, output)
    counts = ", ".join(f"{label} {count}" for label, count in manifest.counts().items())
    print(f"{manifest.size} ({counts}) in {output}")


def doctor(
    manifest: cli.TablePath,
    /,
    *,
    splits: Annotated[
        Path | None,
        cli.option("CSV file of a split to check, with the columns id,part or speaker,part, or splits.csv of a run."),
    ] = None,
    map: cli.Map = "",
    audio_root: cli.AudioRoot = None,
    listen: Annotated[
        bool, cli.option("Decode every recording; --no-listen checks the table only.", negative="--no-listen")
    ] = True,
    format: Annotated[Literal["text", "markdown", "json"], cli.option("Format of the findings.")] = "text",
    output: Annotated[Path | None, cli.output_option("File to write instead of standard output.")] = None,
    workers: cli.Workers = 0,
) -> int:
    """Check a manifest: broken, silent and repeated recordings, leaking splits, labels tied to speakers or texts.

    Example: unheard doctor manifest.csv --splits RUN/splits.csv

    Exits with 1 if it finds an error.
    """
    from unheard.corpora import read_manifest
    from unheard.doctor import examine, to_json, to_markdown, to_text

    cli.refuse_overwriting(output, manifest, *([splits] if splits else []))
    mapping = cli.split_pairs(map)
    rows = read_manifest(manifest, mapping=mapping, audio_root=audio_root)
    words = {*rows.column("original"), *rows.column("emotion")}
    rows = rows.rename({word: label for word, label in mapping.items() if word in words})
    findings = examine(rows, splits=splits, listen=listen, workers=workers or None)
    text = {"text": to_text, "markdown": to_markdown, "json": to_json}[format](findings) + "\n"
    cli.emit(text if output else "\n".join(printable(line) for line in text.split("\n")), output)
    return int(findings.worst == "error")


def features(
    manifest: cli.TablePath,
    /,
    *,
    output: Annotated[Path, cli.output_option("Folder of the store.")],
    kind: Annotated[
        Literal["mfcc", "fbank", "functionals", "encoder"],
        cli.option("mfcc; fbank (log-mel bands); functionals (one vector per utterance); encoder (a pretrained one)."),
    ] = "mfcc",
    encoder: Annotated[
        str, cli.option("Folder or Hugging Face id of a Whisper, WavLM, HuBERT, wav2vec 2.0 or data2vec-audio encoder.")
    ] = "",
    layer: Annotated[
        str,
        cli.option(
            "Encoder layer: a number (0: input of the transformer), mean of all, or several: 2,3,4 or learned (all)."
        ),
    ] = "mean",
    vad: Annotated[
        Literal["xvector", "ivector", "kaldi_default", "none"], cli.option("Energy VAD, as in a Kaldi recipe.")
    ] = "xvector",
    dither: Annotated[float, cli.option("Kaldi's dither; with 0, features are reproducible.")] = 0.0,
    channel: cli.Channel = "mix",
    map: cli.Map = "",
    audio_root: cli.AudioRoot = None,
    workers: cli.Workers = 0,
) -> None:
    """Extract features into a memory-mapped store: MFCC with deltas after VAD, or another kind.

    Example: unheard features manifest.csv -o stores/emodb

    An interrupted call is resumed. Recordings that cannot be read are skipped and counted.
    """
    from dataclasses import replace

    from unheard.corpora import read_manifest
    from unheard.features import FeatureSettings, build_store
    from unheard.features.functionals import FUNCTIONALS
    from unheard.manifest import choose_channel

    base = FUNCTIONALS if kind == "functionals" else FeatureSettings()
    settings = replace(base, kind=kind, encoder=encoder, layer=layer, vad=vad, dither=dither)
    rows = choose_channel(read_manifest(manifest, mapping=cli.split_pairs(map), audio_root=audio_root), channel)
    store = build_store(rows, output, settings, workers=workers or None)
    asked = {row.id for row in rows}
    for name, reason in [item for item in store.skipped.items() if item[0] in asked][:20]:
        cli.say(f"skipped {name}: {reason}")
    print(store.summary())


def encoder(
    source: Annotated[
        str, cli.option("Folder in Hugging Face or faster-whisper layout, or a Hugging Face id (OWNER/NAME@REVISION).")
    ],
    /,
    *,
    layer: Annotated[
        str,
        cli.option("Layer number (0: after the convolutions), several (2,3,4), mean or learned (all, side by side)."),
    ],
    output: Annotated[Path, cli.output_option("Folder to write: the graph, its origin and its licence.")],
    int8: Annotated[bool, cli.switch("Quantise the weights to 8 bits: half the size, twice the speed.")] = False,
    seconds: Annotated[float, cli.option("Longest segment to encode at once, in seconds.")] = 30.0,
) -> None:
    """Write the first layers of a Whisper encoder as one ONNX file, which needs no PyTorch.

    Example: unheard encoder openai/whisper-base --layer 3 -o whisper-base-3 --int8

    Use the folder with --features.kind encoder --features.encoder FOLDER.
    """
    from unheard.features.encoder import write_encoder

    written = write_encoder(source, layer, output, int8=int8, seconds=seconds)
    megabytes = (output / "model.onnx").stat().st_size / 1e6
    print(f"{output}: layer {layer} of {written.description['origin']}, {megabytes:.1f} MB, digest {written.digest}")
