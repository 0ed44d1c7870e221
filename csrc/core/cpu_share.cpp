// The register of the runs at work in this process.
#include "core/cpu_share.hpp"

#include <algorithm>
#include <mutex>
#include <vector>

#ifndef _WIN32
#include <pthread.h>
#endif

namespace klqp {
namespace {

struct Register {
  std::mutex mutex;
  std::vector<CpuShare*> runs;
};

// Never destroyed: threads may still be at work when the process exits.
Register& all_runs() {
  static Register* const runs = new Register;
  return *runs;
}

#ifndef _WIN32
// The runs of other threads do not exist in a forked child.
[[maybe_unused]] const int fork_handler =
    pthread_atfork([] { all_runs().mutex.lock(); }, [] { all_runs().mutex.unlock(); },
                   [] {
                     all_runs().runs.clear();
                     all_runs().mutex.unlock();
                   });
#endif

}  // namespace

CpuShare::CpuShare(int n_threads, int n_cpus) : wanted_(std::max(1, n_threads)), n_cpus_(n_cpus) {
  const std::lock_guard lock(all_runs().mutex);
  all_runs().runs.push_back(this);
  divide();
}

CpuShare::~CpuShare() {
  const std::lock_guard lock(all_runs().mutex);
  std::erase(all_runs().runs, this);
  divide();
}

// One CPU for each run, and the others one by one, in the order in which the runs began.
void CpuShare::divide() {
  const auto& runs = all_runs().runs;
  if (runs.empty()) return;
  int left = -static_cast<int>(runs.size());
  for (const CpuShare* run : runs) left = std::max(left, run->n_cpus_ - static_cast<int>(runs.size()));
  if (runs.size() == 1) left = runs.front()->wanted_ - 1;
  std::vector<int> shares(runs.size(), 1);
  for (bool given = true; given && left > 0;) {
    given = false;
    for (std::size_t i = 0; i < runs.size() && left > 0; ++i) {
      if (shares[i] == runs[i]->wanted_) continue;
      ++shares[i];
      --left;
      given = true;
    }
  }
  for (std::size_t i = 0; i < runs.size(); ++i) runs[i]->share_.store(shares[i], std::memory_order_relaxed);
}

}  // namespace klqp
