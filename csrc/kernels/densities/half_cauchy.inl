// The Cauchy density folded at its location: support x >= loc.
#pragma once

#include "kernels/densities/cauchy.inl"

namespace klqp {
namespace {

struct HalfCauchyDensity {
  static constexpr const char* name = "half_cauchy";
  static constexpr int n_args = 3;

  CauchyDensity whole;
  double invalid;

  KLQP_INLINE static HalfCauchyDensity prepare(double loc, double scale) {
    CauchyDensity whole = CauchyDensity::prepare(loc, scale);
    whole.shift += kLog2;
    return {whole, whole.invalid};
  }
  KLQP_INLINE bool supports(double x) const { return x >= whole.loc; }

  KLQP_INLINE double log_prob(double x) const { return whole.log_prob(x); }
  KLQP_INLINE Partials gradient(double x) const { return whole.gradient(x); }
};

}  // namespace
}  // namespace klqp
