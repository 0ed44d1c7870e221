// log |Gamma|, digamma and trigamma, elementwise: shifts, Stirling's series for large arguments, reflection.
#pragma once

#include "kernels/noise.inl"

namespace klqp {
namespace {

constexpr double kPi = 3.141592653589793;
constexpr double kStirlingStart = 8.0;

struct LgammaShift {
  double t;        // the argument less 2, shifted to [-1/2, 1/2)
  double product;  // of the factors that the shift leaves behind; its log is added, or subtracted where `small`
  bool small;
};

//   x <  1/2          log Gamma(x + 2) - log(x (x + 1))
//   x <  3/2          log Gamma(x + 1) - log x
//   x <  8            log Gamma(x - k) + log((x - 1) ... (x - k)), x - k in [3/2, 5/2)
// Around 1 and 2 no digits are lost: both terms vanish there like the result. Where `large`, t is 0.
KLQP_INLINE LgammaShift shift_lgamma(double x, bool large) {
  double t = x - 2.0;
  double product = 1.0;
#pragma GCC unroll 6
  for (int k = 0; k < 6; ++k) {
    const bool down = (t >= 0.5) & !large;
    product = down ? product * (t + 1.0) : product;
    t = down ? t - 1.0 : t;
  }
  const bool small = x < 1.5, tiny = x < 0.5;
  product = small ? (tiny ? madd(x, x, x) : x) : product;
  t = small ? (tiny ? x : x - 1.0) : t;
  return {large ? 0.0 : t, product, small};
}

KLQP_INLINE double finish_lgamma(LgammaShift shift, double log_product) {
  return shift.t * polynomial(kLgamma, shift.t) + (shift.small ? -log_product : log_product);
}

// For x >= 0.
KLQP_INLINE double lgamma_positive(double x) {
  const bool large = x >= kStirlingStart;
  const LgammaShift shift = shift_lgamma(x, large);
  const double log_term = log_one(large ? x : shift.product);
  const double near = finish_lgamma(shift, log_term);
  const double inverse = 1.0 / x;
  const double series = madd(inverse, polynomial(kStirling, inverse * inverse), 0x1.acfe390c97d69p-2);
  return large ? madd(x - 0.5, log_term - 1.0, series) : near;
}

// sin and cos of pi a for a >= 0.
KLQP_INLINE SinCos sincos_pi(double a) {
  const double half = 0.5 * a;
  return sincos_turns(a < 0x1p52 ? half - round_small(half) : 0.0);  // beyond, every double is an integer
}

// Below, a sine of pi a would underflow; there log |Gamma(+-a)| = -log a and digamma(+-a) = -+1/a.
constexpr double kTinyArgument = 1e-290;

// log Gamma(-a) = log(pi / (a |sin(pi a)|)) - log Gamma(a), a = -x > 0.
KLQP_INLINE double lgamma_reflected(double x, double at_positive) {
  const double s = __builtin_fabs(sincos_pi(-x).sin);
  double y = s == 0.0 ? kInfinity : (log_one(kPi / s) - log_one(-x)) - at_positive;
  y = x > -kTinyArgument ? at_positive : y;
  return x < 0.0 ? (x == -kInfinity ? x : y) : at_positive;
}

struct DigammaParts {
  double near;      // digamma(x), where x < 8
  double fraction;  // 1 / x, where x >= 8
};

//   x < 1             digamma(x + 1) - 1/x
//   x < 8             digamma(x - k) + 1/(x - 1) + ... + 1/(x - k), x - k in [1, 2); the sum as one fraction
// Near its root digamma is (x - root) times a polynomial and keeps its relative accuracy.
KLQP_INLINE DigammaParts digamma_parts(double x, bool large) {
  double y = x, top = 0.0, bottom = 1.0;
#pragma GCC unroll 6
  for (int k = 0; k < 6; ++k) {
    const bool down = (y >= 2.0) & !large;
    const double next = y - 1.0;
    top = down ? madd(top, next, bottom) : top;
    bottom = down ? bottom * next : bottom;
    y = down ? next : y;
  }
  const bool small = x < 1.0;
  y = large ? 1.5 : (small ? x + 1.0 : y);
  top = large ? 1.0 : (small ? -1.0 : top);
  bottom = (large | small) ? x : bottom;
  const double fraction = top / bottom;
  const double from_root = (y - kDigammaRootHigh) - kDigammaRootLow;
  return {madd(from_root, polynomial(kDigamma, y - 1.5), fraction), fraction};
}

// For x >= 0.
KLQP_INLINE double digamma_positive(double x) {
  const bool large = x >= kStirlingStart;
  const DigammaParts parts = digamma_parts(x, large);
  const double w = parts.fraction * parts.fraction;
  const double far = log_one(large ? x : 8.0) - madd(w, polynomial(kDigammaTail, w), 0.5 * parts.fraction);
  return large ? far : parts.near;
}

// digamma(-a) = digamma(a) + 1/a + pi / tan(pi a), a = -x >= 0; also for the two zeros.
KLQP_INLINE double digamma_reflected(double x, double at_positive) {
  const SinCos turn = sincos_pi(-x);
  const double inverse = -1.0 / x;
  double y = turn.sin == 0.0 ? kNaN : (at_positive + inverse) + kPi * turn.cos / turn.sin;
  y = x > -kTinyArgument ? inverse : y;
  const double at_zero = to_bits(x) == 0 ? -kInfinity : kInfinity;
  return x < 0.0 ? y : (x == 0.0 ? at_zero : at_positive);
}

constexpr double kTrigammaStart = 4.0;

// For x >= 0. Below 4, trigamma(x) = trigamma(x + 4) + 1/x^2 + 1/(x + 1)^2 + 1/(x + 2)^2 + 1/(x + 3)^2.
KLQP_INLINE double trigamma_positive(double x) {
  const bool near = x < kTrigammaStart;
  const double inverse = 1.0 / (near ? x + kTrigammaStart : x);
  const double w = inverse * inverse;
  const double far = madd(w, madd(inverse, polynomial(kTrigammaTail, w), 0.5), inverse);
  const double a = 1.0 / x, b = 1.0 / (x + 1.0), c = 1.0 / (x + 2.0), d = 1.0 / (x + 3.0);
  return near ? madd(a, a, madd(b, b, madd(c, c, madd(d, d, far)))) : far;
}

// For a below this, trigamma(-a) = trigamma(a) = 1/a^2 to the last digit.
constexpr double kSmallTrigamma = 1e-100;

// trigamma(-a) = (pi / sin(pi a))^2 + 1/a^2 - trigamma(a), a = -x > 0; infinity at the poles, the two zeros among them.
KLQP_INLINE double trigamma_reflected(double x, double at_positive) {
  const double s = sincos_pi(-x).sin;
  const double inverse = 1.0 / x, ratio = kPi / s;
  double y = s == 0.0 ? kInfinity : madd(ratio, ratio, madd(inverse, inverse, -at_positive));
  y = x > -kSmallTrigamma ? at_positive : y;
  return x < 0.0 ? (x == -kInfinity ? kNaN : y) : at_positive;
}

// Blocks of |x|; the reflection is a second pass over blocks that hold a negative number, and leaves the
// other elements as they are.
#define KLQP_REFLECTED(name)                                                                                           \
  void name##_kernel(Index n, const double* x, double* out) {                                                          \
    constexpr Index block = 64;                                                                                        \
    for (Index start = 0; start < n; start += block) {                                                                 \
      const Index count = n - start < block ? n - start : block;                                                       \
      double value[block];                                                                                             \
      std::uint64_t signs = 0;                                                                                         \
      _Pragma("omp simd reduction(| : signs)") for (Index i = 0; i < count; ++i) {                                     \
        signs |= to_bits(x[start + i]);                                                                                \
        value[i] = name##_positive(__builtin_fabs(x[start + i]));                                                      \
      }                                                                                                                \
      if (signs >> 63) {                                                                                               \
        _Pragma("omp simd") for (Index i = 0; i < count; ++i) { value[i] = name##_reflected(x[start + i], value[i]); } \
      }                                                                                                                \
      for (Index i = 0; i < count; ++i) {                                                                              \
        out[start + i] = value[i];                                                                                     \
      }                                                                                                                \
    }                                                                                                                  \
  }

KLQP_REFLECTED(lgamma)
KLQP_REFLECTED(digamma)
KLQP_REFLECTED(trigamma)

}  // namespace
}  // namespace klqp
