"""Item response theory, 50,000 students and 2,000 questions, whose variances are learnt too."""

import time

import numpy as np

import klqp

students, questions, answers = 50_000, 2_000, 200_000
rng = np.random.default_rng(9)
ability, ease = rng.normal(0, 1.0, students), rng.normal(0, 1.5, questions)
student, question = rng.integers(students, size=answers), rng.integers(questions, size=answers)
y_train = (rng.random(answers) < 1 / (1 + np.exp(-ability[student] - ease[question]))).astype(float)

mu = klqp.Normal(0.0, 1.0, name="mu")
log_var_a, log_var_e = klqp.Normal(0.0, 1.0, name="log_var_a"), klqp.Normal(0.0, 1.0, name="log_var_e")
a = klqp.Normal(0.0, klqp.exp(0.5 * log_var_a), shape=students, name="a")
e = klqp.Normal(0.0, klqp.exp(0.5 * log_var_e), shape=questions, name="e")
y = klqp.Bernoulli(logits=mu + a[student] + e[question])

inference = klqp.KLqp([mu, log_var_a, log_var_e, a, e], data={y: y_train})
started = time.perf_counter()
inference.run(n_iter=1500, n_samples=1, seed=1, progress=False)
seconds = time.perf_counter() - started

sd = np.exp(0.5 * inference.posterior[log_var_e].mean())
fitted = inference.posterior[e].mean()
correlation = np.corrcoef(fitted, ease)[0, 1]
print(f"sd of the questions: {sd:.3f}, true 1.500, off by {abs(sd / 1.5 - 1):.4f} of it")
print(f"correlation of the questions' effects with the true ones: {correlation:.3f}, off by {1 - correlation:.4f}")
print(f"1,500 steps in {seconds:.1f} s")
