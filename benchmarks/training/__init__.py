"""Training speed: baselines a user would write, the data they share, and the peak of the machine."""
