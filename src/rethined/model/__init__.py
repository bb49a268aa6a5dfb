"""The RETHINED network in PyTorch (extra `train`); nothing outside training and export imports it."""

from rethined.model.pipeline import Rethined

__all__ = ["Rethined"]
