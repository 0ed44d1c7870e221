// Run: the loop noise -> z -> log p -> cotangents -> lambda, its state, and what happens when draws are rejected.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/noise.hpp"
#include "core/objective.hpp"
#include "core/optimizer/averaging.hpp"
#include "core/optimizer/clip.hpp"
#include "core/optimizer/optimizer.hpp"
#include "core/stopping/stop_rule.hpp"
#include "core/trace.hpp"

namespace klqp {

// The parts of a run.
struct RunParts {
  std::unique_ptr<Objective> objective;
  std::unique_ptr<Noise> noise;
  std::unique_ptr<Optimizer> optimizer;
};

struct RunConfig {
  Clip clip;
  bool average = false;  // keep the polynomial average of the iterates
  int n_threads = 1;
  int n_cpus = 1;  // that this run and others in the process have together
};

// Looked at after every step; may end the run there.
class StepWatch {
 public:
  virtual ~StepWatch() = default;
  virtual bool go_on() = 0;
};

// Draws that could not be used, and where the first of them came from.
struct Rejections {
  double minus_inf = 0.0;  // draws outside the support: log density -inf
  double invalid = 0.0;    // draws with NaN or +inf somewhere
  double step = -1.0, draw = -1.0;
  double coordinate = -1.0;  // of the gradient; -1 when the log density itself was not finite
  double term = -1.0;        // of the objective that is to blame, where it has terms
  double value = 0.0;        // what was found there
  std::string explanation;   // of the log density, where it gives one; not part of a snapshot

  double total() const noexcept { return minus_inf + invalid; }
  std::string describe(const Objective& objective) const;
  void visit_state(StateVisitor& visitor);
};

class Run {
 public:
  // params (P) is the start. Throws ConfigError where parts do not fit together.
  Run(RunParts parts, RunConfig config, ConstSpan params);

  // Steps with the given learning rates until a rule says stop or they are used up; returns the rule's name, or "".
  // `elapsed` is the time in seconds that this run has taken in earlier calls. The observer is called every 100 ms,
  // between steps, on the calling thread; what it throws ends the run after a whole step. An exception from the
  // target leaves the state as it was before the step.
  std::string until(ConstSpan learning_rates, const StopRules& rules, const std::function<void()>& observer,
                    double elapsed = 0.0);

  // The same with a watch instead of an observer, on the calling thread alone. Returns the rule's name; "" where the
  // steps are used up or the watch ended the run.
  const char* until(ConstSpan learning_rates, const StopRules& rules, StepWatch& watch);
  // A step in two halves, for runs whose log densities are computed together: the draws, then all the rest.
  void begin_step(Team& team) { draw(step_count(), team); }
  void finish_step(double learning_rate, Team& team);
  // Whether a rule says stop, after that many seconds; its name, or null.
  const char* met(const StopRules& rules, double seconds) const;

  // Everything the next step depends on, and the trace. A restored run goes on with the same bits.
  Snapshot snapshot();
  void restore(const Snapshot& snapshot);
  // Forgets the optimizer's history, the step counter and the trace; q stays.
  void reset();
  // What a new run with these parameters (P) and this seed of its noise would be. Allocates nothing.
  void restart(ConstSpan params, std::uint64_t seed);
  // Starts the clock of the stop rules that count a run's own steps anew.
  void begin() noexcept { first_step_ = static_cast<double>(trace_.size()); }

  // The estimate of the ELBO and of its gradient (P) that the given step would make at the present lambda. Estimators
  // that learn from past steps learn from this one too.
  double gradient(std::uint32_t step, Span out);

  // Goes on from other parameters (P), which another run may have moved.
  void set_params(ConstSpan params);
  // Factors (P) on the steps of single parameters from now on; empty: none. Not part of a snapshot.
  void set_relative_rates(ConstSpan rates);
  // The loss's gradient (P) in the last step, after clipping.
  const std::vector<double>& last_gradient() const noexcept { return grad_; }

  std::uint32_t step_count() const noexcept { return static_cast<std::uint32_t>(step_); }
  const std::vector<double>& params() const noexcept { return params_; }
  // The averaged iterate where averaging is on and there is one, otherwise the last.
  const std::vector<double>& solution() const noexcept;
  const Trace& trace() const noexcept { return trace_; }
  const Rejections& rejections() const noexcept { return rejections_; }
  const Objective& objective() const noexcept { return *parts_.objective; }
  std::string describe_rejections() const { return rejections_.describe(*parts_.objective); }

 private:
  const char* take_steps(ConstSpan learning_rates, const StopRules& rules, StepWatch& watch, double elapsed,
                         Team& team);
  void step(double learning_rate, Team& team);
  void draw(std::uint32_t step, Team& team);
  Index evaluate_draws(Team& team);
  Matrix noise() noexcept { return {noise_.data(), parts_.noise->n_draws(), parts_.objective->noise_dim()}; }
  Index screen(const Evaluation& evaluation);
  void reject(Index draw, Index coordinate, double value);
  Estimate estimate_gradient(Team& team);
  double square_of_gradient() const noexcept;
  void apply_gradient(double learning_rate, Team& team);
  void stretch_step() noexcept;
  const Ranges& moved() const noexcept;
  void keep_last_good();
  void back_off();
  void visit_state(StateVisitor& visitor);

  RunParts parts_;
  RunConfig config_;

  // State.
  double step_ = 0.0;
  std::vector<double> params_;     // (P)
  std::vector<double> last_good_;  // (P) lambda of the last step whose draws were usable
  double any_good_ = 0.0;
  double backed_off_ = 0.0;   // steps in a row that had to back off
  double rate_factor_ = 1.0;  // on the scheduled learning rate
  Rejections rejections_;
  std::vector<double> relative_rates_;  // (P), or none
  IterateAverage average_;
  Trace trace_;
  double first_step_ = 0.0;  // where the trace of the run asked for last begins

  // Workspace, S draws.
  std::vector<double> noise_;     // (S, E)
  std::vector<double> weights_;   // (S)
  std::vector<double> grad_;      // (P), 0 outside of the ranges that the step moves
  Ranges all_;                    // of the parameters
  Ranges moved_before_, graded_;  // by the last step, where steps move some only: its parameters, its gradient
};

}  // namespace klqp
