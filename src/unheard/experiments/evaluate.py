"""Evaluation of a trained model on any labelled manifest."""

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unheard.corpora import read_manifest
from unheard.errors import Say, silent, some
from unheard.experiments.cell import NormalisedFrames, versions
from unheard.experiments.plan import rows_with_features
from unheard.features import build_store
from unheard.features.normalise import TRANSDUCTIVE
from unheard.files import csv_text, markdown_table, write_json, write_text
from unheard.manifest import Manifest, Utterance, choose_channel
from unheard.model.saving import Model
from unheard.splits.speakers import identity, is_unknown
from unheard.training.batches import Dataset
from unheard.training.evaluation import Scores, choose_device, score
from unheard.training.metrics import recalls


@dataclass(frozen=True)
class EvaluationResult:
    """The scores of a model on a manifest; `text` is a summary in Markdown."""

    scores: Scores
    labels: tuple[str, ...]
    figures: Mapping[str, Any]
    text: str


@dataclass(frozen=True)
class ScoredRows:
    """The scores of `rows`, in their order, and the normalised frames they were computed from."""

    rows: Manifest
    scores: Scores
    frames: NormalisedFrames


def evaluate(
    model: str | Path,
    manifest: str | Path | Manifest,
    *,
    mapping: Mapping[str, str] | None = None,
    channel: str = "mix",
    folder: str | Path | None = None,
    store: str | Path | None = None,
    device: str = "auto",
    say: Say = silent,
) -> EvaluationResult:
    """Score `model` (a file or a cell's folder) on the rows of `manifest` with labels of the model.

    `channel` is mix, left, right or each (every channel is a separate recording). `predictions.csv` and `result.json`
    are written to `folder`, and features to `store`, if given. `say` receives the number of rows left out, and the
    speakers that the model was trained on. Raises `UnheardError` if the model or the manifest cannot be used.
    """
    trained = Model.load(model)
    table = manifest if isinstance(manifest, Manifest) else read_manifest(manifest, mapping=mapping)
    labelled = rows_with_labels(trained, table, mapping, say)
    rows = choose_channel(labelled, channel)
    # the channels may become separate speakers with other names
    training = training_identities(trained)
    seen = sorted({row.full_name for row in (*labelled, *rows) if was_trained_on(row, training)})
    if seen:
        names = some([name.lstrip("/") for name in seen])
        remark = same_name_remark(seen, training)
        trained_on = f"the model was trained on {len(seen)} of these speakers ({names})"
        say(f"warning: {trained_on}: the score is not on unseen speakers{remark}")
    if unnamed := sum(is_unknown(row.speaker) for row in rows):
        say(f"{unnamed} of {len(rows)} utterances are of unknown speakers, whom the model may have been trained on")
    with score_model(trained, rows, store=store, device=device, say=say) as scored:
        rows, scores = scored.rows, scored.scores
    recall = recalls(scores.truth, scores.predicted, len(trained.labels))
    figures = {name: getattr(scores, name) for name in ("wa", "uar", "macro_f1")} | {
        "n": len(rows),
        "speakers": sum(not is_unknown(name) for name in rows.speakers),
        "recall": dict(zip(trained.labels, recall.tolist(), strict=True)),
        "confusion": scores.confusion.tolist(),
        "transductive": trained.normaliser.transductive,
    }
    if folder is not None:
        _write_files(Path(folder), scores, trained, rows, figures)
    return EvaluationResult(scores, trained.labels, figures, _summary(figures))


def rows_with_labels(trained: Model, table: Manifest, mapping: Mapping[str, str] | None, say: Say) -> Manifest:
    """Return the rows whose label, renamed by `mapping`, the model has; the number of others is reported to `say`."""
    labels = {(mapping or {}).get(row.emotion, row.emotion) for row in table} & set(trained.labels)
    rows = table.select(labels or trained.labels, mapping)
    if len(rows) < len(table):
        say(f"{len(table) - len(rows)} of {len(table)} utterances left out: the model does not have their labels")
    return rows


@contextmanager
def score_model(
    trained: Model,
    rows: Manifest,
    *,
    store: str | Path | None = None,
    device: str = "auto",
    say: Say = silent,
) -> Iterator[ScoredRows]:
    """Compute features, logits and embeddings of `rows`; without `store` the features are deleted after the block.

    Rows without features or with duplicate recordings are left out, and their number is reported to `say`.
    """
    with ExitStack() as stack:
        path = Path(store) if store else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unheard-")))
        features = build_store(rows, path, trained.features)
        rows = rows_with_features(rows, features, say)
        normaliser = trained.normaliser
        if normaliser.transductive:
            normaliser = normaliser.fit(features, rows.ids, {row.id: row.speaker for row in rows})
            say(f"{TRANSDUCTIVE}, all of them")
        frames = NormalisedFrames(features, normaliser, rows.by_id())
        dataset = Dataset(frames, {row.id: trained.labels.index(row.emotion) for row in rows}, {})
        processor = choose_device(device)
        yield ScoredRows(rows, score(trained.network.to(processor), dataset, rows.ids, device=processor), frames)


def same_name_remark(names: Collection[str], training: Collection[str]) -> str:
    """Return the remark that speakers may only share a name, if a table names no corpus."""
    if any(not name.startswith("/") and identity(name) in training for name in names):
        return ""
    return " (a table names no corpus, so these may be other people: a column `corpus` would tell them apart)"


def training_identities(trained: Model) -> set[str]:
    """Return the identities of the `full_name` of a model's training speakers; empty if it does not record them.

    Each is there as `*/speaker` too, for tables that name no corpus.
    """
    names = {identity(str(name)) for name in json.loads(trained.about.get("train_speakers", "[]"))}
    return names | {f"*/{name.partition('/')[2]}" for name in names}


def was_trained_on(row: Utterance, training: Collection[str]) -> bool:
    """Return whether the speaker is one of `training_identities`: by name alone where a table names no corpus."""
    name = identity(row.full_name)
    corpus, _, speaker = name.partition("/")
    return name in training or f"/{speaker}" in training or (not corpus and f"*/{speaker}" in training)


def _summary(figures: Mapping[str, Any]) -> str:
    wa, uar, macro_f1 = (100 * figures[name] for name in ("wa", "uar", "macro_f1"))
    rows = [
        [label, *map(str, counts), f"{100 * recall:.1f} %" if sum(counts) else "–"]
        for (label, recall), counts in zip(figures["recall"].items(), figures["confusion"], strict=True)
    ]
    transductive = f"; {TRANSDUCTIVE}" if figures["transductive"] else ""
    return (
        f"WA {wa:.1f} %, UAR {uar:.1f} %, macro-F1 {macro_f1:.1f} % ({figures['n']} utterances, "
        f"{figures['speakers']} speakers{transductive})\n\n"
    ) + markdown_table(["true \\ predicted", *figures["recall"], "recall"], rows)


def _write_files(folder: Path, scores: Scores, trained: Model, rows: Manifest, figures: Mapping[str, Any]) -> None:
    heads = ["id", "speaker", "true", "predicted", *(f"p_{label}" for label in trained.labels)]
    table = [
        [row.id, row.speaker, row.emotion, trained.labels[predicted], *(f"{p:.6g}" for p in probabilities)]
        for row, predicted, probabilities in zip(rows, scores.predicted, scores.probabilities, strict=True)
    ]
    write_text(folder / "predictions.csv", csv_text([heads, *table]))
    write_json(folder / "result.json", {**figures, "model": dict(trained.about), "versions": versions()})
