// Laws of matrices: LKJ on Cholesky factors of correlation matrices, and Wishart.
#pragma once

#include <algorithm>
#include <numbers>

#include "model/bijectors/matrix.hpp"
#include "model/nodes/events/law.hpp"

namespace klqp {

// value L (D, D), concentration eta (1), a density over the entries below the diagonal:
//   log p = sum_(i >= 1) (D - i - 1 + 2 (eta - 1)) log L_ii - log Z(eta)
//   log Z = sum_(k = 1)^(D-1) k/2 log pi + lgamma(eta + (D - 1 - k)/2) - lgamma(eta + (D - 1)/2)
class LkjCholeskyLaw final : public Law {
 public:
  explicit LkjCholeskyLaw(Index size) : size_(size) {
    check_at_least("the dimension", size, 1);
    widths = {size * size, 1};
    n_prepared = 2;
    n_saved = size + 1;
    n_scratch = size;
    work = size * size + 20 * size;
  }

  // prepared: -log Z and its derivative
  void prepare(const double* const* args, bool gradients, double* prepared, double* scratch) const noexcept override {
    const double eta = *args[1];
    if (!(eta > 0.0) || std::isinf(eta)) {
      prepared[0] = kNaN;
      return;
    }
    const auto n = static_cast<double>(size_ - 1);
    const auto fill = [&] {  // first the shared one, then those of k = 1, 2, ...
      for (Index k = 0; k < size_; ++k) scratch[k] = eta + 0.5 * (n - static_cast<double>(k));
    };
    const auto difference = [&] { return n * scratch[0] - kernels().sum(size_ - 1, scratch + 1); };
    fill();
    kernels().lgamma(size_, scratch, scratch);
    prepared[0] = difference() - 0.25 * n * (n + 1.0) * std::log(std::numbers::pi);
    if (!gradients) return;
    fill();
    kernels().digamma(size_, scratch, scratch);
    prepared[1] = difference();
  }

  // saved: log L_ii, and the sum of those
  double log_prob(const double* const* args, const double* prepared, double* saved, double*) const noexcept override {
    const double *const l = args[0], eta = *args[1];
    if (std::isnan(prepared[0])) return kNaN;
    bool inside = is_lower_triangular(size_, l), nan = false;
    for (Index i = 0; i < size_; ++i) {
      const double square = row_dot(i + 1, l + i * size_, l + i * size_);
      nan = nan || std::isnan(square);
      inside = inside && l[i * size_ + i] > 0.0 && std::abs(square - 1.0) <= kTolerance;
      saved[i] = l[i * size_ + i];
    }
    if (nan) return kNaN;
    if (!inside) return kMinusInfinity;
    kernels().log(size_, saved, saved);
    double sum = prepared[0];
    for (Index i = 1; i < size_; ++i) sum += power(i, eta) * saved[i];
    saved[size_] = kernels().sum(size_ - 1, saved + 1);
    return sum;
  }

  void add_gradient(const double* const* args, const double* prepared, const double* saved, double cot,
                    double* const* grads, double*) const noexcept override {
    if (grads[0] != nullptr) {
      for (Index i = 1; i < size_; ++i) {
        grads[0][i * size_ + i] += cot * (power(i, *args[1]) / args[0][i * size_ + i]);
      }
    }
    if (grads[1] != nullptr) *grads[1] += cot * (2.0 * saved[size_] + prepared[1]);
  }

 private:
  // Of the squared length of a row.
  static constexpr double kTolerance = 1e-6;
  double power(Index i, double eta) const noexcept { return static_cast<double>(size_ - i - 1) + 2.0 * (eta - 1.0); }
  Index size_;
};

// value X (D, D), df v (1), S (D, D) lower with V = S S^T, a density over the lower triangle of X. X = A A^T, Y = S^-1
// A:
//   log p = (v - D - 1)/2 log|X| - |Y|^2/2 - v (D/2 log 2 + sum log S_ii) - log Gamma_D(v/2)
class WishartLaw final : public Law {
 public:
  explicit WishartLaw(Index size) : size_(size) {
    check_at_least("the dimension", size, 1);
    widths = {size * size, 1, size * size};
    n_prepared = 2;
    n_saved = size * size + 1;
    n_scratch = 3 * size;
    work = 4 * size * size * (size + 8);
  }

