// Log probabilities of counts without cancellation, for rates and numbers of trials of any size.
//
// Loader, "Fast and accurate computation of binomial probabilities" (2000): Stirling's formula takes the large terms
// away on paper, and what is left is a deviance and the errors of Stirling's formula.
#pragma once

#include <cmath>

namespace klqp {

// log(k!) - (log(2 pi k) / 2 + k log(k) - k), for k >= 1.
inline double stirling_error(double k) noexcept {
  if (k < 16.0) {
    double factorial = 1.0;
    for (double i = 2.0; i <= k; ++i) factorial *= i;
    return std::log(factorial) - ((k + 0.5) * std::log(k) - k + 0.91893853320467274178);
  }
  const double v = 1.0 / k, w = v * v;
  return v * (1.0 / 12 - w * (1.0 / 360 - w * (1.0 / 1260 - w * (1.0 / 1680 - w / 1188))));
}

// k log(k / mean) + mean - k, for k > 0.
inline double count_deviance(double k, double mean) noexcept {
  const double d = k - mean;
  if (std::fabs(d) >= 0.1 * (k + mean)) return k * std::log(k / mean) - d;
  // With v = d / (k + mean): d v + 2 k (v^3 / 3 + v^5 / 5 + ...).
  const double v = d / (k + mean), w = v * v;
  double sum = d * v, power = 2.0 * k * v;
  for (int j = 3; j < 40; j += 2) {
    power *= w;
    const double next = sum + power / j;
    if (next == sum) break;
    sum = next;
  }
  return sum;
}

// log of mean^k exp(-mean) / k!, for k >= 0.
inline double log_poisson(double k, double mean) noexcept {
  if (k == 0.0) return -mean;
  return -0.5 * std::log(6.2831853071795864769 * k) - stirling_error(k) - count_deviance(k, mean);
}

// log of C(n, k) p^k q^(n - k), with q = 1 - p, for 0 <= k <= n and 0 < p < 1.
inline double log_binomial(double k, double n, double p, double q) noexcept {
  if (k == 0.0) return n * std::log1p(-p);
  if (k == n) return n * std::log(p);
  const double rest = n - k;
  const double errors = stirling_error(n) - stirling_error(k) - stirling_error(rest);
  const double deviances = count_deviance(k, n * p) + count_deviance(rest, n * q);
  return errors - deviances - 0.5 * std::log(6.2831853071795864769 * k * (rest / n));
}

}  // namespace klqp
