"""posteriordb's models in klqp's words: for each one its latent variables, in Stan's order and with Stan's names, and
its data.

A model is a function of the posterior's data, a dict of lists, that returns what `klqp.KLqp` and `klqp.LogJoint` take.
"""

import numpy as np

import klqp


def columns(data, *names):
    return [np.asarray(data[name], float) for name in names]


def half_cauchy(scale, name="sigma"):
    return klqp.HalfCauchy(0.0, scale, name=name)


def flat_scale():
    return klqp.Flat(support="positive", name="sigma")


# --- linear regressions ------------------------------------------------------------------------------------------
def regression(y, predictors, sigma):
    X = np.column_stack([np.ones(len(y)), *predictors])
    beta = klqp.Flat(X.shape[1], name="beta")
    return [beta, sigma], {klqp.Normal(X @ beta, sigma): y}


def kidscore_interaction(data):
    y, hs, iq = columns(data, "kid_score", "mom_hs", "mom_iq")
    return regression(y, [hs, iq, hs * iq], half_cauchy(2.5))


def kidscore_momhs(data):
    y, hs = columns(data, "kid_score", "mom_hs")
    return regression(y, [hs], half_cauchy(2.5))


def logearn_interaction_z(data):
    earn, height, male = columns(data, "earn", "height", "male")
    z = (height - height.mean()) / height.std(ddof=1)
    return regression(np.log(earn), [z, male, z * male], flat_scale())


def logearn_height(data):
    earn, height = columns(data, "earn", "height")
    return regression(np.log(earn), [height], flat_scale())


def logmesquite_logvash(data):
    names = ("weight", "diam1", "diam2", "canopy_height", "total_height", "group")
    weight, diam1, diam2, canopy, total, group = columns(data, *names)
    volume, area, shape = np.log(diam1 * diam2 * canopy), np.log(diam1 * diam2), np.log(diam1 / diam2)
    return regression(np.log(weight), [volume, area, shape, np.log(total), group], flat_scale())


def nes(data):
    names = ("partyid7", "real_ideo", "race_adj", "age_discrete", "educ1", "gender", "income")
    party, ideology, race, age, education, gender, income = columns(data, *names)
    ages = [age == 2, age == 3, age == 4]
    return regression(party, [ideology, race, *ages, education, gender, income], flat_scale())


def blr(data):
    X, y = columns(data, "X", "y")
    beta = klqp.Normal(0.0, 10.0, shape=X.shape[1], name="beta")
    sigma = klqp.HalfNormal(10.0, name="sigma")
    return [beta, sigma], {klqp.Normal(X @ beta, sigma): y}


# --- time series -------------------------------------------------------------------------------------------------
def ark(data):
    y, k = columns(data, "y")[0], data["K"]
    lags = np.column_stack([y[k - lag : len(y) - lag] for lag in range(1, k + 1)])
    alpha = klqp.Normal(0.0, 10.0, name="alpha")
    beta = klqp.Normal(0.0, 10.0, shape=k, name="beta")
    sigma = half_cauchy(2.5)
    return [alpha, beta, sigma], {klqp.Normal(alpha + lags @ beta, sigma): y[k:]}


def garch11(data):
    """beta1 is uniform between 0 and 1 - alpha1: a share of it, and a prior of alpha1 that makes up for the width."""
    y = columns(data, "y")[0]
    mu = klqp.Flat(name="mu")
    alpha0 = klqp.Flat(support="positive", name="alpha0")
    alpha1 = klqp.Beta(1.0, 2.0, name="alpha1")
    share = klqp.Uniform(name="share")
    drive = alpha0 + alpha1 * klqp.square(y - mu)
    beta1 = (1.0 - alpha1) * share
    variances = [data["sigma1"] ** 2]
    for t in range(len(y) - 1):
        variances.append(drive[t] + beta1 * variances[-1])
    return [mu, alpha0, alpha1, share], {klqp.Normal(mu, klqp.sqrt(klqp.stack(variances))): y}


