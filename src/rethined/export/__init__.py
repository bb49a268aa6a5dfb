"""Writing the model for other runtimes: nothing is written if it does not compute what PyTorch does."""
