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
    if (!counts_.empty()) count_each_coordinate();
  }
  void count_each_coordinate() override { counts_.assign(first_.size(), 0.0); }
  double update(ConstSpan grad, double learning_rate, Span params, const Ranges& where, Team& team) override {
    steps_ += 1.0;
    for (const IndexRange& range : where) {
      // Neighbours with the same number of steps share the corrections for the start.
      for (Index begin = range.begin; begin < range.end;) {
        const Index end = counts_.empty() ? range.end : end_of_same_count(begin, range.end);
        update_range({begin, end}, counts_.empty() ? steps_ : counts_[begin] + 1.0, grad, learning_rate, params, team);
        begin = end;
      }
      if (!counts_.empty()) {
        for (Index i = range.begin; i < range.end; ++i) counts_[i] += 1.0;
      }
    }
    return learning_rate;
  }
  void visit_state(StateVisitor& visitor) override {
    visitor.scalar("optimizer/steps", steps_);
    visitor.array("optimizer/first_moment", first_);
    visitor.array("optimizer/second_moment", second_);
    if (!counts_.empty()) visitor.array("optimizer/counts", counts_);
  }

 private:
  Index end_of_same_count(Index begin, Index limit) const noexcept {
    Index end = begin + 1;
    while (end < limit && counts_[end] == counts_[begin]) ++end;
    return end;
  }

  void update_range(IndexRange range, double steps, ConstSpan grad, double learning_rate, Span params,
                    Team& team) noexcept {
    const double step = learning_rate / (1.0 - std::pow(beta1_, steps));
    const double correction = 1.0 / (1.0 - std::pow(beta2_, steps));
    team.for_range(range.size(), kOptimizerGrain, [&](Index from, Index to) {
      const Index begin = range.begin + from;
      kernels().adam(to - from, grad.data() + begin, beta1_, beta2_, epsilon_, step, correction, first_.data() + begin,
                     second_.data() + begin, params.data() + begin);
    });
  }

  double beta1_, beta2_, epsilon_;
  double steps_ = 0.0;
  std::vector<double> first_, second_;
  std::vector<double> counts_;  // steps of each coordinate, where they differ
};

}  // namespace klqp
