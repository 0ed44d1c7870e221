// The logistic density, log p = -z - 2 log(1 + exp(-z)) - log(scale) with z = (x - loc) / scale.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct LogisticDensity {
  static constexpr const char* name = "logistic";
  static constexpr int n_args = 3;

  double invalid, loc, inverse, shift;

  KLQP_INLINE static LogisticDensity prepare(double loc, double scale) {
    return {invalid_unless(all_of(is_finite(loc), is_positive(scale))), loc, 1.0 / scale, -log_one(scale)};
  }
  KLQP_INLINE bool supports(double) const { return true; }

  KLQP_INLINE double log_prob(double x) const {
    const double z = __builtin_fabs((x - loc) * inverse);  // the density is even
    return (shift - z) - 2.0 * softplus_one(-z);
  }
  KLQP_INLINE Partials gradient(double x) const {
    const double z = (x - loc) * inverse;
    const double decay = expm1_one(-__builtin_fabs(z));
    const double tanh_half = -decay / (2.0 + decay);
    const double slope = (z < 0.0 ? -tanh_half : tanh_half) * inverse;
    return {-slope, slope, madd(__builtin_fabs(z), tanh_half, -1.0) * inverse};
  }
};

}  // namespace
}  // namespace klqp
