// Mixture of K Normals: z ~ sum_k w_k N_k, w = softmax(alpha). lambda = (alpha (K), parameters of the components).
//
// Noise is (x, eps (D)): the probability of x among the cumulated weights chooses the component, whose noise eps is.
// With the responsibilities rho_k = w_k N_k(z) / q(z) (maths.md 2.10)
//   -grad_z log q = sum_k rho_k Sigma_k^-1 (z - mu_k)
//   grad log q    = rho_k - w_k by alpha_k, and rho_k times the score of N_k by its parameters.
// A draw has no derivative in the weights: add_pullback is that at a given choice. Components of weight 0 cost nothing.
#pragma once

#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "core/family/family.hpp"
#include "core/noise.hpp"

namespace klqp {

template <class Normal>
class NormalMixture final : public Family {
 public:
  explicit NormalMixture(FamilyConfig config)
      : NormalMixture(config, config.components > 0 ? Normal(config).n_params() : 0) {}

  bool normal() const noexcept override { return false; }
  bool pathwise() const noexcept override { return false; }
  bool has_entropy() const noexcept override { return false; }

  // Equal weights; the components around the location, a standard deviation apart.
  void start(ConstSpan loc, ConstSpan scale, std::uint64_t seed, Span params) const override {
    Team serial(1);
    std::vector<double> centres(static_cast<std::size_t>(n_components() * dim()));
    fill_noise(noise_key(seed, Stream::start), {}, {centres.data(), n_components(), dim()}, serial);
    std::fill_n(params.begin(), n_components(), 0.0);
    for (Index k = 0; k < n_components(); ++k) {
      double* const centre = centres.data() + k * dim();
      for (Index i = 0; i < dim(); ++i) centre[i] = loc[i] + scale[i] * centre[i];
      components_[k]->start({centre, loc.size()}, scale, seed, part(params, k));
    }
  }

  void prepare(ConstSpan params, Team& team) noexcept override {
    for (Index k = 0; k < n_components(); ++k) {
      components_[k]->prepare(params.subspan(static_cast<std::size_t>(begin(k)), static_cast<std::size_t>(size_)),
                              team);
    }
    weigh(params);
    thread_local std::vector<double> halfway;
    halfway.resize(weight_.size());
    double below = 0.0;
    for (Index k = 0; k < n_components(); ++k) {
      const double above = below + weight_[k];
      halfway[k] = std::clamp(0.5 * (below + above), 1e-300, 1.0 - 1e-16);
      cumulated_[k] = below = above;
    }
    kernels().norm_ppf(n_components(), halfway.data(), middle_.data());
  }

  void transform(ConstMatrix noise, Matrix z, Team& team) const noexcept override {
    for_chosen(noise, [&](Index k, const std::vector<Index>& draws, ConstMatrix eps) {
      thread_local std::vector<double> workspace;
      workspace.resize(static_cast<std::size_t>(eps.rows * dim()));
      const Matrix images{workspace.data(), eps.rows, dim()};
      components_[k]->transform(eps, images, team);
      for (Index i = 0; i < eps.rows; ++i) std::copy_n(images.row(i), dim(), z.row(draws[i]));
    });
  }

  // e is the noise.
  void standardise_noise(ConstMatrix noise, Matrix e, Team&) const noexcept override {
    std::copy_n(noise.data, e.size(), e.data);
  }

  // By the component that is most responsible for z, and the middle of what chooses it.
  void standardise(ConstMatrix z, Matrix e, Team& team) const noexcept override {
    const Parts parts = take_apart(z, {}, team);
    for (Index s = 0; s < z.rows; ++s) {
      const double* const share = parts.share.row(s);
      const Index k = std::max_element(share, share + n_components()) - share;
      e.row(s)[0] = middle_[k];
      std::copy_n(parts.e(k).row(s), dim(), e.row(s) + 1);
    }
  }

  void add_precision(ConstMatrix e, ConstSpan weights, Matrix cot, Team& team) const noexcept override {
    const Parts parts = take_apart_draws(e, team);
    for_alive([&](Index k) { components_[k]->add_precision(parts.e(k), shared(parts, k, weights), cot, team); });
  }

  void add_pullback(ConstMatrix noise, ConstMatrix cot, Span grad, Team& team) const noexcept override {
    for_chosen(noise, [&](Index k, const std::vector<Index>& draws, ConstMatrix eps) {
      thread_local std::vector<double> workspace;
      workspace.resize(static_cast<std::size_t>(eps.rows * dim()));
      const Matrix cots{workspace.data(), eps.rows, dim()};
      for (Index i = 0; i < eps.rows; ++i) std::copy_n(cot.row(draws[i]), dim(), cots.row(i));
      components_[k]->add_pullback(eps, cots, part(grad, k), team);
    });
  }

