// The von Mises density, log p = k cos(x - loc) - log(2 pi I0(k)), k the concentration; x may be any number.
//
// Written as -k (1 - cos) - log(2 pi exp(-k) I0(k)), with 1 - cos = 2 sin^2 of the half angle.
#pragma once

#include "kernels/densities/parts.inl"

namespace klqp {
namespace {

// 2 pi in three parts, the first two of 30 bits: their products with small integers are exact.
constexpr double kTurnHigh = 0x1.921fb54000000p+2;
constexpr double kTurnMiddle = 0x1.10b4611800000p-28;
constexpr double kTurnLow = 0x1.313198a2e0370p-59;

struct BesselParts {
  double log_scaled;  // log(exp(-k) I0(k))
  double gap;         // 1 - I1(k) / I0(k)
};

KLQP_INLINE BesselParts bessel_parts(double k) {
  const bool large = k >= 16.0;
  const double w = large ? 0.0 : 0.25 * k * k;
  const double minus_one = w * polynomial(kBessel0, w);
  const double log_near = log1p_one(minus_one) - k;
  const double gap_near = 1.0 - 0.5 * k * polynomial(kBessel1, w) / (1.0 + minus_one);
  const double v = 1.0 / (large ? k : 16.0);
  const double log_far = madd(v, polynomial(kBesselLogTail, v), -0.5 * log_one(k) - kHalfLog2Pi);
  return {large ? log_far : log_near, large ? v * polynomial(kBesselGapTail, v) : gap_near};
}

// 1 - cos(d) and sin(d).
struct Arc {
  double versine, sine;
};

KLQP_INLINE Arc arc(double d) {
  const double turns = __builtin_fabs(d) < 0x1p50 ? round_small(d * 0x1.45f306dc9c883p-3) : 0.0;
  const double r = madd(-turns, kTurnLow, madd(-turns, kTurnMiddle, madd(-turns, kTurnHigh, d)));
  const double reduced = __builtin_fabs(d) < 0x1p50 ? r : 0.0;
  const SinCos half = sincos_turns(__builtin_fabs(reduced) * 0x1.45f306dc9c883p-4);
  const double sine = 2.0 * half.sin * half.cos;
  return {2.0 * half.sin * half.sin, reduced < 0.0 ? -sine : sine};
}

struct VonMisesDensity {
  static constexpr const char* name = "von_mises";
  static constexpr int n_args = 3;

  double invalid, loc, concentration, shift, gap;

  KLQP_INLINE static VonMisesDensity prepare(double loc, double concentration) {
    const BesselParts bessel = bessel_parts(concentration);
    const bool legal = is_finite(loc) & (concentration >= 0.0) & (concentration < kInfinity);
    return {invalid_unless(legal), loc, concentration, -2.0 * kHalfLog2Pi - bessel.log_scaled, bessel.gap};
  }
  KLQP_INLINE bool supports(double) const { return true; }

  KLQP_INLINE double log_prob(double x) const { return madd(-concentration, arc(x - loc).versine, shift); }
  KLQP_INLINE Partials gradient(double x) const {
    const Arc d = arc(x - loc);
    return {-concentration * d.sine, concentration * d.sine, gap - d.versine};
  }
};

}  // namespace
}  // namespace klqp
