// Multivariate Student-t: z = mu + L eps r with r^2 = nu / g, g ~ chi^2(nu), over the location and factor of a Normal
// family. lambda = (that family's parameters, rho), nu = 2.001 + 1 / (exp(-rho) + 1e-6); without rho where nu is given.
//
// Noise is (x, eps (D)): x gives r, see radial.hpp. With w = eps r, the Normal family's noise for z (maths.md 2.9),
//   log q         = log Gamma((nu + D) / 2) - log Gamma(nu / 2) - D/2 log(nu pi) - log|L| - (nu + D)/2 log1p(|w|^2 /
//   nu) -grad_z log q = (nu + D) / (nu + |w|^2) L^-T w
// One radial factor for all coordinates: with a diagonal L they are uncorrelated, but not independent.
#pragma once

#include <memory>
#include <vector>

#include "core/family/family.hpp"
#include "core/family/radial.hpp"

namespace klqp {

template <class Normal>
class StudentT final : public Family {
 public:
  explicit StudentT(FamilyConfig config) : StudentT(config, std::make_unique<Normal>(config)) {}

  bool normal() const noexcept override { return false; }

  void start(ConstSpan loc, ConstSpan scale, std::uint64_t seed, Span params) const override {
    normal_->start(loc, scale, seed, normal_part(params));
    if (learns()) params.back() = std::log(kStartDf - kLeastDf);
  }

  void prepare(ConstSpan params, Team& team) noexcept override {
    normal_->prepare(params.first(static_cast<std::size_t>(normal_->n_params())), team);
    const double decay = learns() ? std::exp(-params.back()) : 0.0;
    nu_ = learns() ? kLeastDf + 1.0 / (decay + kSmallestInverse) : config_.df;
    slope_ = learns() ? decay * (nu_ - kLeastDf) * (nu_ - kLeastDf) : 0.0;
    radial_.prepare(nu_);
    const double n = static_cast<double>(dim());
    const double half[2] = {0.5 * nu_, 0.5 * (nu_ + n)};
    double lgamma[2], digamma[2], trigamma[2];
    kernels().lgamma(2, half, lgamma);
    kernels().digamma(2, half, digamma);
    kernels().trigamma(2, half, trigamma);
    constant_ = lgamma[1] - lgamma[0] - 0.5 * n * std::log(nu_ * std::numbers::pi);
    constant_slope_ = 0.5 * (digamma[1] - digamma[0] - n / nu_);
    entropy_ = -constant_ + 0.5 * (nu_ + n) * (digamma[1] - digamma[0]);
    entropy_slope_ =
        -constant_slope_ + 0.5 * (digamma[1] - digamma[0]) + 0.25 * (nu_ + n) * (trigamma[1] - trigamma[0]);
  }

  void transform(ConstMatrix noise, Matrix z, Team& team) const noexcept override {
    normal_->transform(stretched(noise, nullptr, team), z, team);
  }

  // e is the noise.
  void standardise_noise(ConstMatrix noise, Matrix e, Team&) const noexcept override {
    std::copy_n(noise.data, e.size(), e.data);
  }

  // With x = 0.
  void standardise(ConstMatrix z, Matrix e, Team& team) const noexcept override {
    thread_local std::vector<double> workspace;
    workspace.resize(static_cast<std::size_t>(z.rows * dim()));
    const Matrix w{workspace.data(), z.rows, dim()};
    normal_->standardise(z, w, team);
    const double shrink = std::exp(-radial_.log_factor(0.0));
    for (Index s = 0; s < z.rows; ++s) {
      e.row(s)[0] = 0.0;
      kernels().scale(dim(), shrink, w.row(s), e.row(s) + 1);
    }
  }

  void add_precision(ConstMatrix e, ConstSpan weights, Matrix cot, Team& team) const noexcept override {
    const ConstMatrix w = stretched(e, nullptr, team);
    normal_->add_precision(w, times_slope(w, weights), cot, team);
  }

  // dz = dmu + dL w + L w dlog(r); L w = z - mu is what the Normal family's factor makes of w.
  void add_pullback(ConstMatrix noise, ConstMatrix cot, Span grad, Team& team) const noexcept override {
    thread_local std::vector<double> slopes, workspace;
    slopes.resize(static_cast<std::size_t>(noise.rows));
    const ConstMatrix w = stretched(noise, learns() ? slopes.data() : nullptr, team);
    normal_->add_pullback(w, cot, normal_part(grad), team);
    if (!learns()) return;
    workspace.resize(static_cast<std::size_t>(noise.rows * dim()));
    const Matrix away{workspace.data(), noise.rows, dim()};
    normal_->transform(w, away, team);
    thread_local std::vector<double> loc;
    loc.resize(static_cast<std::size_t>(dim()));
    normal_->mean(loc);
    double total = 0.0;
    for (Index s = 0; s < noise.rows; ++s) {
      const double* const c = cot.row(s);
      total += slopes[s] * (kernels().dot(dim(), c, away.row(s)) - kernels().dot(dim(), c, loc.data()));
    }
    grad.back() += total * slope_;
  }

