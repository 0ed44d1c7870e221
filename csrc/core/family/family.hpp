// Family: turns noise into draws z ~ q and pulls cotangents on z back to the flat parameter vector lambda.
//
// All families here are images z = T(eps; lambda) of standard normal noise, and e = e(z) is a noise that T maps to z.
// For the Normal ones e is the *standardised* draw, the smallest noise that does so, and for every one of them
//
//   log q(z)          = -|e|^2/2 - log|Sigma|/2 - D/2 log(2 pi)                                       (maths.md 2.1)
//   -grad_z log q     = Sigma^-1 (z - mu), see add_precision                                           (maths.md 2.2)
//   grad_lambda log q = pullback of Sigma^-1 (z - mu) at noise e, minus the gradient of the entropy    (maths.md 2.3)
//
// which is what log_density, entropy and add_score do unless a family overrides them: families that are not Normal do.
// For mean field and full rank e is the noise itself; for low rank it is not, because there are more noise
// coordinates than dimensions.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>
#include <vector>

#include "core/family/scale.hpp"
#include "core/parallel.hpp"
#include "core/view.hpp"

namespace klqp {

struct FamilyConfig {
  Index dim = 1;
  Index rank = 0;  // low rank only
  ScaleLink scale = ScaleLink::exp;
  double df = 0.0;              // Student-t only: its degrees of freedom; 0: a parameter
  Index components = 0;         // mixtures only
  std::vector<Index> blocks{};  // sizes, of the block family only
};

// Methods but prepare() and the start are const after prepare(params); nothing allocates after construction.
// S is the number of draws, D = dim(), E = noise_dim(), P = n_params(). "add" means +=.
class Family {
 public:
  Family(FamilyConfig config, Index noise_dim, Index n_params)
      : config_(config), noise_dim_(noise_dim), n_params_(n_params) {}
  virtual ~Family() = default;
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  Index dim() const noexcept { return config_.dim; }
  Index noise_dim() const noexcept { return noise_dim_; }
  Index n_params() const noexcept { return n_params_; }

  // Whether members are Normal.
  virtual bool normal() const noexcept { return true; }
  // Whether draws have a derivative in all parameters, so that add_pullback is the whole gradient of an expectation.
  virtual bool pathwise() const noexcept { return true; }
  // Whether the entropy has a formula; without one entropy() is NaN and its gradient not to be asked for.
  virtual bool has_entropy() const noexcept { return true; }

  // params (P) of the member with the given location (D) and standard deviations (D), no correlations.
  virtual void start(ConstSpan loc, ConstSpan scale, std::uint64_t seed, Span params) const = 0;
  // Does once a step what all draws share: scales, factorisations, log-determinant. Keeps no reference.
  virtual void prepare(ConstSpan params, Team& team) noexcept = 0;

  // noise (S, E) -> z (S, D)
  virtual void transform(ConstMatrix noise, Matrix z, Team& team) const noexcept = 0;
  // noise (S, E) -> e (S, E); only called when standardises() is true, otherwise e = noise.
  virtual void standardise_noise(ConstMatrix noise, Matrix e, Team& team) const noexcept = 0;
  virtual bool standardises() const noexcept { return false; }
  // z (S, D) -> e (S, E) for points from anywhere
  virtual void standardise(ConstMatrix z, Matrix e, Team& team) const noexcept = 0;

