"""The corpora behind a model, as their makers describe them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from unheard.corpora import CORPORA, official
from unheard.export.metadata import Data
from unheard.training.model import Model

UNKNOWN = "not known to this program"


def data_of(model: Model) -> tuple[Data, ...]:
    """The corpora that `model` says it was trained on, by name; none where it does not say."""
    return described(speakers_by_corpus(model))


def described(names: Iterable[str]) -> tuple[Data, ...]:
    """The corpora called `names`; one without a reader here has a licence that is not known."""
    found = []
    for name in sorted(names):
        if name in CORPORA:
            facts = official(name)
            found.append(Data(name, facts.title, facts.language, facts.licence, facts.citation, facts.homepage))
        else:
            found.append(Data(name, name or "recordings without a corpus's name", "", UNKNOWN))
    return tuple(found)


def speakers_by_corpus(model: Model) -> Counter[str]:
    """Corpus -> how many of its speakers `model` was trained on."""
    names = json.loads(model.about.get("train_speakers", "[]"))
    return Counter(str(name).partition("/")[0] for name in names)
