// The Laplace density, log p = -|x - loc| / scale - log(2 scale).
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct LaplaceDensity {
  static constexpr const char* name = "laplace";
  static constexpr int n_args = 3;

  double invalid, loc, inverse, shift;

  KLQP_INLINE static LaplaceDensity prepare(double loc, double scale) {
    return {invalid_unless(all_of(is_finite(loc), is_positive(scale))), loc, 1.0 / scale, -kLog2 - log_one(scale)};
  }
  KLQP_INLINE bool supports(double) const { return true; }

  KLQP_INLINE double log_prob(double x) const { return madd(-__builtin_fabs(x - loc), inverse, shift); }
  KLQP_INLINE Partials gradient(double x) const {
    const double d = x - loc;
    const double slope = d > 0.0 ? inverse : (d < 0.0 ? -inverse : 0.0);  // 0 at the kink
    return {-slope, slope, madd(__builtin_fabs(d), inverse, -1.0) * inverse};
  }
};

}  // namespace
}  // namespace klqp
