"""The invariance of any trained model on any labelled manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unheard.corpora import read_manifest
from unheard.corpora.channels import choose_channel
from unheard.errors import TrainingError
from unheard.experiments.evaluate import heard, rows_it_knows, trained_on
from unheard.experiments.invariance.examine import Invariance, examine_embeddings
from unheard.experiments.invariance.inputs import input_statistics
from unheard.experiments.invariance.lines import INPUT, UNSEEN, LineInvariance, markdown
from unheard.experiments.readout import NAMESAKES, full_name, versions
from unheard.features.normalise import TRANSDUCTIVE
from unheard.manifest import Manifest
from unheard.training.model import Model

EMBEDDINGS = "embeddings"


@dataclass(frozen=True)
class Probed:
    """What a model keeps of the speakers of a manifest, and what its input held; `left_out` counts by reason.

    `whose` recordings they are: `unseen speakers`, where that is so.
    """

    embeddings: Invariance
    input_features: Invariance
    left_out: Mapping[str, int]
    about: Mapping[str, Any]
    whose: str = UNSEEN
    transductive: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "embeddings": self.embeddings.as_dict(),
            "input_features": self.input_features.as_dict(),
            "left_out": dict(self.left_out),
            "whose": self.whose,
            "transductive": self.transductive,
            "model": dict(self.about),
            "versions": versions(),
        }

    def as_markdown(self) -> str:
        """A table, what it is to be read against, and the speakers served worst."""
        lines = {
            name: LineInvariance(name, (), (one,))
            for name, one in ((EMBEDDINGS, self.embeddings), (INPUT, self.input_features))
        }
        text = markdown(lines, self.whose) + (f"\nThe model is {TRANSDUCTIVE}.\n" if self.transductive else "")
        groups = self.embeddings.groups
        if groups is not None:
            worst, best = groups.worst, groups.best
            if groups.spread > 0:
                text += (
                    f"Worst speaker: {worst.speaker} ({worst.recordings} recordings, {worst.emotions} emotions), "
                    f"UAR {100 * worst.uar.value:.1f} %; best: {best.speaker}, {100 * best.uar.value:.1f} %.\n"
                )
            else:
                text += f"Every speaker's UAR is {100 * worst.uar.value:.1f} %.\n"
            if groups.gender_unknown:
                text += f"The gender of {groups.gender_unknown} speakers is not known.\n"
        return text


def probe_model(
    model: str | Path,
    manifest: str | Path | Manifest,
    *,
    mapping: Mapping[str, str] | None = None,
    channel: str = "mix",
    seen: bool = False,
    store: str | Path | None = None,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> Probed:
    """Examine the embeddings that `model` (a file or a cell's folder) makes of the rows of `manifest`.

    Speakers the model was trained on are left out and counted, unless `seen`; so are those with one recording.
    `channel` is mix, left, right or each; `store` keeps the features. Raises `UnheardError` where fewer than two
    speakers remain, or the model or the manifest cannot be used.
    """
    trained = Model.load(model)
    table = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
    rows = rows_it_knows(trained, table, mapping, say)
    left_out = {"label unknown": len(table) - len(rows)}
    known = trained_on(trained)
    if not known:
        say("beware: the model does not say whom it was trained on")
    rows = choose_channel(rows, channel)
    heard_before = {full_name(row) for row in rows} & known
    # by the names the table has, too: each channel gets a name of its own
    of_table = table.where(lambda row: full_name(row) in known)
    heard_before |= {full_name(row) for row in choose_channel(of_table, channel)}
    if not seen:
        before = len(rows)
        rows = rows.where(lambda row: full_name(row) not in heard_before)
        left_out["speaker trained on"] = before - len(rows)
        if len(rows) < before:
            doubt = f" ({NAMESAKES})" if all(name.startswith("/") for name in heard_before) else ""
            gone = f"{before - len(rows)} of {before} utterances"
            say(f"{gone} are of speakers the model was trained on: left out{doubt}")
    _at_least_two(rows, "that the model was not trained on" if known and not seen else "in the manifest", known, seen)
    with heard(trained, rows, store=store, device=device, say=say) as result:
        left_out["not usable"] = len(rows) - len(result.rows)
        counts = Counter(row.speaker for row in result.rows)
        places = [i for i, row in enumerate(result.rows) if counts[row.speaker] > 1]
        left_out["only recording of its speaker"] = single = len(result.rows) - len(places)
        if single:
            say(f"{single} speakers have one recording and are left out")
        kept = Manifest(tuple(result.rows[i] for i in places))
        _at_least_two(kept, "with two recordings or more", known, True)
        speakers, texts = kept.column("speaker"), kept.column("text")
        say(f"Probing {len(kept)} recordings of {len(kept.speakers)} speakers")
        scores = result.scores
        embeddings = examine_embeddings(
            scores.embeddings[places],
            speakers,
            texts,
            kept.column("gender"),
            [int(i) for i in scores.truth[places]],
            [int(i) for i in scores.predicted[places]],
        )
        inputs = examine_embeddings(input_statistics(result.frames, kept.ids), speakers, texts)
    among = len(heard_before & {full_name(row) for row in kept})
    whose = f"speakers ({among} of them trained on)" if among else UNSEEN if known else "speakers"
    return Probed(embeddings, inputs, left_out, trained.about, whose, trained.normaliser.transductive)


def _at_least_two(rows: Manifest, which: str, known: set[str], seen: bool) -> None:
    if len(rows.speakers) < 2:
        also = "" if seen or not known else ", or --seen to examine those it was trained on too"
        raise TrainingError(
            f"a speaker probe needs at least 2 speakers {which}; here are {len(rows.speakers)}",
            mend=f"Give recordings of more speakers{also}.",
        )
