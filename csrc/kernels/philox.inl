// Philox4x32-10 (Salmon et al., 2011): ten rounds over many counters at once.
#pragma once

#include "kernels/arithmetic.inl"

namespace klqp {
namespace {

constexpr std::uint32_t kPhiloxMultiplier0 = 0xD2511F53u;
constexpr std::uint32_t kPhiloxMultiplier1 = 0xCD9E8D57u;
constexpr std::uint32_t kPhiloxWeyl0 = 0x9E3779B9u;
constexpr std::uint32_t kPhiloxWeyl1 = 0xBB67AE85u;

struct PhiloxWords {
  std::uint32_t w0, w1, w2, w3;
};

KLQP_INLINE PhiloxWords philox_block(PhiloxWords c, std::uint32_t key0, std::uint32_t key1) {
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{kPhiloxMultiplier0} * c.w0;
    const std::uint64_t p1 = std::uint64_t{kPhiloxMultiplier1} * c.w2;
    const PhiloxWords next = {static_cast<std::uint32_t>(p1 >> 32) ^ (c.w1 ^ key0), static_cast<std::uint32_t>(p1),
                              static_cast<std::uint32_t>(p0 >> 32) ^ (c.w3 ^ key1), static_cast<std::uint32_t>(p0)};
    c = next;
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return c;
}

// The 128 bits of a block as two words of 64, the first of each pair of words in the low half.
template <int N>
struct PhiloxPairs {
  std::uint64_t first[N], second[N];
};

// Which blocks of which draws: neighbours of one draw, or any. The low halves are words of the counter, the high ones
// do not matter.
struct PhiloxRow {
  std::uint64_t first_block, one_draw;

  KLQP_INLINE std::uint64_t block(int k) const { return first_block + static_cast<std::uint64_t>(k); }
  KLQP_INLINE std::uint64_t draw(int) const { return one_draw; }
};

template <int N>
struct PhiloxPlaces {
  std::uint64_t blocks[N], draws[N];

  KLQP_INLINE std::uint64_t block(int k) const { return blocks[k]; }
  KLQP_INLINE std::uint64_t draw(int k) const { return draws[k]; }
};

#if defined(__GNUC__) && !defined(__clang__) && defined(__SSE2__)
// GCC does not find the instruction that multiplies the low halves of 64-bit lanes and shuffles halves around
// instead, at a third of the speed; so here it is by name. Everybody else uses the plain loop below.
#define KLQP_PHILOX_LANES

#if defined(__AVX512F__)
constexpr int kLaneBytes = 64;
#elif defined(__AVX2__)
constexpr int kLaneBytes = 32;
#else
constexpr int kLaneBytes = 16;
#endif
using Lanes [[gnu::vector_size(kLaneBytes)]] = std::uint64_t;
using HalfLanes [[gnu::vector_size(kLaneBytes)]] = int;
constexpr int kLaneCount = kLaneBytes / 8;

KLQP_INLINE HalfLanes half_lanes(Lanes x) { return reinterpret_cast<HalfLanes>(x); }

// The products of the low halves; the high halves do not matter.
KLQP_INLINE Lanes multiply_low_halves(Lanes a, std::uint32_t b) {
  const HalfLanes x = half_lanes(a), y = half_lanes(Lanes{} + std::uint64_t{b});
#if defined(__AVX512F__)
  using Signed [[gnu::vector_size(64)]] = long long;
  return reinterpret_cast<Lanes>(__builtin_ia32_pmuludq512_mask(x, y, Signed{}, 0xFF));
#elif defined(__AVX2__)
  return reinterpret_cast<Lanes>(__builtin_ia32_pmuludq256(x, y));
#else
  return reinterpret_cast<Lanes>(__builtin_ia32_pmuludq128(x, y));
#endif
}

// Ten rounds on several vectors at a time, which hides the latency of the multiplications, with one key for all or one
// for each. The high halves of the lanes carry rubbish from round to round, which never reaches the low ones.
template <int Vectors, int Keys>
KLQP_INLINE void philox_rounds(Lanes (&c0)[Vectors], Lanes (&c1)[Vectors], Lanes (&c2)[Vectors], Lanes (&c3)[Vectors],
                               Lanes (&key0)[Keys], Lanes (&key1)[Keys]) {
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      const Lanes p0 = multiply_low_halves(c0[v], kPhiloxMultiplier0);
      const Lanes p1 = multiply_low_halves(c2[v], kPhiloxMultiplier1);
      c0[v] = (p1 >> 32) ^ (c1[v] ^ key0[v % Keys]);
      c2[v] = (p0 >> 32) ^ (c3[v] ^ key1[v % Keys]);
      c1[v] = p1;
      c3[v] = p0;
    }
#pragma GCC unroll 4
    for (int k = 0; k < Keys; ++k) {
      key0[k] += std::uint64_t{kPhiloxWeyl0};
      key1[k] += std::uint64_t{kPhiloxWeyl1};
    }
  }
}

KLQP_INLINE void store_lanes(Lanes low, Lanes high, std::uint64_t* out) {
  const Lanes pair = (high << 32) | (low & 0xFFFFFFFFu);
  __builtin_memcpy(out, &pair, kLaneBytes);
}

KLQP_INLINE Lanes lane_numbers() {
  Lanes numbers = {};
  for (int j = 0; j < kLaneCount; ++j) numbers[j] = static_cast<std::uint64_t>(j);
  return numbers;
}

