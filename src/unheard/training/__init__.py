"""Training: batches, strategies, and a training loop that is independent of the strategy."""