def hmm_example(data):
    theta1 = klqp.Flat(2, support="simplex", name="theta1")
    theta2 = klqp.Flat(2, support="simplex", name="theta2")
    mu = klqp.Flat(2, support="positive_ordered", name="mu")
    y = columns(data, "y")[0]
    chain = klqp.LogDensity(hidden_markov, klqp.stack([theta1, theta2]), mu, shape=len(y), name="y")
    return [theta1, theta2, mu], {klqp.Normal(mu, 1.0): [3.0, 10.0], chain: y}


def hidden_markov(y, transition, mu):
    """log p(y) of a chain with normal emissions of scale 1, every first state of weight 1; y has no draw axis."""
    emission = -0.5 * (y[:, None, None] - mu) ** 2 - 0.5 * np.log(2 * np.pi)  # (N, S, K)
    steps = np.log(transition)  # (S, from, to)
    prefix = [emission[0]]
    for row in emission[1:]:
        prefix.append(row + np.logaddexp.reduce(prefix[-1][:, :, None] + steps, axis=1))
    logp = np.logaddexp.reduce(prefix[-1], axis=1)
    chance = np.exp(prefix[-1] - logp[:, None])  # of the state, given all data
    grad_steps, grad_mu = np.zeros_like(steps), chance * (y[-1] - mu)
    for t in range(len(y) - 1, 0, -1):
        arrival = prefix[t] - emission[t]
        pairs = chance[:, None] * np.exp(prefix[t - 1][:, :, None] + steps - arrival[:, None])
        grad_steps += pairs
        chance = pairs.sum(2)
        grad_mu += chance * (y[t - 1] - mu)
    return logp, (grad_steps / transition, grad_mu)


def one_comp_mm_elim_abs(data):
    k_a, K_m, V_m, sigma = (half_cauchy(1.0, name) for name in ("k_a", "K_m", "V_m", "sigma"))
    times, observed = columns(data, "times", "C_hat")
    curve = concentration(times, k_a, K_m, V_m / data["V"], data["D"] / data["V"])
    return [k_a, K_m, V_m, sigma], {klqp.LogNormal(klqp.log(curve), sigma): observed}


def concentration(times, k_a, K_m, rate, dose):
    """dC/dt = exp(-k_a t) k_a dose - rate C / (K_m + C) from C(0) = 0, by Runge and Kutta's fixed steps, unrolled."""
    n_steps = [40, *[5] * (len(times) - 1)]
    starts = np.r_[0.0, times[:-1]]
    grid = [np.linspace(a, b, 2 * n + 1) for a, b, n in zip(starts, times, n_steps, strict=True)]
    c, curve = 0.0, []
    for points in grid:
        h = points[2] - points[0]
        uptake = klqp.exp(-k_a * points) * k_a * dose
        for i in range(0, len(points) - 1, 2):
            k1 = uptake[i] - rate * c / (K_m + c)
            c2 = c + h / 2 * k1
            k2 = uptake[i + 1] - rate * c2 / (K_m + c2)
            c3 = c + h / 2 * k2
            k3 = uptake[i + 1] - rate * c3 / (K_m + c3)
            c4 = c + h * k3
            c = c + h / 6 * (k1 + 2 * (k2 + k3) + uptake[i + 2] - rate * c4 / (K_m + c4))
        curve.append(c)
    return klqp.stack(curve)


# --- hierarchies -------------------------------------------------------------------------------------------------
def eight_schools_centered(data):
    y, errors = columns(data, "y", "sigma")
    mu, tau = klqp.Normal(0.0, 5.0, name="mu"), half_cauchy(5.0, "tau")
    theta = klqp.Normal(mu, tau, shape=8, name="theta")
    return [theta, mu, tau], {klqp.Normal(theta, errors): y}


def eight_schools_noncentered(data):
    y, errors = columns(data, "y", "sigma")
    mu, tau = klqp.Normal(0.0, 5.0, name="mu"), half_cauchy(5.0, "tau")
    z = klqp.Normal(0.0, 1.0, shape=8, name="z")
    return [z, mu, tau], {klqp.Normal(mu + tau * z, errors): y}


