// Pathwise gradients with the entropy by Monte Carlo, by its formula, by sticking the landing, or left out.
#pragma once

#include "core/estimator/estimator.hpp"

namespace klqp {

// scratch (S, D) = weights_s * grad log p(z_s)
inline void weigh_gradients(const Batch& batch, Team& team) noexcept {
  const Index dim = batch.scratch.cols;
  team.for_range(batch.scratch.rows, std::max<Index>(1, 4096 / dim), [&](Index begin, Index end) {
    for (Index s = begin; s < end; ++s) {
      if (batch.weights[s] > 0.0) {
        kernels().scale(dim, batch.weights[s], batch.grad + s * dim, batch.scratch.row(s));
      } else {
        std::fill_n(batch.scratch.row(s), dim, 0.0);
      }
    }
  });
}

class Reparameterised final : public Estimator {
 public:
  explicit Reparameterised(Entropy entropy) : entropy_(entropy) {}

  Order order() const noexcept override { return Order::gradient; }

  Estimate add_gradient(const Batch& batch, const Family& family, Span grad, Team& team) override {
    weigh_gradients(batch, team);
    const bool through_draws = entropy_ == Entropy::sticking || entropy_ == Entropy::monte_carlo;
    if (through_draws) family.add_precision(batch.e, batch.weights, batch.scratch, team);
    family.add_pullback(batch.noise, batch.scratch, grad, team);
    if (entropy_ == Entropy::closed_form) family.add_entropy_gradient(1.0, grad);
    if (entropy_ == Entropy::monte_carlo) subtract_score(batch, family, grad, team);
    return estimate_elbo(batch, family, !through_draws);
  }

 private:
  // The part of d(-log q(z; lambda)) that does not go through z.
  void subtract_score(const Batch& batch, const Family& family, Span grad, Team& team) {
    negated_.assign(batch.weights.begin(), batch.weights.end());
    for (double& w : negated_) w = -w;
    family.add_score(batch.e, negated_, batch.scratch, grad, team);
  }

  Entropy entropy_;
  std::vector<double> negated_;
};

}  // namespace klqp
