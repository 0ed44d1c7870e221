// Exponentials, logarithms and the normal quantile, elementwise and branch-free over the whole double range.
//
// Largest errors measured, in units in the last place, by bench/kernels/accuracy.py (6000 points a region;
// the tests promise what stands in brackets):
//
//   exp       0.8 (1)     1.0 where the result is subnormal
//   log       0.8 (1)
//   log1p     0.8 (1)
//   expm1     1.1 (2)
//   sigmoid   1.8 (2)
//   softplus  1.4 (2)
//   norm_ppf  5.6 (8)     absolute error below one eps near p = 1/2
//   lgamma    7.4 (10)    x > 0, also beside its zeros at 1 and 2; worst where it is small, x in (1, 3/2)
//   digamma   3.8 (5)     x > 0, also beside its zero at 1.46...
//
// For x < 0 the gamma functions have an absolute error of a few eps of the largest term of the reflection.
#pragma once

#include "kernels/arithmetic.inl"
#include "kernels/coefficients.inl"

namespace klqp {
namespace {

// --- exp ------------------------------------------------------------------------------------------------

struct ExpReduction {
  double n;              // nearest integer to x / log 2
  double r;              // x - n log 2, |r| <= log(2) / 2
  double low;            // what rounding took from r
  std::uint64_t biased;  // n + 2046, the sum of two exponent fields
};

// For |x| < 2000, or NaN.
KLQP_INLINE ExpReduction reduce_exp(double x) {
  const double shifter = kRoundToBits + 2046.0;
  const double shifted = madd(x, 0x1.71547652b82fep+0, shifter);
  const double n = shifted - shifter;
  const double high = madd(-n, kLog2High, x);
  const double r = madd(-n, kLog2Low, high);
  const double low = madd(-n, kLog2Low, high - r);
  return {n, r, low, to_bits(shifted) & 0xFFF};
}

// exp(r) - 1 - r for the reduced r; `low` enters to first order.
KLQP_INLINE double exp_tail(ExpReduction e) { return madd(e.r * e.r, polynomial(kExp, e.r), e.low); }

// For -750 < x < 710, and NaN; elsewhere the result is meaningless.
KLQP_INLINE double exp_moderate(double x) {
  const ExpReduction e = reduce_exp(x);
  const double mantissa = 1.0 + (e.r + exp_tail(e));
  // 2^n as a product of two normal powers: overflow and gradual underflow come out of the multiplications.
  const std::uint64_t half = e.biased >> 1;
  return mantissa * from_bits(half << 52) * from_bits((e.biased - half) << 52);
}

KLQP_INLINE double exp_one(double x) {
  const double y = x > 709.9 ? kInfinity : exp_moderate(x);
  return x < -746.0 ? 0.0 : y;
}

// exp(-|x|)
KLQP_INLINE double exp_decay(double x) {
  const double magnitude = __builtin_fabs(x);
  return magnitude > 746.0 ? 0.0 : exp_moderate(-magnitude);
}

KLQP_INLINE double expm1_one(double x) {
  const ExpReduction e = reduce_exp(x);
  const double tail = exp_tail(e);
  // With s = 2^(n-1): (s - 1/2) + s r + s tail, the first sum without error, doubled at the end because 2^n
  // may overflow where the result does not.
  const double s = from_bits((e.biased - 1024) << 52);
  const double a = s - 0.5, b = s * e.r;
  const double sum = a + b, part = sum - a;
  const double rest = (a - (sum - part)) + (b - part);
  double y = 2.0 * (sum + madd(s, tail, rest));
  y = x > 709.9 ? kInfinity : y;
  y = x < -50.0 ? -1.0 : y;
  return __builtin_fabs(x) > 0x1p-54 ? y : x;  // NaN and signed zero pass through
}

// --- log ------------------------------------------------------------------------------------------------

struct LogReduction {
  double f;  // x / 2^n - 1, between sqrt(1/2) - 1 and sqrt(2) - 1
  double n;
};

// For positive, normal, finite x.
KLQP_INLINE LogReduction reduce_log(double x) {
  constexpr std::uint64_t root_half = 0x3FE6A09E667F3BCDu;
  const std::uint64_t bits = to_bits(x) - root_half + 0x3FF0000000000000u;
  const double mantissa = from_bits((bits & 0x000FFFFFFFFFFFFFu) + root_half);
  const double n = from_bits((bits >> 52) | 0x4330000000000000u) - (0x1p52 + 1023.0);
  return {mantissa - 1.0, n};
}

// n log 2 + log(1 + f) + c, with log(1 + f) = 2 atanh(s), s = f / (2 + f); c is a small correction.
KLQP_INLINE double finish_log(LogReduction r, double c) {
  const double s = r.f / (2.0 + r.f);
  const double z = s * s;
  const double half_square = 0.5 * r.f * r.f;
  const double tail = s * madd(z, polynomial(kLog, z), half_square) + madd(r.n, kLog2Low, c);
  return madd(r.n, kLog2High, r.f - (half_square - tail));
}

// For positive, normal, finite x only.
KLQP_INLINE double log_normal_range(double x) { return finish_log(reduce_log(x), 0.0); }

KLQP_INLINE double log_one(double x) {
  const bool subnormal = x < 0x1p-1022;
  LogReduction r = reduce_log(select(subnormal, x * 0x1p54, x));
  r.n -= select(subnormal, 54.0, 0.0);
  double y = finish_log(r, 0.0);
  y = x < kInfinity ? y : x;  // +inf and NaN
  y = x > 0.0 ? y : (x == 0.0 ? -kInfinity : kNaN);
  return y;
}

KLQP_INLINE double log1p_one(double x) {
  const double u = 1.0 + x;
  const double part = u - 1.0;
  const double error = (1.0 - (u - part)) + (x - part);
  LogReduction r = reduce_log(u);
  const bool near = r.n == 0.0;
  r.f = select(near, x, r.f);
  double y = finish_log(r, select(near, 0.0, error / u));
  y = u < kInfinity ? y : x;
  y = x > -1.0 ? y : (x == -1.0 ? -kInfinity : kNaN);
  return x == 0.0 ? x : y;  // keeps the sign of zero
}

// --- logistic functions ---------------------------------------------------------------------------------

KLQP_INLINE double sigmoid_one(double x) {
  const double e = exp_decay(x);
  return (x < 0.0 ? e : 1.0) / (1.0 + e);
}

// log(1 + e) for 0 <= e <= 1, without a change of exponent.
KLQP_INLINE double log1p_unit(double e) {
  const double s = e / (2.0 + e);
  const double z = s * s;
  const double half_square = 0.5 * e * e;
  return e - (half_square - s * madd(z, polynomial(kLogUnit, z), half_square));
}

KLQP_INLINE double softplus_one(double x) { return (x > 0.0 ? x : 0.0) + log1p_unit(exp_decay(x)); }

// --- normal quantile ------------------------------------------------------------------------------------

KLQP_INLINE double select_polynomial(bool centre, bool near, const double (&c)[8], const double (&n)[8],
                                     const double (&f)[8], double x) {
  return centre ? polynomial(c, x) : (near ? polynomial(n, x) : polynomial(f, x));
}

// One rational function of degree (7, 7) for each of the centre, the near and the far tail, as in Wichura's
// AS 241 but with coefficients of our own.
KLQP_INLINE double norm_ppf_one(double p) {
  const double q = p - 0.5;
  const double tail = q < 0.0 ? p : 1.0 - p;
  const double root = __builtin_sqrt(-log_one(tail));
  const bool centre = __builtin_fabs(q) <= 0.425;
  const bool near = root <= 5.0;
  const double w = centre ? madd(-q, q, 0.180625) : (near ? root - 1.6 : root - 5.0);
  const double top = select_polynomial(centre, near, kPpfCentreTop, kPpfNearTop, kPpfFarTop, w);
  const double bottom = select_polynomial(centre, near, kPpfCentreBottom, kPpfNearBottom, kPpfFarBottom, w);
  const double z = top / bottom;
  double y = centre ? q * z : (q < 0.0 ? -z : z);
  y = tail > 0.0 ? y : (q < 0.0 ? -kInfinity : kInfinity);
  return ((p >= 0.0) & (p <= 1.0)) ? y : kNaN;
}

// --- loops ----------------------------------------------------------------------------------------------

#define KLQP_ELEMENTWISE(name)                                                       \
  void name##_kernel(Index n, const double* x, double* out) {                        \
    _Pragma("omp simd") for (Index i = 0; i < n; ++i) { out[i] = name##_one(x[i]); } \
  }

KLQP_ELEMENTWISE(exp)
KLQP_ELEMENTWISE(log)
KLQP_ELEMENTWISE(log1p)
KLQP_ELEMENTWISE(expm1)
KLQP_ELEMENTWISE(sigmoid)
KLQP_ELEMENTWISE(softplus)
KLQP_ELEMENTWISE(norm_ppf)

}  // namespace
}  // namespace klqp
