// Logarithms of gamma draws from one standard normal each: Marsaglia and Tsang's rejection (A simple method for
// generating gamma variables, 2000) with Philox substreams keyed by the bits of that normal (docs/counters.md).
//
// Nearly all draws of a block are their first proposals, made in one vectorised pass; the few that are not are gathered
// and take further attempts together.
#pragma once

#include "kernels/gamma.inl"

namespace klqp {
namespace {

constexpr std::uint32_t kGammaStream = 5;
constexpr std::uint32_t kMostAttempts = 1000;  // each is accepted with a probability above 0.95

// What does not depend on the normal: d = a - 1/3, or a + 2/3 where a < 1, its logarithm and 1 / (3 sqrt(d)).
struct GammaSize {
  double d, log_d, step;
};

KLQP_INLINE GammaSize gamma_size(double a) {
  const double d = (a < 1.0 ? a + 1.0 : a) - 1.0 / 3.0;
  return {d, d < kInfinity ? log_normal_range(d) : kNaN, 1.0 / (3.0 * __builtin_sqrt(d))};
}

// With w = step x for a normal x, d (1 + w)^3 is a proposal for a draw, accepted with probability exp(log_chance).
struct GammaProposal {
  double log_draw, log_chance;
};

// log(1 + w) for w > -1, with an absolute error of about one eps.
KLQP_INLINE double log1p_absolute(double w) {
  LogReduction r = reduce_log(1.0 + w);
  r.f = select(r.n == 0.0, w, r.f);
  return finish_log(r, 0.0);
}

KLQP_INLINE GammaProposal propose_gamma(GammaSize size, double x) {
  const double w = size.step * x;
  const double log_root = log1p_absolute(w);
  // x^2 / 2 + d - d (1 + w)^3 + d log (1 + w)^3, without what cancels; from 1e15 on it is nothing but rounding.
  const double rest = madd(w * w, madd(w, -1.0 / 3.0, 0.5), log_root - w);
  const double log_chance = size.d < 1e15 ? 3.0 * size.d * rest : 0.0 * x;
  return {madd(3.0, log_root, size.log_d), w > -1.0 ? log_chance : kNaN};
}

// The uniforms of a block for each of N keys.
template <int N>
KLQP_INLINE void gamma_uniforms(const std::uint64_t* keys, std::uint32_t block, double* first, double* second) {
  PhiloxPairs<N> pairs;
  philox_keyed_blocks(keys, {block, 0, 0, kGammaStream}, pairs);
#pragma omp simd
  for (int k = 0; k < N; ++k) {
    first[k] = open_uniform(pairs.first[k]);
    second[k] = open_uniform(pairs.second[k]);
  }
}

constexpr int kDrawBlock = 256, kDrawGroup = 16;

KLQP_INLINE int whole_groups(int n) { return (n + kDrawGroup - 1) / kDrawGroup * kDrawGroup; }

// Elements that wait for an accepted attempt, with their latest one.
struct WaitingDraws {
  int n = 0;
  std::uint64_t key[kDrawBlock];
  double d[kDrawBlock], log_d[kDrawBlock], step[kDrawBlock];
  double uniform[kDrawBlock], log_draw[kDrawBlock], log_chance[kDrawBlock];
  std::uint8_t place[kDrawBlock];

  void add(int i, double x, GammaSize size, double first_uniform, GammaProposal proposal) noexcept {
    key[n] = to_bits(x);
    d[n] = size.d;
    log_d[n] = size.log_d;
    step[n] = size.step;
    uniform[n] = first_uniform;
    log_draw[n] = proposal.log_draw;
    log_chance[n] = proposal.log_chance;
    place[n++] = static_cast<std::uint8_t>(i);
  }

  // Copies of the last element, up to a whole group.
  void pad() noexcept {
    for (int k = n; k < whole_groups(n); ++k) {
      key[k] = key[n - 1];
      d[k] = d[n - 1];
      log_d[k] = log_d[n - 1];
      step[k] = step[n - 1];
    }
  }

