// Many problems in lockstep, for a log density that is computed for all of them in one call.
#pragma once

#include <memory>
#include <vector>

#include "core/many.hpp"
#include "core/target.hpp"

namespace klqp {

// The log densities of some problems at S points each.
class BatchTarget {
 public:
  virtual ~BatchTarget() = default;
  // Where the points of n problems, S rows of D numbers for each, are to be written; valid until evaluate() returns.
  virtual double* points(Index n) = 0;
  // Log densities (n, S) and gradients (n, S, D) for the problems of these numbers. May throw; the result stays valid
  // until the next call of points().
  virtual Evaluation evaluate(const std::vector<Index>& problems) = 0;
};

// One problem's share of a batch.
class SharedTarget final : public Target {
 public:
  explicit SharedTarget(Index dim) : dim_(dim) {}

  Index dim() const override { return dim_; }
  bool native() const override { return true; }
  Matrix points(Index n) override { return {points_, n, dim_}; }
  Evaluation evaluate(Order, Team&) override { return evaluation_; }

  void place(double* points) noexcept { points_ = points; }
  void answer(Evaluation evaluation) noexcept { evaluation_ = evaluation; }

 private:
  Index dim_;
  double* points_ = nullptr;
  Evaluation evaluation_;
};

struct Member {
  std::unique_ptr<Run> run;
  std::shared_ptr<SharedTarget> target;
};

// Runs all members, S draws a step each; those that have stopped take no part in further calls. params (B, P) get the
// solutions, NaN where a problem failed. Exceptions as for run_many().
void run_lockstep(std::vector<Member>& members, BatchTarget& target, Index n_draws, const ManyPlan& plan, Matrix params,
                  ManyResults& results);

}  // namespace klqp
