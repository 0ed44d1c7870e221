// Elementwise vector operations and sums in a fixed order.
#pragma once

#include "kernels/simd.inl"

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

// Sums stay in registers over the draws.
template <class Number, class Load, class Store>
KLQP_INLINE void pathwise_sum(Index draws, const double* weights, const double* grad, Index grad_step,
                              const double* noise, Index noise_step, double* sums, Index n, const Load& load_at,
                              const Store& store_at) {
  Number g_sum{}, g_noise{}, e_sum{}, e_noise{};
  for (Index s = 0; s < draws; ++s, grad += grad_step, noise += noise_step) {
    if (weights[s] == 0.0) continue;
    const Number eps = load_at(noise), g = weights[s] * load_at(grad), e = weights[s] * eps;
    g_sum += g;
    g_noise = madd(g, eps, g_noise);
    e_sum += e;
    e_noise = madd(e, eps, e_noise);
  }
  store_at(sums, g_sum);
  store_at(sums + n, g_noise);
  store_at(sums + 2 * n, e_sum);
  store_at(sums + 3 * n, e_noise);
}

void pathwise_sums(Index draws, Index n, const double* weights, const double* grad, Index grad_step,
                   const double* noise, Index noise_step, double* sums) {
  Index i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    pathwise_sum<Vector>(draws, weights, grad + i, grad_step, noise + i, noise_step, sums + i, n, load, store);
  }
  for (; i < n; ++i) {
    pathwise_sum<double>(
        draws, weights, grad + i, grad_step, noise + i, noise_step, sums + i, n, [](const double* x) { return *x; },
        [](double* to, double x) { *to = x; });
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
