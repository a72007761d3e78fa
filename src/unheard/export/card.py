"""The model card: what a stranger has to know before using a model, as a Hugging Face repository shows it.

Every figure in it was measured and handed over; none is written here.
"""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from unheard import __version__
from unheard.corpora import CORPORA, get_corpus
from unheard.export.calibration import BINS
from unheard.export.evidence import Evidence, Figures
from unheard.export.metadata import Data, Facts
from unheard.export.quantise import Cost
from unheard.model.saving import Model
from unheard.report.content import counted

HUB_LICENCES = {"mit", "apache-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
                "cc-by-nc-nd-4.0", "bsd-3-clause", "gpl-3.0", "agpl-3.0", "openrail"}  # fmt: skip
"""Identifiers that the Hub knows; any other licence is `other` with its name."""


@dataclass(frozen=True)
class Card:
    """What a card is written from; `sections` are further measured ones, title and Markdown."""

    model: Model
    facts: Facts
    evidence: tuple[Evidence, ...] = ()
    cost: Cost | None = None
    sections: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        """The content of README.md."""
        parts = [
            _front_matter(self),
            f"# {self.facts.name}\n\n{_summary(self.model)}",
            f"## Use\n\n{_use(self.facts)}",
            f"## What it must not be used for\n\n{NOT_FOR}",
            f"## Training data\n\n{_data(self)}",
            f"## Accuracy on speakers never heard in training\n\n{_accuracy(self.evidence)}",
            f"## Calibration\n\n{_calibration(self.facts, self.evidence)}",
        ]
        if self.cost:
            parts.append(f"## The small file\n\n{_cost(self.cost)}")
        parts += [f"## {title}\n\n{body}" for title, body in self.sections]
        parts.append(f"## Limits\n\n{limits(self.facts.data)}")
        return "\n\n".join(part.strip() for part in parts) + "\n"


def _front_matter(card: Card) -> str:
    data, licence = card.facts.data, card.facts.licence
    known = hub_licence(licence)
    values: dict[str, Any] = {"license": known or "other"}
    if not known:
        values["license_name"] = licence or "see-the-training-data"
    languages = sorted({one.language for one in data if len(one.language) in (2, 3)})  # codes
    values |= {"language": languages} if languages else {}
    values |= {
        "library_name": "unheard",
        "pipeline_tag": "audio-classification",
        "tags": ["speech-emotion-recognition", "speaker-independent", "onnx"],
    }
    values |= {"datasets": [one.name for one in data if one.name]} if any(one.name for one in data) else {}
    values["metrics"] = ["accuracy", "recall"]
    results = [_result(evidence, one) for evidence in card.evidence for one in evidence.groups if not one.gender]
    if results:
        values["model-index"] = [{"name": card.facts.name, "results": results}]
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)}---"


def hub_licence(licence: str) -> str:
    """The Hub's identifier of a licence such as `CC BY-NC-SA 4.0`, empty where it has none."""
    plain = re.sub(r"[\s_]+", "-", licence.strip().lower())
    return plain if plain in HUB_LICENCES else ""


def _result(evidence: Evidence, figures: Figures) -> dict[str, Any]:
    name = figures.corpus or evidence.corpora
    wa, uar = (round(statistics.fmean(values), 4) for values in (figures.wa, figures.uar))
    return {
        "task": {"type": "audio-classification", "name": "Speech emotion recognition"},
        "dataset": {"type": "speech", "name": f"{name}, unseen speakers"},
        "metrics": [
            {"type": "accuracy", "name": "WA", "value": wa},
            {"type": "recall", "name": "UAR", "args": {"average": "macro"}, "value": uar},
        ],
    }


def _summary(model: Model) -> str:
    settings = model.features
    every = settings.frame_shift_ms * settings.thin
    front = f"{settings.dim - settings.summary_dim} {settings.kind} features every {every:g} ms"
    if settings.summary_dim:
        front += f" and {settings.summary_dim} of the whole utterance"
    return (
        f"Says which of {len(model.labels)} emotions an utterance sounds like: {', '.join(model.labels)}. "
        f"Input: speech, {front}; output: a probability for each emotion and an embedding. "
        f"Made with unheard {__version__}; it runs without PyTorch."
    )


