"""What a model says of itself, for people: where it comes from and what may be done with it."""

from __future__ import annotations

from unheard import __version__
from unheard.errors import printable
from unheard.inference.model import OnnxModel


def describe(model: OnnxModel) -> str:
    """A model's version, licence, training data and card, as text."""
    about = model.metadata
    lines = [
        f"{model.name}, made by unheard {about.version or '(unknown version)'}, run by unheard {__version__}",
        f"emotions: {', '.join(model.labels)}",
        f"licence of the weights: {about.licence or 'not stated'}",
    ]
    for corpus in about.data:
        name = corpus.get("title") or corpus.get("name", "?")
        lines.append(f"trained on {name}: {corpus.get('licence') or 'licence not stated'}")
    lines.append(f"file: {model.where} (sha256 {model.digest})")
    card = "\n".join(map(printable, without_front_matter(model.card()).strip().splitlines()))
    return "\n".join(lines) + "\n" + (f"\n{card}\n" if card else "")


def without_front_matter(card: str) -> str:
    """A card's text for people, without what a repository wants to know of it."""
    if not card.startswith("---\n"):
        return card
    _, found, text = card[4:].partition("\n---\n")
    return text if found else card
