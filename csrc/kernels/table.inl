// The table of this translation unit's kernels; everything it points to is local to the unit.
#pragma once

#include "kernels/densities.inl"
#include "kernels/gamma.inl"
#include "kernels/gamma_draws.inl"
#include "kernels/gamma_gradient.inl"
#include "kernels/glm.inl"
#include "kernels/glm_rows.inl"
#include "kernels/matmul.inl"
#include "kernels/noise.inl"
#include "kernels/optimizer.inl"
#include "kernels/special.inl"
#include "kernels/triangular.inl"
#include "kernels/vector.inl"

namespace klqp {
namespace {

template <class T>
constexpr DesignKernels<T> design_kernels() {
  return {glm_panel_size<T>, glm_pack<T>, glm_predict<T>, glm_gradient<T>};
}

constexpr KernelTable make_table(const char* name) {
  return {.name = name,
          .philox = philox,
          .uniforms = uniforms,
          .normals = normals,
          .exp = exp_kernel,
          .log = log_kernel,
          .log1p = log1p_kernel,
          .expm1 = expm1_kernel,
          .sigmoid = sigmoid_kernel,
          .softplus = softplus_kernel,
          .lgamma = lgamma_kernel,
          .digamma = digamma_kernel,
          .trigamma = trigamma_kernel,
          .norm_ppf = norm_ppf_kernel,
          .gamma_log_draws = gamma_log_draws,
          .gamma_log_gradient = gamma_log_gradient,
          .sum = sum,
          .dot = dot,
          .scale = scale,
          .axpy = axpy,
          .multiply_add = multiply_add,
          .affine = affine,
          .location_scale_pullback = location_scale_pullback,
          .pathwise_sums = pathwise_sums,
          .blend = blend,
          .matmul_nt = matmul_nt,
          .matmul_nn = matmul_nn,
          .matmul_tn = matmul_tn,
          .solve_lower = solve_lower,
          .solve_lower_transposed = solve_lower_transposed,
          .solve_right_lower = solve_right_lower,
          .solve_right_lower_transposed = solve_right_lower_transposed,
          .cholesky = cholesky,
          .cholesky_pullback = cholesky_pullback,
          .adam = adam,
          .design = design_kernels<double>(),
          .design_f32 = design_kernels<float>(),
          .rows = {.bernoulli = bernoulli_rows,
                   .binomial = binomial_rows,
                   .negative_binomial = negative_binomial_rows,
                   .poisson = poisson_rows,
                   .normal = normal_rows,
                   .student_t = student_t_rows,
                   .gamma = gamma_rows,
                   .log_rising = log_rising_kernel},
          .densities = kDensities};
}

}  // namespace
}  // namespace klqp
