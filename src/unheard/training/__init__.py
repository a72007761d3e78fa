"""Training: batches, the strategies, and the loop that never asks which one it trains."""
