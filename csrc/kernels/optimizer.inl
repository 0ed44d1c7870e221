// Optimizer updates, one pass over the parameters.
#pragma once

#include "kernels/arithmetic.inl"

namespace klqp {
namespace {

void adam(Index n, const double* grad, double beta1, double beta2, double epsilon, double step, double correction,
          double* m, double* v, double* params) {
  const double rest1 = 1.0 - beta1, rest2 = 1.0 - beta2;
#pragma omp simd
  for (Index i = 0; i < n; ++i) {
    const double g = grad[i];
    const double first = madd(beta1, m[i], rest1 * g);
    const double second = madd(beta2, v[i], rest2 * g * g);
    m[i] = first;
    v[i] = second;
    params[i] -= step * first / (__builtin_sqrt(second * correction) + epsilon);
  }
}

}  // namespace
}  // namespace klqp
