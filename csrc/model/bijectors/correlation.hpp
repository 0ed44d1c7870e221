// Bijectors of correlation matrices and of their Cholesky factors, by canonical partial correlations w = tanh(u)
// (Lewandowski, Kurowicka & Joe 2009): row i of the factor is w_i0, w_i1 P_i1, w_i2 P_i2, ..., P_ii with
// P_ij = sech(u_i0) ... sech(u_i(j-1)). maths.md 8.5
#pragma once

#include <numbers>

#include "core/limits.hpp"
#include "model/bijectors/bijector.hpp"
#include "model/bijectors/matrix.hpp"
#include "model/bijectors/tiles.hpp"

namespace klqp {

// tanh and sech, u (n) -> w (n), h (n); n <= kTile; each to its last digits, wherever u is
inline void fill_hyperbolic(Index n, const double* u, double* w, double* h) noexcept {
  fill_decay(n, u, h);
  for (Index t = 0; t < n; ++t) w[t] = -2.0 * std::abs(u[t]);
  kernels().expm1(n, w, w);
  for (Index t = 0; t < n; ++t) {
    w[t] = std::copysign(w[t] / (2.0 + w[t]), u[t]);
    h[t] = 2.0 * h[t] / (1.0 + h[t] * h[t]);
  }
}

// log sech, u (n) -> out (n); n <= kTile
inline void fill_log_sech(Index n, const double* u, double* out) noexcept {
  for (Index t = 0; t < n; ++t) out[t] = -2.0 * std::abs(u[t]);
  kernels().softplus(n, out, out);
  for (Index t = 0; t < n; ++t) out[t] = std::numbers::ln2 - std::abs(u[t]) - out[t];
}

// z = L, full (K, K) with zeros above the diagonal; u holds the rows below the diagonal.
class CholeskyCorrelation final : public Bijector {
 public:
  explicit CholeskyCorrelation(const BijectorConfig& config)
      : Bijector("cholesky_corr", config.n_events, config.size * (config.size - 1) / 2, config.size * config.size),
        size_(config.size) {}

  void forward(const double* u, double* z, double* log_jacobian) const noexcept override {
    std::fill_n(z, n_constrained(), 0.0);
    std::fill_n(log_jacobian, n_events(), 0.0);
    for (Index event = 0; event < n_events(); ++event) z[event * n_entries()] = 1.0;
    Index i = 1, j = 0;
    double rest = 1.0;  // P_ij
    for_tiles(n_unconstrained(), [&](Index begin, Index n) {
      double w[kTile], h[kTile], log_h[kTile];
      fill_hyperbolic(n, u + begin, w, h);
      fill_log_sech(n, u + begin, log_h);
      for (Index t = 0; t < n; ++t) {
        z[i * size_ + j] = w[t] * rest;
        rest *= h[t];
        *log_jacobian += static_cast<double>(i + 1 - j) * log_h[t];
        if (++j < i) continue;
        z[i * size_ + i] = rest;
        rest = 1.0;
        j = 0;
        if (++i < size_) continue;
        i = 1;
        z += n_entries();
        ++log_jacobian;
      }
    });
  }

  // With A_j the cotangent of P_ij: A_j = w_j cot_j + h_j A_(j+1).
  void add_pullback(const double* u, const double* z, const double* cot_z, const double* cot_log_jacobian,
                    double* cot_u) const noexcept override {
    Index event = n_events(), i = 1, j = 0;
    double cot_rest = 0.0, rest = 0.0;
    for_tiles_backwards(n_unconstrained(), [&](Index begin, Index n) {
      double w[kTile], h[kTile];
      fill_hyperbolic(n, u + begin, w, h);
      for (Index t = n - 1; t >= 0; --t) {
        if (j == 0) {
          if (--i == 0) {
            i = size_ - 1;
            --event;
          }
          j = i;
          rest = z[event * n_entries() + i * size_ + i];
          cot_rest = cot_z[event * n_entries() + i * size_ + i];
        }
        --j;
        const Index entry = event * n_entries() + i * size_ + j;
        cot_u[begin + t] += rest * (h[t] * cot_z[entry] - w[t] * cot_rest) -
                            cot_log_jacobian[event] * (static_cast<double>(i + 1 - j) * w[t]);
        cot_rest = w[t] * cot_z[entry] + h[t] * cot_rest;
        // P_ij from the larger of tanh and sech, so that it comes back where P_i(j+1) has underflowed
        const bool large = std::abs(w[t]) > 0.5;
        rest = large ? z[entry] / w[t] : rest / h[t];
      }
    });
  }

  void inverse(const double* z, double* u) const noexcept override {
    for (Index event = 0; event < n_events(); ++event, z += n_entries(), u += n_free()) {
      bool inside = is_lower_triangular(size_, z);
      for (Index i = 0; i < size_; ++i) {
        const double* row = z + i * size_;
        double* out = u + i * (i - 1) / 2;
        double rest = row[i];
        inside = inside && rest >= 0.0;
        for (Index j = i - 1; j >= 0; --j) {
          out[j] = row[j] == 0.0 ? 0.0 : std::asinh(row[j] / rest);  // sinh(u) = tanh(u) / sech(u)
          rest = std::hypot(rest, row[j]);
        }
        inside = inside && std::abs(rest - 1.0) <= kSupportTolerance;
      }
      if (!inside) std::fill_n(u, n_free(), kNaN);
    }
  }

 private:
  Index size_;
};

// z = L L^T, full (K, K); u holds the *columns* below the diagonal, as Stan has it.
class Correlation final : public Bijector {
 public:
  explicit Correlation(const BijectorConfig& config)
      : Bijector("correlation", config.n_events, config.size * (config.size - 1) / 2, config.size * config.size),
        size_(config.size) {}

