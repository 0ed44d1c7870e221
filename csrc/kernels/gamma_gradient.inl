// The derivative of the logarithm of a gamma draw by its concentration, at a fixed probability: implicit
// reparameterisation (Figurnov, Mohamed and Mnih 2018; formulas in docs/maths.md).
//
// With z the quantile of a fixed probability of Gamma(a), H = a dlog(z) / da is positive and, in the right variables,
// so smooth that a polynomial in two variables gives it on a rectangle ("patch"). Patches hold all but about 1e-4 of
// the draws; the others are integrated numerically. The elements of a block are sorted by patch.
#pragma once

#include "kernels/gamma.inl"
#include "kernels/gamma_patches.inl"
#include "kernels/simd.inl"

namespace klqp {
namespace {

// --- tails ------------------------------------------------------------------------------------------------

// exp(r) - 1 - r
KLQP_INLINE double exp_excess(double r) {
  const double near = r * r * polynomial(kExp, r), far = expm1_one(r) - r;
  return __builtin_fabs(r) < 0.34 ? near : far;
}

constexpr double kTailReach = 45.0;  // exp(-45) is nothing beside the integral

// Where gap s + z (exp(-s) - 1 + s), convex in s, reaches kTailReach or a bit more, by Newton's method from a start on
// the left, so that all iterates are on the right.
inline double reach_below(double gap, double z, double s) noexcept {
  for (int k = 0; k < 2; ++k) {
    s -= (madd(gap, s, z * exp_excess(-s)) - kTailReach) / madd(-z, expm1_one(-s), gap);
  }
  return s;
}

// H in a tail, as the integral over s > 0 of
//
//   a (|log z - digamma(a)| + s) exp(-|z - a| s - z (exp(r) - 1 - r)),  r = s above and -s below the centre of
//   Gamma(a),
//
// the share of t = z exp(r) in the derivative of the distribution function over the density: nothing cancels.
inline double gamma_gradient_tail(double a, double log_z) noexcept {
  if (!(log_z < 709.0)) return log_z == log_z ? 0.0 : kNaN;
  const double z = exp_one(log_z), distance = log_z - digamma_positive(a);
  const double sign = distance > 0.0 ? 1.0 : -1.0;
  const double gap = sign * (a < 2.0 ? z - a : a * expm1_one(log_z - log_one(a)));
  double reach = 2.0 * kTailReach / (__builtin_sqrt(madd(gap, gap, 2.0 * kTailReach * z)) + gap);
  if (sign < 0.0) reach = reach_below(gap, z, reach);
  constexpr int n = sizeof(kTailNodes) / sizeof(double);
  double values[n];
#pragma omp simd
  for (int k = 0; k < n; ++k) {
    const double s = reach * kTailNodes[k];
    const double exponent = madd(gap, s, z * exp_excess(sign * s));
    values[k] = kTailWeights[k] * (sign * distance + s) * exp_decay(exponent);
  }
  double sum = 0.0;
  for (int k = 0; k < n; ++k) sum += values[k];
  return a * (reach * sum);
}

// --- patches ----------------------------------------------------------------------------------------------

// Elements come in groups of 2, 4 or 8 vectors, chains of dependent operations that run side by side.
constexpr int kMostVectors = 8;
constexpr int kGroup = kMostVectors * kWidth;
constexpr int kMostRows = 24;

template <int N>
struct Vectors {
  static constexpr int value = N;
};

template <int N>
struct Group {
  Vector v[N];
};

template <int N>
KLQP_INLINE Group<N> load_scaled(const double* x, double middle, double inverse) {
  Group<N> out;
#pragma GCC unroll 8
  for (int v = 0; v < N; ++v) out.v[v] = (load(x + v * kWidth) - middle) * inverse;
  return out;
}

// A polynomial on N vectors, x its first and y its second variable.
template <int N>
KLQP_INLINE void evaluate_group(const GammaPatch& patch, const double* x, const double* y, double* out) {
  const Group<N> t = load_scaled<N>(x, patch.t_middle, patch.t_inverse);
  const Group<N> s = load_scaled<N>(y, patch.s_middle, patch.s_inverse);
  Group<N> sum = {};
  const double* c = patch.coefficients;
  for (int j = 0; j < patch.rows; ++j) {
    Group<N> row;
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) row.v[v] = *c - Vector{};
    for (const double* const end = c + patch.lengths[j]; ++c < end;) {
      const Vector next = *c - Vector{};
#pragma GCC unroll 8
      for (int v = 0; v < N; ++v) row.v[v] = madd(row.v[v], s.v[v], next);
    }
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) sum.v[v] = madd(sum.v[v], t.v[v], row.v[v]);
  }
#pragma GCC unroll 8
  for (int v = 0; v < N; ++v) store(out + v * kWidth, sum.v[v]);
}

