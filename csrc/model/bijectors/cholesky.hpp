// Bijectors of covariance matrices and of their Cholesky factors: u holds the rows of the lower triangle of L, with
// the logarithms of the diagonal. maths.md 8.4
#pragma once

#include <numbers>

#include "core/limits.hpp"
#include "model/bijectors/bijector.hpp"
#include "model/bijectors/matrix.hpp"
#include "model/bijectors/tiles.hpp"

namespace klqp {

// z = L, full (K, K) with zeros above the diagonal
class CholeskyFactor final : public Bijector {
 public:
  explicit CholeskyFactor(const BijectorConfig& config)
      : Bijector("cholesky_cov", config.n_events, config.size * (config.size + 1) / 2, config.size * config.size),
        size_(config.size) {}

  void forward(const double* u, double* z, double* log_jacobian) const noexcept override {
    std::fill_n(z, n_constrained(), 0.0);
    for (Index event = 0; event < n_events(); ++event, z += n_entries()) {
      log_jacobian[event] = 0.0;
      for (Index i = 0; i < size_; ++i) {
        std::copy_n(u, i, z + i * size_);
        u += i;
        log_jacobian[event] += *u;
        z[i * size_ + i] = std::exp(*u++);
      }
    }
  }

  void add_pullback(const double*, const double* z, const double* cot_z, const double* cot_log_jacobian,
                    double* cot_u) const noexcept override {
    for (Index event = 0; event < n_events(); ++event, z += n_entries(), cot_z += n_entries()) {
      for (Index i = 0; i < size_; ++i) {
        for (Index j = 0; j < i; ++j) *cot_u++ += cot_z[i * size_ + j];
        *cot_u++ += pulled(cot_z[i * size_ + i], z[i * size_ + i]) + cot_log_jacobian[event];
      }
    }
  }

  void inverse(const double* z, double* u) const noexcept override {
    for (Index event = 0; event < n_events(); ++event, z += n_entries(), u += n_free()) {
      bool inside = is_lower_triangular(size_, z);
      double* out = u;
      for (Index i = 0; i < size_; ++i) {
        out = std::copy_n(z + i * size_, i, out);
        inside = inside && z[i * size_ + i] >= 0.0;
        *out++ = std::log(z[i * size_ + i]);
      }
      if (!inside) std::fill_n(u, n_free(), kNaN);
    }
  }

 private:
  Index size_;
};

// z = L L^T, full (K, K)
class Covariance final : public Bijector {
 public:
  explicit Covariance(const BijectorConfig& config)
      : Bijector("covariance", config.n_events, config.size * (config.size + 1) / 2, config.size * config.size),
        size_(config.size) {}

  void forward(const double* u, double* z, double* log_jacobian) const noexcept override {
    for (Index event = 0; event < n_events(); ++event, z += n_entries(), u += n_free()) {
      log_jacobian[event] = static_cast<double>(size_) * std::numbers::ln2;
      for (Index i = 0; i < size_; ++i) {
        const double* row = u + offset(i);
        std::copy_n(row, i, z + i * size_);
        z[i * size_ + i] = std::exp(row[i]);
        log_jacobian[event] += power(i) * row[i];
      }
      square_factor(size_, z);
    }
  }

  void add_pullback(const double* u, const double*, const double* cot_z, const double* cot_log_jacobian,
                    double* cot_u) const noexcept override {
    double column[kLargestMatrix], cot[kLargestMatrix];
    for (Index event = 0; event < n_events(); ++event, cot_z += n_entries(), u += n_free(), cot_u += n_free()) {
      for (Index j = 0; j < size_; ++j) {
        column[j] = std::exp(u[offset(j) + j]);
        for (Index i = j + 1; i < size_; ++i) column[i] = u[offset(i) + j];
        pull_column(size_, j, cot_z, column, true, cot);
        cot_u[offset(j) + j] += pulled(cot[j], column[j]) + power(j) * cot_log_jacobian[event];
        for (Index i = j + 1; i < size_; ++i) cot_u[offset(i) + j] += cot[i];
      }
    }
  }

  void inverse(const double* z, double* u) const noexcept override {
    for (Index event = 0; event < n_events(); ++event, z += n_entries(), u += n_free()) {
      if (!is_symmetric(size_, z) || !factorise(z, u)) {
        std::fill_n(u, n_free(), kNaN);
      }
    }
  }

 private:
  // Where row i of the packed triangle begins.
  static Index offset(Index i) noexcept { return i * (i + 1) / 2; }
  // The power of L_ii in the Jacobian, counting i from 0.
  double power(Index i) const noexcept { return static_cast<double>(size_ - i + 1); }

  // u (n_free) from z (size, size), or false where z is not positive definite
  bool factorise(const double* z, double* u) const noexcept {
    for (Index i = 0; i < size_; ++i) {
      double* row = u + offset(i);
      for (Index j = 0; j < i; ++j) {
        row[j] = (z[i * size_ + j] - row_dot(j, row, u + offset(j))) / u[offset(j) + j];
      }
      const double pivot = z[i * size_ + i] - row_dot(i, row, row);
      if (!(pivot > 0.0)) return false;
      row[i] = std::sqrt(pivot);
    }
    for (Index i = 0; i < size_; ++i) u[offset(i) + i] = std::log(u[offset(i) + i]);
    return true;
  }

  Index size_;
};

}  // namespace klqp
