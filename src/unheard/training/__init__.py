"""Training: batches, the network of Tu et al. 2019, the strategies, and the loop that never asks which one.

    feature store -> batches (B, T, F) -> embed (B, E) -> heads -> strategy (losses) -> trainer -> result

Shapes throughout: B batch, T frames, F features, N valid frames of a batch, E embedding, C emotions,
S speakers.
"""
