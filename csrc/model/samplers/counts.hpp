// Draws of counts, each a function of one uniform on (0, 1) and the parameters: NaN where these are not legal.
//
// Where the mean is small (kSearchedMean) the draw is the quantile at the uniform u, found by searching upwards from 0:
// it does not decrease in u, which is what antithetic and Sobol draws live from. Above, and where the tail is too long
// to be searched, a rejection sampler takes its attempts from the substream of u.
#pragma once

namespace klqp {

double draw_poisson(double u, double rate) noexcept;

// p and q = 1 - p apart, so that neither loses digits.
double draw_binomial(double u, double n, double p, double q) noexcept;

// Successes before `total` failures; the mean is total exp(logits).
double draw_negative_binomial(double u, double total, double logits) noexcept;

// Binomial, with log odds log(x) - log(y) for x ~ Gamma(a), y ~ Gamma(b).
double draw_beta_binomial(double u, double n, double a, double b) noexcept;

}  // namespace klqp
