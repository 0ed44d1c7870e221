"""A run that is broken off, saved to a file and finished by another object gives the same bits as an unbroken one."""

import tempfile
from pathlib import Path

import numpy as np

import klqp


def log_density(z):
    """Return a banana-shaped log density and its gradient for z (S, 2)."""
    bend = z[:, 1] - z[:, 0] ** 2
    logp = -0.5 * z[:, 0] ** 2 - 2 * bend**2
    return logp, np.stack([-z[:, 0] + 8 * bend * z[:, 0], -4 * bend], axis=1)


def new_inference():
    """Return an inference object that is ready to run; the settings are what a snapshot must agree with."""
    inference = klqp.KLqp([klqp.LogDensity(log_density, shape=2)], q="full_rank")
    inference.initialize(n_iter=1000, n_samples=8, seed=1, progress=False)
    return inference


whole = new_inference()
whole.resume()  # all 1000 steps

first = new_inference()
for _ in range(400):
    first.update()

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "run.npz")
    first.save(path)
    second = new_inference()
    second.restore(path)

print(f"restored after {len(second.losses)} steps")
second.resume()  # the 600 that are left
print(f"finished after {len(second.losses)} steps, stopped by {second.stop_reason!r}")

same = np.array_equal(whole.losses, second.losses)
same &= np.array_equal(whole.posterior["z"].mean(), second.posterior["z"].mean())
same &= np.array_equal(whole.posterior["z"].covariance(), second.posterior["z"].covariance())
print(f"the same bits as the unbroken run: {same}")