  void add_entropy_gradient(double, Span) const noexcept override {}
  double half_log_det() const noexcept override { return std::numeric_limits<double>::quiet_NaN(); }
  double entropy() const noexcept override { return std::numeric_limits<double>::quiet_NaN(); }

  void project(Span params) const noexcept override {
    for (Index k = 0; k < n_components(); ++k) components_[k]->project(part(params, k));
  }
  void proximal_step(double, Span) const noexcept override {}
  // The components' locations move towards their mean.
  void contract(double factor, Span params) const noexcept override {
    std::vector<double> weight(static_cast<std::size_t>(n_components()));
    softmax(params, weight);
    std::vector<double> centre(static_cast<std::size_t>(dim()), 0.0);
    for (Index k = 0; k < n_components(); ++k) kernels().axpy(dim(), weight[k], &params[begin(k)], centre.data());
    for (Index k = 0; k < n_components(); ++k) {
      for (Index i = 0; i < dim(); ++i) {
        double& loc = params[begin(k) + i];
        loc = centre[i] + factor * (loc - centre[i]);
      }
      components_[k]->contract(factor, part(params, k));
    }
  }

  void mean(Span out) const noexcept override {
    std::vector<double> loc(out.size());
    std::fill(out.begin(), out.end(), 0.0);
    for_alive([&](Index k) {
      components_[k]->mean(loc);
      kernels().axpy(dim(), weight_[k], loc.data(), out.data());
    });
  }
  void stddev(Span out) const noexcept override {
    std::vector<double> centre(out.size()), loc(out.size()), scale(out.size());
    mean(centre);
    std::fill(out.begin(), out.end(), 0.0);
    for_alive([&](Index k) {
      components_[k]->mean(loc);
      components_[k]->stddev(scale);
      for (Index i = 0; i < dim(); ++i) {
        out[i] += weight_[k] * (scale[i] * scale[i] + (loc[i] - centre[i]) * (loc[i] - centre[i]));
      }
    });
    for (double& x : out) x = std::sqrt(x);
  }
  void covariance(Matrix out) const noexcept override {
    std::vector<double> centre(static_cast<std::size_t>(dim())), loc(centre);
    std::vector<double> within(static_cast<std::size_t>(out.size()));
    mean(centre);
    std::fill_n(out.data, out.size(), 0.0);
    for_alive([&](Index k) {
      components_[k]->mean(loc);
      components_[k]->covariance({within.data(), out.rows, out.cols});
      kernels().axpy(out.size(), weight_[k], within.data(), out.data);
      kernels().axpy(dim(), -1.0, centre.data(), loc.data());
      for (Index i = 0; i < dim(); ++i) kernels().axpy(dim(), weight_[k] * loc[i], loc.data(), out.row(i));
    });
    for (Index i = 0; i < dim(); ++i) {  // symmetric to the last bit
      for (Index j = 0; j < i; ++j) out.row(j)[i] = out.row(i)[j];
    }
  }

  void log_density(ConstMatrix e, Span logq, Team& team) const noexcept override {
    const Parts parts = take_apart_draws(e, team);
    std::copy_n(parts.log_q.data(), logq.size(), logq.begin());
  }

  void add_score(ConstMatrix e, ConstSpan weights, Matrix scratch, Span grad, Team& team) const noexcept override {
    const Parts parts = take_apart_draws(e, team);
    for_alive([&](Index k) {
      const ConstSpan own = shared(parts, k, weights);
      double total = 0.0;
      for (Index s = 0; s < e.rows; ++s) total += own[s] - weight_[k] * weights[s];
      grad[k] += total;
      components_[k]->add_score(parts.e(k), own, scratch, part(grad, k), team);
    });
  }

 private:
  // What the components make of some points z (S, D).
  struct Parts {
    const double* noise = nullptr;  // (K, S, D): that of each component for z
    ConstMatrix share;              // (S, K): responsibilities
    ConstSpan log_q;                // (S)
    Index dim = 0;

    ConstMatrix e(Index k) const noexcept { return {noise + k * share.rows * dim, share.rows, dim}; }
  };

  NormalMixture(FamilyConfig config, Index size)
      : Family(config, config.dim + 1, config.components * (1 + size)),
        size_(size),
        weight_(static_cast<std::size_t>(config.components)),
        log_weight_(weight_),
        cumulated_(weight_),
        middle_(weight_) {
    for (Index k = 0; k < config.components; ++k) components_.push_back(std::make_unique<Normal>(config));
  }

  Index n_components() const noexcept { return config_.components; }
  Index begin(Index k) const noexcept { return n_components() + k * size_; }
  Span part(Span params, Index k) const noexcept {
    return params.subspan(static_cast<std::size_t>(begin(k)), static_cast<std::size_t>(size_));
  }

