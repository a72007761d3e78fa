"""The model card: data, accuracy, calibration, limits and prohibited uses, as a Hugging Face repository shows it.

Every figure was measured; none is written here.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from unheard import __version__
from unheard.analysis.intervals import Spread
from unheard.corpora import CORPORA, corpus_names, get_corpus
from unheard.experiments.summary import markdown_table
from unheard.export.evidence import BINS, Evidence
from unheard.export.metadata import Data, Facts
from unheard.export.quantise import Cost
from unheard.licence import commercial_use
from unheard.model.saving import Model
from unheard.report.content import counted, percent
from unheard.report.content import spread as mean_and_std

HUB_LICENCES = {"mit", "apache-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
                "cc-by-nc-nd-4.0", "bsd-3-clause", "gpl-3.0", "agpl-3.0", "openrail"}  # fmt: skip
"""Identifiers that the Hub knows; any other licence is `other` with its name."""

UNKNOWN = "unknown to this program"

USE = """\
```
pip install unheard
unheard predict PATH_OF_THIS_FOLDER call.wav
```

Licence of the weights: {licence}. May I use it commercially? {commercial}"""

NOT_FOR = """\
- **No decisions about people.** Not for hiring, firing, pay, grades, insurance, credit, policing, border control,
  custody, diagnosis or treatment, not even as one input among several.
- **Not on people at work or in education.** Inferring emotions there is prohibited or restricted in places: in the
  European Union by the AI Act, Regulation (EU) 2024/1689, Article 5(1)(f), except for medical or safety reasons. Other
  systems that infer emotions from a voice are high-risk there (Annex III), and the people exposed to them must be
  informed (Article 50). Other countries have their own laws; this is not legal advice.
- **Not without the knowledge of the speakers**, and not to find out who they are, where they come from, how old or how
  healthy they are, or whether they lie.
- **Not where a wrong answer causes harm.** The probabilities hold for recordings like those they were measured on.

The model is meant for research, teaching, and tools whose users look at their own voice."""

LIMITS = """\
- The model predicts how an utterance **sounds to people who label recordings**, which is not what the speaker feels.
- It assigns one of its own labels to any sound, including music, silence and other emotions.
- Telephone lines, noise, reverberation, children, and languages other than those of the training data were not
  measured. Expect lower accuracy there.
- Accuracy differs widely between speakers; the average of a group does not predict that of one person."""

ACTED = """\
- The recordings of {names} are **acted**: emotions are clearer than in spontaneous speech, where you should expect much
  lower accuracy."""

INVENTED = """\
- The voices of {names} are synthetic: **figures from them support no claim about speech**."""

OTHERS = """\
- How the recordings of {names} were made is unknown to this program. State it here before you publish the model."""


@dataclass(frozen=True)
class Card:
    """The content of a card; `sections` are further ones, title and Markdown."""

    model: Model
    facts: Facts
    evidence: tuple[Evidence, ...] = ()
    cost: Cost | None = None
    sections: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        """Return the content of README.md."""
        licence = self.facts.licence or "not stated; the licences of the training data below apply"
        corpora = [(one.title, one.licence) for one in self.facts.data]
        sections = [
            ("Use", USE.format(licence=licence, commercial=commercial_use(self.facts.licence, corpora))),
            ("Prohibited uses", NOT_FOR),
            ("Training data", _data(self)),
            ("Accuracy on unseen speakers", "\n\n".join(map(_accuracy, self.evidence)) or "Not measured."),
            ("Calibration", _calibration(self.facts, self.evidence)),
            *([("The small file", _cost(self.cost, self.model))] if self.cost else []),
            *self.sections,
            ("Limits", limits(self.facts.data)),
        ]
        head = f"{_front_matter(self)}\n\n# {self.facts.name}\n\n{_summary(self.model)}\n\n"
        return head + "\n\n".join(f"## {title}\n\n{body.strip()}" for title, body in sections) + "\n"


def _front_matter(card: Card) -> str:
    """Return the YAML block that the Hub reads."""
    data, licence = card.facts.data, card.facts.licence
    known = hub_licence(licence)
    results = []
    for evidence, group in ((one, group) for one in card.evidence for group in one.groups if not group.gender):
        wa, uar = (round(Spread(figures).mean or 0.0, 4) for figures in (group.wa, group.uar))
        metrics: list[dict[str, Any]] = [{"type": "accuracy", "name": "WA", "value": wa}]
        metrics.append({"type": "recall", "name": "UAR", "args": {"average": "macro"}, "value": uar})
        task = {"type": "audio-classification", "name": "Speech emotion recognition"}
        name = f"{group.corpus or evidence.corpora}, unseen speakers"
        results.append({"task": task, "dataset": {"type": "speech", "name": name}, "metrics": metrics})
    values = {
        "license": known or "other",
        "license_name": "" if known else licence or "see-the-training-data",
        "language": sorted({one.language for one in data if len(one.language) in (2, 3)}),  # codes
        "library_name": "unheard",
        "pipeline_tag": "audio-classification",
        "tags": ["speech-emotion-recognition", "speaker-independent", "onnx"],
        "datasets": [one.name for one in data if one.name],
        "metrics": ["accuracy", "recall"],
        "model-index": [{"name": card.facts.name, "results": results}] if results else [],
    }
    values = {name: value for name, value in values.items() if value}
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)}---"


def hub_licence(licence: str) -> str:
    """Return the Hub's identifier of a licence such as `CC BY-NC-SA 4.0`, empty where it has none."""
    plain = re.sub(r"[\s_]+", "-", licence.strip().lower())
    return plain if plain in HUB_LICENCES else ""


