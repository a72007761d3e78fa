"""Experiments: systems x folds x seeds, in cells whose state is files.

    settings -> grid (corpus, features, split, cells) -> launch -> results.csv, table.md

Nothing is imported here, so that the settings can be read without torch.
"""
