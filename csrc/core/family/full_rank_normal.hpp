// Full-rank Normal: z = mu + L eps, lambda = (mu (D), rows of the lower triangle of L).
//
// Row i of the triangle has i + 1 entries and starts at i (i + 1) / 2 in lambda; prepare() spreads the rows to a
// matrix, and what needs L goes by blocks of its rows, whose part above the diagonal is 0, through the matrix kernels.
// The diagonal is kept as rho, the entries below it times sqrt(D): when an optimizer moves every parameter by its
// learning rate, as Adam does, no standard deviation moves by more than about that, whatever D is (maths.md 2.5).
#pragma once

#include "core/family/family.hpp"

namespace klqp {

class FullRankNormal final : public Family {
 public:
  explicit FullRankNormal(FamilyConfig config)
      : Family(config, config.dim, config.dim + config.dim * (config.dim + 1) / 2),
        loc_(static_cast<std::size_t>(config.dim)),
        rho_(loc_),
        scales_(config.dim),
        factor_(static_cast<std::size_t>(config.dim * config.dim)),
        share_(1.0 / std::sqrt(static_cast<double>(config.dim))) {}

  void start(ConstSpan loc, ConstSpan scale, std::uint64_t, Span params) const override {
    std::fill(params.begin(), params.end(), 0.0);
    for (Index i = 0; i < dim(); ++i) {
      params[i] = loc[i];
      params[diagonal(i)] = scale_to_rho(config_.scale, scale[i]);
    }
  }

  void prepare(ConstSpan params, Team& team) noexcept override {
    std::copy_n(params.begin(), dim(), loc_.begin());
    for (Index i = 0; i < dim(); ++i) rho_[i] = params[diagonal(i)];
    scales_.prepare(config_.scale, rho_.data());
    team.for_range(dim(), kRows, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        double* const row = factor_.data() + i * dim();
        kernels().scale(i, share_, params.data() + row_start(i), row);
        row[i] = scales_.value[i];
      }
    });
  }

  void transform(ConstMatrix noise, Matrix z, Team& team) const noexcept override {
    team.for_range(dim(), kRows, [&](Index begin, Index end) {
      for (Index s = 0; s < z.rows; ++s) std::copy_n(&loc_[begin], end - begin, z.row(s) + begin);
      kernels().matmul_nt(z.rows, end - begin, end, noise.data, noise.cols, row(begin), dim(), z.data + begin, z.cols);
    });
  }

  void standardise_noise(ConstMatrix noise, Matrix e, Team&) const noexcept override {
    std::copy_n(noise.data, e.size(), e.data);
  }

  // L e = z - mu
  void standardise(ConstMatrix z, Matrix e, Team& team) const noexcept override {
    for_draws(e.rows, team, [&](Index begin, Index end) {
      std::copy_n(z.row(begin), (end - begin) * dim(), e.row(begin));
      for (Index s = begin; s < end; ++s) kernels().axpy(dim(), -1.0, loc_.data(), e.row(s));
      kernels().solve_right_lower_transposed(end - begin, dim(), factor_.data(), dim(), e.row(begin), dim());
    });
  }

  // Sigma^-1 (z - mu) = L^-T e
  void add_precision(ConstMatrix e, ConstSpan weights, Matrix cot, Team& team) const noexcept override {
    for_draws(e.rows, team, [&](Index begin, Index end) {
      thread_local std::vector<double> solution;
      solution.assign(e.row(begin), e.row(begin) + (end - begin) * dim());
      kernels().solve_right_lower(end - begin, dim(), factor_.data(), dim(), solution.data(), dim());
      for (Index s = begin; s < end; ++s) {
        kernels().axpy(dim(), weights[s], solution.data() + (s - begin) * dim(), cot.row(s));
      }
    });
  }

  // The products of cotangents and noise, by pieces of L that lie on the stack.
  void add_pullback(ConstMatrix noise, ConstMatrix cot, Span grad, Team& team) const noexcept override {
    team.for_range(dim(), kPieceRows, [&](Index begin, Index end) {
      for (Index s = 0; s < cot.rows; ++s) kernels().axpy(end - begin, 1.0, cot.row(s) + begin, &grad[begin]);
      for (Index from = 0; from < end; from += kPieceCols) {
        const Index cols = std::min(kPieceCols, end - from);
        double products[kPieceRows * kPieceCols];
        std::fill_n(products, (end - begin) * cols, 0.0);
        kernels().matmul_tn(end - begin, cols, noise.rows, cot.data + begin, cot.cols, noise.data + from, noise.cols,
                            products, cols);
        for (Index i = begin; i < end; ++i) add_row_piece(i, from, cols, products + (i - begin) * cols, grad);
      }
    });
  }

  void add_entropy_gradient(double weight, Span grad) const noexcept override {
    for (Index i = 0; i < dim(); ++i) {
      grad[diagonal(i)] += weight * (scales_.derivative[i] * scales_.inverse[i]);
    }
  }

  double half_log_det() const noexcept override { return scales_.sum_log; }

  void project(Span params) const noexcept override {
    for (Index i = 0; i < dim(); ++i) project_scales(config_.scale, params.subspan(diagonal(i), 1));
  }
  void proximal_step(double gamma, Span params) const noexcept override {
    for (Index i = 0; i < dim(); ++i) proximal_scales(gamma, params.subspan(diagonal(i), 1));
  }
  bool proximal() const noexcept override { return config_.scale == ScaleLink::linear; }
  void contract(double factor, Span params) const noexcept override {
    for (Index i = 0; i < dim(); ++i) {
      kernels().scale(i, factor, &params[diagonal(i) - i], &params[diagonal(i) - i]);
      contract_scales(config_.scale, factor, params.subspan(diagonal(i), 1));
    }
  }

  void mean(Span out) const noexcept override { std::copy(loc_.begin(), loc_.end(), out.begin()); }
  void stddev(Span out) const noexcept override {
    for (Index i = 0; i < dim(); ++i) out[i] = std::sqrt(kernels().dot(i + 1, row(i), row(i)));
  }
  void covariance(Matrix out) const noexcept override {
    for (Index i = 0; i < dim(); ++i) {
      for (Index j = 0; j <= i; ++j) out.row(i)[j] = out.row(j)[i] = kernels().dot(j + 1, row(i), row(j));
    }
  }

 private:
  static constexpr Index kRows = 32;  // of L in one chunk
  static constexpr Index kPieceRows = 16, kPieceCols = 128;

  // Draws of one chunk share what they read of L.
  template <class Body>
  void for_draws(Index n, Team& team, const Body& body) const noexcept {
    team.for_range(n, 32, body);
  }

  // The gradient of L_ij for j in [from, from + cols), of which those with j <= i are in lambda.
  void add_row_piece(Index i, Index from, Index cols, const double* products, Span grad) const noexcept {
    const Index below = std::min(i - from, cols);
    if (below > 0) kernels().axpy(below, share_, products, &grad[row_start(i) + from]);
    if (below >= 0 && below < cols) grad[diagonal(i)] += products[below] * scales_.derivative[i];
  }

  const double* row(Index i) const noexcept { return factor_.data() + i * dim(); }
  // Position of row i of L in lambda.
  Index row_start(Index i) const noexcept { return dim() + i * (i + 1) / 2; }
  // Position of L_ii in lambda.
  Index diagonal(Index i) const noexcept { return row_start(i) + i; }

  std::vector<double> loc_, rho_;
  Scales scales_;
  std::vector<double> factor_;  // L (D, D), 0 above the diagonal
  double share_;                // of a parameter in an entry of L below the diagonal
};

}  // namespace klqp
