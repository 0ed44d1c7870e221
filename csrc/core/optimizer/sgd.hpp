// Stochastic gradient descent (Robbins & Monro 1951), with classical or Nesterov momentum (Sutskever et al. 2013).
#pragma once

#include "core/optimizer/optimizer.hpp"

namespace klqp {

class Sgd final : public Optimizer {
 public:
  explicit Sgd(const OptimizerOptions&) {}

  void start(ConstSpan) override {}
  double update(ConstSpan grad, double learning_rate, Span params, const Ranges& where, Team&) override {
    for (const IndexRange& range : where) {
      kernels().axpy(range.size(), -learning_rate, grad.data() + range.begin, params.data() + range.begin);
    }
    return learning_rate;
  }
  bool has_common_step() const noexcept override { return true; }
  void visit_state(StateVisitor&) override {}
};

// v <- momentum v + g;  x <- x - rate v, or with Nesterov's look-ahead x <- x - rate (g + momentum v).
class Momentum final : public Optimizer {
 public:
  explicit Momentum(const OptimizerOptions& options)
      : momentum_(option(options, "momentum")), nesterov_(option(options, "nesterov") != 0.0) {}

  void start(ConstSpan params) override { velocity_.assign(params.size(), 0.0); }
  double update(ConstSpan grad, double learning_rate, Span params, const Ranges& where, Team& team) override {
    for_parameters(where, team, [&](Index i) {
      velocity_[i] = momentum_ * velocity_[i] + grad[i];
      params[i] -= learning_rate * (nesterov_ ? grad[i] + momentum_ * velocity_[i] : velocity_[i]);
    });
    return learning_rate;
  }
  void visit_state(StateVisitor& visitor) override { visitor.array("optimizer/velocity", velocity_); }

 private:
  double momentum_;
  bool nesterov_;
  std::vector<double> velocity_;
};

}  // namespace klqp
