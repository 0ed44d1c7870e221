// The beta-binomial log probability: a binomial whose probability is beta distributed; its base is log C(total_count,
// x).
//
// The rest is log B(x + a, n - x + b) - log B(a, b), as three ratios of gamma functions.
#pragma once

#include "kernels/densities/trials.inl"

namespace klqp {
namespace {

struct BetaBinomialDensity {
  static constexpr const char* name = "beta_binomial";
  static constexpr int n_args = 4;

  static constexpr unsigned base_args = 3;
  double invalid, total_count;
  Rising a, b;
  double all, all_slope;  // log Gamma(a + b + n) - log Gamma(a + b), and its derivative by a + b

  KLQP_INLINE static BetaBinomialDensity prepare(double total_count, double concentration1, double concentration0) {
    const Rising sum = prepare_rising(concentration1 + concentration0);
    const bool legal = all_of(is_count(total_count), is_positive(concentration1), is_positive(concentration0));
    return {.invalid = invalid_unless(legal),
            .total_count = total_count,
            .a = prepare_rising(concentration1),
            .b = prepare_rising(concentration0),
            .all = log_rising(sum, total_count),
            .all_slope = log_rising_slope(sum, total_count)};
  }
  KLQP_INLINE bool supports(double x) const { return is_count(x) & (x <= total_count); }

  KLQP_INLINE double log_prob(double x) const { return (log_rising(a, x) + log_rising(b, total_count - x)) - all; }
  KLQP_INLINE Partials gradient(double x) const {
    return {0.0, 0.0, log_rising_slope(a, x) - all_slope, log_rising_slope(b, total_count - x) - all_slope};
  }
  KLQP_INLINE static double log_base(double x, double total_count) { return log_choose(x, total_count); }
};

}  // namespace
}  // namespace klqp
