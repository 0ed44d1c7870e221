// Law: the log density of one event, a number, a vector or a matrix, with its derivatives.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "core/errors.hpp"
#include "core/limits.hpp"
#include "core/view.hpp"

namespace klqp {

// Arguments are the value and then the parameters, args[k] of widths[k] numbers. Outside the support the log density is
// -infinity; parameters that are not legal give NaN. What depends on parameters alone goes into `prepared`, once for
// all events and draws that share them; what a gradient wants to know of the value goes into `saved`.
class Law {
 public:
  virtual ~Law() = default;

  // Parameters -> prepared (n_prepared); args[0] is not read. `gradients`: of the parameters, will be wanted.
  virtual void prepare(const double* const* args, bool gradients, double* prepared, double* scratch) const noexcept = 0;
  // prepare() for n events whose argument `prepared_in_runs` is a run theta (n, width), where that alone is read.
  virtual void prepare_run(Index /*n*/, const double* /*theta*/, double* /*prepared*/) const noexcept {}
  // The log density without log_base; fills saved (n_saved).
  virtual double log_prob(const double* const* args, const double* prepared, double* saved,
                          double* scratch) const noexcept = 0;
  // grads[k] += cot * d log_prob / d args[k], where grads[k] is not null; called where log_prob is finite.
  virtual void add_gradient(const double* const* args, const double* prepared, const double* saved, double cot,
                            double* const* grads, double* scratch) const noexcept = 0;
  // The part that the arguments of `base_args` decide alone; 0 outside the support.
  virtual double log_base(const double* const* /*args*/) const noexcept { return 0.0; }

  std::vector<Index> widths;
  Index n_prepared = 0, n_saved = 0, n_scratch = 0;
  std::size_t prepared_in_runs = 0;  // 0: one by one
  Index work = 8;                    // rough number of elementary operations for one event
  unsigned base_args = 0;            // bit k set: log_base reads args[k]; 0 when there is none
  unsigned no_gradient = 0;          // bit k set: args[k] is discrete
};

inline void check_at_least(const char* what, Index value, Index least) {
  if (value < least) {
    throw ConfigError(std::string(what) + " must be at least " + std::to_string(least) + ", not " +
                      std::to_string(value));
  }
}

}  // namespace klqp
