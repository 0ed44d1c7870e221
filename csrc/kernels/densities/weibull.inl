// The Weibull density, log p = log(c / scale) + (c - 1) w - exp(c w), w = log(x / scale), c the concentration.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct WeibullDensity {
  static constexpr const char* name = "weibull";
  static constexpr int n_args = 3;

  double invalid, concentration, scale, inverse, shift;

  KLQP_INLINE static WeibullDensity prepare(double concentration, double scale) {
    return {invalid_unless(all_of(is_positive(concentration), is_positive(scale))), concentration, scale, 1.0 / scale,
            log_one(concentration) - log_one(scale)};
  }
  KLQP_INLINE bool supports(double x) const { return x >= 0.0; }

  KLQP_INLINE double log_prob(double x) const {
    const double w = log_quotient(x, scale, inverse);
    return (times_log(concentration - 1.0, w) + shift) - exp_one(concentration * w);
  }
  KLQP_INLINE Partials gradient(double x) const {
    const double w = log_quotient(x, scale, inverse);
    const double growth = expm1_one(limited(concentration * w));
    const double by_value = concentration == 1.0 ? -inverse : madd(-concentration, growth, -1.0) / x;
    return {by_value, 1.0 / concentration - w * growth, concentration * growth * inverse};
  }

  // The exponential of what is beyond has its limit here already.
  KLQP_INLINE static double limited(double y) { return y < -1000.0 ? -1000.0 : (y > 1000.0 ? 1000.0 : y); }
};

}  // namespace
}  // namespace klqp
