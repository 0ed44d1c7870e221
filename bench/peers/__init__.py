"""Group "peers": the same fits by klqp, by hand-written NumPy, and by JAX.

Everybody takes Adam steps on the same ELBO gradient (mean field, sticking the landing) with the
same number of draws, the same learning rates and the same data, and everybody's answer is checked.
"""

from bench.peers.compare import run

__all__ = ["run"]
