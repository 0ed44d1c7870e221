// The hot loops as tables of plain functions, one table per instruction set, chosen once at run time.
//
// Every kernel is noexcept, allocates nothing and touches only the arrays it is given. Unless a comment says
// otherwise arrays do not overlap. An element's result depends on its inputs alone, never on its place in the
// array or on alignment; sums run in a fixed order. So results are bitwise reproducible for one table, whatever
// the partition of the work; between tables they differ by rounding (fused multiply-adds).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace klqp {

using Index = std::int64_t;

// Coordinates of a block of noise; the counter layout is described in docs/counters.md.
struct NoiseKey {
  std::uint64_t seed;
  std::uint32_t stream;
  std::uint32_t step;
  std::uint32_t draw;
};

// An elementwise distribution: the log density of a value given up to three parameters, and its derivatives. Outside
// the support (at non-integers where it is discrete, and at infinity) the log density is -infinity and derivatives are
// 0. NaN in any argument and parameters that are not legal, infinite ones among them, give NaN.
struct DensityKernel {
  const char* name;
  int n_args;          // the value first, then the parameters
  unsigned base_args;  // bit k set: log_base reads args[k]; 0 when there is no log_base
  // args[k] points to n numbers, or to one where bit k of `scalars` is set. out (n) = log density, without log_base.
  void (*log_prob)(Index n, const double* const* args, unsigned scalars, double* out) noexcept;
  // grads[k] (n) = d log_prob / d args[k], where grads[k] is not null (assigned, not added). Discrete values and counts
  // of trials have no derivative: 0.
  void (*gradient)(Index n, const double* const* args, unsigned scalars, double* const* grads) noexcept;
  // Both at once, the same bits.
  void (*log_prob_and_gradient)(Index n, const double* const* args, unsigned scalars, double* out,
                                double* const* grads) noexcept;
  // The part of the log density that depends on data-like arguments alone (e.g. -lgamma(x + 1), log C(n, x)), 0 outside
  // the support; null when there is none.
  void (*log_base)(Index n, const double* const* args, unsigned scalars, double* out) noexcept;
};

// Products of a block of rows X (n, d), rows ldx apart, with the coefficients and the residuals of m draws at once; X
// is of T, sums over rows are added to doubles. (docs/kernels.md, "Generalised linear models")
template <class T>
struct DesignKernels {
  // Coefficients (m, d) are arranged once for many blocks, to panel_size(m, d) numbers.
  Index (*panel_size)(Index m, Index d);
  void (*pack)(Index m, Index d, const double* coef, T* panel);
  // eta (m, n), rows ld apart, += coef X^T
  void (*predict)(Index n, Index d, Index m, const T* x, Index ldx, const T* panel, double* eta, Index ld);
  // grad (m, d), rows ldg apart, += residual (m, n) X, rows ldr apart. The n_next rows after these are fetched.
  void (*gradient)(Index n, Index d, Index m, const T* residual, Index ldr, const T* x, Index ldx, Index n_next,
                   double* grad, Index ldg);
};

// Log likelihoods of n <= 256 rows given their linear predictors eta (n), which become the derivatives by eta. A row of
// weight 0 adds nothing whatever its eta. All y are in the support; what does not depend on eta is left out.
struct RowKernels {
  // y = 0 or 1 with log odds eta.
  double (*bernoulli)(Index n, const double* y, double* eta) noexcept;
  // y successes in `trials` with log odds eta.
  double (*binomial)(Index n, const double* y, const double* trials, const double* weight, double* eta) noexcept;
  // y successes before `failures` failures; sums (2) += the log densities and the log probabilities of a failure.
  void (*negative_binomial)(Index n, const double* y, const double* weight, double failures, double* eta,
                            double* sums) noexcept;
  // y events at the rate exp(eta).
  double (*poisson)(Index n, const double* y, const double* weight, double* eta) noexcept;
  // The sum of squares of y - eta; eta becomes the differences times the precision.
  double (*normal)(Index n, const double* y, const double* weight, double precision, double* eta) noexcept;
  // With t = inverse * (y - eta): sums (2) += log(1 + t^2) and t^2 / (1 + t^2); eta becomes slope * t / (1 + t^2).
  void (*student_t)(Index n, const double* y, const double* weight, double inverse, double slope, double* eta,
                    double* sums) noexcept;
  // With d = log y - eta: the sum of d + 1 - exp(d); eta becomes concentration * (exp(d) - 1).
  double (*gamma)(Index n, const double* log_y, const double* weight, double concentration, double* eta) noexcept;
  // out (n) = log Gamma(a + x) - log Gamma(a) for x >= 0, slope (n) = its derivative by a.
  void (*log_rising)(Index n, double a, const double* x, double* out, double* slope) noexcept;
};

