// Optimizer: sees one flat vector and the gradient of the loss, and nothing else.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/parallel.hpp"
#include "core/ranges.hpp"
#include "core/state.hpp"
#include "core/view.hpp"

namespace klqp {

using OptimizerOptions = std::map<std::string, double>;

inline double option(const OptimizerOptions& options, const std::string& name) {
  const auto found = options.find(name);
  if (found == options.end()) throw ConfigError("the optimizer's option '" + name + "' is missing");
  return found->second;
}

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // Forgets all history; the next update starts from params (P).
  virtual void start(ConstSpan params) = 0;
  // Steps will be on some coordinates only: a method that counts steps then counts them for each. After start().
  virtual void count_each_coordinate() {}
  // One step of minimisation with the scheduled learning rate. grad (P) is not changed. Only coordinates in `where` are
  // moved, and only their history is; elsewhere grad is 0. Returns the step size that a proximal operator has to use,
  // meaningful for optimizers with one step size for all coordinates.
  virtual double update(ConstSpan grad, double learning_rate, Span params, const Ranges& where, Team& team) = 0;
  // Whether that common step size exists.
  virtual bool has_common_step() const noexcept { return false; }
  virtual void visit_state(StateVisitor& visitor) = 0;
};

inline constexpr Index kOptimizerGrain = 4096;  // parameters of one chunk

// Calls body(i) for every parameter in some ranges, in parallel pieces.
template <class Body>
void for_parameters(const Ranges& where, Team& team, const Body& body) noexcept {
  for (const IndexRange& range : where) {
    team.for_range(range.size(), kOptimizerGrain, [&](Index begin, Index end) {
      for (Index i = range.begin + begin; i < range.begin + end; ++i) body(i);
    });
  }
}

}  // namespace klqp
