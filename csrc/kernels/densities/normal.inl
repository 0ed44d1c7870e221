// The normal density, log p = -z^2 / 2 - log(scale) - log(2 pi) / 2 with z = (x - loc) / scale.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct NormalDensity {
  static constexpr const char* name = "normal";
  static constexpr int n_args = 3;

  double invalid, loc, inverse, shift;

  KLQP_INLINE static NormalDensity prepare(double loc, double scale) {
    return {invalid_unless(all_of(is_finite(loc), is_positive(scale))), loc, 1.0 / scale,
            -kHalfLog2Pi - log_one(scale)};
  }
  // The same scale at another location, from prepare(0, scale).
  KLQP_INLINE NormalDensity at(double new_loc) const {
    return {invalid + invalid_unless(is_finite(new_loc)), new_loc, inverse, shift};
  }
  KLQP_INLINE bool supports(double) const { return true; }

  KLQP_INLINE double log_prob(double x) const {
    const double z = (x - loc) * inverse;
    return madd(-0.5 * z, z, shift);
  }
  KLQP_INLINE Partials gradient(double x) const {
    const double z = (x - loc) * inverse;
    return {-z * inverse, z * inverse, (z - 1.0) * (z + 1.0) * inverse};
  }
};

}  // namespace
}  // namespace klqp