  void attempt(std::uint32_t number) noexcept {
    pad();
    for (int at = 0; at < n; at += kDrawGroup) {
      double radius[kDrawGroup], angle[kDrawGroup], unused[kDrawGroup];
      gamma_uniforms<kDrawGroup>(key + at, 2 * number - 1, radius, angle);
      gamma_uniforms<kDrawGroup>(key + at, 2 * number, uniform + at, unused);
#pragma omp simd
      for (int k = 0; k < kDrawGroup; ++k) {
        const double x = __builtin_sqrt(-2.0 * log_normal_range(radius[k])) * sincos_turns(angle[k]).cos;
        const GammaProposal proposal = propose_gamma({d[at + k], log_d[at + k], step[at + k]}, x);
        log_draw[at + k] = proposal.log_draw;
        log_chance[at + k] = proposal.log_chance;
      }
    }
  }

  // Puts accepted draws, plus what is to be added to them, in their places; the others wait on.
  void settle(bool all, const double* addend, double* out) noexcept {
    double log_uniform[kDrawBlock];
#pragma omp simd
    for (int k = 0; k < n; ++k) log_uniform[k] = log_normal_range(uniform[k]);
    int left = 0;
    for (int k = 0; k < n; ++k) {
      if (log_uniform[k] < log_chance[k] || all) {
        out[place[k]] = log_draw[k] + addend[place[k]];
        continue;
      }
      key[left] = key[k];
      d[left] = d[k];
      log_d[left] = log_d[k];
      step[left] = step[k];
      place[left++] = place[k];
    }
    n = left;
  }
};

// One block of at most kDrawBlock elements; a (n) or, where shared, a (1).
template <bool shared>
inline void draw_gammas(int n, const double* a, const double* noise, double* out) noexcept {
  std::uint64_t keys[kDrawBlock];
  double uniform[kDrawBlock], boost[kDrawBlock], chance[kDrawBlock];
  __builtin_memcpy(keys, noise, sizeof(double) * static_cast<std::size_t>(n));
  for (int i = n; i < whole_groups(n); ++i) keys[i] = 0;
  for (int at = 0; at < n; at += kDrawGroup) gamma_uniforms<kDrawGroup>(keys + at, 0, uniform + at, boost + at);
  bool small = false;
  if (shared) {
    small = !(*a >= 1.0);
  } else {
    for (int i = 0; i < n; ++i) small |= !(a[i] >= 1.0);
  }
  const GammaSize common = gamma_size(*a);
  if (small) {  // log G(a) = log G(a + 1) + log(U) / a
#pragma omp simd
    for (int i = 0; i < n; ++i) {
      const double each = shared ? *a : a[i];
      const double log_boost = log_normal_range(boost[i]) / each;
      boost[i] = each < 1.0 ? (each > 0.0 ? log_boost : kNaN) : 0.0;
    }
  } else {
    for (int i = 0; i < n; ++i) boost[i] = 0.0;
  }
#pragma omp simd
  for (int i = 0; i < n; ++i) {
    const GammaProposal proposal = propose_gamma(shared ? common : gamma_size(a[i]), noise[i]);
    out[i] = proposal.log_draw + boost[i];
    chance[i] = proposal.log_chance;
  }
  WaitingDraws waiting;
  for (int i = 0; i < n; ++i) {
    if (uniform[i] < 1.0 + chance[i]) continue;  // <= exp(chance), and hardly below
    const GammaSize size = shared ? common : gamma_size(a[i]);
    if (size.d > 0.0 && __builtin_fabs(noise[i]) < kInfinity) {
      waiting.add(i, noise[i], size, uniform[i], propose_gamma(size, noise[i]));
    } else {
      out[i] = kNaN;
    }
  }
  if (waiting.n == 0) return;
  waiting.settle(false, boost, out);
  for (std::uint32_t number = 1; waiting.n > 0; ++number) {
    waiting.attempt(number);
    waiting.settle(number == kMostAttempts, boost, out);
  }
}

void gamma_log_draws(Index n, const double* alpha, bool shared, const double* noise, double* out) noexcept {
  for (Index start = 0; start < n; start += kDrawBlock) {
    const int count = n - start < kDrawBlock ? static_cast<int>(n - start) : kDrawBlock;
    if (shared) {
      draw_gammas<true>(count, alpha, noise + start, out + start);
    } else {
      draw_gammas<false>(count, alpha + start, noise + start, out + start);
    }
  }
}

}  // namespace
}  // namespace klqp
