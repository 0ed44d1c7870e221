"""Blocks of the curvature where a matrix (D, D) would be too large, from gradients at draws of a Normal."""

from __future__ import annotations

import numpy as np

from klqp import _core
from klqp.inference.auto.base_draws import base_draws, fewest_draws
from klqp.inference.auto.candidate import Candidate, of_blocks
from klqp.inference.auto.counted import Counted
from klqp.inference.gaussian import full_blocks, no_rest

__all__ = ["with_blocks"]

_FEWEST = 512
_SCRAMBLE = 1 << 22  # of these draws


def with_blocks(target: Counted, spec: _core.FamilySpec, q: Candidate, key: int) -> Candidate:
    """Return a candidate without correlations, with the correlations in blocks that the curvature around it implies.

    By Stein's identity minus the expected Hessian's block is -Cov(y)^-1 Cov(y, grad), in the block's coordinates y in
    which q is N(0, I). The candidate itself is returned where gradients are not finite.
    """
    blocks = full_blocks(spec)
    n = max(_FEWEST, fewest_draws(max((b.stop - b.start for b in blocks), default=1)))
    noise = base_draws(n, spec.dim, key, _SCRAMBLE, blocks)
    logp, grad = target.evaluate(q.loc + q.scale * noise)
    if not blocks or not (np.isfinite(logp).all() and np.isfinite(grad).all()):
        return q
    precisions = {}
    for b in blocks:
        y, scale = noise[:, b], q.scale[b]
        hessian = np.linalg.solve(y.T @ y, y.T @ (grad[:, b] * scale))
        precisions[b.start] = -0.5 * (hessian + hessian.T) / np.outer(scale, scale)
    return of_blocks(q.loc, q.scale.copy(), no_rest(spec), precisions, q.origin, q.start)
