// Threads that take problems one by one.
#include "core/many.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "core/limits.hpp"
#include "core/pacer.hpp"

namespace klqp {
namespace {

// The workspaces of a form that nobody uses at present. There are enough for all threads that may want one.
class Pool {
 public:
  explicit Pool(std::vector<Workspace>& workspaces) {
    for (Workspace& workspace : workspaces) free_.push_back(&workspace);
  }

  Workspace& take() {
    const std::lock_guard lock(mutex_);
    Workspace& taken = *free_.back();
    free_.pop_back();
    return taken;
  }
  void give_back(Workspace& workspace) noexcept {
    const std::lock_guard lock(mutex_);
    free_.push_back(&workspace);
  }

 private:
  std::mutex mutex_;
  std::vector<Workspace*> free_;
};

class Crew {
 public:
  Crew(std::vector<Form>& forms, const ManyPlan& plan, ManyResults& results)
      : forms_(forms), plan_(plan), results_(results), caller_(std::this_thread::get_id()) {
    for (Form& form : forms_) {
      pools_.push_back(std::make_unique<Pool>(form.workspaces));
      ends_.push_back((ends_.empty() ? 0 : ends_.back()) + static_cast<Index>(form.problems.size()));
      std::fill_n(form.params.data, form.params.size(), kNaN);
    }
  }

  void run() {
    const Index n = ends_.empty() ? 0 : ends_.back();
    const int n_threads = static_cast<int>(std::min<Index>(plan_.n_threads, n));
    const CpuShare share(n_threads, plan_.n_cpus);
    Team team(n_threads, &share);
    team.for_chunks(n_threads, [this](Index) { work(); });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  // What a thread asks after each step. Only the caller calls the observer.
  class Watch final : public StepWatch {
   public:
    explicit Watch(Crew& crew) : crew_(crew), is_caller_(crew.is_caller()) {}
    bool go_on() override {
      if (is_caller_ && crew_.pacer_.due()) crew_.observe();
      ended_ = crew_.stop_.load(std::memory_order_relaxed);
      return !ended_;
    }
    bool ended() const noexcept { return ended_; }

   private:
    Crew& crew_;
    bool is_caller_, ended_ = false;
  };

  bool is_caller() const noexcept { return std::this_thread::get_id() == caller_; }

  // Takes problems until there are none.
  void work() noexcept {
    const bool is_helper = !is_caller();
    if (is_helper) busy_.fetch_add(1);
    while (!stop_.load(std::memory_order_relaxed)) {
      const Index at = next_.fetch_add(1, std::memory_order_relaxed);
      if (ends_.empty() || at >= ends_.back()) break;
      const auto form = std::upper_bound(ends_.begin(), ends_.end(), at) - ends_.begin();
      solve(static_cast<std::size_t>(form), at - (form == 0 ? 0 : ends_[static_cast<std::size_t>(form) - 1]));
    }
    if (!is_helper) return wait_for_helpers();
    {
      const std::lock_guard lock(mutex_);
      busy_.fetch_sub(1);
    }
    finished_.notify_one();
  }

  // The caller has nothing left to do but to look for signals.
  void wait_for_helpers() noexcept {
    std::unique_lock lock(mutex_);
    while (busy_.load() > 0) {
      if (finished_.wait_for(lock, std::chrono::milliseconds(100)) == std::cv_status::no_timeout) continue;
      lock.unlock();
      observe();
      lock.lock();
    }
  }

  void solve(std::size_t number, Index i) noexcept {
    Form& form = forms_[number];
    const auto problem = static_cast<std::size_t>(form.problems[static_cast<std::size_t>(i)]);
    Outcome& outcome = results_.outcomes[problem];
    try {
      Workspace& workspace = pools_[number]->take();
      try {
        fit(workspace, form, i, outcome, plan_.seeds[problem]);
      } catch (const TargetError& error) {
        outcome = Outcome::failed(error);
      } catch (const ConfigError& error) {
        outcome = Outcome::failed(error);
      }
      results_.record(problem, workspace.run->trace());  // before another thread may restart the run
      pools_[number]->give_back(workspace);
    } catch (...) {
      fail(std::current_exception());
    }
  }

  void fit(Workspace& workspace, Form& form, Index i, Outcome& outcome, std::uint64_t seed) {
    Run& run = *workspace.run;
    const Index row = form.starts.rows == 1 ? 0 : i;
    run.restart({form.starts.row(row), static_cast<std::size_t>(form.starts.cols)}, seed);
    workspace.load(i);
    Watch watch(*this);
    const char* const rule = run.until(plan_.learning_rates, plan_.rules, watch);
    outcome.status = watch.ended() ? "interrupted" : *rule != '\0' ? rule : kAllSteps;
    std::copy(run.solution().begin(), run.solution().end(), form.params.row(i));
  }

  void observe() noexcept {
    try {
      if (plan_.observer) plan_.observer();
    } catch (...) {
      fail(std::current_exception());
    }
  }

  void fail(std::exception_ptr error) noexcept {
    const std::lock_guard lock(error_mutex_);
    if (!error_) error_ = std::move(error);
    stop_.store(true);
  }

  std::vector<Form>& forms_;
  const ManyPlan& plan_;
  ManyResults& results_;
  std::thread::id caller_;
  std::vector<std::unique_ptr<Pool>> pools_;
  std::vector<Index> ends_;  // of the forms, in the order in which problems are taken

  alignas(64) std::atomic<Index> next_{0};
  alignas(64) std::atomic<bool> stop_{false};
  Pacer pacer_;  // the caller's
  std::mutex mutex_, error_mutex_;
  std::condition_variable finished_;
  std::atomic<int> busy_{0};
  std::exception_ptr error_;
};

}  // namespace

void run_many(std::vector<Form>& forms, const ManyPlan& plan, ManyResults& results) {
  Crew(forms, plan, results).run();
}

}  // namespace klqp
