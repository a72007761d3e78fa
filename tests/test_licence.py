"""Whether a model may be used commercially, by the names of licences."""

from __future__ import annotations

import pytest

from unheard.corpora import CORPORA, get_corpus
from unheard.licence import commercial_use

OPEN, RESEARCH = ("Mine", "CC0 1.0"), ("IEMOCAP", "by agreement, for research only")


@pytest.mark.parametrize(
    ("licence", "data", "answer"),
    [
        ("CC BY-NC-SA 4.0", [], "No: the licence of the weights, CC BY-NC-SA 4.0, is for non-commercial use."),
        ("cc-by-nc-4.0", [OPEN], "No: the licence of the weights, cc-by-nc-4.0, is for non-commercial use."),
        ("for research only", [], "No: the licence of the weights, for research only, is for non-commercial use."),
        ("MIT", [OPEN], "Yes: the licence of the weights, MIT, permits it."),
        ("CC BY 4.0", [], "Yes: the licence of the weights, CC BY 4.0, permits it; name the authors."),
        ("MIT", [OPEN, RESEARCH], "Unclear: the licence of the weights, MIT, permits it. The training data may "
         "not: IEMOCAP (by agreement, for research only)."),
        ("Apache-2.0", [("Own", "")], "Unclear: the licence of the weights, Apache-2.0, permits it. The training data "
         "may not: Own (not stated)."),
        ("", [], "Unclear: the weights have no licence; ask their makers."),
        ("my own", [], "Unclear: read the licence of the weights, my own."),
    ],
)  # fmt: skip
def test_an_answer_in_plain_words(licence: str, data: list[tuple[str, str]], answer: str) -> None:
    assert commercial_use(licence, data) == answer


@pytest.mark.parametrize("name", CORPORA)
def test_no_corpus_for_research_only_is_a_yes(name: str) -> None:
    licence = get_corpus(name).licence
    said = commercial_use("MIT", [(name, licence)])
    free = not any(word in licence for word in ("NC", "research", "ommercial", "not stated")) or "CC0" in licence
    assert said.startswith("Yes") == free, licence
