// Low-rank-plus-diagonal Normal: z = mu + d * eps + B eta, lambda = (mu (D), rho (D), sqrt(r) B by columns).
//
// The factor sqrt(r) has the same reason as sqrt(D) in the full-rank family. Noise is (eta (r), eps (D)). With B~ = B /
// d by rows and A = I + B~^T B~ = R R^T (Cholesky), maths.md 2.6:
//   k = A^-1 (eta - B~^T eps),  e = (eta - k, eps + B~ k),  Sigma^-1 (z - mu) = (eps + B~ k) / d,
//   log|Sigma| = 2 sum log d + log|A|. No D x D matrix is ever formed.
#pragma once

#include "core/family/family.hpp"
#include "core/noise.hpp"

namespace klqp {

class LowRankNormal final : public Family {
 public:
  explicit LowRankNormal(FamilyConfig config)
      : Family(config, config.rank + config.dim, (2 + config.rank) * config.dim),
        rank_(config.rank),
        loc_(static_cast<std::size_t>(config.dim)),
        scales_(config.dim),
        factor_(static_cast<std::size_t>(config.rank * config.dim)),
        whitened_(factor_),
        inner_(static_cast<std::size_t>(config.rank * config.rank)),
        share_(1.0 / std::sqrt(static_cast<double>(config.rank))) {}

  // B starts as small noise: at B = 0 its gradient vanishes in expectation.
  void start(ConstSpan loc, ConstSpan scale, std::uint64_t seed, Span params) const override {
    Team serial(1);
    fill_noise(noise_key(seed, Stream::start), {}, {params.data() + 2 * dim(), rank_, dim()}, serial);
    for (Index i = 0; i < dim(); ++i) {
      params[i] = loc[i];
      params[dim() + i] = scale_to_rho(config_.scale, scale[i]);
      for (Index k = 0; k < rank_; ++k) params[(2 + k) * dim() + i] *= 0.1 * scale[i];
    }
  }

  void prepare(ConstSpan params, Team& team) noexcept override {
    std::copy_n(params.begin(), dim(), loc_.begin());
    scales_.prepare(config_.scale, params.data() + dim());
    kernels().scale(rank_ * dim(), share_, params.data() + 2 * dim(), factor_.data());
    std::fill(whitened_.begin(), whitened_.end(), 0.0);
    team.for_range(rank_, 1, [&](Index k, Index) {
      kernels().multiply_add(dim(), 1.0, column(k), scales_.inverse.data(), whitened_.data() + k * dim());
    });
    factorise(team);
  }

  void transform(ConstMatrix noise, Matrix z, Team& team) const noexcept override {
    for_blocks(team, [&](Index begin, Index n) {
      for (Index s = 0; s < noise.rows; ++s) {
        const double* const eta = noise.row(s);
        double* const out = z.row(s) + begin;
        kernels().affine(n, loc_.data() + begin, scales_.value.data() + begin, eta + rank_ + begin, out);
        for (Index k = 0; k < rank_; ++k) kernels().axpy(n, eta[k], column(k) + begin, out);
      }
    });
  }

  bool standardises() const noexcept override { return true; }
  void standardise_noise(ConstMatrix noise, Matrix e, Team& team) const noexcept override {
    team.for_range(noise.rows, 1, [&](Index s, Index) {
      const double* const eta = noise.row(s);
      const double* const eps = eta + rank_;
      double* const out = e.row(s);
      for (Index k = 0; k < rank_; ++k) out[k] = eta[k] - kernels().dot(dim(), whitened(k), eps);
      solve(out);
      std::copy_n(eps, dim(), out + rank_);
      for (Index k = 0; k < rank_; ++k) kernels().axpy(dim(), out[k], whitened(k), out + rank_);
      for (Index k = 0; k < rank_; ++k) out[k] = eta[k] - out[k];
    });
  }

  // eta^ = A^-1 B~^T u and eps^ = u - B~ eta^ with u = (z - mu) / d.
  void standardise(ConstMatrix z, Matrix e, Team& team) const noexcept override {
    team.for_range(z.rows, 1, [&](Index s, Index) {
      double* const eta = e.row(s);
      double* const eps = eta + rank_;
      for (Index i = 0; i < dim(); ++i) eps[i] = (z.row(s)[i] - loc_[i]) * scales_.inverse[i];
      for (Index k = 0; k < rank_; ++k) eta[k] = kernels().dot(dim(), whitened(k), eps);
      solve(eta);
      for (Index k = 0; k < rank_; ++k) kernels().axpy(dim(), -eta[k], whitened(k), eps);
    });
  }

  void add_precision(ConstMatrix e, ConstSpan weights, Matrix cot, Team& team) const noexcept override {
    for_blocks(team, [&](Index begin, Index n) {
      for (Index s = 0; s < e.rows; ++s) {
        kernels().multiply_add(n, weights[s], e.row(s) + rank_ + begin, scales_.inverse.data() + begin,
                               cot.row(s) + begin);
      }
    });
  }

  void add_pullback(ConstMatrix noise, ConstMatrix cot, Span grad, Team& team) const noexcept override {
    for_blocks(team, [&](Index begin, Index n) {
      double scale_grad[kBlock] = {};
      for (Index s = 0; s < noise.rows; ++s) {
        const double* const eta = noise.row(s);
        const double* const c = cot.row(s) + begin;
        kernels().location_scale_pullback(n, c, eta + rank_ + begin, grad.data() + begin, scale_grad);
        for (Index k = 0; k < rank_; ++k) kernels().axpy(n, share_ * eta[k], c, grad.data() + (2 + k) * dim() + begin);
      }
      kernels().multiply_add(n, 1.0, scale_grad, scales_.derivative.data() + begin, grad.data() + dim() + begin);
    });
  }

