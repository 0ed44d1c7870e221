"""Peers: other libraries' fits of the same log densities, each with what its documentation takes.

A module of this package has NAME, NEEDS (the packages it imports), FAMILIES, and
``fit(target: Counted, family: str, seed: int) -> Answer``.
"""
