"""Released corpora, one file each."""
