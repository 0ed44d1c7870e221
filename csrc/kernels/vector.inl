// Elementwise vector operations and sums in a fixed order.
#pragma once

#include "kernels/arithmetic.inl"

namespace klqp {
namespace {

// Element i is added to lane i mod 16, and the lanes are added pairwise: an order that no instruction set
// changes.
constexpr int kLanes = 16;

KLQP_INLINE double add_lanes(const double (&lanes)[kLanes]) {
  double eight[8], four[4];
  for (int j = 0; j < 8; ++j) eight[j] = lanes[j] + lanes[j + 8];
  for (int j = 0; j < 4; ++j) four[j] = eight[j] + eight[j + 4];
  return (four[0] + four[2]) + (four[1] + four[3]);
}

double sum(Index n, const double* x) {
  double lanes[kLanes] = {};
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int j = 0; j < kLanes; ++j) lanes[j] += x[i + j];
  }
  for (int j = 0; i + j < n; ++j) lanes[j] += x[i + j];
  return add_lanes(lanes);
}

double dot(Index n, const double* x, const double* y) {
  double lanes[kLanes] = {};
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int j = 0; j < kLanes; ++j) lanes[j] = madd(x[i + j], y[i + j], lanes[j]);
  }
  for (int j = 0; i + j < n; ++j) lanes[j] = madd(x[i + j], y[i + j], lanes[j]);
  return add_lanes(lanes);
}

void scale(Index n, double a, const double* x, double* out) {
#pragma omp simd
  for (Index i = 0; i < n; ++i) out[i] = a * x[i];
}

void axpy(Index n, double a, const double* x, double* y) {
#pragma omp simd
  for (Index i = 0; i < n; ++i) y[i] = madd(a, x[i], y[i]);
}

void multiply_add(Index n, double a, const double* x, const double* y, double* out) {
#pragma omp simd
  for (Index i = 0; i < n; ++i) out[i] = madd(a * x[i], y[i], out[i]);
}

void affine(Index n, const double* loc, const double* spread, const double* x, double* out) {
#pragma omp simd
  for (Index i = 0; i < n; ++i) out[i] = madd(spread[i], x[i], loc[i]);
}

void location_scale_pullback(Index n, const double* cot, const double* noise, double* loc, double* spread) {
#pragma omp simd
  for (Index i = 0; i < n; ++i) {
    loc[i] += cot[i];
    spread[i] = madd(cot[i], noise[i], spread[i]);
  }
}

void pathwise_sums(Index n, double a, const double* grad, const double* noise, double* sums) {
  double* const g_sum = sums;
  double* const g_noise = sums + n;
  double* const e_sum = sums + 2 * n;
  double* const e_noise = sums + 3 * n;
#pragma omp simd
  for (Index i = 0; i < n; ++i) {
    const double g = a * grad[i];
    const double e = a * noise[i];
    g_sum[i] += g;
    g_noise[i] = madd(g, noise[i], g_noise[i]);
    e_sum[i] += e;
    e_noise[i] = madd(e, noise[i], e_noise[i]);
  }
}

void blend(Index n, double rate, double trusted, double known, const double* g, const double* x, double* mean,
           double* covariance, double* variance, double* out) {
#pragma omp simd
  for (Index i = 0; i < n; ++i) {
    const bool usable = variance[i] > 0.0;
    const double ratio = -covariance[i] / (usable ? variance[i] : 1.0);
    const double c = usable ? trusted * ratio : 0.0;
    const double estimate = madd(c, x[i], g[i]);
    out[i] += estimate;
    const double deviation = known * (g[i] - mean[i]);
    covariance[i] = madd(rate, madd(deviation, x[i], -covariance[i]), covariance[i]);
    variance[i] = madd(rate, madd(x[i], x[i], -variance[i]), variance[i]);
    mean[i] = madd(rate, estimate - mean[i], mean[i]);
  }
}

}  // namespace
}  // namespace klqp
