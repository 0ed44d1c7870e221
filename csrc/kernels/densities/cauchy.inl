// The Cauchy density, log p = -log(1 + z^2) - log(pi scale) with z = (x - loc) / scale.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct CauchyDensity {
  static constexpr const char* name = "cauchy";
  static constexpr int n_args = 3;

  double invalid, loc, inverse, shift;

  KLQP_INLINE static CauchyDensity prepare(double loc, double scale) {
    return {invalid_unless(all_of(is_finite(loc), is_positive(scale))), loc, 1.0 / scale, -kLogPi - log_one(scale)};
  }
  KLQP_INLINE bool supports(double) const { return true; }

  KLQP_INLINE double log_prob(double x) const { return shift - log1p_square((x - loc) * inverse); }
  KLQP_INLINE Partials gradient(double x) const {
    const double z = (x - loc) * inverse;
    const double ratio = over_one_plus_square(z);
    return {-2.0 * ratio * inverse, 2.0 * ratio * inverse, madd(2.0 * z, ratio, -1.0) * inverse};
  }
};

}  // namespace
}  // namespace klqp
