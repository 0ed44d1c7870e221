"""The twin of model_klqp.py in PyMC: mean-field ADVI, the same data, steps and draws, Adam at a constant rate."""

import numpy as np
import pymc as pm

rng = np.random.default_rng(0)
x = rng.normal(size=(1000, 10))
y = (rng.uniform(size=1000) < 1 / (1 + np.exp(-x @ rng.normal(size=10)))).astype(float)

with pm.Model():
    w = pm.Normal("w", 0.0, 1.0, shape=10)
    pm.Bernoulli("y", logit_p=x @ w, observed=y)
    adam = pm.adam(learning_rate=0.02)
    fitted = pm.fit(2000, method="advi", obj_n_mc=10, obj_optimizer=adam, random_seed=1, progressbar=False)
print(*fitted.mean.eval())