  // dH/dB = D^-1 B A^-1 and dH/dd_i = (1 - b~_i^T A^-1 b~_i) / d_i, by columns of length D.
  void add_entropy_gradient(double weight, Span grad) const noexcept override {
    thread_local std::vector<double> solved, explained;  // B~ A^-1, laid out as B; b~_i^T A^-1 b~_i
    solved.assign(whitened_.begin(), whitened_.end());
    solve_columns(solved.data());
    explained.assign(static_cast<std::size_t>(dim()), 0.0);
    for (Index k = 0; k < rank_; ++k) {
      const double* const column_k = solved.data() + k * dim();
      kernels().multiply_add(dim(), 1.0, column_k, whitened(k), explained.data());
      kernels().multiply_add(dim(), weight * share_, column_k, scales_.inverse.data(), grad.data() + (2 + k) * dim());
    }
    for (Index i = 0; i < dim(); ++i) {
      grad[dim() + i] += weight * (1.0 - explained[i]) * scales_.inverse[i] * scales_.derivative[i];
    }
  }

  double half_log_det() const noexcept override { return scales_.sum_log + inner_log_det_; }

  void project(Span params) const noexcept override { project_scales(config_.scale, params.subspan(dim(), dim())); }
  void proximal_step(double, Span) const noexcept override {}
  void contract(double factor, Span params) const noexcept override {
    contract_scales(config_.scale, factor, params.subspan(dim(), dim()));
    kernels().scale(rank_ * dim(), factor, &params[2 * dim()], &params[2 * dim()]);
  }

  void mean(Span out) const noexcept override { std::copy(loc_.begin(), loc_.end(), out.begin()); }
  void stddev(Span out) const noexcept override {
    for (Index i = 0; i < dim(); ++i) {
      double variance = scales_.value[i] * scales_.value[i];
      for (Index k = 0; k < rank_; ++k) variance += column(k)[i] * column(k)[i];
      out[i] = std::sqrt(variance);
    }
  }
  void covariance(Matrix out) const noexcept override {
    std::fill_n(out.data, out.size(), 0.0);
    for (Index i = 0; i < dim(); ++i) {
      out.row(i)[i] = scales_.value[i] * scales_.value[i];
      for (Index k = 0; k < rank_; ++k) kernels().axpy(dim(), column(k)[i], column(k), out.row(i));
    }
  }

 private:
  static constexpr Index kBlock = 512;  // coordinates of one chunk

  template <class Body>
  void for_blocks(Team& team, const Body& body) const noexcept {
    team.for_range(dim(), kBlock, [&](Index begin, Index end) { body(begin, end - begin); });
  }

  const double* column(Index k) const noexcept { return factor_.data() + k * dim(); }
  const double* whitened(Index k) const noexcept { return whitened_.data() + k * dim(); }

  // inner_ <- lower Cholesky factor of A = I + B~^T B~; A >= I, so it always exists.
  void factorise(Team& team) noexcept {
    team.for_range(rank_ * rank_, 1, [&](Index entry, Index) {
      const Index j = entry / rank_, k = entry % rank_;
      if (k <= j) inner_[entry] = (j == k ? 1.0 : 0.0) + kernels().dot(dim(), whitened(j), whitened(k));
    });
    inner_log_det_ = 0.0;
    for (Index j = 0; j < rank_; ++j) {
      double* const row = inner_.data() + j * rank_;
      for (Index k = 0; k < j; ++k) {
        const double* const other = inner_.data() + k * rank_;
        row[k] = (row[k] - kernels().dot(k, row, other)) / other[k];
      }
      row[j] = std::sqrt(row[j] - kernels().dot(j, row, row));
      inner_log_det_ += std::log(row[j]);
    }
  }

  // x (r) <- A^-1 x
  void solve(double* x) const noexcept {
    for (Index j = 0; j < rank_; ++j) {
      const double* const row = inner_.data() + j * rank_;
      for (Index k = 0; k < j; ++k) x[j] -= row[k] * x[k];
      x[j] /= row[j];
    }
    for (Index j = rank_ - 1; j >= 0; --j) {
      for (Index k = j + 1; k < rank_; ++k) x[j] -= inner_[k * rank_ + j] * x[k];
      x[j] /= inner_[j * rank_ + j];
    }
  }

  // The same for all rows of x (r columns of length D) at once.
  void solve_columns(double* x) const noexcept {
    for (Index j = 0; j < rank_; ++j) {
      const double* const row = inner_.data() + j * rank_;
      for (Index k = 0; k < j; ++k) kernels().axpy(dim(), -row[k], x + k * dim(), x + j * dim());
      kernels().scale(dim(), 1.0 / row[j], x + j * dim(), x + j * dim());
    }
    for (Index j = rank_ - 1; j >= 0; --j) {
      for (Index k = j + 1; k < rank_; ++k) kernels().axpy(dim(), -inner_[k * rank_ + j], x + k * dim(), x + j * dim());
      kernels().scale(dim(), 1.0 / inner_[j * rank_ + j], x + j * dim(), x + j * dim());
    }
  }

  Index rank_;
  std::vector<double> loc_;
  Scales scales_;
  std::vector<double> factor_;    // B, column k at k D
  std::vector<double> whitened_;  // B~ = B / d, laid out as B
  std::vector<double> inner_;     // Cholesky factor of A (r, r)
  double share_;                  // of a parameter in an entry of B
  double inner_log_det_ = 0.0;
};

}  // namespace klqp