def _use(facts: Facts) -> str:
    licence = facts.licence or "not stated; the licences of the training data below bind whoever uses them"
    return (
        "```\npip install unheard\nunheard predict PATH_OF_THIS_FOLDER call.wav\n```\n\n"
        f"Licence of the weights: {licence}."
    )


def _data(card: Card) -> str:
    if not card.facts.data:
        return "The model does not say what it was trained on."
    heard = speakers_by_corpus(card.model)
    rows = [
        (_linked(one), one.language or "–", str(heard.get(one.name) or "–"), one.licence or "–")
        for one in card.facts.data
    ]
    cited = [f"- {one.citation}" for one in card.facts.data if one.citation]
    return "\n".join(
        [*_table(("Corpus", "Language", "Speakers trained on", "Licence"), rows), "", *cited]
    ).strip()  # fmt: skip


def _linked(one: Data) -> str:
    return f"[{one.title}]({one.homepage})" if one.homepage else one.title


def _accuracy(evidence: Sequence[Evidence]) -> str:
    if not evidence:
        return "Not measured. Until it is, nothing is known of how well this model works for anyone."
    return "\n\n".join(_of_run(one) for one in evidence)


def _of_run(one: Evidence) -> str:
    if one.own:
        own = one.own
        which = (
            f"The model in this folder is one of them, that of fold {own.fold} and seed {own.seed}: WA "
            f"{percent(own.wa)} %, UAR {percent(own.uar)} % on {own.utterances} utterances of "
            f"{counted(own.speakers, 'speaker')}."
        )
    else:
        which = "The model in this folder is none of them, but another one of this recipe: no figure is of this file."
    head = ("Speakers", "n", "Utterances", "WA, %", "UAR, %")
    rows = [
        (" ".join(filter(None, (of.corpus, of.gender))) or "all", str(of.speakers), str(of.utterances), spread(of.wa),
         spread(of.uar))
        for of in one.groups
    ]  # fmt: skip
    recall = ", ".join(f"{label} {percent(value)}" for label, value in one.recall.items())
    return "\n".join(
        [
            f"{one.corpora}, {one.system}. {one.protocol}.",
            "",
            f"{counted(one.folds * one.seeds, 'training')} of this recipe, one for each fold and seed, "
            f"each tested on speakers that it had not heard and that chose nothing of it. {which}",
            "",
            *_table(head, rows),
            "",
            f"Recall in percent: {recall}. Single speakers: WA from {percent(one.lowest)} to {percent(one.highest)} %.",
            "",
            "WA: share of utterances named right; UAR: mean recall of the emotions; ± standard deviation over seeds.",
        ]
    )


def _calibration(facts: Facts, evidence: Sequence[Evidence]) -> str:
    scaled = f"Logits are divided by {facts.temperature:.3g} before the probabilities are taken."
    if not evidence:
        measured = "How well the probabilities fit speakers it has not heard was not measured."
        return measured if facts.temperature == 1.0 else f"{scaled} {measured}"
    head = ("Data", "Validation utterances", "of speakers", "T", "ECE validation, %", "ECE test, %")
    rows = []
    for one in evidence:
        of = one.calibration
        errors = (f"{percent(before)} → {percent(after)}" for before, after in (of.dev_error, of.test_error))
        rows.append((one.corpora, str(of.utterances), str(of.speakers), f"{of.temperature:.3g}", *errors))
    return "\n".join(
        [
            f"{scaled} A temperature T is chosen on validation speakers only, each scored by trainings that had not "
            "heard them; what it brought to test speakers is measured with one chosen without them.",
            "",
            *_table(head, rows),
            "",
            *(f"Beware, {one.corpora}: {one.calibration.doubtful}.\n" for one in evidence if one.calibration.doubtful),
            f"ECE: expected calibration error in {BINS} bins of confidence, before → after dividing by T.",
        ]
    )


