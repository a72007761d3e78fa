"""Experiments: systems x folds x seeds, in cells whose state is files.

settings -> grid (corpus, features, split, cells) -> launch -> results.csv, table.md
"""

from unheard.experiments.run import Run, experiment
from unheard.experiments.settings import Experiment

__all__ = ["Experiment", "Run", "experiment"]
