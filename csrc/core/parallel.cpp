// Team: helpers in an OpenMP region that a thread of its own keeps open.
//
// The caller never enters the region. So a log density called on the caller's thread may use OpenMP itself, and
// nobody waits at the region's implicit barrier for a helper that has not started.
#include "core/parallel.hpp"

#include <chrono>
#include <limits>

#ifdef _OPENMP
#include <omp.h>
#include <pthread.h>
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

#ifdef _OPENMP
std::atomic<bool> helpers_used{false};
std::atomic<bool> forked{false};

// The OpenMP run time does not survive a fork: the child runs serially.
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, [] {
  if (helpers_used.load()) forked.store(true);
});
#endif

}  // namespace

bool threads_available() noexcept {
#ifdef _OPENMP
  return !forked.load();
#else
  return false;
#endif
}

int openmp_max_threads() noexcept {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

Team::Team(int n_threads, const CpuShare* share)
    : helpers_(n_threads > 1 && threads_available() ? n_threads - 1 : 0), cpu_share_(share) {}

// Begins the helpers. Where the system has no thread left for them, the caller works alone.
void Team::start() noexcept {
  started_ = true;
#ifdef _OPENMP
  helpers_used.store(true);
  try {
    host_ = std::make_unique<std::thread>([this] {
#pragma omp parallel num_threads(helpers_)
      help(omp_get_thread_num());
    });
  } catch (const std::exception&) {
    helpers_ = 0;
  }
#endif
}

// Says how many helpers take part from now on; returns whether any do.
bool Team::invite_helpers() noexcept {
  const int n = cpu_share_ == nullptr ? helpers_ : std::min(helpers_, cpu_share_->n_threads() - 1);
  if (n > 0 && !started_) start();
  if (helpers_ == 0) return false;
  if (n != invited_.load(std::memory_order_relaxed)) {
    invited_.store(n, std::memory_order_release);
    invited_.notify_all();
  }
  return n > 0;
}

void Team::expect_helpers(int n) noexcept {
  helpers_ = n;
  started_ = true;
}

Team::~Team() {
  close();
  if (host_) host_->join();
}

void Team::close() noexcept {
  closed_.store(true);
  invited_.store(std::numeric_limits<int>::max());
  invited_.notify_all();
  epoch_.fetch_add(1);
  epoch_.notify_all();
}

bool Team::work_on_one_chunk() noexcept {
  std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
  do {
    if (static_cast<std::uint32_t>(ticket) >= static_cast<std::uint32_t>(ticket >> 32)) return false;
  } while (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire));
  job_.call(job_.context, static_cast<Index>(static_cast<std::uint32_t>(ticket)));
  if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  return true;
}

void Team::share(Job job, std::uint32_t n_chunks) noexcept {
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

void Team::help(int index) noexcept {
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

}  // namespace klqp
