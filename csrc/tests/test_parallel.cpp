// Team: every chunk once, whoever works; also with helpers that start late, never, or beside each other.
#include <atomic>
#include <thread>
#include <vector>

#include "core/parallel.hpp"
#include "tests/check.hpp"

namespace {

using klqp::Index;
using klqp::Team;

// Runs jobs of many sizes and checks that each chunk was done exactly once before for_chunks returned.
void check_jobs(Team& team, int n_jobs) {
  for (int job = 0; job < n_jobs; ++job) {
    const Index n_chunks = job % 37;
    std::vector<int> done(static_cast<std::size_t>(n_chunks), 0);
    team.for_chunks(n_chunks, [&](Index chunk) { done[static_cast<std::size_t>(chunk)] += 1; });
    bool once = true;
    for (const int n : done) once = once && n == 1;
    CHECK(once);
  }
}

void test_alone() {
  Team team(1);
  check_jobs(team, 100);
}

void test_with_openmp_helpers() {
  for (const int n_threads : {2, 3, 8}) {
    Team team(n_threads);
    check_jobs(team, 500);
  }
}

// The same claims with plain threads as helpers, which the thread sanitizer understands.
void test_with_thread_helpers() {
  for (const int n_helpers : {1, 2, 5}) {
    Team team(1);
    team.expect_helpers(n_helpers);
    std::vector<std::thread> helpers;
    for (int i = 0; i < n_helpers; ++i) helpers.emplace_back([&team] { team.help(); });
    check_jobs(team, 1000);
    team.close();
    for (auto& helper : helpers) helper.join();
  }
}

// The caller waits only for chunks that somebody has begun: helpers that never start hold nobody up.
void test_helpers_that_never_start() {
  Team team(1);
  team.expect_helpers(7);
  check_jobs(team, 200);
}

void test_ranges() {
  Team team(1);
  std::vector<int> seen(1001, 0);
  team.for_range(1001, 64, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) seen[static_cast<std::size_t>(i)] += 1;
  });
  bool once = true;
  for (const int n : seen) once = once && n == 1;
  CHECK(once);
  team.for_range(0, 64, [&](Index, Index) { CHECK(false); });
}

}  // namespace

int main() {
  test_alone();
  test_with_openmp_helpers();
  test_with_thread_helpers();
  test_helpers_that_never_start();
  test_ranges();
  return klqp_test::summary();
}
