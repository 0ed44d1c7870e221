// Leave-one-out means: the control variates of score-function gradients.
//
// The baseline of draw s is a weighted mean of f over the draws of other groups, which are independent of it; that is
// what keeps the estimate unbiased (maths.md 3.5).
#pragma once

#include <string>
#include <vector>

#include "core/errors.hpp"
#include "core/noise.hpp"
#include "core/view.hpp"

namespace klqp {

// running: a moving average over past steps, which one draw a step can do with. none: to compare with.
enum class Baseline { mean, optimal, running, none };

inline Baseline parse_baseline(const std::string& name) {
  if (name == "mean") return Baseline::mean;
  if (name == "optimal") return Baseline::optimal;
  if (name == "running") return Baseline::running;
  if (name == "none") return Baseline::none;
  throw ConfigError("baseline must be 'mean', 'optimal', 'running' or 'none', not '" + name + "'");
}

inline void require_baseline(Baseline baseline, const Noise& draws) {
  if (baseline == Baseline::running || baseline == Baseline::none || draws.n_groups() >= 2) return;
  throw ConfigError(
      "score-function gradients need a baseline from independent draws: n_samples of at least 2 "
      "(4 with antithetic draws), with one the estimate would always be 0; or baseline='running', which takes it from "
      "past steps");
}

// Sums over the accepted draws of one group, and over all of them.
class LeaveOneOut {
 public:
  void clear(Index n_groups) {
    f_.assign(static_cast<std::size_t>(n_groups), 0.0);
    weight_.assign(f_.size(), 0.0);
    total_f_ = total_weight_ = 0.0;
  }
  void add(Index group, double value, double w) noexcept {
    f_[group] += value * w;
    weight_[group] += w;
    total_f_ += value * w;
    total_weight_ += w;
  }
  // Weighted mean of f over the other groups; `otherwise` where they have no weight.
  double mean_outside(Index group, double otherwise) const noexcept {
    const double rest = total_weight_ - weight_[group];
    return rest > 1e-12 * total_weight_ ? (total_f_ - f_[group]) / rest : otherwise;
  }

 private:
  std::vector<double> f_, weight_;
  double total_f_ = 0.0, total_weight_ = 0.0;
};

}  // namespace klqp
