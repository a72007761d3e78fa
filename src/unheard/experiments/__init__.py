"""Experiments: systems x folds x seeds, in cells whose state is files. Imports nothing, so that settings need no torch.

settings -> grid (corpus, features, split, cells) -> cells/* -> records -> results.csv, table.md, statistics, report
"""
