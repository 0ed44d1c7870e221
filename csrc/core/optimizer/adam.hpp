// Adam (Kingma & Ba 2015, algorithm 1).
#pragma once

#include <cmath>

#include "core/optimizer/optimizer.hpp"

namespace klqp {

class Adam final : public Optimizer {
 public:
  explicit Adam(const OptimizerOptions& options)
      : beta1_(option(options, "beta1")), beta2_(option(options, "beta2")), epsilon_(option(options, "epsilon")) {}

  void start(ConstSpan params) override {
    first_.assign(params.size(), 0.0);
    second_.assign(params.size(), 0.0);
    steps_ = 0.0;
  }
  double update(ConstSpan grad, double learning_rate, Span params, Team& team) override {
    steps_ += 1.0;
    const double step = learning_rate / (1.0 - std::pow(beta1_, steps_));
    const double correction = 1.0 / (1.0 - std::pow(beta2_, steps_));
    team.for_range(static_cast<Index>(grad.size()), kOptimizerGrain, [&](Index begin, Index end) {
      kernels().adam(end - begin, grad.data() + begin, beta1_, beta2_, epsilon_, step, correction,
                     first_.data() + begin, second_.data() + begin, params.data() + begin);
    });
    return learning_rate;
  }
  void visit_state(StateVisitor& visitor) override {
    visitor.scalar("optimizer/steps", steps_);
    visitor.array("optimizer/first_moment", first_);
    visitor.array("optimizer/second_moment", second_);
  }

 private:
  double beta1_, beta2_, epsilon_;
  double steps_ = 0.0;
  std::vector<double> first_, second_;
};

}  // namespace klqp
