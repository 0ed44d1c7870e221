// Polynomial-decay averaging of the iterates (Shamir & Zhang 2013): recent iterates weigh more.
//
//   average <- average + (eta + 1) / (t + eta) (x - average), t = 1, 2, ...
#pragma once

#include "core/state.hpp"
#include "core/view.hpp"

namespace klqp {

class IterateAverage {
 public:
  void start(std::size_t n_params) {
    average_.assign(n_params, 0.0);
    count_ = 0.0;
  }
  void add(ConstSpan params) noexcept {
    count_ += 1.0;
    const double weight = (kEta + 1.0) / (count_ + kEta);
    for (std::size_t i = 0; i < params.size(); ++i) average_[i] += weight * (params[i] - average_[i]);
  }
  bool empty() const noexcept { return count_ == 0.0; }
  const std::vector<double>& value() const noexcept { return average_; }
  void visit_state(StateVisitor& visitor) {
    visitor.array("average/params", average_);
    visitor.scalar("average/count", count_);
  }

 private:
  static constexpr double kEta = 8.0;
  std::vector<double> average_;
  double count_ = 0.0;
};

}  // namespace klqp
