// Optimizer: sees one flat vector and the gradient of the loss, and nothing else.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/parallel.hpp"
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
  // One step of minimisation with the scheduled learning rate. grad (P) is not changed. Returns the step size that
  // a proximal operator has to use, meaningful for optimizers with one step size for all coordinates.
  virtual double update(ConstSpan grad, double learning_rate, Span params, Team& team) = 0;
  // Whether that common step size exists.
  virtual bool has_common_step() const noexcept { return false; }
  virtual void visit_state(StateVisitor& visitor) = 0;
};

inline constexpr Index kOptimizerGrain = 4096;  // parameters of one chunk

// Calls body(i) for every parameter, in parallel pieces.
template <class Body>
void for_parameters(std::size_t n, Team& team, const Body& body) noexcept {
  team.for_range(static_cast<Index>(n), kOptimizerGrain, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) body(i);
  });
}

}  // namespace klqp
