"""Benchmarks of klqp: run `python -m bench` from the root of a checkout; see docs/performance.md."""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

# `python -m bench` puts the checkout first on sys.path, and the folder klqp/ there, which has no
# compiled modules, would hide the installed package. The modules of this package are found through
# its own __path__.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != CHECKOUT]