def _summary(model: Model) -> str:
    settings = model.features
    kind = f"{settings.kind} features" if settings.kind != "encoder" else "features of a pretrained encoder"
    front = f"{settings.dim - settings.summary_dim} {kind} "
    front += f"every {settings.frame_shift_ms * settings.thin:g} ms" if settings.pool == "none" else "an utterance"
    if settings.summary_dim:
        front += f" and {settings.summary_dim} functionals of the utterance"
    return (
        f"Predicts which of {len(model.labels)} emotions an utterance sounds like: {', '.join(model.labels)}. "
        f"Input: speech, {front}; output: a probability for each emotion and an embedding. "
        f"Made with unheard {__version__}; it runs without PyTorch."
    )


def _data(card: Card) -> str:
    if not card.facts.data:
        return "The training data are not stated in the model."
    speakers = speakers_by_corpus(card.model)
    rows = [
        (
            f"[{one.title}]({one.homepage})" if one.homepage else one.title,
            one.language or "–",
            str(speakers.get(one.name) or "–"),
            one.licence or "–",
        )
        for one in card.facts.data
    ]
    table = _table(("Corpus", "Language", "Speakers trained on", "Licence"), rows)
    return "\n".join([table, "", *(f"- {one.citation}" for one in card.facts.data if one.citation)])


def _accuracy(one: Evidence) -> str:
    which = "The model in this folder is not one of them but another training of the recipe: no figure is of this file."
    if own := one.own:
        which = (
            f"The model in this folder is one of them, fold {own.fold} and seed {own.seed}: WA {percent(own.wa)} %, "
            f"UAR {percent(own.uar)} % on {own.utterances} utterances of {counted(own.speakers, 'speaker')}."
        )
    rows = []
    for of in one.groups:
        name = f"{of.corpus} {of.gender}".strip() or "all"
        rows.append((name, str(of.speakers), str(of.utterances), spread(of.wa), spread(of.uar)))
    recall = ", ".join(f"{label} {percent(value)}" for label, value in one.recall.items())
    return f"""\
{one.corpora}, {one.system}. {one.protocol}.

{counted(one.folds * one.seeds, "training")} of this recipe, one for each fold and seed, each tested on speakers used \
neither for training nor for model selection. {which}

{_table(("Speakers", "n", "Utterances", "WA, %", "UAR, %"), rows)}

Recall in percent: {recall}. Single speakers: WA from {percent(one.lowest)} to {percent(one.highest)} %.

WA: share of correctly classified utterances; UAR: mean recall of the emotions; ± standard deviation over seeds."""


