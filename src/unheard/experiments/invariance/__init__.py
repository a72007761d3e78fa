"""How much of the speaker an embedding keeps, and whom a recogniser serves badly.

    frozen embeddings of unseen speakers -> fresh probes, verification, emotion UAR by speaker and gender

`examine_embeddings` does it for arrays, `of_run` for the folder of a run, `of_model` (a module, which needs torch) for
any model and manifest.
"""

from unheard.experiments.invariance.examine import FIGURES, Invariance, examine_embeddings
from unheard.experiments.invariance.groups import Groups, Person
from unheard.experiments.invariance.lines import INPUT, LineInvariance, markdown
from unheard.experiments.invariance.of_run import of_run, unseen_of
from unheard.experiments.invariance.resample import Estimate
from unheard.experiments.invariance.split import sub_run_settings

__all__ = [
    "FIGURES",
    "INPUT",
    "Estimate",
    "Groups",
    "Invariance",
    "LineInvariance",
    "Person",
    "examine_embeddings",
    "markdown",
    "of_run",
    "sub_run_settings",
    "unseen_of",
]