// The same where y is one number: the rows first, once; the same bits.
inline void evaluate_rows(const GammaPatch& patch, double y, double* rows) noexcept {
  const double s = (y - patch.s_middle) * patch.s_inverse;
  const double* c = patch.coefficients;
  for (int j = 0; j < patch.rows; ++j) {
    double row = *c;
    for (const double* const end = c + patch.lengths[j]; ++c < end;) row = madd(row, s, *c);
    rows[j] = row;
  }
}

template <int N>
KLQP_INLINE void evaluate_group_of_rows(const GammaPatch& patch, const double* rows, const double* x, double* out) {
  const Group<N> t = load_scaled<N>(x, patch.t_middle, patch.t_inverse);
  Group<N> sum = {};
  for (int j = 0; j < patch.rows; ++j) {
    const Vector next = rows[j] - Vector{};
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) sum.v[v] = madd(sum.v[v], t.v[v], next);
  }
#pragma GCC unroll 8
  for (int v = 0; v < N; ++v) store(out + v * kWidth, sum.v[v]);
}

// x, y and out have room up to a multiple of kGroup.
inline void evaluate_patch(const GammaPatch& patch, bool shared, Index n, const double* x, const double* y,
                           double* out) noexcept {
  double rows[kMostRows];
  const bool by_rows = shared && n > kGroup;
  if (by_rows) evaluate_rows(patch, y[0], rows);
  Index i = 0;
  const auto groups = [&](auto vectors, Index enough) {
    constexpr int count = decltype(vectors)::value;
    for (; n - i > enough; i += count * kWidth) {
      if (by_rows) {
        evaluate_group_of_rows<count>(patch, rows, x + i, out + i);
      } else {
        evaluate_group<count>(patch, x + i, y + i, out + i);
      }
    }
  };
  groups(Vectors<8>{}, 4 * kWidth);
  groups(Vectors<4>{}, 2 * kWidth);
  groups(Vectors<2>{}, 0);
}

// --- regions ----------------------------------------------------------------------------------------------

// Bands of concentrations begin at 0, 1, 2, 4, 8, 16 and 64. The first two, whose variables are log z and 1 / (a + 1),
// have a patch beside z = 0 and one above; the others, with log(z / a) and 1 / a, one each.
constexpr int kBands = 7;
constexpr int kUpperRegion = kBands, kTailRegion = kBands + 2, kIllegalRegion = kBands + 3;
constexpr int kRegions = kBands + 4;
constexpr const GammaPatch* kRegionPatches[] = {nullptr,  nullptr,  &kFrom2,       &kFrom4,      &kFrom8,
                                                &kFrom16, &kFrom64, &kBelow1Upper, &kBelow2Upper};
constexpr double kBandLow[kBands] = {-kInfinity,   -kInfinity,    kFrom2.t_low, kFrom4.t_low,
                                     kFrom8.t_low, kFrom16.t_low, kFrom64.t_low};
constexpr double kBandHigh[kBands] = {kBelow1Upper.t_high, kBelow2Upper.t_high, kFrom2.t_high, kFrom4.t_high,
                                      kFrom8.t_high,       kFrom16.t_high,      kFrom64.t_high};
constexpr double kSplit = kBelow1Upper.t_low;

struct RegionPoint {
  double x, y;
  std::int64_t region;
};

KLQP_INLINE RegionPoint locate(double a, double inverse, double log_a, double log_z) {
  const std::int64_t band = std::int64_t{a >= 1.0} + std::int64_t{a >= 2.0} + std::int64_t{a >= 4.0} +
                            std::int64_t{a >= 8.0} + std::int64_t{a >= 16.0} + std::int64_t{a >= 64.0};
  const double x = log_z - log_a;
  const bool inside = (x >= kBandLow[band]) & (x <= kBandHigh[band]);
  const bool legal = (a > 0.0) & (a < kInfinity) & (log_z == log_z);
  const std::int64_t patch = ((a < 2.0) & (x > kSplit)) ? band + kUpperRegion : band;
  const std::int64_t region = inside ? patch : kTailRegion;
  return {x, inverse, legal ? region : kIllegalRegion};
}

// One block, kept on the stack; room for a full group behind the last element.
constexpr Index kGammaBlock = 256;
struct RegionBlock {
  double x[kGammaBlock + kGroup], y[kGammaBlock + kGroup], h[kGammaBlock + kGroup];
  std::int64_t region[kGammaBlock];
};

