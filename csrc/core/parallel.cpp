// Team: helpers in an OpenMP region that a thread of its own keeps open.
//
// The caller never enters the region. So a log density called on the caller's thread may use OpenMP itself, and
// nobody waits at the region's implicit barrier for a helper that has not started.
#include "core/parallel.hpp"

#ifdef _OPENMP
#include <omp.h>
#include <pthread.h>
#endif

namespace klqp {
namespace {

constexpr int kSpins = 2000;  // a few microseconds: the gap between two phases of a step

void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
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

Team::Team(int n_threads) {
#ifdef _OPENMP
  if (n_threads < 2 || !threads_available()) return;
  helpers_used.store(true);
  helpers_ = n_threads - 1;
  host_ = std::make_unique<std::thread>([this] {
#pragma omp parallel num_threads(helpers_)
    help();
  });
#else
  (void)n_threads;
#endif
}

Team::~Team() {
  close();
  if (host_) host_->join();
}

void Team::close() noexcept {
  closed_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
}

bool Team::work_on_one_chunk() noexcept {
  std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
  do {
    if (static_cast<std::uint32_t>(ticket) >= static_cast<std::uint32_t>(ticket >> 32)) return false;
  } while (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire));
  job_.call(job_.context, static_cast<Index>(static_cast<std::uint32_t>(ticket)));
  unfinished_.fetch_sub(1, std::memory_order_acq_rel);
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
  for (int spins = 0; unfinished_.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < kSpins) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

void Team::help() noexcept {
  std::uint32_t seen = epoch_.load(std::memory_order_acquire);
  while (!closed_.load(std::memory_order_acquire)) {
    while (work_on_one_chunk()) {
    }
    int spins = 0;
    while (epoch_.load(std::memory_order_acquire) == seen && ++spins < kSpins) relax();
    if (spins == kSpins) epoch_.wait(seen, std::memory_order_acquire);
    seen = epoch_.load(std::memory_order_acquire);
  }
}

}  // namespace klqp
