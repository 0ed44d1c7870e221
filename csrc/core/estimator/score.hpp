// Score-function gradients with leave-one-out control variates; they need values of the log density only.
//
// With f_s = log p - log q (or log p alone, when the entropy has its formula) and score_s = grad_lambda log q(z_s):
//   mean     grad = sum_s w_s (f_s - b_s) score_s, b_s the mean of f over the other groups of draws   (maths.md 3.5)
//   running  b a moving average of f over past steps; the first step only teaches it
//   none     b = 0
//   optimal  b_s per coordinate i: (A_i - A_i,group) / (B_i - B_i,group), A_i = sum f score_i^2, B_i = sum score_i^2
// A group is one draw for Monte Carlo, a pair for antithetic draws, a scramble for Sobol: draws of other groups are
// independent of draw s, which is what keeps the baseline unbiased.
#pragma once

#include "core/estimator/estimator.hpp"
#include "core/estimator/leave_one_out.hpp"

namespace klqp {

class ScoreFunction final : public Estimator {
 public:
  ScoreFunction(Entropy entropy, Baseline baseline, const Noise& draws, Index n_params)
      : entropy_(entropy),
        baseline_(baseline),
        f_(static_cast<std::size_t>(draws.n_draws())),
        baselines_(f_),
        weights_(f_) {
    if (entropy != Entropy::monte_carlo && entropy != Entropy::closed_form) {
      throw ConfigError("score-function gradients take entropy 'monte_carlo' or 'closed_form'");
    }
    require_baseline(baseline, draws);
    if (baseline == Baseline::optimal) scores_.resize(f_.size() * static_cast<std::size_t>(n_params));
  }

  Order order() const noexcept override { return Order::value; }

  Estimate add_gradient(const Batch& batch, const Family& family, Span grad, Team& team) override {
    const bool closed_form = entropy_ == Entropy::closed_form;
    for (std::size_t s = 0; s < f_.size(); ++s) {
      f_[s] = batch.weights[s] > 0.0 ? batch.logp[s] - (closed_form ? 0.0 : batch.logq[s]) : 0.0;
    }
    find_baselines(batch);
    if (baseline_ == Baseline::optimal) {
      optimal_baseline(batch, family, grad, team);
    } else {
      mean_baseline(batch, family, grad, team);
    }
    if (closed_form) family.add_entropy_gradient(1.0, grad);
    return estimate_elbo(batch, family, closed_form);
  }

  void reset() override { past_ = steps_ = 0.0; }

  void visit_state(StateVisitor& visitor) override {
    if (baseline_ != Baseline::running) return;
    visitor.scalar("estimator/steps", steps_);
    visitor.scalar("estimator/past", past_);
  }

 private:
  // With no accepted draw in another group the baseline is f_s itself, which drops the draw.
  void find_baselines(const Batch& batch) {
    if (baseline_ == Baseline::running) return past_baseline(batch);
    if (baseline_ == Baseline::none) return std::fill(baselines_.begin(), baselines_.end(), 0.0);
    sums_.clear(batch.draws.n_groups());
    for (Index s = 0; s < batch.e.rows; ++s) {
      if (batch.weights[s] > 0.0) sums_.add(batch.draws.group(s), f_[s], 1.0);
    }
    for (Index s = 0; s < batch.e.rows; ++s) baselines_[s] = sums_.mean_outside(batch.draws.group(s), f_[s]);
  }

  void past_baseline(const Batch& batch) {
    for (std::size_t s = 0; s < f_.size(); ++s) baselines_[s] = steps_ > 0.0 ? past_ : f_[s];
    const double rate = std::max(0.05, 1.0 / (steps_ + 1.0));
    past_ += rate * (weighted_mean(batch.weights, [&](Index s) { return f_[s]; }) - past_);
    steps_ += 1.0;
  }

  void mean_baseline(const Batch& batch, const Family& family, Span grad, Team& team) {
    for (Index s = 0; s < batch.e.rows; ++s) weights_[s] = batch.weights[s] * (f_[s] - baselines_[s]);
    family.add_score(batch.e, weights_, batch.scratch, grad, team);
  }

  void optimal_baseline(const Batch& batch, const Family& family, Span grad, Team& team) {
    const auto n_params = static_cast<Index>(grad.size());
    const Matrix scores{scores_.data(), batch.e.rows, n_params};
    std::fill(scores_.begin(), scores_.end(), 0.0);
    const double one[1] = {1.0};
    for (Index s = 0; s < scores.rows; ++s) {
      family.add_score({batch.e.row(s), 1, batch.e.cols}, one, {batch.scratch.row(s), 1, batch.scratch.cols},
                       {scores.row(s), static_cast<std::size_t>(n_params)}, team);
    }
    team.for_range(n_params, 1024, [&](Index begin, Index end) {
      LeaveOneOut sums;
      for (Index i = begin; i < end; ++i) grad[i] += optimal_coordinate(batch, scores, i, sums);
    });
  }

  double optimal_coordinate(const Batch& batch, Matrix scores, Index i, LeaveOneOut& sums) const {
    sums.clear(batch.draws.n_groups());
    for (Index s = 0; s < scores.rows; ++s) {
      if (batch.weights[s] > 0.0) sums.add(batch.draws.group(s), f_[s], scores.row(s)[i] * scores.row(s)[i]);
    }
    double out = 0.0;
    for (Index s = 0; s < scores.rows; ++s) {
      const double coefficient = sums.mean_outside(batch.draws.group(s), baselines_[s]);
      out += batch.weights[s] * (f_[s] - coefficient) * scores.row(s)[i];
    }
    return out;
  }

  Entropy entropy_;
  Baseline baseline_;
  std::vector<double> f_, baselines_, weights_;  // (S)
  std::vector<double> scores_;                   // (S, P), optimal baseline only
  LeaveOneOut sums_;
  double past_ = 0.0, steps_ = 0.0;  // running baseline only
};

}  // namespace klqp
