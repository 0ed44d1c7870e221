// HelperCrew: helpers that wait for jobs, and how they and a caller claim the chunks of one.
//
// One caller at a time has a crew. Chunks are claimed one at a time, by the caller too, and it waits only for chunks
// that somebody has begun: a helper that the system has not scheduled yet holds nobody up.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/view.hpp"

namespace klqp {

class HelperCrew {
 public:
  struct Job {
    void (*call)(const void* context, Index chunk) = nullptr;
    const void* context = nullptr;
  };

  explicit HelperCrew(int n_helpers) noexcept : size_(n_helpers) {}
  HelperCrew(const HelperCrew&) = delete;
  HelperCrew& operator=(const HelperCrew&) = delete;

  int size() const noexcept { return size_; }

  // --- the caller ------------------------------------------------------------------------------------------
  // From the next job on n helpers take part, and the others sleep.
  void invite(int n) noexcept;
  // Calls job.call(job.context, chunk) once for each chunk; the body must not throw.
  void share(Job job, std::uint32_t n_chunks) noexcept;
  // Ends help().
  void close() noexcept;

  // --- helpers ---------------------------------------------------------------------------------------------
  // What helper `index` does until close(): claims chunks, and sleeps when there are none for a while.
  void help(int index) noexcept;

 private:
  bool work_on_one_chunk() noexcept;

  Job job_;
  // Number of chunks (high half) and the next one to claim (low half) in one word, so that a claim that succeeds
  // is a claim on the job of now.
  alignas(64) std::atomic<std::uint64_t> ticket_{0};
  alignas(64) std::atomic<std::uint32_t> unfinished_{0};
  alignas(64) std::atomic<std::uint32_t> epoch_{0};
  std::atomic<int> invited_{0};  // helpers from this index on sleep
  std::atomic<bool> closed_{false};
  const int size_;
};

// A crew of at least n helpers for one caller, who gives it back; null without OpenMP, in a forked child of a process
// that had helpers, and where the system has no thread left. Crews stay, asleep, for the next caller of this process,
// so that a run neither waits for helpers to start nor for those that never did to end.
HelperCrew* borrow_crew(int n_helpers) noexcept;
void give_back(HelperCrew* crew) noexcept;

// False without OpenMP and in a forked child of a process that had helpers.
bool threads_available() noexcept;

// The limit that OpenMP has for regions that this thread opens, which threadpoolctl sets; 1 without OpenMP.
int openmp_max_threads() noexcept;

}  // namespace klqp
