"""What a run's figures are worth: differences between systems, tested with the test speaker as the unit.

    predictions -> counts (speakers x classes) -> permutation test, Holm, bootstrap intervals, detectable difference

numpy alone, but for the detectable difference (scipy, when it is asked for). docs/statistics.md has the formulas.
"""
