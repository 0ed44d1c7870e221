// The inverse gamma density, log p = c log(scale) - (c + 1) log(x) - scale / x - log Gamma(c); see gamma.inl.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct InverseGammaDensity {
  static constexpr const char* name = "inverse_gamma";
  static constexpr int n_args = 3;

  double invalid, concentration, scale, inverse_scale, shift, gap;
  GammaFactor factor;  // of t = 1 / x

  KLQP_INLINE static InverseGammaDensity prepare(double concentration, double scale) {
    const double log_c = log_one(concentration);
    return {.invalid = invalid_unless(all_of(is_positive(concentration), is_positive(scale))),
            .concentration = concentration,
            .scale = scale,
            .inverse_scale = 1.0 / scale,
            .shift = (0.5 * log_c - kHalfLog2Pi) - stirling_error(concentration, log_c),
            .gap = digamma_gap(concentration, log_c),
            .factor = {concentration, 1.0 / concentration, log_one(scale) - log_c}};
  }
  KLQP_INLINE bool supports(double x) const { return x > 0.0; }

  // scale / x - concentration
  KLQP_INLINE double excess(double x) const { return -product_less(concentration, x, scale) / x; }

  KLQP_INLINE double log_prob(double x) const {
    const double log_x = log_one(x);
    return (log_gamma_factor(factor, excess(x), -log_x) - 2.0 * log_x) + shift;
  }
  KLQP_INLINE Partials gradient(double x) const {
    const double e = excess(x);
    return {(e - 1.0) / x, log_of_factor(factor, e, -log_one(x)) + gap, -e * inverse_scale};
  }
};

}  // namespace
}  // namespace klqp
