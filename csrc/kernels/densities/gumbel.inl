// The Gumbel density (of maxima), log p = -z - exp(-z) - log(scale) with z = (x - loc) / scale.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct GumbelDensity {
  static constexpr const char* name = "gumbel";
  static constexpr int n_args = 3;

  double invalid, loc, inverse, shift;

  KLQP_INLINE static GumbelDensity prepare(double loc, double scale) {
    return {invalid_unless(all_of(is_finite(loc), is_positive(scale))), loc, 1.0 / scale, -log_one(scale)};
  }
  KLQP_INLINE bool supports(double) const { return true; }

  KLQP_INLINE double log_prob(double x) const {
    const double z = (x - loc) * inverse;
    return (shift - z) - exp_one(-z);
  }
  KLQP_INLINE Partials gradient(double x) const {
    const double z = (x - loc) * inverse;
    const double y = z < -1000.0 ? 1000.0 : (z > 1000.0 ? -1000.0 : -z);  // beyond, the exponential has its limit
    const double growth = expm1_one(y);
    return {growth * inverse, -growth * inverse, (-z * growth - 1.0) * inverse};
  }
};

}  // namespace
}  // namespace klqp
