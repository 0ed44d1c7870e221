// FTRL-Proximal (McMahan et al. 2013, algorithm 1), per coordinate.
//
//   n <- n + g^2;  Q = (beta + sqrt(n)) / rate;  z <- z + g - (Q - Q_before) x
//   x = 0 where |z| <= l1, otherwise x = -(z - sign(z) l1) / (Q + l2)
// The paper starts at x = 0. To start at x0 instead, z starts where that formula returns x0; the paper's algorithm is
// the case x0 = 0. Q, not sigma, is written down, so that a scheduled rate is handled too.
#pragma once

#include <cmath>

#include "core/optimizer/optimizer.hpp"

namespace klqp {

class Ftrl final : public Optimizer {
 public:
  explicit Ftrl(const OptimizerOptions& options)
      : beta_(option(options, "beta")), l1_(option(options, "l1")), l2_(option(options, "l2")) {}

  void start(ConstSpan params) override {
    squares_.assign(params.size(), 0.0);
    linear_.assign(params.begin(), params.end());
    last_rate_ = 0.0;
  }
  double update(ConstSpan grad, double learning_rate, Span params, const Ranges& where, Team& team) override {
    if (learning_rate == 0.0) return 0.0;  // nothing moves, and Q would not be finite
    const bool first = last_rate_ == 0.0;
    for_parameters(first ? all_of(grad.size()) : where, team, [&](Index i) {
      const double before = (beta_ + std::sqrt(squares_[i])) / (first ? learning_rate : last_rate_);
      if (first) linear_[i] = -params[i] * (before + l2_) - std::copysign(params[i] == 0.0 ? 0.0 : l1_, params[i]);
      squares_[i] += grad[i] * grad[i];
      const double quadratic = (beta_ + std::sqrt(squares_[i])) / learning_rate;
      linear_[i] += grad[i] - (quadratic - before) * params[i];
      const double excess = std::abs(linear_[i]) - l1_;
      params[i] = excess <= 0.0 ? 0.0 : -std::copysign(excess, linear_[i]) / (quadratic + l2_);
    });
    last_rate_ = learning_rate;
    return learning_rate;
  }
  void visit_state(StateVisitor& visitor) override {
    visitor.array("optimizer/squares", squares_);
    visitor.array("optimizer/linear", linear_);
    visitor.scalar("optimizer/last_rate", last_rate_);
  }

 private:
  double beta_, l1_, l2_;
  double last_rate_ = 0.0;
  std::vector<double> squares_, linear_;
};

}  // namespace klqp
