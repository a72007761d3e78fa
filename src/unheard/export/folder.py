"""Write a model folder, as a Hugging Face repository expects it and `unheard.load` opens it.

FOLDER/model.onnx        the graph with its metadata
FOLDER/model.int8.onnx   the same with int8 weights, on request
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

Say = Callable[[str], None]

_DEMANDS = {
    r"\bNC\b": "non-commercial",
    r"\bSA\b|\bODbL\b|Open Database License": "share-alike",
    r"\bresearch\b(?!.*\bCC0)": "for research",
    r"\bagreement\b": "by agreement",
}
"""Words in a corpus's licence -> what it demands of the licence of the weights, which must contain them too."""


@dataclass(frozen=True)
class Exported:
    """A finished folder, with the measurements in its card."""

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
    say: Say = lambda _: None,
) -> Exported:
    """Export the trained `model` (a file or a cell's folder) to a model folder.

    `run` is a run of its recipe, which gives the temperature and the card's figures, those of `system` (default: the
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
    for one in evidence:
        if one.calibration.doubtful:
            say(f"warning: {one.calibration.doubtful}")
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
    say: Say = lambda _: None,
) -> Exported:
    """Write the files of a model folder; `sections` (title, Markdown) are added to the card.

    All that can fail is done before anything in the folder changes. Raises `ExportError` for a model that cannot be
    exported, and where a README.md of something else is in the folder.
    """
    folder = Path(folder)
    for warning in licence_warnings(facts):
        say(warning)
    if (folder / CARD).exists() and not (folder / FULL).exists():
        raise ExportError(
            f"the model card would replace a {CARD} that does not belong to a model",
            where=folder,
            mend="Choose an empty folder with --output.",
        )
    with tempfile.TemporaryDirectory(prefix="unheard-") as temporary:
        full, small, cost = Path(temporary) / FULL, Path(temporary) / SMALL, None
        export_model(model, full, facts)
        if int8:
            quantise(full, small)
            if manifest is not None:
                cost = measure_cost(model, full, small, manifest, say=say)
            else:
                say("the cost of int8 in accuracy was not measured: name recordings with --manifest")
        card = Card(model, facts, tuple(evidence), cost, tuple(sections)).text()
        for name in (CARD, CONFIG, SMALL):  # of an earlier export
            (folder / name).unlink(missing_ok=True)
        for made in (full, small):
            if made.exists():
                write_whole(folder / made.name, partial(shutil.copyfile, made))
    config = metadata(model, facts) | {
        "library_name": "unheard",
        "id2label": {str(index): label for index, label in enumerate(model.labels)},
        "label2id": {label: index for index, label in enumerate(model.labels)},
    }
    write_json(folder / CONFIG, config)
    write_text(folder / CARD, card)
    return Exported(folder, facts, tuple(evidence), cost)


def licence_warnings(facts: Facts) -> list[str]:
    """Return a warning for each demand of a training corpus's licence that the licence of the weights does not meet."""
    found = []
    for one in facts.data:
        for words, demand in _DEMANDS.items():
            if re.search(words, one.licence, re.IGNORECASE) and not re.search(words, facts.licence, re.IGNORECASE):
                ours = f"'{facts.licence}' is not" if facts.licence else "state it with --licence"
                found.append(f"warning: the licence of {one.title} is {one.licence}, {demand}; {ours}")
    return found
