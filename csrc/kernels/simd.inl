// Vectors of the registers' width, for loops whose registers are laid out by hand.
#pragma once

#include "kernels/arithmetic.inl"

namespace klqp {
namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 8;
#elif defined(__AVX__)
constexpr int kWidth = 4;
#else
constexpr int kWidth = 2;
#endif

typedef double Vector __attribute__((vector_size(8 * kWidth)));
typedef double UnalignedVector __attribute__((vector_size(8 * kWidth), aligned(8), may_alias));

KLQP_INLINE Vector load(const double* x) { return *reinterpret_cast<const UnalignedVector*>(x); }
KLQP_INLINE void store(double* x, Vector v) { *reinterpret_cast<UnalignedVector*>(x) = v; }

// a * b + c, lane by lane the same as madd of numbers. The builtins are there because compilers do not reliably join
// the lanes' fused multiply-adds.
KLQP_INLINE Vector madd(Vector a, Vector b, Vector c) {
#if !defined(__FMA__) && !defined(__aarch64__)
  return a * b + c;
#elif defined(__has_builtin) && __has_builtin(__builtin_elementwise_fma)
  return __builtin_elementwise_fma(a, b, c);
#elif defined(__AVX512F__) && __has_builtin(__builtin_ia32_vfmaddpd512_mask)
  return __builtin_ia32_vfmaddpd512_mask(a, b, c, 0xff, 4);  // all lanes, the current rounding
#elif defined(__FMA__) && !defined(__AVX512F__) && __has_builtin(__builtin_ia32_vfmaddpd256)
  return __builtin_ia32_vfmaddpd256(a, b, c);
#else
  Vector out;
  for (int l = 0; l < kWidth; ++l) out[l] = madd(a[l], b[l], c[l]);
  return out;
#endif
}

}  // namespace
}  // namespace klqp
