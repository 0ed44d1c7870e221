// Log likelihoods of rows given their linear predictors: sums over n <= 256 rows, and the derivatives by eta in the
// place of eta.
//
// What data or parameters decide alone is the caller's business: these loops have what is left for each row and draw.
// All rows are in the support and parameters legal; a row of weight 0 adds nothing, whatever its value and eta.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

// exp(x) for x <= 0, at least 1e-307; NaN for NaN. Within 1.2 units in the last place: a sum of many rows hides the
// rounding of the reduced argument.
KLQP_INLINE double exp_minus(double x) {
  const double bounded = x < -707.0 ? -707.0 : x;
  const double shifted = madd(bounded, 0x1.71547652b82fep+0, kRoundToBits);
  const double n = shifted - kRoundToBits;
  const double r = madd(-n, kLog2Low, madd(-n, kLog2High, bounded));
  const double mantissa = 1.0 + madd(r * r, polynomial(kExp, r), r);
  return from_bits(to_bits(mantissa) + (to_bits(shifted) << 52));
}

// Log probabilities of success and failure with log odds eta, and the probabilities.
struct Trial {
  double log_success, log_failure, success, failure;
};

// With e = exp(-|eta|): one division serves log(1 + e) = 2 atanh(e / (2 + e)) and 1 / (1 + e).
KLQP_INLINE Trial trial(double eta) {
  const double magnitude = __builtin_fabs(eta);
  const double e = exp_minus(-magnitude);
  const double one = 1.0 + e, two = 2.0 + e;
  const double quotient = 1.0 / (one * two);
  const double s = e * (one * quotient), z = s * s;
  const double log_likely = -s * madd(z, polynomial(kLogUnit, z), 2.0);
  const double log_unlikely = log_likely - magnitude;
  const double likely = two * quotient, unlikely = e * likely;
  const bool negative = eta < 0.0;
  return {negative ? log_unlikely : log_likely, negative ? log_likely : log_unlikely, negative ? unlikely : likely,
          negative ? likely : unlikely};
}

// y = 0 or 1 with log odds eta.
double bernoulli_rows(Index n, const double* y, double* eta) noexcept {
  double total = 0.0, product = 1.0;
  // The logarithms of 1 + exp(-|eta|) are taken together: a product of 256 factors in [1, 2] does not overflow.
#pragma omp simd reduction(+ : total) reduction(* : product)
  for (Index i = 0; i < n; ++i) {
    const double sign = madd(2.0, y[i], -1.0);
    const double z = sign * eta[i], magnitude = __builtin_fabs(z);
    const double e = exp_minus(-magnitude);
    const double one = 1.0 + e;
    total += z - magnitude;
    product *= one;
    eta[i] = (z < 0.0 ? sign : sign * e) / one;
  }
  return 0.5 * total - log_one(product);
}

// y successes in `trials` with log odds eta.
double binomial_rows(Index n, const double* y, const double* trials, const double* weight, double* eta) noexcept {
  double total = 0.0;
#pragma omp simd reduction(+ : total)
  for (Index i = 0; i < n; ++i) {
    const Trial t = trial(eta[i]);
    const double successes = y[i], failures = trials[i] - y[i], w = weight[i];
    const double log_p = times_log(successes, t.log_success) + times_log(failures, t.log_failure);
    const double slope = successes * t.failure - failures * t.success;
    total += select(w == 0.0, 0.0, w * log_p);
    eta[i] = select(w == 0.0, 0.0, w * slope);
  }
  return total;
}

// y successes before `failures` failures, with log odds eta: sums (2) += the log densities, and the log probabilities
// of a failure.
void negative_binomial_rows(Index n, const double* y, const double* weight, double failures, double* eta,
                            double* sums) noexcept {
  double total = 0.0, log_failures = 0.0;
#pragma omp simd reduction(+ : total, log_failures)
  for (Index i = 0; i < n; ++i) {
    const Trial t = trial(eta[i]);
    const double w = weight[i];
    const double log_p = times_log(y[i], t.log_success) + failures * t.log_failure;
    const double slope = y[i] * t.failure - failures * t.success;
    total += select(w == 0.0, 0.0, w * log_p);
    log_failures += select(w == 0.0, 0.0, w * t.log_failure);
    eta[i] = select(w == 0.0, 0.0, w * slope);
  }
  sums[0] += total;
  sums[1] += log_failures;
}

// y events at the rate exp(eta).
double poisson_rows(Index n, const double* y, const double* weight, double* eta) noexcept {
  double total = 0.0;
#pragma omp simd reduction(+ : total)
  for (Index i = 0; i < n; ++i) {
    const double rate = exp_one(eta[i]), w = weight[i];
    const double log_p = times_log(y[i], eta[i]) - rate;
    total += select(w == 0.0, 0.0, w * log_p);
    eta[i] = select(w == 0.0, 0.0, w * (y[i] - rate));
  }
  return total;
}

// Sum of weighted squares of y - eta; eta becomes the differences times weight and precision.
double normal_rows(Index n, const double* y, const double* weight, double precision, double* eta) noexcept {
  double total = 0.0;
#pragma omp simd reduction(+ : total)
  for (Index i = 0; i < n; ++i) {
    const double gap = y[i] - eta[i], w = weight[i];
    const double weighted = select(w == 0.0, 0.0, w * gap);
    total += select(w == 0.0, 0.0, weighted * gap);
    eta[i] = precision * weighted;
  }
  return total;
}

// With t = inverse * (y - eta): sums (2) += log(1 + t^2) and t^2 / (1 + t^2); eta becomes slope * t / (1 + t^2).
void student_t_rows(Index n, const double* y, const double* weight, double inverse, double slope, double* eta,
                    double* sums) noexcept {
  double logs = 0.0, shares = 0.0;
#pragma omp simd reduction(+ : logs, shares)
  for (Index i = 0; i < n; ++i) {
    const double t = inverse * (y[i] - eta[i]), w = weight[i];
    const double ratio = over_one_plus_square(t), log_square = log1p_square(t);
    logs += select(w == 0.0, 0.0, w * log_square);
    shares += select(w == 0.0, 0.0, w * (t * ratio));
    eta[i] = select(w == 0.0, 0.0, w * (slope * ratio));
  }
  sums[0] += logs;
  sums[1] += shares;
}

// With d = log y - eta: the sum of d + 1 - exp(d); eta becomes concentration * (exp(d) - 1).
double gamma_rows(Index n, const double* log_y, const double* weight, double concentration, double* eta) noexcept {
  double total = 0.0;
#pragma omp simd reduction(+ : total)
  for (Index i = 0; i < n; ++i) {
    const double d = log_y[i] - eta[i], w = weight[i];
    const double excess = expm1_one(d);
    total += select(w == 0.0, 0.0, w * (d - excess));
    eta[i] = select(w == 0.0, 0.0, w * (concentration * excess));
  }
  return total;
}

// log Gamma(a + x) - log Gamma(a) and its derivative by a.
void log_rising_kernel(Index n, double a, const double* x, double* out, double* slope) noexcept {
  const Rising rising = prepare_rising(a);
#pragma omp simd
  for (Index i = 0; i < n; ++i) {
    out[i] = log_rising(rising, x[i]);
    slope[i] = log_rising_slope(rising, x[i]);
  }
}

}  // namespace
}  // namespace klqp
