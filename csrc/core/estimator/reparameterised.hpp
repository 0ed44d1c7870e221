// Pathwise gradients with the entropy by Monte Carlo, by its formula, by sticking the landing, or left out.
#pragma once

#include "core/estimator/estimator.hpp"

namespace klqp {

class Reparameterised final : public Estimator {
 public:
  explicit Reparameterised(Entropy entropy) : entropy_(entropy) {}

  Order order() const noexcept override { return Order::gradient; }

  Estimate add_gradient(const Batch& batch, const Family& family, Span grad, Team& team) override {
    const bool sticking = entropy_ == Entropy::sticking;
    family.add_pathwise(batch.e, batch.weights, batch.grad, batch.scratch, grad, sticking ? grad : Span{}, team);
    // By Monte Carlo the entropy's gradient is that of its formula, draw by draw (maths.md 3.1); the value is not.
    if (entropy_ == Entropy::closed_form || entropy_ == Entropy::monte_carlo) family.add_entropy_gradient(1.0, grad);
    return estimate_elbo(batch, family, entropy_ == Entropy::closed_form || entropy_ == Entropy::proximal);
  }

 private:
  Entropy entropy_;
};

}  // namespace klqp
