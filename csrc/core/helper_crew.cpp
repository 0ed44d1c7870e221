// Claiming and waiting; and the crews of this process, each in an OpenMP region that a thread of its own keeps open.
//
// The caller never enters the region. So a log density called on the caller's thread may use OpenMP itself, and
// nobody waits at the region's implicit barrier for a helper that has not started.
#include "core/helper_crew.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#include <pthread.h>
#include <signal.h>
#endif

namespace klqp {
namespace {

using Clock = std::chrono::steady_clock;

// The gap between two jobs of a step is shorter than this as a rule, and sleeping and waking is about as long. In time
// and not in turns: a pause is anything from 10 to 150 cycles.
constexpr auto kSpinFor = std::chrono::microseconds(20);
// ... and how long the caller offers its CPU to others before it sleeps, while helpers finish the last chunks.
constexpr auto kYieldFor = std::chrono::microseconds(200);
constexpr int kTurnsBetweenLooks = 16;  // at the clock

void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits for a condition by spinning; returns false when it has taken too long.
template <class Condition>
bool spin_until(const Condition& met) noexcept {
  for (int i = 0; i < kTurnsBetweenLooks; ++i) {
    if (met()) return true;
    relax();
  }
  for (const auto end = Clock::now() + kSpinFor; Clock::now() < end;) {
    for (int i = 0; i < kTurnsBetweenLooks; ++i) {
      if (met()) return true;
      relax();
    }
  }
  return met();
}

}  // namespace

void HelperCrew::invite(int n) noexcept {
  if (n == invited_.load(std::memory_order_relaxed)) return;
  invited_.store(n, std::memory_order_release);
  invited_.notify_all();
}

void HelperCrew::close() noexcept {
  closed_.store(true);
  invite(std::numeric_limits<int>::max());
  epoch_.fetch_add(1);
  epoch_.notify_all();
}

bool HelperCrew::work_on_one_chunk() noexcept {
  std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
  do {
    if (static_cast<std::uint32_t>(ticket) >= static_cast<std::uint32_t>(ticket >> 32)) return false;
  } while (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire));
  job_.call(job_.context, static_cast<Index>(static_cast<std::uint32_t>(ticket)));
  if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  return true;
}

void HelperCrew::share(Job job, std::uint32_t n_chunks) noexcept {
  job_ = job;
  unfinished_.store(n_chunks, std::memory_order_relaxed);
  ticket_.store(static_cast<std::uint64_t>(n_chunks) << 32, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  while (work_on_one_chunk()) {
  }
  // A helper may have been interrupted in its chunk: then the caller's CPU is of more use to others.
  const auto done = [this] { return unfinished_.load(std::memory_order_acquire) == 0; };
  if (spin_until(done)) return;
  for (const auto end = Clock::now() + kYieldFor; Clock::now() < end;) {
    if (done()) return;
    std::this_thread::yield();
  }
  for (std::uint32_t n; (n = unfinished_.load(std::memory_order_acquire)) != 0;) unfinished_.wait(n);
}

void HelperCrew::help(int index) noexcept {
  std::uint32_t seen = epoch_.load(std::memory_order_acquire);
  while (!closed_.load(std::memory_order_acquire)) {
    if (const int invited = invited_.load(std::memory_order_acquire); index >= invited) {
      invited_.wait(invited, std::memory_order_acquire);
      continue;
    }
    while (work_on_one_chunk()) {
    }
    const auto is_new = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
    if (!spin_until(is_new)) epoch_.wait(seen, std::memory_order_acquire);
    seen = epoch_.load(std::memory_order_acquire);
  }
}

// --- the crews of this process -------------------------------------------------------------------------------
#ifdef _OPENMP
namespace {

std::atomic<bool> helpers_used{false};
std::atomic<bool> forked{false};

// The OpenMP run time does not survive a fork: the child runs serially.
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, [] {
  if (helpers_used.load()) forked.store(true);
});

struct Pool {
  std::mutex mutex;
  std::vector<HelperCrew*> free;
};

// Never destroyed: helpers sleep until the process is gone.
Pool& pool() {
  static Pool* const crews = new Pool;
  return *crews;
}

// Keeps signals away from the threads that are made in a scope, but for those that a thread raises itself.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigdelset(&all, own);
    pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

HelperCrew* new_crew(int n_helpers) {
  helpers_used.store(true);
  auto crew = std::make_unique<HelperCrew>(n_helpers);
  const SignalsBlocked blocked;
  std::thread([crew = crew.get()] {
#pragma omp parallel num_threads(crew->size())
    crew->help(omp_get_thread_num());
  }).detach();
  return crew.release();
}

}  // namespace

bool threads_available() noexcept { return !forked.load(); }

int openmp_max_threads() noexcept { return omp_get_max_threads(); }

HelperCrew* borrow_crew(int n_helpers) noexcept try {
  if (!threads_available()) return nullptr;
  Pool& crews = pool();
  const std::lock_guard lock(crews.mutex);
  auto best = crews.free.end();
  for (auto crew = crews.free.begin(); crew != crews.free.end(); ++crew) {
    const bool fits = (*crew)->size() >= n_helpers;
    if (fits && (best == crews.free.end() || (*crew)->size() < (*best)->size())) best = crew;
  }
  if (best == crews.free.end()) {
    crews.free.reserve(crews.free.capacity() + 1);  // giving it back must not fail
    return new_crew(n_helpers);
  }
  HelperCrew* const crew = *best;
  crews.free.erase(best);
  return crew;
} catch (const std::exception&) {
  return nullptr;
}

void give_back(HelperCrew* crew) noexcept {
  if (!threads_available()) return;  // the child of a fork in the middle of a run: others may hold the lock for ever
  crew->invite(0);
  const std::lock_guard lock(pool().mutex);
  pool().free.push_back(crew);
}
#else
bool threads_available() noexcept { return false; }
int openmp_max_threads() noexcept { return 1; }
HelperCrew* borrow_crew(int) noexcept { return nullptr; }
void give_back(HelperCrew*) noexcept {}
#endif

}  // namespace klqp
