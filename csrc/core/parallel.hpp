// A team of threads that shares out the chunks of a fixed partition.
//
// The partition depends on the size of the work alone and every chunk owns its outputs, so that results are the
// same bits for any number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/cpu_share.hpp"
#include "core/helper_crew.hpp"
#include "core/view.hpp"

namespace klqp {

inline constexpr Index kWorkForTeam = Index{1} << 18;  // elementary operations in a call that are worth waking threads

class Team {
 public:
  // `n_threads` counts the caller. Helpers are borrowed when there is something to share out for the first time; there
  // are none for one thread, without OpenMP, or in a process that was forked from one that had some. Where there is a
  // share, which must live as long, no more of them take part than it says at the time.
  explicit Team(int n_threads, const CpuShare* share = nullptr);
  // With a crew of its own, which must live as long.
  explicit Team(HelperCrew& crew, const CpuShare* share = nullptr);
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

 private:
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
      crew_->share({[](const void* context, Index chunk) { (*static_cast<const Body*>(context))(chunk); }, &body},
                   static_cast<std::uint32_t>(n_chunks));
    }
  }

  bool invite_helpers() noexcept;

  int helpers_;
  const CpuShare* cpu_share_;
  HelperCrew* crew_ = nullptr;
  bool short_work_pays_ = true, borrowed_ = false;
};

}  // namespace klqp
