"""Invented voices, with a setting for how much the speaker predicts the emotion in training.

Speakers act emotions over several sentences, in speech-like sound made from a few parameters each:

    settings -> plan (utterances and their delivery) -> voice (sound) -> tree (files, manifest)

At `entanglement` 0 speaker and emotion are independent and all parts have the same distribution: no method may gain
from removing the speaker. Turned up, every training speaker favours one emotion and speaks through a channel whose
colour goes with it, while in the parts dev and test colours and emotions are independent: a model that mistakes the
colour for the emotion fails there. Use the protocol `given` with the column `part`: other
splits test training speakers.

Accuracy of a linear discriminant on mean and deviation of the MFCC (64 speakers, 32 of them in training, 2 s per
utterance): entanglement 0: 81 % known and 81 % unseen speakers; 0.5: 79 and 74 %; 1: 86 and 55 %.

**Frozen.** The generator was finished before any system was trained on it, and no system's results may change it;
another sound is another `VERSION`. Figures from it support no claim about speech.
"""

from __future__ import annotations

from unheard.corpora.synthetic.plan import PARTS, VERSION, SyntheticSettings, demo
from unheard.corpora.synthetic.tree import CORPUS, read, write

__all__ = ["CORPUS", "PARTS", "VERSION", "SyntheticSettings", "demo", "read", "write"]
