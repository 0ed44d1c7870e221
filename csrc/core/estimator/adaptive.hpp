// Pathwise gradient with an adaptive share of sticking the landing.
//
// G = CFE + c X, where CFE uses the entropy's formula and X = STL - CFE has mean zero; the variance is least at
// c = -Cov(CFE, X) / Var(X), per coordinate of lambda (maths.md 3.4). c comes from exponential moving averages over
// *past* steps, so that it is independent of this step's draws and the estimate stays unbiased.
#pragma once

#include "core/estimator/estimator.hpp"

namespace klqp {

class AdaptiveEntropy final : public Estimator {
 public:
  explicit AdaptiveEntropy(Index n_params)
      : cfe_(static_cast<std::size_t>(n_params)),
        x_(cfe_),
        entropy_(cfe_),
        mean_(cfe_),
        covariance_(cfe_),
        variance_(cfe_) {}

  Order order() const noexcept override { return Order::gradient; }

  Estimate add_gradient(const Batch& batch, const Family& family, Span grad, Team& team) override {
    gradients(batch, family, team);
    const double rate = std::max(1.0 - kDecay, 1.0 / (steps_ + 1.0));
    const double trusted = steps_ < kWarmUp ? 0.0 : 1.0;
    const double known = steps_ > 0.0 ? 1.0 : 0.0;  // whether there is a past mean
    team.for_range(static_cast<Index>(grad.size()), 4096, [&](Index begin, Index end) {
      kernels().blend(end - begin, rate, trusted, known, cfe_.data() + begin, x_.data() + begin, mean_.data() + begin,
                      covariance_.data() + begin, variance_.data() + begin, grad.data() + begin);
    });
    steps_ += 1.0;
    return estimate_elbo(batch, family, false);
  }

  void reset() override {
    steps_ = 0.0;
    for (auto* values : {&mean_, &covariance_, &variance_}) std::fill(values->begin(), values->end(), 0.0);
  }

  void visit_state(StateVisitor& visitor) override {
    visitor.scalar("estimator/steps", steps_);
    visitor.array("estimator/mean", mean_);
    visitor.array("estimator/covariance", covariance_);
    visitor.array("estimator/variance", variance_);
  }

 private:
  static constexpr double kDecay = 0.98;  // forgets in about 50 steps, while q itself moves
  static constexpr double kWarmUp = 20;   // steps with the formula alone before the ratio is trusted

  void gradients(const Batch& batch, const Family& family, Team& team) {
    std::fill(cfe_.begin(), cfe_.end(), 0.0);
    std::fill(x_.begin(), x_.end(), 0.0);
    family.add_pathwise(batch.e, batch.weights, batch.grad, batch.scratch, cfe_, x_, team);
    std::fill(entropy_.begin(), entropy_.end(), 0.0);
    family.add_entropy_gradient(1.0, entropy_);
    kernels().axpy(static_cast<Index>(x_.size()), 1.0, entropy_.data(), cfe_.data());
    kernels().axpy(static_cast<Index>(x_.size()), -1.0, entropy_.data(), x_.data());
  }

  std::vector<double> cfe_, x_, entropy_;  // workspace
  std::vector<double> mean_, covariance_, variance_;
  double steps_ = 0.0;
};

}  // namespace klqp