  void add_entropy_gradient(double weight, Span grad) const noexcept override {
    normal_->add_entropy_gradient(weight, normal_part(grad));
    if (learns()) grad.back() += weight * entropy_slope_ * slope_;
  }

  double half_log_det() const noexcept override { return normal_->half_log_det(); }

  void project(Span params) const noexcept override { normal_->project(normal_part(params)); }
  void proximal_step(double, Span) const noexcept override {}
  void contract(double factor, Span params) const noexcept override { normal_->contract(factor, normal_part(params)); }

  void mean(Span out) const noexcept override { normal_->mean(out); }
  void stddev(Span out) const noexcept override {
    normal_->stddev(out);
    kernels().scale(dim(), std::sqrt(inflation()), out.data(), out.data());
  }
  void covariance(Matrix out) const noexcept override {
    normal_->covariance(out);
    kernels().scale(out.size(), inflation(), out.data, out.data);
  }

  double entropy() const noexcept override { return entropy_ + normal_->half_log_det(); }

  void log_density(ConstMatrix e, Span logq, Team& team) const noexcept override {
    const ConstMatrix w = stretched(e, nullptr, team);
    const double constant = constant_ - normal_->half_log_det();
    const double power = 0.5 * (nu_ + static_cast<double>(dim()));
    for (Index s = 0; s < w.rows; ++s) logq[s] = constant - power * std::log1p(square(w, s) / nu_);
  }

  void add_score(ConstMatrix e, ConstSpan weights, Matrix scratch, Span grad, Team& team) const noexcept override {
    const ConstMatrix w = stretched(e, nullptr, team);
    std::fill_n(scratch.data, scratch.size(), 0.0);
    normal_->add_precision(w, times_slope(w, weights), scratch, team);
    normal_->add_pullback(w, scratch, normal_part(grad), team);
    const double n = static_cast<double>(dim());
    double total = 0.0, by_nu = 0.0;
    for (Index s = 0; s < w.rows; ++s) {
      const double share = square(w, s) / nu_;
      total += weights[s];
      by_nu +=
          weights[s] * (constant_slope_ - 0.5 * std::log1p(share) + 0.5 * (nu_ + n) / nu_ * (share / (1.0 + share)));
    }
    normal_->add_entropy_gradient(-total, normal_part(grad));
    if (learns()) grad.back() += by_nu * slope_;
  }

 private:
  static constexpr double kStartDf = 10.0;
  static constexpr double kLeastDf = 2.001;         // so that variances exist
  static constexpr double kSmallestInverse = 1e-6;  // of nu - kLeastDf: beyond a million degrees it is a Normal

  StudentT(FamilyConfig config, std::unique_ptr<Normal> normal)
      : Family(config, config.dim + 1, normal->n_params() + (config.df > 0.0 ? 0 : 1)), normal_(std::move(normal)) {}

  bool learns() const noexcept { return config_.df == 0.0; }
  double inflation() const noexcept { return nu_ / (nu_ - 2.0); }
  Span normal_part(Span params) const noexcept { return params.first(static_cast<std::size_t>(normal_->n_params())); }
  double square(ConstMatrix w, Index s) const noexcept { return kernels().dot(dim(), w.row(s), w.row(s)); }

  // w (S, D) = eps r, in scratch of this thread, good until the next call; slopes (S) = dlog r / dnu, if not null.
  ConstMatrix stretched(ConstMatrix noise, double* slopes, Team& team) const noexcept {
    thread_local std::vector<double> workspace;
    workspace.resize(static_cast<std::size_t>(noise.rows * dim()));
    const Matrix w{workspace.data(), noise.rows, dim()};
    team.for_range(noise.rows, 16, [&](Index begin, Index end) {
      for (Index s = begin; s < end; ++s) {
        const double log_r = radial_.log_factor(noise.row(s)[0], slopes == nullptr ? nullptr : slopes + s);
        kernels().scale(dim(), std::exp(log_r), noise.row(s) + 1, w.row(s));
      }
    });
    return w;
  }

  // weights_s (nu + D) / (nu + |w_s|^2), in scratch of this thread.
  ConstSpan times_slope(ConstMatrix w, ConstSpan weights) const noexcept {
    thread_local std::vector<double> out;
    out.resize(weights.size());
    const double n = static_cast<double>(dim());
    for (Index s = 0; s < w.rows; ++s) out[s] = weights[s] * ((nu_ + n) / (nu_ + square(w, s)));
    return out;
  }

  std::unique_ptr<Normal> normal_;
  Radial radial_;
  double nu_ = 0.0, slope_ = 0.0;                 // degrees of freedom, and their derivative by rho
  double constant_ = 0.0, constant_slope_ = 0.0;  // of log q without L, and its derivative by nu
  double entropy_ = 0.0, entropy_slope_ = 0.0;    // likewise of the entropy
};

}  // namespace klqp
