"""A model folder: what a Hugging Face repository expects, and `unheard.load` opens.

FOLDER/model.onnx        the graph, with all that a recogniser has to know
FOLDER/model.int8.onnx   the same with its weights as bytes, where asked for
FOLDER/README.md         the card
FOLDER/config.json       labels and settings, for people and for the Hub
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from unheard.corpora import read_manifest
from unheard.errors import ExportError
from unheard.export.card import Card, data_of
from unheard.export.evidence import Evidence, read_evidence
from unheard.export.metadata import Facts, metadata
from unheard.export.onnx import export_model
from unheard.export.quantise import Cost, measure_cost, quantise
from unheard.files import write_json, write_text, write_whole
from unheard.manifest import Manifest
from unheard.model.saving import Model

FULL, SMALL, CARD, CONFIG = "model.onnx", "model.int8.onnx", "README.md", "config.json"


@dataclass(frozen=True)
class Exported:
    """A finished folder, the model in it and what its card says was measured."""

    folder: Path
    facts: Facts
    evidence: tuple[Evidence, ...]
    cost: Cost | None


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
    say: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Export the trained `model` (a file or a cell's folder) to a model folder.

    `run` is the run of its recipe: it gives the temperature and the card's figures, those of `system` (default: the
    model's own). `int8` adds the small file; `manifest` names recordings to measure its cost on. Raises
    `UnheardError` where something does not fit.
    """
    trained = Model.load(model)
    table = read_manifest(manifest) if manifest else None
    evidence = (read_evidence(trained, run, system),) if run else ()
    facts = Facts(
        name=name or trained.about.get("cell", "") or Path(folder).resolve().name,
        licence=licence,
        data=data_of(trained),
        temperature=evidence[0].calibration.temperature if evidence else 1.0,
    )
    for warning in licence_warnings(facts):
        say(warning)
    for one in evidence:
        if one.calibration.doubtful:
            say(f"beware: {one.calibration.doubtful}")
    if not evidence:
        say("without --run there is no calibration, and the card has no figures")
    return write_folder(trained, folder, facts, evidence, int8=int8 or table is not None, manifest=table, say=say)


def write_folder(
    model: Model,
    folder: str | Path,
    facts: Facts,
    evidence: Sequence[Evidence] = (),
    *,
    int8: bool = False,
    manifest: Manifest | None = None,
    sections: Sequence[tuple[str, str]] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write the files of a model folder; the card comes last, with `sections` (title, Markdown) of one's own.

    All that can fail for what the model is comes before anything in the folder is touched.
    """
    folder = Path(folder)
    if (folder / CARD).exists() and not (folder / FULL).exists():
        raise ExportError(
            f"a {CARD} that is no model's is here, and the model's card would take its place",
            where=folder,
            mend="Choose a folder of its own with --output.",
        )
    with tempfile.TemporaryDirectory(prefix="unheard-") as workshop:
        full, small, cost = Path(workshop) / FULL, Path(workshop) / SMALL, None
        export_model(model, full, facts)
        if int8:
            quantise(full, small)
            if manifest is not None:
                cost = measure_cost(model, full, small, manifest, say=say)
            else:
                say("what int8 costs in accuracy was not measured: name recordings with --manifest")
        config = metadata(model, facts) | {
            "library_name": "unheard",
            "id2label": {str(place): label for place, label in enumerate(model.labels)},
            "label2id": {label: place for place, label in enumerate(model.labels)},
        }
        card = Card(model, facts, tuple(evidence), cost, tuple(sections)).text()
        for name in (CARD, CONFIG, SMALL):  # of an earlier export, and another model's
            (folder / name).unlink(missing_ok=True)
        for made in (full, small):
            if made.exists():
                write_whole(folder / made.name, partial(shutil.copyfile, made))
    write_json(folder / CONFIG, config)
    write_text(folder / CARD, card)
    return Exported(folder, facts, tuple(evidence), cost)


_ASKED = {
    r"\bNC\b": "non-commercial",
    r"\bSA\b|\bODbL\b|Open Database License": "share-alike",
    r"\bresearch\b(?!.*\bCC0)": "for research",
    r"\bagreement\b": "by agreement",
}
"""What words of a corpus's licence ask of that of the weights, which has to say it too."""


def licence_warnings(facts: Facts) -> list[str]:
    """What the licences of the training data ask of the weights' own, where the two do not go together."""
    found = []
    for one in facts.data:
        for mark, meaning in _ASKED.items():
            if re.search(mark, one.licence, re.IGNORECASE) and not re.search(mark, facts.licence, re.IGNORECASE):
                ours = f"'{facts.licence}' is not" if facts.licence else "say so with --licence"
                found.append(f"beware: {one.title} is {one.licence}, {meaning}; {ours}")
    return found
