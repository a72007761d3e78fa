"""Who trains, who validates, who is tested: protocols whose splits cannot leak.

    manifest -> **splits** -> features -> batches -> network

`make_split` makes a split, `read_splits` and `write_splits` move it to and from a CSV file. A `Split` refuses
to exist when it leaks, however it was made.
"""

from unheard.splits.files import read_folds, read_splits, write_splits
from unheard.splits.protocols import PROTOCOLS, default_protocol, make_split
from unheard.splits.split import Direction, Fold, Leak, Split, exclude_shared_recordings, find_leaks

__all__ = [
    "PROTOCOLS",
    "Direction",
    "Fold",
    "Leak",
    "Split",
    "default_protocol",
    "exclude_shared_recordings",
    "find_leaks",
    "make_split",
    "read_folds",
    "read_splits",
    "write_splits",
]
