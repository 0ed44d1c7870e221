// The half-normal density, log p = log(2 / pi) / 2 - log(scale) - z^2 / 2 with z = x / scale >= 0.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct HalfNormalDensity {
  static constexpr const char* name = "half_normal";
  static constexpr int n_args = 2;

  double invalid, inverse, shift;

  KLQP_INLINE static HalfNormalDensity prepare(double scale) {
    return {invalid_unless(is_positive(scale)), 1.0 / scale, (kLog2 - kHalfLog2Pi) - log_one(scale)};
  }
  KLQP_INLINE bool supports(double x) const { return x >= 0.0; }

  KLQP_INLINE double log_prob(double x) const {
    const double z = x * inverse;
    return madd(-0.5 * z, z, shift);
  }
  KLQP_INLINE Partials gradient(double x) const {
    const double z = x * inverse;
    return {-z * inverse, (z - 1.0) * (z + 1.0) * inverse};
  }
};

}  // namespace
}  // namespace klqp
