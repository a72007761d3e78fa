"""Experiments: systems x folds x seeds, in cells whose state is files.

    settings -> grid (corpus, features, split, cells) -> cells/*
    cells/* -> records -> results.csv, table.md, statistics, report

Nothing is imported here, so that the settings can be read without torch.
"""
