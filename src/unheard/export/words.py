"""What every card says whatever was measured: what the model must not be used for, and where it ends."""

from __future__ import annotations

from collections.abc import Iterable

from unheard.corpora import CORPORA
from unheard.export.metadata import Data

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