def _cost(cost: Cost) -> str:
    whose = (
        "speakers of the training: the difference counts, the accuracies say nothing of other people"
        if cost.seen
        else "speakers the model was not trained on (those that chose its epoch may be among them)"
    )
    rows = [
        (name, f"{size / 1e6:.2f} MB", percent(wa), percent(uar))
        for name, size, wa, uar in zip(("model.onnx", "model.int8.onnx"), cost.size, cost.wa, cost.uar, strict=True)
    ]
    return "\n".join(
        [
            f"The same weights as bytes, on {cost.utterances} utterances of {cost.speakers} {whose}:",
            "",
            *_table(("File", "Size", "WA, %", "UAR, %"), rows),
            "",
            f"{cost.changed} of {cost.utterances} labels differ; no probability by more than {cost.shift:.2g}.",
        ]
    )


def spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation in percent, the mean alone of one value."""
    mean = percent(statistics.fmean(values))
    return f"{mean} ± {percent(statistics.stdev(values))}" if len(values) > 1 else mean


def percent(value: float) -> str:
    """A portion in percent with one decimal, `–` where it is none."""
    return "–" if value != value else f"{100 * value:.1f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    written = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in written]


# What every card says whatever was measured: what the model must not be used for, and where it ends.

NOT_FOR = """\
- **No decision about a person.** Not hiring, firing, pay, grades, insurance, credit, policing, border control, custody,
  diagnosis or treatment; not as one input among several either.
- **Not on people at work or in education.** Inferring emotions there is prohibited or restricted in places: in the
  European Union by the AI Act, Regulation (EU) 2024/1689, Article 5(1)(f), except for medical or safety reasons. Other
  systems that infer emotions from a voice are high-risk there (Annex III), and the people exposed to them must be told
  (Article 50). Other countries have laws of their own; this is no legal advice.
- **Not without the knowledge of those who speak**, and not to find out who they are, where they come from, how old or
  how healthy they are, or whether they lie.
- **Not where a wrong answer harms.** Its probabilities describe recordings like those it was measured on and no others.

It is meant for research, for teaching, and for tools whose users look at their own voice."""

LIMITS = """\
- It names how an utterance **sounds to people who label recordings**. That is not what someone feels.
- It knows its own labels only: any sound, music, silence or another feeling included, gets one of them.
- Nothing was measured on telephone lines, noise, reverberation, children, or languages other than those of the training
  data. Expect less there.
- Single speakers differ widely; a group's average does not say how well it works for one person."""

ACTED = """\
- The recordings of {names} are **acted**: emotions are clearer there than in life. On spontaneous speech expect much
  less."""

INVENTED = """\
- The voices of {names} were invented by a program: **figures from them support no claim about speech**."""

OTHERS = """\
- How the recordings of {names} were made is not known to this program. Say it here before you publish the model."""


def limits(data: Iterable[Data]) -> str:
    """The limits, with what is known of how the recordings of the training data came about."""
    titles = {one.name: one.title for one in data}
    kinds = {
        ACTED: [title for name, title in titles.items() if name in CORPORA and name != "synthetic"],
        INVENTED: [title for name, title in titles.items() if name == "synthetic"],
        OTHERS: [title for name, title in titles.items() if name not in CORPORA],
    }
    known = [text.format(names=", ".join(of_kind)) for text, of_kind in kinds.items() if of_kind]
    return "\n".join([*known, LIMITS])


# The corpora behind a model, as their makers describe them.

UNKNOWN = "not known to this program"


def data_of(model: Model) -> tuple[Data, ...]:
    """The corpora that `model` says it was trained on, by name; none where it does not say."""
    return described(speakers_by_corpus(model))


def described(names: Iterable[str]) -> tuple[Data, ...]:
    """The corpora called `names`; one without a reader here has a licence that is not known."""
    found = []
    for name in sorted(names):
        if name in CORPORA:
            facts = get_corpus(name)
            found.append(Data(name, facts.title, facts.language, facts.licence, facts.citation, facts.homepage))
        else:
            found.append(Data(name, name or "recordings without a corpus's name", "", UNKNOWN))
    return tuple(found)


def speakers_by_corpus(model: Model) -> Counter[str]:
    """Corpus -> how many of its speakers `model` was trained on."""
    names = json.loads(model.about.get("train_speakers", "[]"))
    return Counter(str(name).partition("/")[0] for name in names)
