// The Poisson log probability of x events, by the rate or its logarithm; -log x! is its base.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

KLQP_INLINE double minus_log_factorial(double x) {
  const double y = -lgamma_positive(x + 1.0);
  return is_count(x) ? y : (x == x ? 0.0 : kNaN);
}

struct PoissonDensity {
  static constexpr const char* name = "poisson";
  static constexpr int n_args = 2;

  static constexpr unsigned base_args = 1;
  double invalid, rate, inverse, log_rate;

  KLQP_INLINE static PoissonDensity prepare(double rate) {
    return {invalid_unless((rate >= 0.0) & (rate < kInfinity)), rate, 1.0 / rate, log_one(rate)};
  }
  KLQP_INLINE bool supports(double x) const { return is_count(x); }

  KLQP_INLINE double log_prob(double x) const { return times_log(x, log_rate) - rate; }
  KLQP_INLINE Partials gradient(double x) const { return {0.0, x == 0.0 ? -1.0 : (x - rate) * inverse}; }
  KLQP_INLINE static double log_base(double x) { return minus_log_factorial(x); }
};

struct PoissonLogDensity {
  static constexpr const char* name = "poisson_log";
  static constexpr int n_args = 2;

  static constexpr unsigned base_args = 1;
  double invalid, log_rate, rate;

  KLQP_INLINE static PoissonLogDensity prepare(double log_rate) {
    return {invalid_unless(log_rate < kInfinity), log_rate, exp_one(log_rate)};
  }
  KLQP_INLINE bool supports(double x) const { return is_count(x); }

  KLQP_INLINE double log_prob(double x) const { return times_log(x, log_rate) - rate; }
  KLQP_INLINE Partials gradient(double x) const { return {0.0, x - rate}; }
  KLQP_INLINE static double log_base(double x) { return minus_log_factorial(x); }
};

}  // namespace
}  // namespace klqp