struct KernelTable {
  const char* name;  // "base", "v3" (AVX2+FMA), "v4" (AVX-512)

  // --- noise: element i of row r, at out[r * stride + i], belongs to draw key.draw + r and to coordinate
  // 2*first_block + i, for i in [0, n) and r in [0, rows) ----------------------------------------------------
  // Raw Philox4x32-10: counter (4), key (2) -> out (4); one block, for the known-answer tests.
  void (*philox)(const std::uint32_t* counter, const std::uint32_t* key, std::uint32_t* out);
  // Uniforms on the open interval (0, 1), 52 bits, two per Philox block.
  void (*uniforms)(NoiseKey key, Index first_block, Index rows, Index n, double* out, Index stride);
  // Standard normals by Box-Muller, two per Philox block.
  void (*normals)(NoiseKey key, Index first_block, Index rows, Index n, double* out, Index stride);

  // --- special functions, x (n) -> out (n); out may be x ---------------------------------------------------
  void (*exp)(Index n, const double* x, double* out);
  void (*log)(Index n, const double* x, double* out);
  void (*log1p)(Index n, const double* x, double* out);
  void (*expm1)(Index n, const double* x, double* out);
  void (*sigmoid)(Index n, const double* x, double* out);
  void (*softplus)(Index n, const double* x, double* out);
  void (*lgamma)(Index n, const double* x, double* out);  // log |Gamma(x)|
  void (*digamma)(Index n, const double* x, double* out);
  void (*trigamma)(Index n, const double* x, double* out);
  void (*norm_ppf)(Index n, const double* p, double* out);  // inverse of the standard normal CDF

  // --- gamma draws: alpha (n) concentrations, or one where `shared` -----------------------------------------
  // out (n) = logarithms of draws of Gamma(alpha, 1), each a function of its concentration and its standard normal
  // alone (docs/counters.md). NaN where the concentration is not positive and finite or the normal not finite.
  void (*gamma_log_draws)(Index n, const double* alpha, bool shared, const double* noise, double* out) noexcept;
  // out (n) = dlog(z) / dalpha at fixed probability, where log_z (n) are such logarithms.
  void (*gamma_log_gradient)(Index n, const double* alpha, bool shared, const double* log_z, double* out) noexcept;

  // --- vectors ---------------------------------------------------------------------------------------------
  double (*sum)(Index n, const double* x);
  double (*dot)(Index n, const double* x, const double* y);
  void (*scale)(Index n, double a, const double* x, double* out);                                 // out = a x
  void (*axpy)(Index n, double a, const double* x, double* y);                                    // y += a x
  void (*multiply_add)(Index n, double a, const double* x, const double* y, double* out);         // out += a x*y
  void (*affine)(Index n, const double* loc, const double* scale, const double* x, double* out);  // loc + scale*x
  // Pull one draw's cotangent back to a location and an elementwise scale: loc += cot, scale += cot*noise.
  void (*location_scale_pullback)(Index n, const double* cot, const double* noise, double* loc, double* scale);