def _calibration(facts: Facts, evidence: Sequence[Evidence]) -> str:
    scaled = f"Logits are divided by T = {facts.temperature:.3g} before the softmax."
    if not evidence:
        measured = "The calibration on unseen speakers was not measured."
        return measured if facts.temperature == 1.0 else f"{scaled} {measured}"
    rows, doubts = [], []
    for one in evidence:
        of = one.calibration
        errors = (f"{percent(before)} → {percent(after)}" for before, after in (of.dev_error, of.test_error))
        rows.append((one.corpora, str(of.utterances), str(of.speakers), f"{of.temperature:.3g}", *errors))
        doubts += [f"Warning, {one.corpora}: {of.doubtful}.\n\n"] if of.doubtful else []
    head = ("Data", "Validation utterances", "Speakers", "T", "ECE validation, %", "ECE test, %")
    return f"""\
{scaled} T is chosen on validation speakers only; its effect on test speakers is measured with a T chosen without them.

{_table(head, rows)}

{"".join(doubts)}ECE: expected calibration error in {BINS} bins of confidence, before → after dividing by T.

How often predictions with a certain highest probability are right on test speakers (`--min-confidence` abstains below):

{"".join(map(_reliability, evidence)).strip()}"""


def _reliability(one: Evidence) -> str:
    rows = []
    for band in one.calibration.bands:
        low, high = f"{100 * band.low:.0f}", f"{100 * band.high:.0f}"
        name = f"below {high}" if not band.low else f"above {low}" if band.high == 1 else f"{low} to {high}"
        rows.append((f"{name} %", str(band.utterances), percent(band.accuracy)))
    return f"{one.corpora}:\n\n{_table(('Highest probability', 'Predictions', 'Correct, %'), rows)}\n\n"


def about_encoder(description: Mapping[str, Any]) -> str:
    """Return what a card says of the encoder with this description."""
    return f"""\
The features are the states of layer {description["layer"]} of `{description["origin"]}`, frozen, with \
{description["weights"]} weights: the folder `encoder`, under a licence of its own (`encoder/LICENSE`, \
{description["licence"]})."""


def _cost(cost: Cost, model: Model) -> str:
    whose = "speakers not used for training (validation speakers may be among them)"
    if cost.seen:
        whose = "speakers used for training, so that only the difference between the files means something"
    files, weights = ("model.onnx", "model.int8.onnx"), "The same weights"
    if model.features.kind == "encoder":
        files, weights = ("float encoder", "int8 encoder (in this folder)"), "The weights of the encoder"
    rows = [
        (name, f"{size / 1e6:.2f} MB", percent(wa), percent(uar))
        for name, size, wa, uar in zip(files, cost.size, cost.wa, cost.uar, strict=True)
    ]
    return f"""\
{weights} as int8, on {cost.utterances} utterances of {cost.speakers} {whose}:

{_table(("File", "Size", "WA, %", "UAR, %"), rows)}

{cost.changed} of {cost.utterances} labels differ; no probability differs by more than {cost.shift:.2g}."""


def spread(values: tuple[float, ...]) -> str:
    """Format mean ± sample standard deviation in percent, the mean alone for one value."""
    of = Spread(values)
    return mean_and_std(of.mean, of.std)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return markdown_table(head, [[cell.replace("|", "\\|") for cell in row] for row in rows])


def limits(data: Iterable[Data]) -> str:
    """Return the limits, with what is known about how the training data were recorded."""
    kinds: dict[str, list[str]] = {ACTED: [], INVENTED: [], OTHERS: []}
    for one in data:
        kinds[INVENTED if one.name == "synthetic" else ACTED if one.name in CORPORA else OTHERS].append(one.title)
    return "\n".join([*(text.format(names=", ".join(of)) for text, of in kinds.items() if of), LIMITS])


def data_of(model: Model) -> tuple[Data, ...]:
    """Return the corpora that `model` was trained on, by name; none where it does not state them."""
    return described(speakers_by_corpus(model))


def described(names: Iterable[str]) -> tuple[Data, ...]:
    """Return the corpora called `names`; the licence of one without a reader is unknown."""
    return tuple(
        Data(name, of.title, of.language, of.licence, of.citation, of.homepage)
        if name in corpus_names() and (of := get_corpus(name))
        else Data(name, name or "recordings without a corpus name", "", UNKNOWN)
        for name in sorted(names)
    )


def speakers_by_corpus(model: Model) -> Counter[str]:
    """Count the training speakers of `model` by corpus."""
    names = json.loads(model.about.get("train_speakers", "[]"))
    return Counter(str(name).partition("/")[0] for name in names)
