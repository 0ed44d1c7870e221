// What the densities share: checks of arguments, sums without cancellation, logarithms beside 1, Stirling's
// corrections.
#pragma once

#include "kernels/gamma.inl"

namespace klqp {
namespace {

constexpr double kHalfLog2Pi = 0.9189385332046727;
constexpr double kLog2 = 0.6931471805599453;
constexpr double kLogPi = 1.1447298858494002;

// Derivatives of a log density by its value and its parameters, in the order of the arguments.
struct Partials {
  double value = 0.0, first = 0.0, second = 0.0, third = 0.0;
};

// --- checks ---------------------------------------------------------------------------------------------

// Without branches, unlike &&.
template <class... Bools>
KLQP_INLINE bool all_of(Bools... each) {
  return (... & each);
}

KLQP_INLINE bool is_finite(double x) { return __builtin_fabs(x) < kInfinity; }
KLQP_INLINE bool is_positive(double x) { return (x > 0.0) & (x < kInfinity); }
KLQP_INLINE bool is_probability(double x) { return (x >= 0.0) & (x <= 1.0); }
// 0, 1, 2, ... below infinity.
KLQP_INLINE bool is_count(double x) {
  const double rounded = x < 0x1p51 ? round_small(x) : x;
  return (x >= 0.0) & (x < kInfinity) & (rounded == x);
}

// Zero for legal parameters and NaN for others: added to every result.
KLQP_INLINE double invalid_unless(bool legal) { return legal ? 0.0 : kNaN; }

// --- products -------------------------------------------------------------------------------------------

// a b with 0 times infinity = 0, for terms like 0 log 0.
KLQP_INLINE double times_log(double a, double log_b) { return a == 0.0 ? 0.0 : a * log_b; }

// a b - c, rounded about once.
KLQP_INLINE double product_less(double a, double b, double c) {
#if defined(__FMA__) || defined(__aarch64__)
  return __builtin_fma(a, b, -c);
#else
  // Dekker's product of halves; where it overflows the rounding of the product does not matter.
  constexpr std::uint64_t high_half = ~std::uint64_t{0x7FFFFFF};
  const double a_high = from_bits(to_bits(a) & high_half), b_high = from_bits(to_bits(b) & high_half);
  const double a_low = a - a_high, b_low = b - b_high;
  const double product = a * b;
  const double error = ((a_high * b_high - product) + (a_high * b_low + a_low * b_high)) + a_low * b_low;
  return (product - c) + (__builtin_fabs(error) < kInfinity ? error : 0.0);
#endif
}

// --- logarithms -----------------------------------------------------------------------------------------

// Where log(1 + d) is one polynomial, without a change of exponent.
KLQP_INLINE bool is_near_one(double d) { return (d > -0.29) & (d < 0.41); }

// log(1 + d) - d for d near 0, accurate relative to its own size, d^2 / 2.
KLQP_INLINE double log_excess_near(double d) {
  const double s = d / (2.0 + d);
  const double z = s * s;
  return s * madd(z, polynomial(kLog, z), -d);
}

// log(x), computed as log(1 + d) where `near` says that d is the more accurate of the two.
KLQP_INLINE double log_or_near(bool near, double d, double x) {
  const bool subnormal = x < 0x1p-1022;
  LogReduction r = reduce_log(select(subnormal, x * 0x1p54, x));
  r.n -= select(subnormal, 54.0, 0.0);
  r.f = select(near, d, r.f);
  r.n = select(near, 0.0, r.n);
  double y = finish_log(r, 0.0);
  y = x < kInfinity ? y : x;
  return x > 0.0 ? y : (x == 0.0 ? -kInfinity : kNaN);
}

// log(1 - p) and log(p).
KLQP_INLINE double log_complement(double p) { return log_or_near(p < 0.25, -p, 1.0 - p); }

// log(x / y) from x - y, which is exact for neighbours; y > 0 and its inverse.
KLQP_INLINE double log_quotient(double x, double y, double inverse) {
  const double d = (x - y) * inverse;
  return log_or_near(is_near_one(d), d, x * inverse);
}

// log(1 + d) - d for d > -1.
KLQP_INLINE double log_excess(double d) {
  const double far = log1p_one(d) - d;
  return is_near_one(d) ? log_excess_near(d) : far;
}

// log(1 + t^2) without overflow.
KLQP_INLINE double log1p_square(double t) {
  const double magnitude = __builtin_fabs(t);
  const bool big = magnitude > 0x1p300;
  const double y = log1p_one(big ? magnitude : t * t);
  return big ? 2.0 * y : y;
}

// t / (1 + t^2) without overflow.
KLQP_INLINE double over_one_plus_square(double t) {
  const bool big = __builtin_fabs(t) > 0x1p300;
  return (big ? 1.0 : t) / (big ? t : madd(t, t, 1.0));
}

// --- gamma functions ------------------------------------------------------------------------------------

// log Gamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2), given log x: about 1 / (12 x).
KLQP_INLINE double stirling_error(double x, double log_x) {
  const bool large = x >= kStirlingStart;
  const LgammaShift shift = shift_lgamma(x, large);
  const double near = finish_lgamma(shift, log_one(shift.product)) - (madd(x - 0.5, log_x, kHalfLog2Pi) - x);
  const double inverse = 1.0 / x;
  return large ? inverse * polynomial(kStirling, inverse * inverse) : near;
}

// log x - digamma(x) - 1 / (2 x), given log x: about 1 / (12 x^2).
KLQP_INLINE double digamma_error(double x, double log_x) {
  const bool large = x >= kStirlingStart;
  const DigammaParts parts = digamma_parts(x, large);
  const double w = parts.fraction * parts.fraction;
  return large ? w * polynomial(kDigammaTail, w) : (log_x - parts.near) - 0.5 / x;
}

// log x - digamma(x), given log x: about 1 / (2 x).
KLQP_INLINE double digamma_gap(double x, double log_x) {
  const bool large = x >= kStirlingStart;
  const DigammaParts parts = digamma_parts(x, large);
  const double w = parts.fraction * parts.fraction;
  return large ? madd(w, polynomial(kDigammaTail, w), 0.5 * parts.fraction) : log_x - parts.near;
}

// What log Gamma(a + x) - log Gamma(a) needs of a alone.
struct Rising {
  double a, inverse, log_a, error, gap;
};

KLQP_INLINE Rising prepare_rising(double a) {
  const double log_a = log_one(a);
  return {a, 1.0 / a, log_a, stirling_error(a, log_a), digamma_gap(a, log_a)};
}

// log Gamma(a + x) - log Gamma(a) for x >= 0, without subtracting large numbers.
KLQP_INLINE double log_rising(Rising r, double x) {
  const double sum = r.a + x;
  const double ratio = log1p_one(x * r.inverse);
  const double errors = stirling_error(sum, r.log_a + ratio) - r.error;
  return madd(sum - 0.5, ratio, errors) + x * (r.log_a - 1.0);
}

// Its derivative by a: digamma(a + x) - digamma(a).
KLQP_INLINE double log_rising_slope(Rising r, double x) {
  const double ratio = log1p_one(x * r.inverse);
  return ratio + (r.gap - digamma_gap(r.a + x, r.log_a + ratio));
}

// A gamma-like factor t^(a - 1) exp(-c t) with c t = a + e, e known without cancellation: its logarithm, less its
// greatest value were the power a. Either form keeps its digits where it is used.
struct GammaFactor {
  double a, inverse, log_scale;  // log_scale = log(c / a)
};

KLQP_INLINE double log_gamma_factor(GammaFactor f, double e, double log_t) {
  const double u = e * f.inverse;
  const double near = madd(f.a, log_excess_near(u), -log_t);
  const double far = times_log(f.a - 1.0, log_t) + (f.a * f.log_scale - e);
  return is_near_one(u) ? near : far;
}

// log(c t / a)
KLQP_INLINE double log_of_factor(GammaFactor f, double e, double log_t) {
  const double u = e * f.inverse;
  return is_near_one(u) ? log_excess_near(u) + u : log_t + f.log_scale;
}

}  // namespace
}  // namespace klqp
