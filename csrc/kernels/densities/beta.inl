// The beta density, log p = (a - 1) log(x) + (b - 1) log(1 - x) - log B(a, b).
//
// As two gamma-like factors around the mean: with n = a + b and e = n x - a, log p = -log(x) - log(1 - x) +
// a (log(1 + e / a) - e / a) + b (log(1 - e / b) + e / b) + log(a b / (2 pi n)) / 2 + Stirling's corrections.
// No two terms of the size of a or b cancel.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct BetaDensity {
  static constexpr const char* name = "beta";
  static constexpr int n_args = 3;

  double invalid, total, total_low, shift, gap_a, gap_b;
  GammaFactor a, b;

  KLQP_INLINE static BetaDensity prepare(double concentration1, double concentration0) {
    const double total = concentration1 + concentration0;
    const double part = total - concentration1;
    const double total_low = (concentration1 - (total - part)) + (concentration0 - part);
    const double log_a = log_one(concentration1), log_b = log_one(concentration0), log_n = log_one(total);
    const double errors =
        (stirling_error(total, log_n) - stirling_error(concentration1, log_a)) - stirling_error(concentration0, log_b);
    const double gap = digamma_gap(total, log_n);
    return {.invalid = invalid_unless(all_of(is_positive(concentration1), is_positive(concentration0))),
            .total = total,
            .total_low = total_low,
            .shift = (0.5 * ((log_a - log_n) + log_b) - kHalfLog2Pi) + errors,
            .gap_a = digamma_gap(concentration1, log_a) - gap,
            .gap_b = digamma_gap(concentration0, log_b) - gap,
            .a = {concentration1, 1.0 / concentration1, log_n - log_a},
            .b = {concentration0, 1.0 / concentration0, log_n - log_b}};
  }
  KLQP_INLINE bool supports(double x) const { return is_probability(x); }

  // (a + b) x - a
  KLQP_INLINE double excess(double x) const { return madd(x, total_low, product_less(total, x, a.a)); }

  KLQP_INLINE double log_prob(double x) const {
    const double e = excess(x);
    return (log_gamma_factor(a, e, log_one(x)) + log_gamma_factor(b, -e, log_complement(x))) + shift;
  }
  KLQP_INLINE Partials gradient(double x) const {
    const double e = excess(x);
    // (a - 1) / x - (b - 1) / (1 - x); at an end of the support only where its own factor is constant
    const double inside = (madd(2.0, x, -1.0) - e) / (x * (1.0 - x));
    const double at_zero = ((x == 0.0) & (a.a == 1.0)) ? 1.0 - b.a : inside;
    const double by_value = ((x == 1.0) & (b.a == 1.0)) ? a.a - 1.0 : at_zero;
    return {by_value, log_of_factor(a, e, log_one(x)) + gap_a, log_of_factor(b, -e, log_complement(x)) + gap_b};
  }
};

}  // namespace
}  // namespace klqp