  template <class Body>
  void for_alive(const Body& body) const noexcept {
    for (Index k = 0; k < n_components(); ++k) {
      if (weight_[k] > 0.0) body(k);
    }
  }

  double softmax(ConstSpan params, std::vector<double>& weight) const noexcept {
    const double top = *std::max_element(params.begin(), params.begin() + n_components());
    double total = 0.0;
    for (Index k = 0; k < n_components(); ++k) total += weight[k] = std::exp(params[k] - top);
    for (double& w : weight) w /= total;
    return top + std::log(total);
  }

  void weigh(ConstSpan params) noexcept {
    const double norm = softmax(params, weight_);
    for (Index k = 0; k < n_components(); ++k) log_weight_[k] = params[k] - norm;
  }

  // The component that x chooses.
  Index chosen(double x) const noexcept {
    const double u = 0.5 * std::erfc(-x / std::numbers::sqrt2);
    Index last = 0;
    for (Index k = 0; k < n_components(); ++k) {
      if (weight_[k] == 0.0) continue;
      if (u < cumulated_[k]) return k;
      last = k;
    }
    return last;
  }

  // Calls body(k, draws, eps) for each component that some draws choose, with their numbers and their noise.
  template <class Body>
  void for_chosen(ConstMatrix noise, const Body& body) const noexcept {
    thread_local std::vector<Index> draws, choice;
    thread_local std::vector<double> workspace;
    choice.resize(static_cast<std::size_t>(noise.rows));
    for (Index s = 0; s < noise.rows; ++s) choice[s] = chosen(noise.row(s)[0]);
    for (Index k = 0; k < n_components(); ++k) {
      draws.clear();
      for (Index s = 0; s < noise.rows; ++s) {
        if (choice[s] == k) draws.push_back(s);
      }
      if (draws.empty()) continue;
      workspace.resize(draws.size() * static_cast<std::size_t>(dim()));
      const Matrix eps{workspace.data(), static_cast<Index>(draws.size()), dim()};
      for (Index i = 0; i < eps.rows; ++i) std::copy_n(noise.row(draws[i]) + 1, dim(), eps.row(i));
      body(k, draws, eps);
    }
  }

  // Of the draws of noise e, whose own components need not solve for their noise.
  Parts take_apart_draws(ConstMatrix e, Team& team) const noexcept {
    thread_local std::vector<double> workspace;
    workspace.resize(static_cast<std::size_t>(e.rows * dim()));
    const Matrix z{workspace.data(), e.rows, dim()};
    transform(e, z, team);
    return take_apart(z, e, team);
  }

  // In scratch of this thread, good until the next call.
  Parts take_apart(ConstMatrix z, ConstMatrix known, Team& team) const noexcept {
    thread_local std::vector<double> noise, share, log_q;
    const Index n = z.rows, n_all = n_components();
    noise.assign(static_cast<std::size_t>(n_all * n * dim()), 0.0);
    share.assign(static_cast<std::size_t>(n * n_all), -std::numeric_limits<double>::infinity());
    log_q.resize(static_cast<std::size_t>(n));
    for_alive([&](Index k) {
      const Matrix e{noise.data() + k * n * dim(), n, dim()};
      components_[k]->standardise(z, e, team);
      for (Index s = 0; s < known.rows; ++s) {
        if (chosen(known.row(s)[0]) == k) std::copy_n(known.row(s) + 1, dim(), e.row(s));
      }
      components_[k]->log_density(e, log_q, team);
      for (Index s = 0; s < n; ++s) share[s * n_all + k] = log_weight_[k] + log_q[s];
    });
    for (Index s = 0; s < n; ++s) {
      double* const row = share.data() + s * n_all;
      const double top = *std::max_element(row, row + n_all);
      double total = 0.0;
      for (Index k = 0; k < n_all; ++k) total += row[k] = std::exp(row[k] - top);
      for (Index k = 0; k < n_all; ++k) row[k] /= total;
      log_q[s] = top + std::log(total);
    }
    return {noise.data(), {share.data(), n, n_all}, log_q, dim()};
  }

  // weights times the responsibilities of a component, in scratch of this thread.
  static ConstSpan shared(const Parts& parts, Index k, ConstSpan weights) noexcept {
    thread_local std::vector<double> out;
    out.resize(weights.size());
    for (std::size_t s = 0; s < weights.size(); ++s) out[s] = weights[s] * parts.share.row(static_cast<Index>(s))[k];
    return out;
  }

  Index size_;  // parameters of a component
  std::vector<std::unique_ptr<Normal>> components_;
  std::vector<double> weight_, log_weight_, cumulated_;  // (K)
  std::vector<double> middle_;                           // (K): normals in the middle of what chooses a component
};

}  // namespace klqp
