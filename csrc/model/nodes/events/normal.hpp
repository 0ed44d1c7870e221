// Multivariate normal laws, by the Cholesky factor of the covariance, and with covariance diag(d^2) + W W^T.
#pragma once

#include <algorithm>
#include <numbers>

#include "model/bijectors/matrix.hpp"
#include "model/nodes/events/law.hpp"

namespace klqp {

inline constexpr double kHalfLogTwoPi = 0.91893853320467274178;

// value x (D), loc (D), L (D, D): y = L^-1 (x - loc), log p = -y.y/2 - sum log L_ii - D/2 log(2 pi)
class NormalTrilLaw final : public Law {
 public:
  explicit NormalTrilLaw(Index size) : size_(size) {
    check_at_least("the size of a normal vector", size, 1);
    widths = {size, size, size * size};
    n_prepared = 1;
    n_saved = size;
    n_scratch = size;
    work = 2 * size * (size + 4);
  }

  void prepare(const double* const* args, bool, double* prepared, double* scratch) const noexcept override {
    for (Index i = 0; i < size_; ++i) {
      const double pivot = args[2][i * size_ + i];
      scratch[i] = pivot > 0.0 ? pivot : kNaN;
    }
    kernels().log(size_, scratch, scratch);
    *prepared = -kernels().sum(size_, scratch) - kHalfLogTwoPi * static_cast<double>(size_);
  }

  double log_prob(const double* const* args, const double* prepared, double* y, double*) const noexcept override {
    for (Index i = 0; i < size_; ++i) y[i] = args[0][i] - args[1][i];
    kernels().solve_lower(size_, args[2], y);
    return *prepared - 0.5 * kernels().dot(size_, y, y);
  }

  // w = L^-T y: x-bar = -w, loc-bar = w, L-bar = tril(w y^T) - diag(1 / L_ii)
  void add_gradient(const double* const* args, const double*, const double* y, double cot, double* const* grads,
                    double* w) const noexcept override {
    std::copy_n(y, size_, w);
    kernels().solve_lower_transposed(size_, args[2], w);
    if (grads[0] != nullptr) kernels().axpy(size_, -cot, w, grads[0]);
    if (grads[1] != nullptr) kernels().axpy(size_, cot, w, grads[1]);
    if (grads[2] == nullptr) return;
    for (Index i = 0; i < size_; ++i) {
      row_axpy(i + 1, cot * w[i], y, grads[2] + i * size_);
      grads[2][i * size_ + i] -= cot / args[2][i * size_ + i];
    }
  }

 private:
  Index size_;
};

// value x (D), loc (D), d (D), W (D, r). With V = W / d, C = I + V^T V (Woodbury):
//   g = Sigma^-1 (x - loc) = (u - V z) / d for u = (x - loc) / d, z = C^-1 V^T u
//   (x - loc).g = |u - V z|^2 + |z|^2, log det Sigma = 2 sum log d + log det C
class NormalLowRankLaw final : public Law {
 public:
  NormalLowRankLaw(Index size, Index rank) : size_(size), rank_(rank) {
    check_at_least("the size of a normal vector", size, 1);
    check_at_least("the rank", rank, 1);
    widths = {size, size, size, size * rank};
    n_prepared = 1 + rank * rank + size * rank + size;
    n_saved = size;
    n_scratch = std::max(size, rank);
    work = 6 * size * (rank + 4);
  }

  // prepared: the constant, the factor A (r, r) of C, Sigma^-1 W (D, r), the diagonal of Sigma^-1 (D)
  void prepare(const double* const* args, bool gradients, double* prepared, double* scratch) const noexcept override {
    const double *const d = args[2], *const w = args[3];
    double *const a = prepared + 1, *const precise = a + rank_ * rank_, *const diagonal = precise + size_ * rank_;
    for (Index i = 0; i < size_; ++i) scratch[i] = d[i] > 0.0 ? d[i] : kNaN;
    kernels().log(size_, scratch, scratch);
    prepared[0] = -kernels().sum(size_, scratch) - kHalfLogTwoPi * static_cast<double>(size_);
    for (Index i = 0; i < size_; ++i) kernels().scale(rank_, 1.0 / d[i], w + i * rank_, precise + i * rank_);
    std::fill_n(a, rank_ * rank_, 0.0);
    for (Index j = 0; j < rank_; ++j) a[j * rank_ + j] = 1.0;
    kernels().matmul_tn(rank_, rank_, size_, precise, rank_, precise, rank_, a, rank_);
    if (kernels().cholesky(rank_, a) != 0) {
      prepared[0] = kNaN;
      return;
    }
    for (Index j = 0; j < rank_; ++j) prepared[0] -= std::log(a[j * rank_ + j]);
    if (!gradients) return;
    for (Index i = 0; i < size_; ++i) {  // row i of V is in place: |A^-1 v|^2 = v C^-1 v
      double* const row = precise + i * rank_;
      kernels().solve_lower(rank_, a, row);
      const double explained = row_dot(rank_, row, row);
      diagonal[i] = (1.0 - explained) / (d[i] * d[i]);
      kernels().solve_lower_transposed(rank_, a, row);
      kernels().scale(rank_, 1.0 / d[i], row, row);
    }
  }

  double log_prob(const double* const* args, const double* prepared, double* g, double* z) const noexcept override {
    const double *const d = args[2], *const w = args[3], *const a = prepared + 1;
    std::fill_n(z, rank_, 0.0);
    for (Index i = 0; i < size_; ++i) {
      g[i] = (args[0][i] - args[1][i]) / d[i];
      row_axpy(rank_, g[i] / d[i], w + i * rank_, z);
    }
    kernels().solve_lower(rank_, a, z);
    kernels().solve_lower_transposed(rank_, a, z);
    double square = row_dot(rank_, z, z);
    for (Index i = 0; i < size_; ++i) {
      const double rest = g[i] - row_dot(rank_, w + i * rank_, z) / d[i];
      square += rest * rest;
      g[i] = rest / d[i];
    }
    return prepared[0] - 0.5 * square;
  }

  // Sigma-bar = (g g^T - Sigma^-1) / 2: d-bar = 2 d diag(Sigma-bar), W-bar = 2 Sigma-bar W
  void add_gradient(const double* const* args, const double* prepared, const double* g, double cot,
                    double* const* grads, double* h) const noexcept override {
    const double* const precise = prepared + 1 + rank_ * rank_;
    const double* const diagonal = precise + size_ * rank_;
    if (grads[0] != nullptr) kernels().axpy(size_, -cot, g, grads[0]);
    if (grads[1] != nullptr) kernels().axpy(size_, cot, g, grads[1]);
    if (grads[2] != nullptr) {
      for (Index i = 0; i < size_; ++i) grads[2][i] += cot * args[2][i] * (g[i] * g[i] - diagonal[i]);
    }
    if (grads[3] == nullptr) return;
    std::fill_n(h, rank_, 0.0);  // W^T g
    for (Index i = 0; i < size_; ++i) row_axpy(rank_, g[i], args[3] + i * rank_, h);
    for (Index i = 0; i < size_; ++i) {
      row_axpy(rank_, cot * g[i], h, grads[3] + i * rank_);
      row_axpy(rank_, -cot, precise + i * rank_, grads[3] + i * rank_);
    }
  }

 private:
  Index size_, rank_;
};

}  // namespace klqp