KLQP_INLINE Lanes load_lanes(const std::uint64_t* words) {
  Lanes out;
  __builtin_memcpy(&out, words, kLaneBytes);
  return out;
}

// Blocks and draws of the lanes from number k on.
KLQP_INLINE Lanes block_lanes(const PhiloxRow& row, int k) { return lane_numbers() + row.block(k); }
KLQP_INLINE Lanes draw_lanes(const PhiloxRow& row, int) { return Lanes{} + row.one_draw; }
template <int N>
KLQP_INLINE Lanes block_lanes(const PhiloxPlaces<N>& places, int k) {
  return load_lanes(places.blocks + k);
}
template <int N>
KLQP_INLINE Lanes draw_lanes(const PhiloxPlaces<N>& places, int k) {
  return load_lanes(places.draws + k);
}

template <int Vectors, int N, class Places>
KLQP_INLINE void philox_lanes(NoiseKey key, const Places& places, PhiloxPairs<N>& out, int offset) {
  Lanes c0[Vectors], c1[Vectors], c2[Vectors], c3[Vectors];
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) {
    c0[v] = block_lanes(places, offset + v * kLaneCount);
    c1[v] = draw_lanes(places, offset + v * kLaneCount);
    c2[v] = Lanes{} + std::uint64_t{key.step};
    c3[v] = Lanes{} + std::uint64_t{key.stream};
  }
  Lanes key0[1] = {Lanes{} + key.seed}, key1[1] = {Lanes{} + (key.seed >> 32)};
  philox_rounds(c0, c1, c2, c3, key0, key1);
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) {
    store_lanes(c0[v], c1[v], out.first + offset + v * kLaneCount);
    store_lanes(c2[v], c3[v], out.second + offset + v * kLaneCount);
  }
}

// The same counter with N keys.
template <int Vectors, int N>
KLQP_INLINE void philox_keyed_lanes(const std::uint64_t* keys, PhiloxWords counter, PhiloxPairs<N>& out, int offset) {
  Lanes c0[Vectors], c1[Vectors], c2[Vectors], c3[Vectors], key0[Vectors], key1[Vectors];
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) {
    c0[v] = Lanes{} + std::uint64_t{counter.w0};
    c1[v] = Lanes{} + std::uint64_t{counter.w1};
    c2[v] = Lanes{} + std::uint64_t{counter.w2};
    c3[v] = Lanes{} + std::uint64_t{counter.w3};
    key0[v] = load_lanes(keys + offset + v * kLaneCount);
    key1[v] = key0[v] >> 32;
  }
  philox_rounds(c0, c1, c2, c3, key0, key1);
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) {
    store_lanes(c0[v], c1[v], out.first + offset + v * kLaneCount);
    store_lanes(c2[v], c3[v], out.second + offset + v * kLaneCount);
  }
}
#endif

// N blocks of a step's noise; the key's own draw is not used.
template <int N, class Places>
KLQP_INLINE void philox_blocks(NoiseKey key, const Places& places, PhiloxPairs<N>& out) {
#ifdef KLQP_PHILOX_LANES
  constexpr int vectors = N / kLaneCount < 4 ? N / kLaneCount : 4;
  for (int offset = 0; offset < N; offset += vectors * kLaneCount) {
    philox_lanes<vectors>(key, places, out, offset);
  }
#else
  const auto key0 = static_cast<std::uint32_t>(key.seed);
  const auto key1 = static_cast<std::uint32_t>(key.seed >> 32);
#pragma omp simd
  for (int k = 0; k < N; ++k) {
    const PhiloxWords words = philox_block(
        {static_cast<std::uint32_t>(places.block(k)), static_cast<std::uint32_t>(places.draw(k)), key.step, key.stream},
        key0, key1);
    out.first[k] = std::uint64_t{words.w1} << 32 | words.w0;
    out.second[k] = std::uint64_t{words.w3} << 32 | words.w2;
  }
#endif
}

// One block for each of N keys, all with one counter.
template <int N>
KLQP_INLINE void philox_keyed_blocks(const std::uint64_t* keys, PhiloxWords counter, PhiloxPairs<N>& out) {
#ifdef KLQP_PHILOX_LANES
  constexpr int vectors = N / kLaneCount < 2 ? N / kLaneCount : 2;
  for (int offset = 0; offset < N; offset += vectors * kLaneCount) {
    philox_keyed_lanes<vectors>(keys, counter, out, offset);
  }
#else
#pragma omp simd
  for (int k = 0; k < N; ++k) {
    const PhiloxWords words =
        philox_block(counter, static_cast<std::uint32_t>(keys[k]), static_cast<std::uint32_t>(keys[k] >> 32));
    out.first[k] = std::uint64_t{words.w1} << 32 | words.w0;
    out.second[k] = std::uint64_t{words.w3} << 32 | words.w2;
  }
#endif
}

void philox(const std::uint32_t* counter, const std::uint32_t* key, std::uint32_t* out) {
  const PhiloxWords words = philox_block({counter[0], counter[1], counter[2], counter[3]}, key[0], key[1]);
  out[0] = words.w0;
  out[1] = words.w1;
  out[2] = words.w2;
  out[3] = words.w3;
}

}  // namespace
}  // namespace klqp
