// Steps of many problems at once.
#include "core/lockstep.hpp"

#include <algorithm>
#include <chrono>
#include <exception>

#include "core/limits.hpp"
#include "core/pacer.hpp"

namespace klqp {
namespace {

constexpr Index kGrain = 16;  // problems of one chunk

class Lockstep {
 public:
  Lockstep(std::vector<Member>& members, BatchTarget& target, Index n_draws, const ManyPlan& plan, ManyResults& results)
      : members_(members),
        target_(target),
        n_draws_(n_draws),
        plan_(plan),
        results_(results),
        share_(plan.n_threads, plan.n_cpus),
        team_(plan.n_threads, &share_) {
    for (std::size_t b = 0; b < members_.size(); ++b) active_.push_back(static_cast<Index>(b));
  }

  void run() {
    for (const Index b : active_) results_.outcomes[static_cast<std::size_t>(b)].status = "interrupted";  // until done
    for (const double rate : plan_.learning_rates) {
      step(rate);
      active_.erase(std::remove_if(active_.begin(), active_.end(), [&](Index b) { return is_done(b); }), active_.end());
      if (active_.empty()) return;
      if (plan_.observer && pacer_.due()) plan_.observer();
    }
    for (const Index b : active_) results_.outcomes[static_cast<std::size_t>(b)].status = kAllSteps;
  }

 private:
  Member& member(Index i) { return members_[static_cast<std::size_t>(active_[static_cast<std::size_t>(i)])]; }
  bool is_done(Index b) const { return results_.outcomes[static_cast<std::size_t>(b)].status != "interrupted"; }

  void step(double rate) {
    const auto n = static_cast<Index>(active_.size());
    double* const points = target_.points(n);
    const Index dim = members_.front().target->dim();
    for_members(n, [&](Index i, Team& serial) {
      member(i).target->place(points + i * n_draws_ * dim);
      member(i).run->begin_step(serial);
    });
    const Evaluation all = target_.evaluate(active_);
    const std::chrono::duration<double> seconds = Pacer::Clock::now() - start_;
    for_members(n, [&](Index i, Team& serial) {
      member(i).target->answer({all.logp + i * n_draws_, all.grad + i * n_draws_ * dim});
      finish(i, rate, seconds.count(), serial);
    });
  }

  // A problem's failure ends that problem only.
  void finish(Index i, double rate, double seconds, Team& serial) noexcept {
    Outcome& outcome = results_.outcomes[static_cast<std::size_t>(active_[static_cast<std::size_t>(i)])];
    try {
      Run& run = *member(i).run;
      run.finish_step(rate, serial);
      if (const char* const rule = run.met(plan_.rules, seconds)) outcome.status = rule;
    } catch (const TargetError& error) {
      outcome = Outcome::failed(error);
    }
  }

  template <class Body>
  void for_members(Index n, const Body& body) {
    team_.for_range(n, kGrain, [&](Index begin, Index end) {
      Team serial(1);
      for (Index i = begin; i < end; ++i) body(i, serial);
    });
  }

  std::vector<Member>& members_;
  BatchTarget& target_;
  Index n_draws_;
  const ManyPlan& plan_;
  ManyResults& results_;
  CpuShare share_;
  Team team_;
  std::vector<Index> active_;
  Pacer pacer_;
  Pacer::Clock::time_point start_ = Pacer::Clock::now();
};

void record(std::vector<Member>& members, Matrix params, ManyResults& results) {
  for (std::size_t b = 0; b < members.size(); ++b) {
    const Run& run = *members[b].run;
    results.record(b, run.trace());
    const bool failed = results.outcomes[b].status == "failed";
    double* const row = params.row(static_cast<Index>(b));
    std::copy(run.solution().begin(), run.solution().end(), row);
    if (failed) std::fill_n(row, params.cols, kNaN);
  }
}

}  // namespace

void run_lockstep(std::vector<Member>& members, BatchTarget& target, Index n_draws, const ManyPlan& plan, Matrix params,
                  ManyResults& results) {
  if (members.empty()) return;
  try {
    Lockstep(members, target, n_draws, plan, results).run();
  } catch (...) {
    record(members, params, results);
    throw;
  }
  record(members, params, results);
}

}  // namespace klqp
