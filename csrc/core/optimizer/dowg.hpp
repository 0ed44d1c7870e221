// DoWG, distance over weighted gradients (Khaled, Mishchenko & Jin 2023): SGD without a step size to tune.
//
//   r <- max(r, |x - x0|);  v <- v + r^2 |g|^2;  x <- x - r^2 / sqrt(v) g
// r starts at epsilon (1 + |x0|). The scheduled learning rate multiplies the step; the paper's method is rate 1.
#pragma once

#include <cmath>

#include "core/optimizer/optimizer.hpp"

namespace klqp {

class Dowg final : public Optimizer {
 public:
  explicit Dowg(const OptimizerOptions& options) : epsilon_(option(options, "epsilon")) {}

  void start(ConstSpan params) override {
    start_.assign(params.begin(), params.end());
    const double norm = std::sqrt(kernels().dot(static_cast<Index>(params.size()), params.data(), params.data()));
    distance_ = epsilon_ * (1.0 + norm);
    weighted_ = 0.0;
  }
  double update(ConstSpan grad, double learning_rate, Span params, const Ranges&, Team&) override {
    const auto n = static_cast<Index>(grad.size());
    double travelled = 0.0;
    for (Index i = 0; i < n; ++i) travelled += (params[i] - start_[i]) * (params[i] - start_[i]);
    distance_ = std::max(distance_, std::sqrt(travelled));
    weighted_ += distance_ * distance_ * kernels().dot(n, grad.data(), grad.data());
    if (weighted_ == 0.0) return 0.0;
    const double step = learning_rate * distance_ * distance_ / std::sqrt(weighted_);
    kernels().axpy(n, -step, grad.data(), params.data());
    return step;
  }
  bool has_common_step() const noexcept override { return true; }
  void visit_state(StateVisitor& visitor) override {
    visitor.array("optimizer/start", start_);
    visitor.scalar("optimizer/distance", distance_);
    visitor.scalar("optimizer/weighted_squares", weighted_);
  }

 private:
  double epsilon_;
  double distance_ = 0.0, weighted_ = 0.0;
  std::vector<double> start_;
};

}  // namespace klqp
