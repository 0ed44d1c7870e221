// The log-normal density: log x is normal.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct LogNormalDensity {
  static constexpr const char* name = "log_normal";
  static constexpr int n_args = 3;

  double invalid, loc, inverse, shift;

  KLQP_INLINE static LogNormalDensity prepare(double loc, double scale) {
    return {invalid_unless(all_of(is_finite(loc), is_positive(scale))), loc, 1.0 / scale,
            -kHalfLog2Pi - log_one(scale)};
  }
  KLQP_INLINE bool supports(double x) const { return x > 0.0; }

  KLQP_INLINE double log_prob(double x) const {
    const double y = log_one(x);
    const double z = (y - loc) * inverse;
    return madd(-0.5 * z, z, shift) - y;
  }
  KLQP_INLINE Partials gradient(double x) const {
    const double z = (log_one(x) - loc) * inverse;
    return {-madd(z, inverse, 1.0) / x, z * inverse, (z - 1.0) * (z + 1.0) * inverse};
  }
};

}  // namespace
}  // namespace klqp
