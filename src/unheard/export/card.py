"""The model card: data, accuracy, calibration, limits and prohibited uses, as a Hugging Face repository shows it.

Its words are in `card.md`. Every figure was measured; none is written there.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from unheard import __version__
from unheard.analysis.intervals import Spread
from unheard.corpora import CORPORA, corpus_names, get_corpus
from unheard.errors import counted
from unheard.export.evidence import BINS, Evidence
from unheard.export.onnx import Facts, TrainingCorpus
from unheard.export.quantise import Cost
from unheard.features import FeatureSettings
from unheard.licence import commercial_use, hub_licence
from unheard.model.saving import Model
from unheard.report.content import percent, spread

UNKNOWN = "unknown to this program"


def card(
    model: Model,
    facts: Facts,
    evidence: Sequence[Evidence] = (),
    cost: Cost | None = None,
    sections: Sequence[tuple[str, str]] = (),
) -> str:
    """Return the content of README.md; `sections` are further ones, title and Markdown."""
    environment = Environment(
        loader=PackageLoader("unheard.export", ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {"percent": percent, "spread": _spread, "cell": lambda text: text.replace("|", "\\|")}
    return environment.get_template("card.md").render(
        model=model,
        facts=facts,
        evidence=evidence,
        cost=cost,
        sections=sections,
        version=__version__,
        front_matter=_front_matter(facts, evidence),
        features=_described(model.features),
        encoder=model.features.kind == "encoder",
        commercial=commercial_use(facts.licence, [(corpus.title, corpus.licence) for corpus in facts.data]),
        speakers=speakers_by_corpus(model),
        counted=counted,
        bins=BINS,
        acted=[corpus.title for corpus in facts.data if corpus.name in CORPORA and corpus.name != "synthetic"],
        synthetic=[corpus.title for corpus in facts.data if corpus.name == "synthetic"],
        unknown=[corpus.title for corpus in facts.data if corpus.name not in (*CORPORA, "synthetic")],
    )


def _spread(values: tuple[float, ...]) -> str:
    x = Spread(values)
    return spread(x.mean, x.std)


def _front_matter(facts: Facts, evidence: Sequence[Evidence]) -> str:
    """Return the YAML block that the Hub reads."""
    data, licence = facts.data, facts.licence
    hub_name = hub_licence(licence)
    results = []
    for e, group in ((run, group) for run in evidence for group in run.groups if not group.gender):
        wa, uar = (round(Spread(figures).mean or 0.0, 4) for figures in (group.wa, group.uar))
        metrics: list[dict[str, Any]] = [{"type": "accuracy", "name": "WA", "value": wa}]
        metrics.append({"type": "recall", "name": "UAR", "args": {"average": "macro"}, "value": uar})
        task = {"type": "audio-classification", "name": "Speech emotion recognition"}
        name = f"{group.corpus or e.corpora}, {'left out of training' if e.corpora_left_out else 'unseen speakers'}"
        results.append({"task": task, "dataset": {"type": "speech", "name": name}, "metrics": metrics})
    values = {
        "license": hub_name or "other",
        "license_name": "" if hub_name else licence or "see-the-training-data",
        "language": sorted({corpus.language for corpus in data if len(corpus.language) in (2, 3)}),  # codes
        "library_name": "unheard",
        "pipeline_tag": "audio-classification",
        "tags": ["speech-emotion-recognition", "speaker-independent", "onnx"],
        "datasets": [corpus.name for corpus in data if corpus.name],
        "metrics": ["accuracy", "recall"],
        "model-index": [{"name": facts.name, "results": results}] if results else [],
    }
    values = {name: value for name, value in values.items() if value}
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)}---\n"


def _described(settings: FeatureSettings) -> str:
    kind = "features of a pretrained encoder" if settings.kind == "encoder" else f"{settings.kind} features"
    interval = f"every {settings.frame_shift_ms * settings.thin:g} ms" if settings.pool == "none" else "per utterance"
    more = f" and {settings.summary_dim} functionals of the utterance" if settings.summary_dim else ""
    return f"{settings.dim - settings.summary_dim} {kind} {interval}{more}"


def data_of(model: Model) -> tuple[TrainingCorpus, ...]:
    """Return the corpora that `model` was trained on, by name; none where it does not state them."""
    return corpora_called(speakers_by_corpus(model))


def corpora_called(names: Iterable[str]) -> tuple[TrainingCorpus, ...]:
    """Return the corpora called `names`; the licence of one without a reader is unknown."""
    return tuple(
        TrainingCorpus(name, c.title, c.language, c.licence, c.citation, c.homepage)
        if name in corpus_names() and (c := get_corpus(name))
        else TrainingCorpus(name, name or "recordings without a corpus name", "", UNKNOWN)
        for name in sorted(names)
    )


def speakers_by_corpus(model: Model) -> Counter[str]:
    """Count the training speakers of `model` by corpus."""
    names = json.loads(model.about.get("train_speakers", "[]"))
    return Counter(str(name).partition("/")[0] for name in names)
