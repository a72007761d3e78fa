"""`unheard adapt`: what a few unlabelled utterances of a speaker are worth."""

from __future__ import annotations

import sys
from pathlib import Path

from unheard.cli.shared import say, words
from unheard.errors import ConfigError


def adapt(run: Path, /, *, k: str = "0,1,4,16,all", draws: int = 5) -> None:
    """Score a run's test speakers again after k of their utterances have been heard, unlabelled.

    Example: unheard adapt RUN

    Writes RUN/adaptation.csv and RUN/adaptation.md; nothing is trained. The utterances heard are drawn by seed and
    not scored; `all` hears what it scores and is transductive.

    Parameters
    ----------
    run
        Folder of the run (the --out of `unheard experiment`), with its models.
    k
        How many utterances are heard, separated by commas.
    draws
        Draws of them, averaged.
    """
    from unheard.experiments.adaptation import adapt as measure
    from unheard.experiments.counts import ALL

    if draws < 1 or not all(word == "all" or word.isdigit() for word in words(k)) or not words(k):
        raise ConfigError(f"k = {k} with {draws} draws cannot be", mend="Write --k 0,1,4,16,all and at least one draw.")
    sizes = [ALL if word == "all" else int(word) for word in words(k)]
    sys.stdout.write(measure(run, sizes=sizes, draws=draws, say=say))
