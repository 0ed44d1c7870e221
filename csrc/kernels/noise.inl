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
struct Uniforms {
  template <int N, class Places>
  KLQP_INLINE static void group(NoiseKey key, const Places& places, double* out) {
    PhiloxPairs<N> pairs;
    philox_blocks(key, places, pairs);
#pragma omp simd
    for (int k = 0; k < N; ++k) {
      out[2 * k] = open_uniform(pairs.first[k]);
      out[2 * k + 1] = open_uniform(pairs.second[k]);
    }
  }
};

struct Normals {
  template <int N, class Places>
  KLQP_INLINE static void group(NoiseKey key, const Places& places, double* out) {
    PhiloxPairs<N> pairs;
    philox_blocks(key, places, pairs);
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
};

// What is left of the rows when whole wide groups are done: short rows of blocks, numbered row after row.
struct ShortRows {
  std::uint64_t first_block, first_draw;
  Index blocks, n;  // of a row: its blocks, and its elements, of which the last block may hold but one
  double* out;
  Index stride;
};

// The N blocks from number `start` on, of which `count` are taken to their rows. With kRoundToBits the low bits of a
// sum are an integer: positions by multiplication, exact far beyond any array's size.
template <class Kind, int N>
KLQP_INLINE void short_group(NoiseKey key, const ShortRows& rows, Index start, int count) {
  PhiloxPlaces<N> places;
  double values[2 * N];
  std::uint64_t offset[N];
  const auto blocks = static_cast<double>(rows.blocks), stride = static_cast<double>(rows.stride);
  const double first = static_cast<double>(start), inverse = 1.0 / blocks;
#pragma omp simd
  for (int k = 0; k < N; ++k) {
    const double number = first + k;
    const double row = round_small(madd(number + 0.5, inverse, -0.5));
    const double block = number - row * blocks;
    places.draws[k] = to_bits(row + kRoundToBits) + rows.first_draw;
    places.blocks[k] = to_bits(block + kRoundToBits) + rows.first_block;
    offset[k] = to_bits(row * stride + 2.0 * block + kRoundToBits) - to_bits(kRoundToBits);
  }
  Kind::template group<N>(key, places, values);
  if (rows.n % 2 == 0) {
    for (int k = 0; k < count; ++k) __builtin_memcpy(rows.out + offset[k], values + 2 * k, 2 * sizeof(double));
    return;
  }
  Index block = start % rows.blocks;
  for (int k = 0; k < count; ++k) {
    rows.out[offset[k]] = values[2 * k];
    if (++block < rows.blocks) {
      rows.out[offset[k] + 1] = values[2 * k + 1];
    } else {
      block = 0;
    }
  }
}

// Wide groups along each row while they fit; what is left of all rows goes by groups across rows, so that narrow rows
// fill registers as well as wide ones do.
template <class Kind>
KLQP_INLINE void noise_rows(NoiseKey key, Index first_block, Index rows, Index n, double* out, Index stride) {
  constexpr int wide = 32, narrow = 8;  // blocks of a group
  const auto block = static_cast<std::uint64_t>(first_block);
  const Index done = n / (2 * wide) * (2 * wide);
  for (Index r = 0; r < rows; ++r) {
    PhiloxRow place{block, key.draw + static_cast<std::uint64_t>(r)};
    for (Index i = 0; i < done; i += 2 * wide, place.first_block += wide) {
      Kind::template group<wide>(key, place, out + r * stride + i);
    }
  }
  if (done == n) return;
  const ShortRows rest{
      block + static_cast<std::uint64_t>(done / 2), key.draw, (n - done + 1) / 2, n - done, out + done, stride};
  const Index total = rows * rest.blocks;
  Index start = 0;
  for (; total - start > 2 * narrow; start += wide) {
    const Index left = total - start;
    short_group<Kind, wide>(key, rest, start, static_cast<int>(left < wide ? left : wide));
  }
  for (; start < total; start += narrow) {
    const Index left = total - start;
    short_group<Kind, narrow>(key, rest, start, static_cast<int>(left < narrow ? left : narrow));
  }
}

void uniforms(NoiseKey key, Index first_block, Index rows, Index n, double* out, Index stride) {
  noise_rows<Uniforms>(key, first_block, rows, n, out, stride);
}

void normals(NoiseKey key, Index first_block, Index rows, Index n, double* out, Index stride) {
  noise_rows<Normals>(key, first_block, rows, n, out, stride);
}

}  // namespace
}  // namespace klqp
