"""Training (5.1): recipes, data in memory, losses and the loop (extra `train`)."""