  void forward(const double* u, double* z, double* log_jacobian) const noexcept override {
    std::fill_n(log_jacobian, n_events(), 0.0);
    for (Index event = 0; event < n_events(); ++event) {
      // The diagonal is P_ij until row i is done.
      for (Index i = 0; i < size_; ++i) z[event * n_entries() + i * size_ + i] = 1.0;
    }
    Index i = 1, j = 0;
    for_tiles(n_unconstrained(), [&](Index begin, Index n) {
      double w[kTile], h[kTile], log_h[kTile];
      fill_hyperbolic(n, u + begin, w, h);
      fill_log_sech(n, u + begin, log_h);
      for (Index t = 0; t < n; ++t) {
        double& rest = z[i * size_ + i];
        z[i * size_ + j] = w[t] * rest;
        rest *= h[t];
        *log_jacobian += static_cast<double>(size_ - j) * log_h[t];
        if (++i < size_) continue;
        ++j;
        i = j + 1;
        if (i < size_) continue;
        square_factor(size_, z);
        for (Index k = 0; k < size_; ++k) z[k * size_ + k] = 1.0;
        z += n_entries();
        ++log_jacobian;
        i = 1;
        j = 0;
      }
    });
  }

  // As for the factor, but by columns from the last, and P_ij goes back by its logarithm.
  void add_pullback(const double* u, const double*, const double* cot_z, const double* cot_log_jacobian,
                    double* cot_u) const noexcept override {
    double log_rest[kLargestMatrix], rest[kLargestMatrix], before[kLargestMatrix], cot_rest[kLargestMatrix];
    double column[kLargestMatrix], cot[kLargestMatrix];
    Columns columns;
    for (Index event = 0; event < n_events(); ++event) {
      // log P_ii, with the diagonal's index as that of the row
      std::fill_n(log_rest, size_, 0.0);
      Index row = 1, first = 1;
      for_tiles(n_free(), [&](Index begin, Index n) {
        double log_h[kTile];
        fill_log_sech(n, u + begin, log_h);
        for (Index t = 0; t < n; ++t) {
          log_rest[row] += log_h[t];
          if (++row == size_) row = ++first;
        }
      });
      kernels().exp(size_, log_rest, rest);
      Index loaded = n_free();  // what follows from there on is in `columns` or done
      for (Index j = size_ - 1; j >= 0; --j) {
        const Index start = position(j + 1, j);
        if (start < loaded) loaded = load(u, start + below(j), columns);
        const double *w = columns.w + (start - loaded), *h = columns.h + (start - loaded);
        const double* log_h = columns.log_h + (start - loaded);

        column[j] = rest[j];  // L_jj
        for (Index t = 0; t < below(j); ++t) log_rest[j + 1 + t] -= log_h[t];
        kernels().exp(below(j), log_rest + j + 1, before);
        for (Index t = 0; t < below(j); ++t) column[j + 1 + t] = w[t] * before[t];
        pull_column(size_, j, cot_z, column, false, cot);

        cot_rest[j] = cot[j];
        const double power = static_cast<double>(size_ - j) * cot_log_jacobian[event];
        for (Index t = 0; t < below(j); ++t) {
          const Index i = j + 1 + t;
          cot_u[start + t] += rest[i] * (h[t] * cot[i] - w[t] * cot_rest[i]) - power * w[t];
          cot_rest[i] = w[t] * cot[i] + h[t] * cot_rest[i];
          rest[i] = before[t];
        }
      }
      u += n_free();
      cot_u += n_free();
      cot_z += n_entries();
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
  // Entries of column j below the diagonal.
  Index below(Index j) const noexcept { return size_ - 1 - j; }
  // Where entry (i, j), i > j, is in u.
  Index position(Index i, Index j) const noexcept { return n_free() - below(j) * (below(j) + 1) / 2 + i - j - 1; }

  // tanh, sech and log sech of several columns
  struct Columns {
    double w[kLargestMatrix], h[kLargestMatrix], log_h[kLargestMatrix];
  };

  // Fills `columns` with the whole columns before `end` that there is room for, and returns where they start.
  Index load(const double* u, Index end, Columns& columns) const noexcept {
    Index first = end;
    for (Index j = size_ - 2; j >= 0; --j) {
      const Index start = position(j + 1, j);
      if (start < end && end - start <= kLargestMatrix) first = start;
    }
    for_tiles(end - first, [&](Index begin, Index n) {
      fill_hyperbolic(n, u + first + begin, columns.w + begin, columns.h + begin);
      fill_log_sech(n, u + first + begin, columns.log_h + begin);
    });
    return first;
  }

  // u (n_free) from z (size, size), or false where z is not a correlation matrix
  bool factorise(const double* z, double* u) const noexcept {
    double diagonal[kLargestMatrix];
    for (Index i = 0; i < size_; ++i) {
      if (!(std::abs(z[i * size_ + i] - 1.0) <= kSupportTolerance)) return false;
      double pivot = 1.0;
      for (Index j = 0; j < i; ++j) {
        double entry = z[i * size_ + j];
        for (Index m = 0; m < j; ++m) entry -= u[position(i, m)] * u[position(j, m)];
        entry /= diagonal[j];
        u[position(i, j)] = entry;
        pivot -= entry * entry;
      }
      if (!(pivot > 0.0)) return false;
      diagonal[i] = std::sqrt(pivot);
    }
    for (Index i = 0; i < size_; ++i) {
      double rest = diagonal[i];
      for (Index j = i - 1; j >= 0; --j) {
        double& entry = u[position(i, j)];
        const double before = std::hypot(rest, entry);
        entry = std::asinh(entry / rest);
        rest = before;
      }
    }
    return true;
  }

  Index size_;
};

}  // namespace klqp
