// The few scalar building blocks of every kernel: fused multiply-add, bit casts, polynomials, rounding.
//
// Everything here is branch-free and inlined, so that a loop over it vectorises, and has internal linkage, so
// that code built for a newer instruction set cannot replace the same function elsewhere in the program.
#pragma once

#include <cstdint>

#include "kernels/kernels.hpp"

#define KLQP_INLINE [[gnu::always_inline]] inline

namespace klqp {
namespace {

// a * b + c. The only place where a fused multiply-add may come from: the compiler is told not to contract,
// so an element has the same bits in the vector body and in the scalar rest of a loop.
KLQP_INLINE double madd(double a, double b, double c) {
#if defined(__FMA__) || defined(__aarch64__)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

KLQP_INLINE std::uint64_t to_bits(double x) { return __builtin_bit_cast(std::uint64_t, x); }
KLQP_INLINE double from_bits(std::uint64_t x) { return __builtin_bit_cast(double, x); }

// yes ? a : b by a mask: the compiler cannot turn it into two paths and repeat what follows on both. (SSE2
// alone has no comparisons of 64-bit integers, and there GCC vectorises only the plain form.)
KLQP_INLINE double select(bool yes, double a, double b) {
#if defined(__SSE2__) && !defined(__SSE4_1__)
  return yes ? a : b;
#else
  const std::uint64_t mask = -static_cast<std::uint64_t>(yes);
  return from_bits((to_bits(a) & mask) | (to_bits(b) & ~mask));
#endif
}

constexpr double kInfinity = __builtin_inf();
constexpr double kNaN = __builtin_nan("");

// log(2) in two parts; the high one has 21 trailing zero bits, so that its product with an exponent is exact.
constexpr double kLog2High = 0x1.62e42feep-1;
constexpr double kLog2Low = 0x1.a39ef35793c76p-33;

// 1.5 * 2^52: adding it rounds to an integer and leaves that integer in the low bits of the sum.
constexpr double kRoundToBits = 0x1.8p52;

template <int Power>
KLQP_INLINE double power(double x) {
  if constexpr (Power == 1) {
    return x;
  } else {
    return power<Power / 2>(x) * power<Power / 2>(x);
  }
}

constexpr int half_of(int count) {
  int half = 1;
  while (2 * half < count) half *= 2;
  return half;
}

// c[0] + c[1] x + ... by Estrin's scheme: short chains of dependent operations, which is what limits these
// loops.
template <int First, int Count, int N>
KLQP_INLINE double polynomial_part(const double (&c)[N], double x) {
  if constexpr (Count == 1) {
    return c[First];
  } else {
    constexpr int half = half_of(Count);
    return madd(polynomial_part<First + half, Count - half>(c, x), power<half>(x), polynomial_part<First, half>(c, x));
  }
}

template <int N>
KLQP_INLINE double polynomial(const double (&c)[N], double x) {
  return polynomial_part<0, N>(c, x);
}

// The integer nearest to x, for |x| < 2^51.
KLQP_INLINE double round_small(double x) { return (x + kRoundToBits) - kRoundToBits; }

}  // namespace
}  // namespace klqp
