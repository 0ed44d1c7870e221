// Full-rank Normal: z = mu + L eps, lambda = (mu (D), rows of the lower triangle of L).
//
// Row i of the triangle has i + 1 entries and starts at i (i + 1) / 2: contiguous rows serve every product here. The
// diagonal is kept as rho, the entries below it times sqrt(D): when an optimizer moves every parameter by its learning
// rate, as Adam does, no standard deviation moves by more than about that, whatever D is (maths.md 2.5).
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
        factor_(static_cast<std::size_t>(config.dim * (config.dim + 1) / 2)),
        share_(1.0 / std::sqrt(static_cast<double>(config.dim))) {}

  void start(ConstSpan loc, ConstSpan scale, std::uint64_t, Span params) const override {
    std::fill(params.begin(), params.end(), 0.0);
    for (Index i = 0; i < dim(); ++i) {
      params[i] = loc[i];
      params[diagonal(i)] = scale_to_rho(config_.scale, scale[i]);
    }
  }

  void prepare(ConstSpan params, Team&) noexcept override {
    std::copy_n(params.begin(), dim(), loc_.begin());
    kernels().scale(static_cast<Index>(factor_.size()), share_, params.data() + dim(), factor_.data());
    for (Index i = 0; i < dim(); ++i) rho_[i] = params[diagonal(i)];
    scales_.prepare(config_.scale, rho_.data());
    for (Index i = 0; i < dim(); ++i) factor_[diagonal(i) - dim()] = scales_.value[i];
  }

  void transform(ConstMatrix noise, Matrix z, Team& team) const noexcept override {
    for_row_blocks(team, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        for (Index s = 0; s < noise.rows; ++s) {
          z.row(s)[i] = loc_[i] + kernels().dot(i + 1, row(i), noise.row(s));
        }
      }
    });
  }

  void standardise_noise(ConstMatrix noise, Matrix e, Team&) const noexcept override {
    std::copy_n(noise.data, e.size(), e.data);
  }

  void standardise(ConstMatrix z, Matrix e, Team& team) const noexcept override {
    team.for_range(z.rows, 1, [&](Index s, Index) {
      for (Index i = 0; i < dim(); ++i) {
        const double residual = z.row(s)[i] - loc_[i] - kernels().dot(i, row(i), e.row(s));
        e.row(s)[i] = residual * scales_.inverse[i];
      }
    });
  }

  // Sigma^-1 (z - mu) = L^-T e by back substitution, row by row from the last.
  void add_precision(ConstMatrix e, ConstSpan weights, Matrix cot, Team& team) const noexcept override {
    team.for_range(e.rows, 1, [&](Index s, Index) {
      thread_local std::vector<double> solution;
      solution.assign(e.row(s), e.row(s) + dim());
      for (Index i = dim() - 1; i >= 0; --i) {
        solution[i] *= scales_.inverse[i];
        kernels().axpy(i, -solution[i], row(i), solution.data());
      }
      kernels().axpy(dim(), weights[s], solution.data(), cot.row(s));
    });
  }

  void add_pullback(ConstMatrix noise, ConstMatrix cot, Span grad, Team& team) const noexcept override {
    for_row_blocks(team, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        double* const grad_row = grad.data() + dim() + i * (i + 1) / 2;
        double diagonal_grad = 0.0;
        for (Index s = 0; s < noise.rows; ++s) {
          const double c = cot.row(s)[i];
          grad[i] += c;
          kernels().axpy(i, share_ * c, noise.row(s), grad_row);
          diagonal_grad += c * noise.row(s)[i];
        }
        grad_row[i] += diagonal_grad * scales_.derivative[i];
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
  // Rows of one chunk: blocks of 8 rows keep the draws' noise in cache.
  template <class Body>
  void for_row_blocks(Team& team, const Body& body) const noexcept {
    team.for_range(dim(), 8, body);
  }

  const double* row(Index i) const noexcept { return factor_.data() + i * (i + 1) / 2; }
  // Position of L_ii in lambda.
  Index diagonal(Index i) const noexcept { return dim() + i * (i + 1) / 2 + i; }

  std::vector<double> loc_, rho_;
  Scales scales_;
  std::vector<double> factor_;  // L, packed by rows
  double share_;                // of a parameter in an entry of L below the diagonal
};

}  // namespace klqp
