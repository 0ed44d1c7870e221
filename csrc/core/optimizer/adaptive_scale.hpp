// Optimizers that divide by a running size of the gradient: Adagrad, RMSprop, Adadelta.
#pragma once

#include <cmath>

#include "core/optimizer/optimizer.hpp"

namespace klqp {

// Duchi, Hazan & Singer 2011: G <- G + g^2;  x <- x - rate g / (sqrt(G) + epsilon).
class Adagrad final : public Optimizer {
 public:
  explicit Adagrad(const OptimizerOptions& options)
      : initial_(option(options, "initial_accumulator")), epsilon_(option(options, "epsilon")) {}

  void start(ConstSpan params) override { squares_.assign(params.size(), initial_); }
  double update(ConstSpan grad, double learning_rate, Span params, const Ranges& where, Team& team) override {
    for_parameters(where, team, [&](Index i) {
      squares_[i] += grad[i] * grad[i];
      const double size = std::sqrt(squares_[i]) + epsilon_;
      if (size > 0.0) params[i] -= learning_rate * grad[i] / size;
    });
    return learning_rate;
  }
  void visit_state(StateVisitor& visitor) override { visitor.array("optimizer/squares", squares_); }

 private:
  double initial_, epsilon_;
  std::vector<double> squares_;
};

// Tieleman & Hinton 2012: r <- decay r + (1 - decay) g^2;  v <- momentum v + rate g / (sqrt(r) + epsilon);  x <- x - v.
class RmsProp final : public Optimizer {
 public:
  explicit RmsProp(const OptimizerOptions& options)
      : decay_(option(options, "decay")),
        momentum_(option(options, "momentum")),
        epsilon_(option(options, "epsilon")) {}

  void start(ConstSpan params) override {
    squares_.assign(params.size(), 0.0);
    velocity_.assign(params.size(), 0.0);
  }
  double update(ConstSpan grad, double learning_rate, Span params, const Ranges& where, Team& team) override {
    for_parameters(where, team, [&](Index i) {
      squares_[i] = decay_ * squares_[i] + (1.0 - decay_) * (grad[i] * grad[i]);
      velocity_[i] = momentum_ * velocity_[i] + learning_rate * grad[i] / (std::sqrt(squares_[i]) + epsilon_);
      params[i] -= velocity_[i];
    });
    return learning_rate;
  }
  void visit_state(StateVisitor& visitor) override {
    visitor.array("optimizer/squares", squares_);
    visitor.array("optimizer/velocity", velocity_);
  }

 private:
  double decay_, momentum_, epsilon_;
  std::vector<double> squares_, velocity_;
};

// Zeiler 2012: r <- decay r + (1 - decay) g^2;  d = sqrt(u + epsilon) / sqrt(r + epsilon) g;  x <- x - rate d;
// u <- decay u + (1 - decay) d^2.
class Adadelta final : public Optimizer {
 public:
  explicit Adadelta(const OptimizerOptions& options)
      : decay_(option(options, "decay")), epsilon_(option(options, "epsilon")) {}

  void start(ConstSpan params) override {
    squares_.assign(params.size(), 0.0);
    updates_.assign(params.size(), 0.0);
  }
  double update(ConstSpan grad, double learning_rate, Span params, const Ranges& where, Team& team) override {
    for_parameters(where, team, [&](Index i) {
      squares_[i] = decay_ * squares_[i] + (1.0 - decay_) * (grad[i] * grad[i]);
      const double delta = std::sqrt(updates_[i] + epsilon_) / std::sqrt(squares_[i] + epsilon_) * grad[i];
      updates_[i] = decay_ * updates_[i] + (1.0 - decay_) * (delta * delta);
      params[i] -= learning_rate * delta;
    });
    return learning_rate;
  }
  void visit_state(StateVisitor& visitor) override {
    visitor.array("optimizer/squares", squares_);
    visitor.array("optimizer/updates", updates_);
  }

 private:
  double decay_, epsilon_;
  std::vector<double> squares_, updates_;
};

}  // namespace klqp
