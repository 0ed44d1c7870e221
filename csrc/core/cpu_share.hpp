// CpuShare: how many threads a run may use now, beside the other runs of this process.
//
// Runs in different threads of a program know nothing of each other, and each would take all CPUs. They divide them:
// every run has its caller, and what is left goes round among the runs that want helpers. Results do not depend on the
// number of threads, so a share may change between two jobs of a step.
#pragma once

#include <atomic>

namespace klqp {

class CpuShare {
 public:
  // A run that would use n_threads begins; all runs together have n_cpus. A run that is alone gets what it wants.
  CpuShare(int n_threads, int n_cpus);
  ~CpuShare();
  CpuShare(const CpuShare&) = delete;
  CpuShare& operator=(const CpuShare&) = delete;

  // At least 1: the caller.
  int n_threads() const noexcept { return share_.load(std::memory_order_relaxed); }

 private:
  static void divide();

  int wanted_, n_cpus_;
  std::atomic<int> share_{1};
};

}  // namespace klqp