  // cot (S, D) += weights_s times minus the gradient of log q at z_s, Sigma^-1 (z_s - mu) for a Normal, from e (S, E)
  virtual void add_precision(ConstMatrix e, ConstSpan weights, Matrix cot, Team& team) const noexcept = 0;
  // grad (P) += sum_s (d T(noise_s) / d lambda)^T cot_s
  virtual void add_pullback(ConstMatrix noise, ConstMatrix cot, Span grad, Team& team) const noexcept = 0;
  // The two parts of the pathwise gradient of E[log p - log q]:
  //   energy (P) += sum_s weights_s pull(e_s, grad_s),  path (P) += sum_s weights_s pull(e_s, Sigma^-1 (z_s - mu))
  // The pullbacks are taken at the standardised noise, the mean of the noise given z: unbiased, with less variance
  // (maths.md 3). grad (S, D) is not read where the weight is 0. path may be empty, or be energy itself.
  // scratch (S, D) is overwritten.
  virtual void add_pathwise(ConstMatrix e, ConstSpan weights, const double* grad, Matrix scratch, Span energy,
                            Span path, Team& team) const noexcept {
    weigh(weights, grad, scratch, team);
    const bool together = path.data() == energy.data();
    if (together) add_precision(e, weights, scratch, team);
    add_pullback(e, scratch, energy, team);
    if (together || path.empty()) return;
    std::fill_n(scratch.data, scratch.size(), 0.0);
    add_precision(e, weights, scratch, team);
    add_pullback(e, scratch, path, team);
  }
  // The second part alone, scratch (S, D) as above.
  virtual void add_path(ConstMatrix e, ConstSpan weights, Matrix scratch, Span path, Team& team) const noexcept {
    std::fill_n(scratch.data, scratch.size(), 0.0);
    add_precision(e, weights, scratch, team);
    add_pullback(e, scratch, path, team);
  }
  // grad (P) += weight * gradient of the entropy
  virtual void add_entropy_gradient(double weight, Span grad) const noexcept = 0;
  // Takes the entropy's gradient from one gradient (P) to another: to += it, from -= it.
  virtual void move_entropy_gradient(Span from, Span to) const noexcept {
    add_entropy_gradient(1.0, to);
    add_entropy_gradient(-1.0, from);
  }
  // log|Sigma| / 2 of a Normal
  virtual double half_log_det() const noexcept = 0;

  // Restores the constraints on params (P) after an optimizer's step.
  virtual void project(Span params) const noexcept = 0;
  // Exact step of size gamma on the entropy alone; only where proximal() is true.
  virtual void proximal_step(double gamma, Span params) const noexcept = 0;
  virtual bool proximal() const noexcept { return false; }
  // Multiplies all scales by `factor`, the location stays.
  virtual void contract(double factor, Span params) const noexcept = 0;

  // Moments of the prepared member: mean (D), standard deviations (D), covariance (D, D).
  virtual void mean(Span out) const noexcept = 0;
  virtual void stddev(Span out) const noexcept = 0;
  virtual void covariance(Matrix out) const noexcept = 0;

  virtual double entropy() const noexcept {
    return half_log_det() + 0.5 * static_cast<double>(dim()) * (1.0 + std::log(2.0 * std::numbers::pi));
  }

  // e (S, E) -> logq (S)
  virtual void log_density(ConstMatrix e, Span logq, Team& team) const noexcept {
    const double constant = -half_log_det() - 0.5 * static_cast<double>(dim()) * std::log(2.0 * std::numbers::pi);
    team.for_range(e.rows, std::max<Index>(1, 4096 / e.cols), [&](Index begin, Index end) {
      for (Index s = begin; s < end; ++s) logq[s] = constant - 0.5 * kernels().dot(e.cols, e.row(s), e.row(s));
    });
  }

  // grad (P) += sum_s weights_s grad_lambda log q(z_s), with e (S, E) and scratch (S, D)
  virtual void add_score(ConstMatrix e, ConstSpan weights, Matrix scratch, Span grad, Team& team) const noexcept {
    std::fill(scratch.data, scratch.data + scratch.size(), 0.0);
    add_precision(e, weights, scratch, team);
    add_pullback(e, scratch, grad, team);
    double total = 0.0;
    for (const double w : weights) total += w;
    add_entropy_gradient(-total, grad);
  }

 protected:
  FamilyConfig config_;

 private:
  // scratch (S, D) = weights_s * grad_s
  void weigh(ConstSpan weights, const double* grad, Matrix scratch, Team& team) const noexcept {
    team.for_range(scratch.rows, std::max<Index>(1, 4096 / dim()), [&](Index begin, Index end) {
      for (Index s = begin; s < end; ++s) {
        if (weights[s] != 0.0) {
          kernels().scale(dim(), weights[s], grad + s * dim(), scratch.row(s));
        } else {
          std::fill_n(scratch.row(s), dim(), 0.0);
        }
      }
    });
  }

  Index noise_dim_, n_params_;
};

}  // namespace klqp
