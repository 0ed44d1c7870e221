// Search: a minimum by L-BFGS, asked for points and told values, so that searches share batched calls of a log density.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/search/inverse_hessian.hpp"

namespace klqp {

struct SearchConfig {
  double tolerance = 1e-3;  // in units of the function: what may be left to be gained
  Index max_iter = 200;
  bool keep_path = true;  // all accepted points and gradients, or only the last
};

// Ends when the decrease that a Newton step would still bring, g^T H g / 2, is below the tolerance in two iterations.
// Step lengths satisfy the weak Wolfe conditions, by bisection (Lewis & Overton 2013), so that values may be infinite
// beyond some boundary. maths.md 11.1
class Search {
 public:
  // What a guard says of a point, if anything, ends the search there.
  using Guard = std::function<std::string(ConstSpan x)>;

  Search(ConstSpan start, SearchConfig config, std::shared_ptr<InverseHessian> memory, Guard guard);

  // The point whose value is wanted next, while not done().
  const std::vector<double>& point() const noexcept { return trial_; }
  // The value there and the gradient, which is not read where the value is not finite.
  void tell(double value, ConstSpan gradient);

  bool done() const noexcept { return done_; }
  bool converged() const noexcept { return converged_; }
  const std::string& why() const noexcept { return why_; }
  const std::shared_ptr<InverseHessian>& memory() const noexcept { return memory_; }

  Index dim() const noexcept { return static_cast<Index>(x_.size()); }
  // Values at the accepted points, the start first.
  const std::vector<double>& values() const noexcept { return values_; }
  // The accepted points and gradients, one after the other.
  const std::vector<double>& path() const noexcept { return path_; }
  const std::vector<double>& gradients() const noexcept { return gradients_; }

 private:
  void begin_iteration();
  bool find_direction();
  void try_step();
  void accept(ConstSpan x, double value, ConstSpan gradient);
  void end_line_search();
  void next_trial(double value);
  void record(ConstSpan x, double value, ConstSpan gradient);
  void finish(bool converged, std::string why);

  SearchConfig config_;
  std::shared_ptr<InverseHessian> memory_;
  Guard guard_;

  std::vector<double> x_, g_, d_, trial_;  // (D): the last accepted point, its gradient, the direction, the point asked
  std::vector<double> step_, change_;      // (D): of points and gradients
  double f_ = 0.0, slope_ = 0.0;
  Index iteration_ = 0;
  int small_ = 0;  // iterations in a row with little to be gained

  // Of the line search: step lengths too short, too long, and tried; and the best point so far.
  double low_ = 0.0, high_ = 0.0, t_ = 0.0;
  int trials_ = 0;
  bool has_best_ = false;
  std::vector<double> best_x_, best_g_;
  double best_f_ = 0.0;

  bool started_ = false, done_ = false, converged_ = false;
  std::string why_;
  std::vector<double> values_, path_, gradients_;
};

}  // namespace klqp