  // prepared: the constant and its derivative in df
  void prepare(const double* const* args, bool gradients, double* prepared, double* scratch) const noexcept override {
    const double df = *args[1], *const s = args[2];
    const auto n = static_cast<double>(size_);
    if (!(df > n - 1.0) || std::isinf(df)) {
      prepared[0] = kNaN;
      return;
    }
    double log_scale = 0.5 * n * std::numbers::ln2;
    for (Index i = 0; i < size_; ++i) log_scale += s[i * size_ + i] > 0.0 ? std::log(s[i * size_ + i]) : kNaN;
    const auto fill = [&] {
      for (Index j = 0; j < size_; ++j) scratch[j] = 0.5 * (df - static_cast<double>(j));
    };
    fill();
    kernels().lgamma(size_, scratch, scratch);
    prepared[0] = -df * log_scale - kernels().sum(size_, scratch) - 0.25 * n * (n - 1.0) * std::log(std::numbers::pi);
    if (!gradients) return;
    fill();
    kernels().digamma(size_, scratch, scratch);
    prepared[1] = -log_scale - 0.5 * kernels().sum(size_, scratch);
  }

  // saved: A, and log|X| / 2
  double log_prob(const double* const* args, const double* prepared, double* a, double* y) const noexcept override {
    if (std::isnan(prepared[0])) return kNaN;
    for (Index i = 0; i < size_ * size_; ++i) {
      if (std::isnan(args[0][i])) return kNaN;
    }
    std::copy_n(args[0], size_ * size_, a);
    if (!is_symmetric(size_, args[0]) || kernels().cholesky(size_, a) != 0) return kMinusInfinity;
    double half_log_det = 0.0, square = 0.0;
    for (Index c = 0; c < size_; ++c) {
      half_log_det += std::log(a[c * size_ + c]);
      solve_column(args[2], a, c, y);
      square += kernels().dot(size_, y, y);
    }
    a[size_ * size_] = half_log_det;
    return prepared[0] + (*args[1] - static_cast<double>(size_) - 1.0) * half_log_det - 0.5 * square;
  }

  // X-bar = (v - D - 1)/2 X^-1 - V^-1/2, S-bar = tril(S^-T Y Y^T) - v diag(1 / S_ii)
  void add_gradient(const double* const* args, const double* prepared, const double* a, double cot,
                    double* const* grads, double* scratch) const noexcept override {
    const double df = *args[1], *const s = args[2];
    double *const y = scratch, *const w = scratch + size_;
    if (grads[0] != nullptr) {
      const double factor = 0.5 * (df - static_cast<double>(size_) - 1.0);
      for (Index c = 0; c < size_; ++c) {
        add_inverse_column(a, c, cot * factor, y, grads[0]);
        add_inverse_column(s, c, -0.5 * cot, y, grads[0]);
      }
    }
    if (grads[1] != nullptr) *grads[1] += cot * (prepared[1] + a[size_ * size_]);
    if (grads[2] == nullptr) return;
    for (Index c = 0; c < size_; ++c) {
      solve_column(s, a, c, y);
      std::copy_n(y, size_, w);
      kernels().solve_lower_transposed(size_, s, w);
      for (Index i = 0; i < size_; ++i) kernels().axpy(i + 1, cot * w[i], y, grads[2] + i * size_);
      grads[2][c * size_ + c] -= cot * df / s[c * size_ + c];
    }
  }

 private:
  // y = S^-1 (column c of A)
  void solve_column(const double* s, const double* a, Index c, double* y) const noexcept {
    for (Index i = 0; i < size_; ++i) y[i] = a[i * size_ + c];
    kernels().solve_lower(size_, s, y);
  }
  // Row c of out (D, D) += factor times that of (L L^T)^-1.
  void add_inverse_column(const double* l, Index c, double factor, double* y, double* out) const noexcept {
    std::fill_n(y, size_, 0.0);
    y[c] = 1.0;
    kernels().solve_lower(size_, l, y);
    kernels().solve_lower_transposed(size_, l, y);
    kernels().axpy(size_, factor, y, out + c * size_);
  }

  Index size_;
};

}  // namespace klqp
