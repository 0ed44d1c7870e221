// Pathwise gradient with an adaptive share of sticking the landing: CFE + c X, where CFE uses the entropy's formula and
// X = STL - CFE has mean zero; c per coordinate of lambda, see blend.hpp.
#pragma once

#include "core/estimator/blend.hpp"
#include "core/estimator/estimator.hpp"

namespace klqp {

class AdaptiveEntropy final : public Estimator {
 public:
  explicit AdaptiveEntropy(Index n_params) : cfe_(static_cast<std::size_t>(n_params)), x_(cfe_) {
    blend_.resize(cfe_.size());
  }

  Order order() const noexcept override { return Order::gradient; }

  Estimate add_gradient(const Batch& batch, const Family& family, Span grad, Team& team) override {
    gradients(batch, family, team);
    blend_.add(cfe_, x_, grad, team);
    return estimate_elbo(batch, family, false);
  }

  void reset() override { blend_.reset(); }
  void visit_state(StateVisitor& visitor) override { blend_.visit_state(visitor); }

 private:
  void gradients(const Batch& batch, const Family& family, Team& team) {
    std::fill(cfe_.begin(), cfe_.end(), 0.0);
    std::fill(x_.begin(), x_.end(), 0.0);
    family.add_pathwise(batch.e, batch.weights, batch.grad, batch.scratch, cfe_, x_, team);
    family.move_entropy_gradient(x_, cfe_);
  }

  std::vector<double> cfe_, x_;  // workspace
  Blend blend_;
};

}  // namespace klqp
