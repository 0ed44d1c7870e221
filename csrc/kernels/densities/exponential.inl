// The exponential density, log p = log(rate) - rate x.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct ExponentialDensity {
  static constexpr const char* name = "exponential";
  static constexpr int n_args = 2;

  double invalid, rate, inverse, shift;

  KLQP_INLINE static ExponentialDensity prepare(double rate) {
    return {invalid_unless(is_positive(rate)), rate, 1.0 / rate, log_one(rate)};
  }
  KLQP_INLINE bool supports(double x) const { return x >= 0.0; }

  KLQP_INLINE double log_prob(double x) const { return madd(-rate, x, shift); }
  KLQP_INLINE Partials gradient(double x) const { return {-rate, -product_less(rate, x, 1.0) * inverse}; }
};

}  // namespace
}  // namespace klqp
