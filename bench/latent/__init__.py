"""Fits whose q is not Normal (discrete ones, Gamma) in Pyro and NumPyro: ELBO against steps and seconds."""
