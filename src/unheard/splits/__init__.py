"""Splits into training, validation and test speakers, which cannot leak.

    manifest -> **splits** -> features -> batches -> network

`make_split` makes a split under a protocol; `write_splits` and `read_splits` store it as a CSV file. Constructing a
`Split` that leaks raises `SplitError`, however it was made.
"""

from unheard.splits.files import read_folds, read_splits, write_splits
from unheard.splits.protocols import PROTOCOLS, default_protocol, make_split
from unheard.splits.split import Direction, Fold, Split, SplitProblem, exclude_shared_recordings, find_leaks

__all__ = [
    "PROTOCOLS",
    "Direction",
    "Fold",
    "Split",
    "SplitProblem",
    "default_protocol",
    "exclude_shared_recordings",
    "find_leaks",
    "make_split",
    "read_folds",
    "read_splits",
    "write_splits",
]
