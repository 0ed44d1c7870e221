// Mean-field Normal: z = mu + s * eps, lambda = (mu (D), rho (D)).
#pragma once

#include "core/family/family.hpp"

namespace klqp {

class MeanFieldNormal final : public Family {
 public:
  explicit MeanFieldNormal(FamilyConfig config)
      : Family(config, config.dim, 2 * config.dim), loc_(static_cast<std::size_t>(config.dim)), scales_(config.dim) {}

  void start(ConstSpan loc, ConstSpan scale, std::uint64_t, Span params) const override {
    for (Index i = 0; i < dim(); ++i) {
      params[i] = loc[i];
      params[dim() + i] = scale_to_rho(config_.scale, scale[i]);
    }
  }

  void prepare(ConstSpan params, Team&) noexcept override {
    std::copy_n(params.begin(), dim(), loc_.begin());
    scales_.prepare(config_.scale, params.data() + dim());
  }

  void transform(ConstMatrix noise, Matrix z, Team& team) const noexcept override {
    for_blocks(team, [&](Index begin, Index n) {
      for (Index s = 0; s < noise.rows; ++s) {
        kernels().affine(n, loc_.data() + begin, scales_.value.data() + begin, noise.row(s) + begin, z.row(s) + begin);
      }
    });
  }

  void standardise_noise(ConstMatrix noise, Matrix e, Team&) const noexcept override {
    std::copy_n(noise.data, e.size(), e.data);
  }

  void standardise(ConstMatrix z, Matrix e, Team& team) const noexcept override {
    team.for_range(z.rows, 1, [&](Index s, Index) {
      for (Index i = 0; i < dim(); ++i) e.row(s)[i] = (z.row(s)[i] - loc_[i]) / scales_.value[i];
    });
  }

  void add_precision(ConstMatrix e, ConstSpan weights, Matrix cot, Team& team) const noexcept override {
    for_blocks(team, [&](Index begin, Index n) {
      for (Index s = 0; s < e.rows; ++s) {
        kernels().multiply_add(n, weights[s], e.row(s) + begin, scales_.inverse.data() + begin, cot.row(s) + begin);
      }
    });
  }

  void add_pullback(ConstMatrix noise, ConstMatrix cot, Span grad, Team& team) const noexcept override {
    for_blocks(team, [&](Index begin, Index n) {
      double scale_grad[kBlock] = {};
      for (Index s = 0; s < noise.rows; ++s) {
        kernels().location_scale_pullback(n, cot.row(s) + begin, noise.row(s) + begin, grad.data() + begin, scale_grad);
      }
      kernels().multiply_add(n, 1.0, scale_grad, scales_.derivative.data() + begin, grad.data() + dim() + begin);
    });
  }

  // One pass over the draws, without scratch.
  void add_pathwise(ConstMatrix e, ConstSpan weights, const double* grad, Matrix, Span energy, Span path,
                    Team& team) const noexcept override {
    for_blocks(team, [&](Index begin, Index n) {
      double sums[4 * kBlock];
      kernels().pathwise_sums(e.rows, n, weights.data(), grad + begin, dim(), e.data + begin, e.cols, sums);
      const double* const derivative = scales_.derivative.data() + begin;
      kernels().axpy(n, 1.0, sums, energy.data() + begin);
      kernels().multiply_add(n, 1.0, sums + n, derivative, energy.data() + dim() + begin);
      if (path.empty()) return;
      const double* const inverse = scales_.inverse.data() + begin;
      kernels().multiply_add(n, 1.0, sums + 2 * n, inverse, path.data() + begin);
      for (Index i = 0; i < n; ++i) sums[3 * n + i] *= inverse[i];
      kernels().multiply_add(n, 1.0, sums + 3 * n, derivative, path.data() + dim() + begin);
    });
  }

  // As add_pathwise.
  void add_path(ConstMatrix e, ConstSpan weights, Matrix, Span path, Team& team) const noexcept override {
    for_blocks(team, [&](Index begin, Index n) {
      double noise[kBlock] = {}, square[kBlock] = {};
      for (Index s = 0; s < e.rows; ++s) {
        if (weights[s] == 0.0) continue;
        kernels().axpy(n, weights[s], e.row(s) + begin, noise);
        kernels().multiply_add(n, weights[s], e.row(s) + begin, e.row(s) + begin, square);
      }
      const double* const inverse = scales_.inverse.data() + begin;
      kernels().multiply_add(n, 1.0, noise, inverse, path.data() + begin);
      for (Index i = 0; i < n; ++i) square[i] *= inverse[i];
      kernels().multiply_add(n, 1.0, square, scales_.derivative.data() + begin, path.data() + dim() + begin);
    });
  }

  void add_entropy_gradient(double weight, Span grad) const noexcept override {
    kernels().multiply_add(dim(), weight, scales_.derivative.data(), scales_.inverse.data(), grad.data() + dim());
  }

  double half_log_det() const noexcept override { return scales_.sum_log; }

  void project(Span params) const noexcept override { project_scales(config_.scale, params.subspan(dim())); }
  void proximal_step(double gamma, Span params) const noexcept override {
    proximal_scales(gamma, params.subspan(dim()));
  }
  bool proximal() const noexcept override { return config_.scale == ScaleLink::linear; }
  void contract(double factor, Span params) const noexcept override {
    contract_scales(config_.scale, factor, params.subspan(dim()));
  }

  void mean(Span out) const noexcept override { std::copy(loc_.begin(), loc_.end(), out.begin()); }
  void stddev(Span out) const noexcept override { std::copy(scales_.value.begin(), scales_.value.end(), out.begin()); }
  void covariance(Matrix out) const noexcept override {
    std::fill_n(out.data, out.size(), 0.0);
    for (Index i = 0; i < dim(); ++i) out.row(i)[i] = scales_.value[i] * scales_.value[i];
  }

 private:
  static constexpr Index kBlock = 512;  // coordinates of one chunk

  template <class Body>
  void for_blocks(Team& team, const Body& body) const noexcept {
    team.for_range(dim(), kBlock, [&](Index begin, Index end) { body(begin, end - begin); });
  }

  std::vector<double> loc_;
  Scales scales_;
};

}  // namespace klqp
