"""Benchmarks: quality, latency, baselines and the tables rendered from their results."""
