// Uniforms and standard normals as pure functions of (seed, stream, step, draw, coordinate).
#pragma once

#include "kernels/philox.inl"
#include "kernels/special.inl"

namespace klqp {
namespace {

// (floor(v / 2^12) + 1/2) / 2^52: exact, and never 0 or 1. A 53rd bit would round the largest value up to 1.
KLQP_INLINE double open_uniform(std::uint64_t v) {
  return from_bits((v >> 12) | 0x3FF0000000000000u) - (1.0 - 0x1p-53);
}

struct SinCos {
  double sin, cos;
};

// sin and cos of 2 pi u for 0 <= u < 2^49.
KLQP_INLINE SinCos sincos_turns(double u) {
  const double shifted = madd(u, 4.0, kRoundToBits);
  const std::uint64_t quarter = to_bits(shifted);
  const double r = madd(shifted - kRoundToBits, -0.25, u);
  const double w = r * r;
  const double s = r * polynomial(kSinTurn, w);
  const double c = madd(w, polynomial(kCosTurn, w), 1.0);
  const bool swap = (quarter & 1) != 0;
  const std::uint64_t sin_sign = (quarter & 2) << 62;
  const std::uint64_t cos_sign = ((quarter + 1) & 2) << 62;
  return {from_bits(to_bits(select(swap, c, s)) ^ sin_sign), from_bits(to_bits(select(swap, s, c)) ^ cos_sign)};
}

// One group of N blocks: 2 N values into `out`.
template <int N>
KLQP_INLINE void uniform_group(NoiseKey key, std::uint32_t first, double* out) {
  PhiloxPairs<N> pairs;
  philox_blocks(key, first, pairs);
#pragma omp simd
  for (int k = 0; k < N; ++k) {
    out[2 * k] = open_uniform(pairs.first[k]);
    out[2 * k + 1] = open_uniform(pairs.second[k]);
  }
}

template <int N>
KLQP_INLINE void normal_group(NoiseKey key, std::uint32_t first, double* out) {
  PhiloxPairs<N> pairs;
  philox_blocks(key, first, pairs);
  double square[N];  // of the radius; two short loops keep more elements in flight than one long one
#pragma omp simd
  for (int k = 0; k < N; ++k) {
    square[k] = -2.0 * log_normal_range(open_uniform(pairs.first[k]));
  }
#pragma omp simd
  for (int k = 0; k < N; ++k) {
    const double radius = __builtin_sqrt(square[k]);
    const SinCos angle = sincos_turns(open_uniform(pairs.second[k]));
    out[2 * k] = radius * angle.cos;
    out[2 * k + 1] = radius * angle.sin;
  }
}

// Wide groups while they fit, then narrow ones, the last of them through a buffer.
#define KLQP_NOISE(name, group)                                           \
  void name(NoiseKey key, Index first_block, Index n, double* out) {      \
    constexpr int wide = 32, narrow = 8;                                  \
    auto block = static_cast<std::uint32_t>(first_block);                 \
    Index i = 0;                                                          \
    for (; i + 2 * wide <= n; i += 2 * wide, block += wide) {             \
      group<wide>(key, block, out + i);                                   \
    }                                                                     \
    for (; i < n; i += 2 * narrow, block += narrow) {                     \
      double buffer[2 * narrow];                                          \
      group<narrow>(key, block, buffer);                                  \
      const Index count = n - i < 2 * narrow ? n - i : Index{2 * narrow}; \
      for (Index j = 0; j < count; ++j) {                                 \
        out[i + j] = buffer[j];                                           \
      }                                                                   \
    }                                                                     \
  }

KLQP_NOISE(uniforms, uniform_group)
KLQP_NOISE(normals, normal_group)

}  // namespace
}  // namespace klqp
