// A team of threads that shares out the chunks of a fixed partition.
//
// The partition depends on the size of the work alone and every chunk owns its outputs, so that results are the
// same bits for any number of threads. Chunks are claimed one at a time, by the caller too, and the caller waits
// only for chunks that somebody has begun: a helper that the system has not scheduled yet holds nobody up.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "core/cpu_share.hpp"
#include "core/view.hpp"

namespace klqp {

class Team {
 public:
  // `n_threads` counts the caller. Helpers start in the background when there is something to share out for the first
  // time; none are started for one thread, without OpenMP, or in a process that was forked from one that used them.
  // Where there is a share, which must live as long, no more of them take part than it says at the time.
  explicit Team(int n_threads, const CpuShare* share = nullptr);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // Whether work that nobody has said to be long is shared out; at first it is.
  void share_short_work(bool pays) noexcept { short_work_pays_ = pays; }

  // Calls body(chunk) once for each chunk in [0, n_chunks); the body must not throw.
  template <class Body>
  void for_chunks(Index n_chunks, const Body& body) noexcept {
    run_chunks(n_chunks, body, short_work_pays_);
  }

  // Calls body(begin, end) over [0, n) in pieces of `grain` elements.
  template <class Body>
  void for_range(Index n, Index grain, const Body& body) noexcept {
    run_range(n, grain, body, short_work_pays_);
  }

  // The same for work that is worth helpers whatever else there is.
  template <class Body>
  void for_long_range(Index n, Index grain, const Body& body) noexcept {
    run_range(n, grain, body, true);
  }

  // What helper `index` does until close(): claims chunks, sleeps when there are none for a while. Public for tests.
  void help(int index) noexcept;
  void close() noexcept;
  void expect_helpers(int n) noexcept;

 private:
  struct Job {
    void (*call)(const void* context, Index chunk) = nullptr;
    const void* context = nullptr;
  };

  template <class Body>
  void run_range(Index n, Index grain, const Body& body, bool pays) noexcept {
    const Index n_chunks = (n + grain - 1) / grain;
    run_chunks(n_chunks, [&](Index chunk) { body(chunk * grain, std::min(n, (chunk + 1) * grain)); }, pays);
  }

  template <class Body>
  void run_chunks(Index n_chunks, const Body& body, bool pays) noexcept {
    if (helpers_ == 0 || n_chunks < 2 || !pays || !invite_helpers()) {
      for (Index chunk = 0; chunk < n_chunks; ++chunk) body(chunk);
    } else {
      share({[](const void* context, Index chunk) { (*static_cast<const Body*>(context))(chunk); }, &body},
            static_cast<std::uint32_t>(n_chunks));
    }
  }

  bool invite_helpers() noexcept;
  void start() noexcept;
  void share(Job job, std::uint32_t n_chunks) noexcept;
  bool work_on_one_chunk() noexcept;

  Job job_;
  // Number of chunks (high half) and the next one to claim (low half) in one word, so that a claim that succeeds
  // is a claim on the job of now.
  alignas(64) std::atomic<std::uint64_t> ticket_{0};
  alignas(64) std::atomic<std::uint32_t> unfinished_{0};
  alignas(64) std::atomic<std::uint32_t> epoch_{0};
  std::atomic<int> invited_{0};  // helpers from this index on sleep
  std::atomic<bool> closed_{false};
  int helpers_ = 0;
  bool short_work_pays_ = true, started_ = false;
  const CpuShare* cpu_share_;
  std::unique_ptr<std::thread> host_;  // opens the parallel region the helpers live in
};

// False without OpenMP and in a forked child of a process that started helpers.
bool threads_available() noexcept;

// The limit that OpenMP has for regions that this thread opens, which threadpoolctl sets; 1 without OpenMP.
int openmp_max_threads() noexcept;

}  // namespace klqp
