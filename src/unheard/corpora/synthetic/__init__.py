"""A corpus of invented voices, with a dial for how much the speaker betrays the emotion in training.

Many speakers act emotions over several sentences, in speech-like sound made from a few numbers each:

    settings -> plan (who says what, how) -> voice (sound) -> tree (files, manifest)

With the dial `entanglement` at 0 speaker and emotion are independent everywhere and all parts are drawn alike:
no method may gain from removing the speaker. Turned up, every training speaker favours one emotion and speaks
through a channel whose colour goes with it, while in the parts dev and test colours and emotions are
independent: a model that took the colour for the emotion fails there. Use the protocol `given` with the column
`part`, since other splits put training speakers to the test.

What a linear discriminant of mean and deviation of the MFCC gets right (64 speakers, 32 of them in training,
2 s an utterance): dial 0: 81 % known and 81 % unseen speakers; 0.5: 79 and 74 %; 1: 86 and 55 %.

**Frozen.** The generator was finished before any system was trained on it, and no system's results may change
it; another sound would be another `VERSION`. Figures from it support no claim about speech.
"""

from __future__ import annotations

from unheard.corpora.official import Official
from unheard.corpora.synthetic.plan import PARTS, VERSION, SyntheticSettings, demo, iemocap_shaped, mandarin_shaped
from unheard.corpora.synthetic.tree import read, write

__all__ = [
    "OFFICIAL",
    "PARTS",
    "VERSION",
    "SyntheticSettings",
    "demo",
    "iemocap_shaped",
    "mandarin_shaped",
    "read",
    "write",
]

_SOURCE = "the generator's own preset `demo`; other settings make other numbers"

OFFICIAL = Official(
    name="synthetic",
    title="Synthetic voices",
    language="none",
    licence="MIT, as the program that makes it",
    citation="Made by unheard.corpora.synthetic.",
    homepage="",
    fetchable=False,
    obtain="Make it: unheard.corpora.synthetic.write(folder, demo()).",
    layout="settings.json and wav/<speaker>/<speaker>-<emotion>-<sentence>-<repetition>.wav",
    speakers=16,
    utterances=512,
    counts={"angry": 128, "happy": 128, "neutral": 128, "sad": 128},
    sources=dict.fromkeys(("utterances", "speakers", "counts", "licence"), _SOURCE),
    traps=("Invented audio: figures from it support no claim about speech.",),
    subsets=PARTS,
)
