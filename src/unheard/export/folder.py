"""Write a model folder, as a Hugging Face repository expects it and `unheard.load` opens it.

FOLDER/model.onnx        the graph with its metadata
FOLDER/model.int8.onnx   the same with int8 weights, on request
FOLDER/encoder/          the pretrained encoder whose frames the graph reads, if any; on request both are int8
FOLDER/README.md         the card
FOLDER/config.json       labels and settings, for people and for the Hub
FOLDER/SHA256SUMS        checksums of the ONNX files
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from unheard.corpora import read_manifest
from unheard.errors import ExportError, Say, silent
from unheard.experiments.records import read_run
from unheard.export.card import card, data_of
from unheard.export.evidence import Evidence, evidence_of
from unheard.export.onnx import Facts, export_model, metadata
from unheard.export.quantise import measure_cost, quantise
from unheard.features import FeatureSettings
from unheard.features.encoder import CARD as ENCODER_CARD
from unheard.features.encoder import LICENCE, MODEL, WhisperEncoder, encoder_of, write_encoder
from unheard.files import write_json, write_text, write_whole
from unheard.licence import licence_warnings
from unheard.manifest import Manifest
from unheard.model.saving import Model

FULL, SMALL, CARD, CONFIG, SUMS = "model.onnx", "model.int8.onnx", "README.md", "config.json", "SHA256SUMS"
ENCODER = "encoder"

ENCODER_FILES = (MODEL, LICENCE, ENCODER_CARD)

ABOUT_ENCODER = """\
The features are outputs of the frozen encoder `{origin}` (layer {layer}), with {weights} weights. It is in the folder \
`encoder`, under a licence of its own (`encoder/LICENSE`, {licence})."""


def export(
    model: str | Path,
    folder: str | Path,
    *,
    name: str = "",
    licence: str = "",
    run: str | Path | None = None,
    system: str = "",
    int8: bool = False,
    manifest: str | Path | None = None,
    say: Say = silent,
) -> None:
    """Export the trained `model` (a file or a cell's folder) to a model folder.

    `run` is a run of its recipe, which gives the temperature and the card's figures, those of `system` (default: the
    model's own). `int8` adds the small file, or makes a model on an encoder small; `manifest` names recordings to
    measure its cost on. Raises `UnheardError` where something does not fit.
    """
    trained = Model.load(model)
    table = read_manifest(manifest) if manifest else None
    evidence = (evidence_of(trained, read_run(run), system),) if run else ()
    facts = Facts(
        name=name or trained.about.get("cell", "") or Path(folder).resolve().name,
        licence=licence,
        data=data_of(trained),
        temperature=evidence[0].calibration.temperature if evidence else 1.0,
    )
    if not evidence:
        say("without --run there is no calibration, and the card has no figures")
    elif evidence[0].calibration.doubtful:
        say(f"warning: {evidence[0].calibration.doubtful}")
    write_folder(trained, folder, facts, evidence, int8=int8 or table is not None, manifest=table, say=say)


def write_folder(
    model: Model,
    folder: str | Path,
    facts: Facts,
    evidence: Sequence[Evidence] = (),
    *,
    int8: bool = False,
    manifest: Manifest | None = None,
    sections: Sequence[tuple[str, str]] = (),
    say: Say = silent,
) -> None:
    """Write the files of a model folder; `sections` (title, Markdown) are added to the card.

    `int8` adds the small file; of a model on an encoder, the graph and the encoder become int8 instead.
    All that can fail is done before anything in the folder changes. Raises `ExportError` for a model that cannot be
    exported, and where a README.md of something else is in the folder.
    """
    folder = Path(folder)
    for warning in licence_warnings(facts.licence, [(corpus.title, corpus.licence) for corpus in facts.data]):
        say(warning)
    if (folder / CARD).exists() and not (folder / FULL).exists():
        what = f"the model card would replace a {CARD} that does not belong to a model"
        raise ExportError(what, where=folder, mend="Choose an empty folder with --output.")
    with tempfile.TemporaryDirectory(prefix="unheard-") as temporary:
        staging = Path(temporary)
        full, small, frames, sizes = staging / FULL, staging / SMALL, model.features, (0, 0)
        exported = model
        if frames.kind == "encoder":
            small = full  # there is one model, all small or all whole
            full = staging / "float.onnx" if int8 else full
            frames, sizes, about = _write_encoder(frames, staging / ENCODER, int8)
            exported = replace(model, features=replace(frames, encoder=ENCODER))
            sections = [("The encoder", about), *sections]
        export_model(exported, full, facts)
        cost = None
        if int8:
            quantise(full, small)
        if int8 and manifest is not None:
            cost = measure_cost(model, (full, small), manifest, small_features=frames, encoders=sizes, say=say)
            shown = f"WA {100 * cost.wa[0]:.1f} % → {100 * cost.wa[1]:.1f} %"
            say(f"int8: {shown}, {cost.changed} of {cost.utterances} labels changed")
        elif int8:
            say("the cost of int8 in accuracy was not measured: name recordings with --manifest")
        write_text(staging / CARD, card(exported, facts, evidence, cost, sections))
        numbers = {label: number for number, label in enumerate(model.labels)}
        weights = {"weights": "int8"} if int8 and small.name == FULL else {}
        config = {"library_name": "unheard", "id2label": dict(enumerate(model.labels)), "label2id": numbers}
        write_json(staging / CONFIG, metadata(exported, facts) | weights | config)
        graphs = [name for name in _files(staging) if name.endswith(".onnx")]
        digests = [f"{sha256((staging / name).read_bytes()).hexdigest()}  {name}\n" for name in graphs]
        write_text(staging / SUMS, "".join(digests))
        for name in _files(folder):  # of an earlier export
            (folder / name).unlink()
        for name in _files(staging):
            write_whole(folder / name, partial(shutil.copyfile, staging / name))


def _write_encoder(frames: FeatureSettings, folder: Path, int8: bool) -> tuple[FeatureSettings, tuple[int, int], str]:
    """Write the encoder that computes `frames`; return the features of the one written, the sizes of both, a text."""
    source = encoder_of(frames.encoder, frames.layer, frames.encoder_digest)
    written = write_encoder(frames.encoder, frames.layer, folder, int8=int8)
    size = (folder / MODEL).stat().st_size
    sizes = (source.graph().ByteSize() if isinstance(source, WhisperEncoder) else size, size)
    exported = replace(frames, encoder=str(folder), encoder_digest=written.digest)
    return exported, sizes, ABOUT_ENCODER.format(**written.description)


def _files(folder: Path) -> list[str]:
    """Return the names of the files of an export that are in `folder`."""
    encoder = (f"{ENCODER}/{name}" for name in ENCODER_FILES)
    return [name for name in (FULL, SMALL, *encoder, CONFIG, CARD, SUMS) if (folder / name).exists()]
