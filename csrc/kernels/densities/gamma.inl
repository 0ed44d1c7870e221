// The gamma density, log p = c log(rate) + (c - 1) log(x) - rate x - log Gamma(c), c the concentration.
//
// Written around its mode, so that terms of the size of c never cancel.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

struct GammaDensity {
  static constexpr const char* name = "gamma";
  static constexpr int n_args = 3;

  double invalid, concentration, rate, inverse_rate, log_rate, shift, gap;
  GammaFactor factor;

  KLQP_INLINE static GammaDensity prepare(double concentration, double rate) {
    const double log_c = log_one(concentration), log_rate = log_one(rate);
    return {.invalid = invalid_unless(all_of(is_positive(concentration), is_positive(rate))),
            .concentration = concentration,
            .rate = rate,
            .inverse_rate = 1.0 / rate,
            .log_rate = log_rate,
            .shift = (0.5 * log_c - kHalfLog2Pi) - stirling_error(concentration, log_c),
            .gap = digamma_gap(concentration, log_c),
            .factor = {concentration, 1.0 / concentration, log_rate - log_c}};
  }
  KLQP_INLINE bool supports(double x) const { return x >= 0.0; }

  KLQP_INLINE double log_prob(double x) const {
    return log_gamma_factor(factor, product_less(rate, x, concentration), log_one(x)) + shift;
  }
  KLQP_INLINE Partials gradient(double x) const {
    const double e = product_less(rate, x, concentration);
    const double by_value = concentration == 1.0 ? -rate : (-1.0 - e) / x;
    return {by_value, log_of_factor(factor, e, log_one(x)) + gap, -e * inverse_rate};
  }
};

}  // namespace
}  // namespace klqp