def radon_hierarchical_intercept_noncentered(data):
    y, uranium, floor = columns(data, "log_radon", "log_uppm", "floor_measure")
    county = np.asarray(data["county_idx"]) - 1
    z = klqp.Normal(0.0, 1.0, shape=data["J"], name="z")
    beta = klqp.Normal(0.0, 10.0, shape=2, name="beta")
    mu = klqp.Normal(0.0, 10.0, name="mu_alpha")
    sigma_alpha, sigma_y = klqp.HalfNormal(1.0, name="sigma_alpha"), klqp.HalfNormal(1.0, name="sigma_y")
    alpha = mu + sigma_alpha * z
    mean = alpha[county] + np.column_stack([uranium, floor]) @ beta
    return [z, beta, mu, sigma_alpha, sigma_y], {klqp.Normal(mean, sigma_y): y}


def surgical(data):
    r, n = columns(data, "r", "n")
    mu, variance = klqp.Normal(0.0, 1000.0, name="mu"), klqp.InverseGamma(1e-3, 1e-3, name="sigmasq")
    b = klqp.Normal(mu, klqp.sqrt(variance), shape=len(n), name="b")
    return [mu, variance, b], {klqp.Binomial(n, logits=b): r}


# --- generalised linear models -----------------------------------------------------------------------------------
def wells(data):
    dist, arsenic, switched = columns(data, "dist", "arsenic", "switched")
    alpha, beta = klqp.Flat(name="alpha"), klqp.Flat(2, name="beta")
    X = np.column_stack([dist / 100, arsenic])
    return [alpha, beta], {klqp.Bernoulli(logits=alpha + X @ beta): switched}


def glm_poisson(data):
    year, count = columns(data, "year", "C")
    alpha = klqp.Uniform(-20.0, 20.0, name="alpha")
    beta1, beta2, beta3 = (klqp.Uniform(-10.0, 10.0, name=f"beta{k}") for k in (1, 2, 3))
    log_rate = alpha + beta1 * year + beta2 * year**2 + beta3 * year**3
    return [alpha, beta1, beta2, beta3], {klqp.Poisson(log_rate=log_rate): count}


# --- a mixture and a Gaussian process ----------------------------------------------------------------------------
def low_dim_gauss_mix(data):
    y = columns(data, "y")[0]
    mu = klqp.Flat(2, support="ordered", name="mu")
    sigma = klqp.HalfNormal(2.0, shape=2, name="sigma")
    theta = klqp.Beta(5.0, 5.0, name="theta")
    weights = klqp.Categorical(probs=klqp.stack([theta, 1.0 - theta]))
    parts = [klqp.Normal(mu[k], sigma[k], shape=len(y)) for k in range(2)]
    return [mu, sigma, theta], {klqp.Normal(mu, 2.0): [0.0, 0.0], klqp.Mixture(weights, parts): y}


def gp_regr(data):
    x, y = columns(data, "x", "y")
    rho, alpha = klqp.Gamma(25.0, 4.0, name="rho"), klqp.HalfNormal(2.0, name="alpha")
    sigma = klqp.HalfNormal(1.0, name="sigma")
    covariance = klqp.rbf(x, lengthscale=rho, variance=klqp.square(alpha)) + sigma * np.eye(len(x))
    return [rho, alpha, sigma], {klqp.MultivariateNormalTriL(0.0, klqp.cholesky(covariance)): y}


MODELS = {
    "GLM_Poisson_model": glm_poisson,
    "arK": ark,
    "blr": blr,
    "eight_schools_centered": eight_schools_centered,
    "eight_schools_noncentered": eight_schools_noncentered,
    "garch11": garch11,
    "gp_regr": gp_regr,
    "hmm_example": hmm_example,
    "kidscore_interaction": kidscore_interaction,
    "kidscore_momhs": kidscore_momhs,
    "logearn_height": logearn_height,
    "logearn_interaction_z": logearn_interaction_z,
    "logmesquite_logvash": logmesquite_logvash,
    "low_dim_gauss_mix": low_dim_gauss_mix,
    "nes": nes,
    "one_comp_mm_elim_abs": one_comp_mm_elim_abs,
    "radon_hierarchical_intercept_noncentered": radon_hierarchical_intercept_noncentered,
    "surgical_model": surgical,
    "wells_dist100ars_model": wells,
}
