"""Scoring a trained model on any labelled manifest."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unheard.corpora import read_manifest
from unheard.corpora.channels import choose_channel
from unheard.experiments.cell import NAMESAKES, NormalisedFrames, full_name, versions
from unheard.experiments.plan import usable
from unheard.features import build_store
from unheard.features.normalise import TRANSDUCTIVE
from unheard.files import write_json, write_text
from unheard.manifest import Manifest, Utterance
from unheard.model.saving import Model
from unheard.training.batches import Task
from unheard.training.evaluation import Scores, choose_device, score
from unheard.training.metrics import confusion, recalls


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model on a manifest; `text` is what a person wants to read."""

    scores: Scores
    labels: tuple[str, ...]
    figures: Mapping[str, Any]
    text: str


def evaluate(
    model: str | Path,
    manifest: str | Path | Manifest,
    *,
    mapping: Mapping[str, str] | None = None,
    channel: str = "mix",
    folder: str | Path | None = None,
    store: str | Path | None = None,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Score `model` (a file or a cell's folder) on the rows of `manifest` whose label it knows.

    `channel` is mix, left, right or each, which takes every channel for a recording of its own. `folder` receives
    `predictions.csv` and `result.json`; `store` keeps the features. `say` is told what was left out, and which
    speakers the model has been trained on. Raises `UnheardError` where the model or the manifest cannot be used.
    """
    trained = Model.load(model)
    table = manifest if isinstance(manifest, Manifest) else read_manifest(manifest, mapping=mapping)
    chosen = rows_it_knows(trained, table, mapping, say)
    rows = choose_channel(chosen, channel)
    _warn_of_known_speakers(trained, [*chosen, *rows], say)  # each channel gets a name of its own
    with heard(trained, rows, store=store, device=device, say=say) as result:
        rows, scores = result.rows, result.scores
    figures = _figures(scores, trained.labels, rows) | {"transductive": trained.normaliser.transductive}
    if folder is not None:
        _write(Path(folder), scores, trained, rows, figures)
    return Evaluation(scores, trained.labels, figures, _text(scores, trained.labels, figures))


@dataclass(frozen=True)
class Heard:
    """What a model made of `rows`: scores in their order, and the normalised frames it saw."""

    rows: Manifest
    scores: Scores
    frames: NormalisedFrames


def rows_it_knows(
    trained: Model, table: Manifest, mapping: Mapping[str, str] | None, say: Callable[[str], None]
) -> Manifest:
    """The rows whose label, renamed by `mapping`, the model knows; what is left out is said and counted."""
    known = {(mapping or {}).get(row.emotion, row.emotion) for row in table} & set(trained.labels)
    rows = table.select(known or trained.labels, mapping)
    if len(rows) < len(table):
        say(f"{len(table) - len(rows)} of {len(table)} utterances have labels the model does not know")
    return rows


@contextmanager
def heard(
    trained: Model,
    rows: Manifest,
    *,
    store: str | Path | None = None,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Heard]:
    """Features, logits and embeddings of `rows`; without `store` the features are gone after the block.

    Rows without features, or whose recording occurs twice, are left out, said and counted.
    """
    with ExitStack() as stack:
        where = Path(store) if store else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unheard-")))
        features = build_store(rows, where, trained.features)
        rows = usable(rows, features, say)
        speakers = {row.id: row.speaker for row in rows}
        normaliser = trained.normaliser
        if normaliser.transductive:
            normaliser = normaliser.fit(features, rows.ids, speakers)
            say(f"{TRANSDUCTIVE}, all of them")
        y = {row.id: trained.labels.index(row.emotion) for row in rows}
        frames = NormalisedFrames(features, normaliser, rows.by_id())
        processor = choose_device(device)
        strategy = trained.network.to(processor)
        yield Heard(rows, score(strategy, Task(frames, y, {}), rows.ids, device=processor), frames)


def trained_on(trained: Model) -> set[str]:
    """Full names (`full_name`) of the speakers a model was trained on; none where it does not say."""
    return set(map(str, json.loads(trained.about.get("train_speakers", "[]"))))


def _warn_of_known_speakers(trained: Model, rows: Iterable[Utterance], say: Callable[[str], None]) -> None:
    known = sorted({full_name(row) for row in rows} & trained_on(trained))
    if known:
        doubt = f" ({NAMESAKES})" if all(name.startswith("/") for name in known) else ""
        say(
            f"beware: the model was trained on {len(known)} of these speakers "
            f"({', '.join(name.lstrip('/') for name in known[:5])}): this is no score on unseen speakers{doubt}"
        )


def _figures(scores: Scores, labels: tuple[str, ...], rows: Manifest) -> dict[str, Any]:
    each = recalls(scores.truth, scores.predicted, len(labels))
    return {
        "wa": scores.wa,
        "uar": scores.uar,
        "macro_f1": scores.macro_f1,
        "n": len(rows),
        "speakers": len(rows.speakers),
        "recall": {label: float(value) for label, value in zip(labels, each, strict=True)},
        "confusion": confusion(scores.truth, scores.predicted, len(labels)).tolist(),
    }


def _text(scores: Scores, labels: tuple[str, ...], figures: Mapping[str, Any]) -> str:
    lines = [
        f"WA {100 * scores.wa:.1f} %, UAR {100 * scores.uar:.1f} %, macro-F1 {100 * scores.macro_f1:.1f} % "
        f"({figures['n']} utterances, {figures['speakers']} speakers"
        + (f"; {TRANSDUCTIVE})" if figures["transductive"] else ")"),
        "",
        "| said \\ heard as | " + " | ".join(labels) + " | recall |",
        "|---|" + "---:|" * (len(labels) + 1),
    ]
    for label, counts in zip(labels, figures["confusion"], strict=True):
        recall = figures["recall"][label]
        shown = f"{100 * recall:.1f} %" if sum(counts) else "–"
        lines.append(f"| {label} | " + " | ".join(map(str, counts)) + f" | {shown} |")
    return "\n".join(lines)


def _write(folder: Path, scores: Scores, trained: Model, rows: Manifest, figures: Mapping[str, Any]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "speaker", "part", "emotion", "predicted", *(f"p_{label}" for label in trained.labels)])
    for row, predicted, probabilities in zip(rows, scores.predicted, scores.probabilities, strict=True):
        words = [row.id, row.speaker, "test", row.emotion, trained.labels[predicted]]
        writer.writerow([*words, *(f"{p:.6g}" for p in probabilities)])
    write_text(folder / "predictions.csv", text.getvalue())
    shown = {k: (None if isinstance(v, float) and v != v else v) for k, v in figures.items()}
    write_json(folder / "result.json", shown | {"model": dict(trained.about), "versions": versions()})
