"""How close fits come to the best q of their family: `python -m bench.posteriors`, see `__main__` for its options.

Targets
-------
Anything with these attributes can be fitted:

``name`` : str
``dim`` : int
``log_density(z)``
    Points ``z (S, dim)``, float64, to ``logp (S,)`` and its gradient ``(S, dim)``. -inf is a point outside the support.
``best`` : dict, optional
    By family ("mean_field", "full_rank"), a dict with what is known of the best q of that family: ``"elbo"``, ``"mu"``
    and ``"sd"`` (dim,), ``"is_ess"``: the share of effective draws of importance sampling from it. The best fit of all
    contenders and seeds stands in for what is not there.
``has_optimum`` : bool, default True
    False where every answer is wrong, as for an improper posterior: then nothing but the verdict counts.

``--targets FILE.py`` or ``package.module`` reads the variable ``TARGETS`` there, ``...:name`` another one: a dict,
whose values are targets or functions that make them, an iterable of such, or a function that returns one of these.
"""
