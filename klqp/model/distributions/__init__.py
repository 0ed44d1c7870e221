"""Distributions: one class each, with its moments and sampler in NumPy and its log density as a native kernel."""
