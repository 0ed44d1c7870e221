"""Inference: the objects a fit is run with."""
