"""`unheard contrast`: every system of a run, or of several, against one of them."""

from __future__ import annotations

import sys
from pathlib import Path


def contrast(run: Path, /, *more: Path, baseline: str = "ser", speakers: str = "", decision: str = "") -> None:
    """Test every system of a finished run against one of them, on all test speakers or on some.

    Of several runs, on different corpora, the mean of their differences too.

    Example: unheard contrast RUN --baseline svm

    Parameters
    ----------
    run
        Folder of the run (the --out of `unheard experiment`).
    more
        Folders of runs on other corpora.
    baseline
        The system the others are compared with.
    speakers
        FILE:PART: only the test speakers with that part in a table corpus,speaker,part.
    decision
        both (the mean of WA and UAR) or even (UAR): what networks that said the likeliest emotion, of the epochs that
        were read out, would have said with that --training.decision.
    """
    from unheard.experiments.against import against

    sys.stdout.write(against(run, *more, baseline=baseline, speakers=speakers, decision=decision))
