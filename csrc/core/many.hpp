// Many independent problems of one form: each is a run of its own; threads take them one by one.
//
// A problem's outcome is a function of its data, start and seed alone, so that results do not depend on the number of
// threads or on who took which problem.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "core/limits.hpp"
#include "core/run.hpp"

namespace klqp {

inline constexpr const char* kAllSteps = "steps";

// What became of a problem: "steps", the name of a stop rule, "failed", "interrupted" or "not started".
struct Outcome {
  std::string status = "not started";
  std::string message;  // of a failure
  double loss = kNaN;   // of the last step
  Index n_steps = 0;

  static Outcome failed(const std::exception& error) {
    Outcome outcome;
    outcome.status = "failed";
    outcome.message = error.what();
    return outcome;
  }
};

// What all problems share.
struct ManyPlan {
  ConstSpan learning_rates;
  const StopRules& rules;
  const std::vector<std::uint64_t>& seeds;  // by problem
  std::function<void()> observer;           // every 100 ms on the calling thread; what it throws ends the call
  int n_threads = 1;
  int n_cpus = 1;  // see RunConfig
};

// What is written down, by problem.
struct ManyResults {
  explicit ManyResults(std::size_t n) : outcomes(n) {}

  void record(std::size_t problem, const Trace& trace) noexcept {
    Outcome& outcome = outcomes[problem];
    outcome.n_steps = static_cast<Index>(trace.size());
    if (outcome.n_steps > 0) outcome.loss = trace.loss().back();
    if (losses.data == nullptr) return;
    std::copy(trace.loss().begin(), trace.loss().end(), losses.row(static_cast<Index>(problem)));
  }

  std::vector<Outcome> outcomes;
  Matrix losses{};  // (B, steps), where they are wanted; filled with NaN by the caller
};

// A place to work on problems, one at a time.
struct Workspace {
  Run* run;
  std::function<void(Index)> load;  // gives the run the data of its form's i-th problem; may throw
};

// Problems whose programs are the same. With several workspaces their runs must not share anything that changes.
struct Form {
  std::vector<Workspace> workspaces;
  std::vector<Index> problems;  // their numbers
  ConstMatrix starts;           // (n, P), or (1, P) for all
  Matrix params;                // (n, P): the solutions; NaN where a problem failed or was not started
};

// Runs all problems. After an exception of the observer, or one that is not a single problem's, what is done stands in
// the results, and the exception goes on.
void run_many(std::vector<Form>& forms, const ManyPlan& plan, ManyResults& results);

}  // namespace klqp
