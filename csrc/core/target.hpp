// Target: gives log p and its gradient at a batch of points.
#pragma once

#include <string>

#include "core/parallel.hpp"
#include "core/view.hpp"

namespace klqp {

enum class Order { value = 0, gradient = 1 };

struct Evaluation {
  const double* logp = nullptr;  // (n,)
  const double* grad = nullptr;  // (n, dim), null for Order::value
};

// Not thread-safe: a run owns its target and calls it from one thread.
class Target {
 public:
  virtual ~Target() = default;

  virtual Index dim() const = 0;
  // Where the next batch of n points is to be written; owned by the target, valid until evaluate returns.
  virtual Matrix points(Index n) = 0;
  // Log density at the points last handed out, and its gradient if asked for. May throw; the result stays valid
  // until the next call of points().
  virtual Evaluation evaluate(Order order, Team& team) = 0;
  // Whether evaluate() can do without the interpreter.
  virtual bool native() const = 0;
  // Elementary operations of an evaluation at the points last handed out, as far as that is known.
  virtual Index work() const noexcept { return 0; }
  // Why the last evaluate() could not compute a point, in the density's own words; empty where it has none.
  virtual std::string explain(Index /*point*/) { return {}; }
};

}  // namespace klqp
