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
        inner_inverse_(inner_),
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
    team.for_range(rank_, 1, [&](Index k, Index) {
      double* const column_k = factor_.data() + k * dim();
      double* const whitened_k = whitened_.data() + k * dim();
      kernels().scale(dim(), share_, params.data() + (2 + k) * dim(), column_k);
      for (Index i = 0; i < dim(); ++i) whitened_k[i] = column_k[i] * scales_.inverse[i];
    });
    factorise(team);
  }

  void transform(ConstMatrix noise, Matrix z, Team& team) const noexcept override {
    for_blocks(team, [&](Index begin, Index n) {
      for (Index s = 0; s < noise.rows; ++s) {
        kernels().affine(n, loc_.data() + begin, scales_.value.data() + begin, noise.row(s) + rank_ + begin,
                         z.row(s) + begin);
      }
      kernels().matmul_nn(z.rows, n, rank_, noise.data, noise.cols, column(0) + begin, dim(), z.data + begin, z.cols);
    });
  }

  bool standardises() const noexcept override { return true; }
  // With k = A^-1 (eta - B~^T eps): (eta - k, eps + B~ k). Its first part comes from -k in place.
  void standardise_noise(ConstMatrix noise, Matrix e, Team& team) const noexcept override {
    for_draws(e, team, [&](Index begin, Index n_draws) {
      double* const out = e.row(begin);
      for (Index s = begin; s < begin + n_draws; ++s) {
        kernels().scale(rank_, -1.0, noise.row(s), e.row(s));
        kernels().scale(dim(), -1.0, noise.row(s) + rank_, e.row(s) + rank_);
      }
      kernels().matmul_nt(n_draws, rank_, dim(), noise.row(begin) + rank_, noise.cols, whitened(0), dim(), out, e.cols);
      solve(n_draws, out, e.cols);
      kernels().matmul_nn(n_draws, dim(), rank_, out, e.cols, whitened(0), dim(), out + rank_, e.cols);
      for (Index s = begin; s < begin + n_draws; ++s) {
        kernels().axpy(rank_, 1.0, noise.row(s), e.row(s));
        kernels().scale(dim(), -1.0, e.row(s) + rank_, e.row(s) + rank_);
      }
    });
  }

  // eta^ = A^-1 B~^T u and eps^ = u - B~ eta^ with u = (z - mu) / d.
  void standardise(ConstMatrix z, Matrix e, Team& team) const noexcept override {
    for_draws(e, team, [&](Index begin, Index n_draws) {
      double* const eta = e.row(begin);
      double* const eps = eta + rank_;
      for (Index s = begin; s < begin + n_draws; ++s) {
        std::fill_n(e.row(s), rank_, 0.0);
        for (Index i = 0; i < dim(); ++i) e.row(s)[rank_ + i] = (z.row(s)[i] - loc_[i]) * scales_.inverse[i];
      }
      kernels().matmul_nt(n_draws, rank_, dim(), eps, e.cols, whitened(0), dim(), eta, e.cols);
      solve(n_draws, eta, e.cols);
      for (Index s = begin; s < begin + n_draws; ++s) kernels().scale(rank_, -1.0, e.row(s), e.row(s));
      kernels().matmul_nn(n_draws, dim(), rank_, eta, e.cols, whitened(0), dim(), eps, e.cols);
      for (Index s = begin; s < begin + n_draws; ++s) kernels().scale(rank_, -1.0, e.row(s), e.row(s));
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
      thread_local std::vector<double> shared;  // eta (S, r), each with its share
      shared.resize(static_cast<std::size_t>(noise.rows * rank_));
      double scale_grad[kBlock] = {};
      for (Index s = 0; s < noise.rows; ++s) {
        const double* const eta = noise.row(s);
        const double* const c = cot.row(s) + begin;
        kernels().location_scale_pullback(n, c, eta + rank_ + begin, grad.data() + begin, scale_grad);
        kernels().scale(rank_, share_, eta, shared.data() + s * rank_);
      }
      kernels().matmul_tn(rank_, n, noise.rows, shared.data(), rank_, cot.data + begin, cot.cols,
                          grad.data() + 2 * dim() + begin, dim());
      kernels().multiply_add(n, 1.0, scale_grad, scales_.derivative.data() + begin, grad.data() + dim() + begin);
    });
  }

  void add_entropy_gradient(double weight, Span grad) const noexcept override { add_entropy(weight, grad, {}); }
  void move_entropy_gradient(Span from, Span to) const noexcept override { add_entropy(1.0, to, from); }

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
  static constexpr Index kBlock = 512;    // coordinates of one chunk
  static constexpr Index kInnerRows = 8;  // of A in one chunk

  template <class Body>
  void for_blocks(Team& team, const Body& body) const noexcept {
    team.for_range(dim(), kBlock, [&](Index begin, Index end) { body(begin, end - begin); });
  }

  // grad (P) += weight * gradient of the entropy, and the same from `less` (P) if there is one:
  // dH/dB = D^-1 B A^-1 and dH/dd_i = (1 - b~_i^T A^-1 b~_i) / d_i, by columns of length D.
  void add_entropy(double weight, Span grad, Span less) const noexcept {
    thread_local std::vector<double> solved;  // a block of B~ A^-1, laid out as B
    solved.resize(static_cast<std::size_t>(rank_ * kBlock));
    for (Index begin = 0; begin < dim(); begin += kBlock) {
      const Index n = std::min(kBlock, dim() - begin);
      std::fill_n(solved.begin(), rank_ * n, 0.0);
      kernels().matmul_nn(rank_, n, rank_, inner_inverse_.data(), rank_, whitened(0) + begin, dim(), solved.data(), n);
      const double* const inverse = scales_.inverse.data() + begin;
      double unexplained[kBlock];  // 1 - b~_i^T A^-1 b~_i
      std::fill_n(unexplained, n, 1.0);
      for (Index k = 0; k < rank_; ++k) {
        const double* const column_k = solved.data() + k * n;
        const Index at = (2 + k) * dim() + begin;
        kernels().multiply_add(n, -1.0, column_k, whitened(k) + begin, unexplained);
        kernels().multiply_add(n, weight * share_, column_k, inverse, &grad[at]);
        if (!less.empty()) kernels().multiply_add(n, -weight * share_, column_k, inverse, &less[at]);
      }
      for (Index i = 0; i < n; ++i) {
        const double slope = weight * unexplained[i] * inverse[i] * scales_.derivative[begin + i];
        grad[dim() + begin + i] += slope;
        if (!less.empty()) less[dim() + begin + i] -= slope;
      }
    }
  }

  // Calls body(first, number) for the draws of e, few at a time: their rows share what they read of B~.
  template <class Body>
  void for_draws(Matrix e, Team& team, const Body& body) const noexcept {
    team.for_range(e.rows, 16, [&](Index begin, Index end) { body(begin, end - begin); });
  }

  const double* column(Index k) const noexcept { return factor_.data() + k * dim(); }
  const double* whitened(Index k) const noexcept { return whitened_.data() + k * dim(); }

  // inner_ <- lower Cholesky factor of A = I + B~^T B~, and inner_inverse_ <- A^-1; A >= I, so both always exist.
  void factorise(Team& team) noexcept {
    team.for_range(rank_, kInnerRows, [&](Index begin, Index end) {
      double* const rows = inner_.data() + begin * rank_;
      std::fill_n(rows, (end - begin) * rank_, 0.0);
      for (Index j = begin; j < end; ++j) inner_[j * rank_ + j] = 1.0;
      kernels().matmul_nt(end - begin, end, dim(), whitened(begin), dim(), whitened(0), dim(), rows, rank_);
    });
    kernels().cholesky(rank_, inner_.data());
    inner_log_det_ = 0.0;
    for (Index j = 0; j < rank_; ++j) inner_log_det_ += std::log(inner_[j * rank_ + j]);
    std::fill(inner_inverse_.begin(), inner_inverse_.end(), 0.0);
    for (Index j = 0; j < rank_; ++j) inner_inverse_[j * rank_ + j] = 1.0;
    solve(rank_, inner_inverse_.data(), rank_);
  }

  // Rows of X (m, r), `step` apart, <- A^-1 x = R^-T R^-1 x.
  void solve(Index m, double* x, Index step) const noexcept {
    kernels().solve_right_lower_transposed(m, rank_, inner_.data(), rank_, x, step);
    kernels().solve_right_lower(m, rank_, inner_.data(), rank_, x, step);
  }

  Index rank_;
  std::vector<double> loc_;
  Scales scales_;
  std::vector<double> factor_;         // B, column k at k D
  std::vector<double> whitened_;       // B~ = B / d, laid out as B
  std::vector<double> inner_;          // Cholesky factor of A (r, r)
  std::vector<double> inner_inverse_;  // A^-1
  double share_;                       // of a parameter in an entry of B
  double inner_log_det_ = 0.0;
};

}  // namespace klqp
