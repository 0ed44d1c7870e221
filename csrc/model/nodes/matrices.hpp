// Cholesky factors, triangular solves, and affine maps by triangular matrices.
#pragma once

#include <algorithm>

#include "core/limits.hpp"
#include "model/node.hpp"

namespace klqp {

inline Index matrix_grain(Index work) noexcept { return std::max<Index>(1, 16384 / std::max<Index>(1, work)); }

// out (n, D, D) = lower Cholesky factors of x (n, D, D); NaN where x is not positive definite. The strict upper
// triangles of x are not read; its cotangents are symmetric.
class Cholesky final : public Node {
 public:
  Cholesky(Index n, Index size, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), n_(n), size_(size) {
    if (n < 1 || size < 1 || in(0).size != n * size * size || output->size != in(0).size) {
      throw ConfigError("the sizes of a Cholesky factor do not fit together");
    }
  }

  void reserve(Index n_draws) override {
    if (in(0).active) scratch_.assign(static_cast<std::size_t>(output_->rows(n_draws) * output_->size), 0.0);
  }

  void forward(Index n_draws, Team& team) override {
    const Index entries = size_ * size_, total = output_->rows(n_draws) * n_;
    team.for_range(total, matrix_grain(entries * size_), [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t) {
        double* const to = output_->value + t * entries;
        std::copy_n(in(0).value + t * entries, entries, to);
        if (kernels().cholesky(size_, to) != 0) std::fill_n(to, entries, kNaN);
      }
    });
  }

  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    const Index entries = size_ * size_;
    sweep.for_rows(output_->per_draw, [&](Index first, Index rows) {
      sweep.team.for_range(rows * n_, matrix_grain(2 * entries * size_), [&](Index begin, Index end) {
        for (Index t = first * n_ + begin; t < first * n_ + end; ++t) {
          double* const work = scratch_.data() + t * entries;
          std::copy_n(output_->adjoint + t * entries, entries, work);
          kernels().cholesky_pullback(size_, output_->value + t * entries, work);
          kernels().axpy(entries, 1.0, work, in(0).adjoint + t * entries);
        }
      });
    });
  }

  Index work(Index n_draws) const override { return output_->rows(n_draws) * n_ * size_ * size_ * size_; }

 private:
  Index n_, size_;
  std::vector<double> scratch_;
};

// out (n, D, k) = L^-1 b, or L^-T b, for lower L (n, D, D), or (D, D) for all n, and b (n, D, k). The strict upper
// triangle of L is not read and its cotangent is 0.
class SolveTriangular final : public Node {
 public:
  SolveTriangular(Index n, Index size, Index cols, bool transposed, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), n_(n), size_(size), cols_(cols), transposed_(transposed) {
    const Index entries = size * size;
    if (n < 1 || size < 1 || cols < 1 || (in(0).size != entries && in(0).size != n * entries) ||
        in(1).size != n * size * cols || output->size != in(1).size) {
      throw ConfigError("the sizes of a triangular solve do not fit together");
    }
  }

  void reserve(Index n_draws) override {
    scratch_.assign(static_cast<std::size_t>(output_->rows(n_draws) * n_ * 2 * size_), 0.0);
  }

