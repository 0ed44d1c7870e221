"""Draws and their pathwise gradients in PyTorch: float64, parameters shared by the draws of a batch."""

import numpy as np
import torch

torch.set_default_dtype(torch.float64)


class TorchDraws:
    """The draws of a distribution and the gradient of their sum with weights; parameters as `JaxDraws` takes them."""

    compile_seconds = None

    def __init__(self, name, parameters, n_draws, weights):
        self._parameters = [torch.tensor(p, requires_grad=True) for p in parameters]
        args = [*self._parameters, torch.ones(())] if name == "Gamma" else self._parameters
        self._args, self._weights = args, torch.tensor(weights)
        self._kind, self._shape = getattr(torch.distributions, name), (n_draws,)

    def __call__(self):
        """Return new draws and gradients."""
        draws = self._kind(*self._args, validate_args=False).rsample(self._shape)
        grads = torch.autograd.grad((draws * self._weights).sum(), self._parameters)
        return draws.detach().numpy(), [np.asarray(g) for g in grads]