KLQP_INLINE double inverse_of_band(double a) { return 1.0 / (a < 2.0 ? a + 1.0 : a); }

inline void locate_block(Index n, const double* alpha, bool shared, const double* log_z, RegionBlock& out) noexcept {
  if (shared) {
    const double a = *alpha, inverse = inverse_of_band(a), log_a = a < 2.0 ? 0.0 : log_normal_range(a);
#pragma omp simd
    for (Index i = 0; i < n; ++i) {
      const RegionPoint point = locate(a, inverse, log_a, log_z[i]);
      out.x[i] = point.x;
      out.y[i] = point.y;
      out.region[i] = point.region;
    }
    return;
  }
#pragma omp simd
  for (Index i = 0; i < n; ++i) {
    const double a = alpha[i], log_a = log_normal_range(a);
    const RegionPoint point = locate(a, inverse_of_band(a), a < 2.0 ? 0.0 : log_a, log_z[i]);
    out.x[i] = point.x;
    out.y[i] = point.y;
    out.region[i] = point.region;
  }
}

// Copies of the last element behind it, up to a full group.
KLQP_INLINE void pad_group(Index n, double* x) {
  const Index end = (n + kGroup - 1) / kGroup * kGroup;
  for (Index i = n; i < end; ++i) x[i] = x[n - 1];
}

// H of n elements of one region that has patches, n > 0.
inline void evaluate_region(std::int64_t region, bool shared, Index n, double* x, double* y, double* h) noexcept {
  pad_group(n, x);
  pad_group(n, y);
  if (region > 1) return evaluate_patch(*kRegionPatches[region], shared, n, x, y, h);
  double z[kGammaBlock + kGroup], sum[kGammaBlock + kGroup];
  const Index padded = (n + kGroup - 1) / kGroup * kGroup;
#pragma omp simd
  for (Index i = 0; i < padded; ++i) z[i] = exp_one(x[i]);
  evaluate_patch(region == 0 ? kBelow1Part : kBelow2Part, shared, n, z, y, h);
  evaluate_patch(region == 0 ? kBelow1Log : kBelow2Log, shared, n, z, y, sum);
#pragma omp simd
  for (Index i = 0; i < n; ++i) h[i] = madd(-x[i], sum[i], h[i]);
}

// The elements of each region of a mixed block one after the other, and their results back to their places.
inline void evaluate_sorted(Index n, const double* alpha, bool shared, const double* log_z, RegionBlock& b) noexcept {
  std::uint8_t places[kRegions][kGammaBlock];
  Index counts[kRegions] = {};
  for (Index i = 0; i < n; ++i) places[b.region[i]][counts[b.region[i]]++] = static_cast<std::uint8_t>(i);
  double x[kGammaBlock + kGroup], y[kGammaBlock + kGroup], h[kGammaBlock + kGroup];
  for (int region = 0; region < kTailRegion; ++region) {
    const Index count = counts[region];
    if (count == 0) continue;
    for (Index k = 0; k < count; ++k) {
      x[k] = b.x[places[region][k]];
      y[k] = b.y[places[region][k]];
    }
    evaluate_region(region, shared, count, x, y, h);
    for (Index k = 0; k < count; ++k) b.h[places[region][k]] = h[k];
  }
  for (Index k = 0; k < counts[kTailRegion]; ++k) {
    const Index i = places[kTailRegion][k];
    b.h[i] = gamma_gradient_tail(alpha[shared ? 0 : i], log_z[i]);
  }
  for (Index k = 0; k < counts[kIllegalRegion]; ++k) b.h[places[kIllegalRegion][k]] = kNaN;
}

void gamma_log_gradient(Index n, const double* alpha, bool shared, const double* log_z, double* out) noexcept {
  RegionBlock b;
  for (Index start = 0; start < n; start += kGammaBlock) {
    const Index count = n - start < kGammaBlock ? n - start : kGammaBlock;
    const double* const a = shared ? alpha : alpha + start;
    locate_block(count, a, shared, log_z + start, b);
    std::int64_t other = 0;
    for (Index i = 0; i < count; ++i) other |= b.region[i] ^ b.region[0];
    if (other == 0 && b.region[0] < kTailRegion) {
      evaluate_region(b.region[0], shared, count, b.x, b.y, b.h);
    } else {
      evaluate_sorted(count, a, shared, log_z + start, b);
    }
    if (shared) {
      const double inverse = *alpha;
#pragma omp simd
      for (Index i = 0; i < count; ++i) out[start + i] = b.h[i] / inverse;
    } else {
#pragma omp simd
      for (Index i = 0; i < count; ++i) out[start + i] = b.h[i] / a[i];
    }
  }
}

}  // namespace
}  // namespace klqp