  void forward(Index n_draws, Team& team) override {
    team.for_range(output_->rows(n_draws) * n_, matrix_grain(size_ * size_ * cols_), [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t) {
        const double* const b = in(1).at(t / n_) + t % n_ * size_ * cols_;
        double *const out = output_->value + t * size_ * cols_, *const x = scratch_.data() + t * 2 * size_;
        for (Index c = 0; c < cols_; ++c) {
          for (Index i = 0; i < size_; ++i) x[i] = b[i * cols_ + c];
          solve(factor(t), transposed_, x);
          for (Index i = 0; i < size_; ++i) out[i * cols_ + c] = x[i];
        }
      }
    });
  }

  // b-bar = L^-T x-bar and L-bar = -tril(b-bar x^T); for the transposed one b-bar = L^-1 x-bar, L-bar = -tril(x
  // b-bar^T). Matrices that share a cotangent are one thread's.
  void backward(const Sweep& sweep) override {
    sweep.for_rows(output_->per_draw, [&](Index first, Index rows) {
      const bool owned = (in(0).per_draw || !output_->per_draw) && (in(1).per_draw || !output_->per_draw) &&
                         (in(0).size == n_ * size_ * size_);
      const Index total = rows * n_;
      sweep.team.for_range(total, owned ? matrix_grain(2 * size_ * size_ * cols_) : total, [&](Index begin, Index end) {
        for (Index t = first * n_ + begin; t < first * n_ + end; ++t) pull(t);
      });
    });
  }

  Index work(Index n_draws) const override { return 2 * output_->rows(n_draws) * n_ * size_ * size_ * cols_; }

 private:
  Index factor_offset(Index t) const noexcept { return in(0).size == size_ * size_ ? 0 : t % n_ * size_ * size_; }
  const double* factor(Index t) const noexcept { return in(0).at(t / n_) + factor_offset(t); }
  void solve(const double* l, bool transposed, double* x) const noexcept {
    transposed ? kernels().solve_lower_transposed(size_, l, x) : kernels().solve_lower(size_, l, x);
  }

  void pull(Index t) noexcept {
    const double *const cot = output_->adjoint + t * size_ * cols_, *const out = output_->value + t * size_ * cols_;
    double *const b_bar = scratch_.data() + t * 2 * size_, *const x = b_bar + size_;
    for (Index c = 0; c < cols_; ++c) {
      for (Index i = 0; i < size_; ++i) {
        b_bar[i] = cot[i * cols_ + c];
        x[i] = out[i * cols_ + c];
      }
      solve(factor(t), !transposed_, b_bar);
      if (in(1).active) {
        double* const to = in(1).adjoint_at(t / n_) + t % n_ * size_ * cols_;
        for (Index i = 0; i < size_; ++i) to[i * cols_ + c] += b_bar[i];
      }
      if (!in(0).active) continue;
      double* const to = in(0).adjoint_at(t / n_) + factor_offset(t);
      const double *const left = transposed_ ? x : b_bar, *const right = transposed_ ? b_bar : x;
      for (Index i = 0; i < size_; ++i) kernels().axpy(i + 1, -left[i], right, to + i * size_);
    }
  }

  Index n_, size_, cols_;
  bool transposed_;
  std::vector<double> scratch_;  // (rows, n, 2, D)
};

// A draw: z (n, D) = loc + L noise for loc (D) and lower L (D, D), each for all n or one for each. Inputs: loc, L,
// noise.
class TrilDraw final : public Node {
 public:
  TrilDraw(Index n, Index size, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), n_(n), size_(size) {
    const auto fits = [&](const Slot& x, Index width) { return x.size == width || x.size == n * width; };
    if (n < 1 || size < 1 || !fits(in(0), size) || !fits(in(1), size * size) || in(2).size != n * size ||
        output->size != n * size) {
      throw ConfigError("the sizes of a normal draw do not fit together");
    }
  }

  void forward(Index n_draws, Team& team) override {
    team.for_range(output_->rows(n_draws) * n_, matrix_grain(size_ * size_), [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t) {
        const Index s = t / n_, e = t % n_;
        const double *const loc = in(0).at(s) + offset(0, e), *const l = in(1).at(s) + offset(1, e);
        const double* const noise = in(2).at(s) + e * size_;
        double* const z = output_->value + t * size_;
        for (Index i = 0; i < size_; ++i) z[i] = loc[i] + kernels().dot(i + 1, l + i * size_, noise);
      }
    });
  }

  void backward(const Sweep& sweep) override {
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      for (Index e = 0; e < n_; ++e) {
        const double* const cot = output_->adjoint_at(s) + e * size_;
        if (in(0).active) kernels().axpy(size_, 1.0, cot, in(0).adjoint_at(s) + offset(0, e));
        if (!in(1).active) continue;
        const double* const noise = in(2).at(s) + e * size_;
        double* const to = in(1).adjoint_at(s) + offset(1, e);
        for (Index i = 0; i < size_; ++i) kernels().axpy(i + 1, cot[i], noise, to + i * size_);
      }
    });
  }

  Index work(Index n_draws) const override { return 2 * output_->rows(n_draws) * n_ * size_ * size_; }

 private:
  Index offset(std::size_t k, Index e) const noexcept {
    const Index width = k == 0 ? size_ : size_ * size_;
    return in(k).size == width ? 0 : e * width;
  }

  Index n_, size_;
};

}  // namespace klqp