  // The pathwise gradients of a location-scale family: with g = weight * grad and e = weight * noise, the sums over the
  // draws of g, g * noise, e and e * noise become the rows of sums (4, n). Rows of grad (draws, n) and noise (draws, n)
  // are grad_step and noise_step apart; draws without weight are not read.
  void (*pathwise_sums)(Index draws, Index n, const double* weights, const double* grad, Index grad_step,
                        const double* noise, Index noise_step, double* sums);
  // Blends two unbiased gradients whose difference x has mean zero, out += g + c x, and updates the moving averages
  // that c comes from: c = -covariance / variance where `trusted` is 1 and the variance positive, 0 elsewhere; then
  // covariance and variance move by `rate` towards (g - mean) x * known and x^2, and mean towards g + c x.
  void (*blend)(Index n, double rate, double trusted, double known, const double* g, const double* x, double* mean,
                double* covariance, double* variance, double* out);

  // --- small dense matrices, row-major, rows lda, ldb and ldc apart (docs/kernels.md, "Matrices") --------------
  // An element of C depends on its row of A, its row or column of B, k and its old value alone, so that callers may
  // split m and n as they like.
  // C (m, n) += A (m, k) B (n, k)^T
  void (*matmul_nt)(Index m, Index n, Index k, const double* a, Index lda, const double* b, Index ldb, double* c,
                    Index ldc);
  // C (m, n) += A (m, k) B (k, n)
  void (*matmul_nn)(Index m, Index n, Index k, const double* a, Index lda, const double* b, Index ldb, double* c,
                    Index ldc);
  // C (m, n) += A (k, m)^T B (k, n)
  void (*matmul_tn)(Index m, Index n, Index k, const double* a, Index lda, const double* b, Index ldb, double* c,
                    Index ldc);

  // --- triangular matrices, (n, n) row-major ---------------------------------------------------------------
  // x (n) <- L^-1 x and x <- L^-T x, for L lower; its strict upper triangle is not read.
  void (*solve_lower)(Index n, const double* l, double* x);
  void (*solve_lower_transposed)(Index n, const double* l, double* x);
  // X (m, n) <- X L^-1 and X <- X L^-T for L (n, n) lower, in rows ldl and ldx apart; a row of X depends on that row
  // and L alone.
  void (*solve_right_lower)(Index m, Index n, const double* l, Index ldl, double* x, Index ldx);
  void (*solve_right_lower_transposed)(Index m, Index n, const double* l, Index ldl, double* x, Index ldx);
  // The lower Cholesky factor, in place of a matrix whose strict upper triangle is not read and becomes 0. Returns 0,
  // or 1 + the row whose pivot was not positive and finite; then a's contents are of no use.
  Index (*cholesky)(Index n, double* a);
  // Reverse mode of cholesky: from the factor and its cotangent, whose lower triangle is read, to the cotangent of the
  // symmetric matrix A, in place: the symmetric Abar such that dloss = sum_ij Abar_ij dA_ij for symmetric dA.
  void (*cholesky_pullback)(Index n, const double* l, double* lbar);

  // --- optimizers ------------------------------------------------------------------------------------------
  // Adam (Kingma & Ba 2015): step = learning rate / (1 - beta1^t), correction = 1 / (1 - beta2^t).
  void (*adam)(Index n, const double* grad, double beta1, double beta2, double epsilon, double step, double correction,
               double* m, double* v, double* params);

  // --- generalised linear models ---------------------------------------------------------------------------
  DesignKernels<double> design;
  DesignKernels<float> design_f32;
  RowKernels rows;

  // --- elementwise distributions, in the same order in every table -------------------------------------------
  std::span<const DensityKernel> densities;
};

// The table in use: the best one this machine can run, capped by the environment variable KLQP_ISA
// ("base", "v3" or "v4"), read once.
const KernelTable& kernels() noexcept;

// All tables that this machine can run, slowest first; for tests.
std::span<const KernelTable* const> available_kernels() noexcept;

// The elementwise distribution of a name, or null.
const DensityKernel* find_density(const KernelTable& table, std::string_view name) noexcept;

}  // namespace klqp
