// The chi-squared density with df degrees of freedom: a gamma density of concentration df / 2 and rate 1/2.
#pragma once

#include "kernels/densities/gamma.inl"

namespace klqp {
namespace {

struct Chi2Density : GammaDensity {
  static constexpr const char* name = "chi2";
  static constexpr int n_args = 2;

  KLQP_INLINE static Chi2Density prepare(double df) { return {GammaDensity::prepare(0.5 * df, 0.5)}; }

  KLQP_INLINE Partials gradient(double x) const {
    const Partials partials = GammaDensity::gradient(x);
    return {partials.value, 0.5 * partials.first};
  }
};

}  // namespace
}  // namespace klqp
