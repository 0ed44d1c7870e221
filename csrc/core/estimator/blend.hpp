// Blend: two unbiased gradients g and g + x, x of mean zero, mixed to g + c x with the least variance.
//
// The variance of a coordinate is least at c = -Cov(g, x) / Var(x) (maths.md 3.4). c comes from exponential moving
// averages over *past* steps, so that it is independent of this step's draws and the mixture stays unbiased.
#pragma once

#include <algorithm>
#include <vector>

#include "core/parallel.hpp"
#include "core/state.hpp"
#include "core/view.hpp"

namespace klqp {

class Blend {
 public:
  // For n coordinates; none until it is asked for.
  void resize(std::size_t n) {
    for (auto* values : {&mean_, &covariance_, &variance_}) values->assign(n, 0.0);
  }

  // out (n) += g + c x; then moves the averages.
  void add(ConstSpan g, ConstSpan x, Span out, Team& team) noexcept {
    const double rate = std::max(1.0 - kDecay, 1.0 / (steps_ + 1.0));
    const double trusted = steps_ < kWarmUp ? 0.0 : 1.0;
    const double known = steps_ > 0.0 ? 1.0 : 0.0;  // whether there is a past mean
    team.for_range(static_cast<Index>(out.size()), 4096, [&](Index begin, Index end) {
      kernels().blend(end - begin, rate, trusted, known, g.data() + begin, x.data() + begin, mean_.data() + begin,
                      covariance_.data() + begin, variance_.data() + begin, out.data() + begin);
    });
    steps_ += 1.0;
  }

  void reset() {
    steps_ = 0.0;
    resize(mean_.size());
  }

  void visit_state(StateVisitor& visitor) {
    visitor.scalar("estimator/steps", steps_);
    visitor.array("estimator/mean", mean_);
    visitor.array("estimator/covariance", covariance_);
    visitor.array("estimator/variance", variance_);
  }

 private:
  static constexpr double kDecay = 0.98;  // forgets in about 50 steps, while q itself moves
  static constexpr double kWarmUp = 20;   // steps with g alone before the ratio is trusted

  std::vector<double> mean_, covariance_, variance_;
  double steps_ = 0.0;
};

}  // namespace klqp
